from pathlib import Path

import pytest

from nearhit.errors import ConfigError
from nearhit_training.endpoint import Reply
from nearhit_training.journal import Journal

REPLY = Reply("text\nwith a line break", False, False, 10, 5)


def test_journal_opened_again_gives_back_what_was_appended(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        journal.append("k1", "judge", REPLY)
    with Journal(path) as journal:
        assert journal.get("k1") == REPLY
        assert journal.get("k2") is None
        assert (journal.count("judge"), journal.count("generate")) == (1, 0)


@pytest.mark.parametrize("torn", [b'{"key": "k2", "purp', b"\xff\xfe", b"{"])
def test_journal_with_a_torn_last_line_drops_it_and_goes_on(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        journal.append("k1", "judge", REPLY)
    path.write_bytes(path.read_bytes() + torn)
    with Journal(path) as journal:
        journal.append("k3", "judge", REPLY)
    with Journal(path) as journal:
        assert [key for key in ("k1", "k2", "k3") if key in journal] == ["k1", "k3"]


def test_journal_with_a_damaged_line_names_file_line_and_remedy(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_text('{"key": 1}\n')
    with pytest.raises(ConfigError, match=r"j\.jsonl:1 must be a line .*delete that line"):
        Journal(path)


def test_journal_of_a_running_command_is_refused_to_a_second(tmp_path: Path) -> None:
    with (
        Journal(tmp_path / "j.jsonl"),
        pytest.raises(ConfigError, match="must be written by one run at a time"),
    ):
        Journal(tmp_path / "j.jsonl")
