"""Only this installation's own entries are served."""

import dataclasses
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from nearhit.errors import ConfigError
from nearhit.signing import is_authentic, read_secret, sign
from nearhit.store import Entry

SECRET = b"a secret of this installation"


@pytest.fixture
def entry() -> Entry:
    unsigned = Entry(uuid4(), "scope", "", "question", "{}", "model", 1, 2, 0, signature="")
    return dataclasses.replace(unsigned, signature=sign(unsigned, SECRET))


def test_signed_entry_is_authentic(entry: Entry) -> None:
    assert is_authentic(entry, SECRET)


def test_entry_signed_with_another_secret_is_not(entry: Entry) -> None:
    assert not is_authentic(entry, b"another")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", uuid4()),
        ("scope", "other"),
        ("fingerprint", "other"),
        ("text", "other"),
        ("completion", '{"x":1}'),
        ("model", "other"),
        ("created_at", 9),
        ("expires_at", 9),
        ("epoch", 9),
        ("signature", ""),
    ],
)
def test_entry_with_a_changed_field_is_not_authentic(entry: Entry, field: str, value: Any) -> None:
    assert not is_authentic(dataclasses.replace(entry, **{field: value}), SECRET)


def test_entry_that_was_served_again_stays_authentic(entry: Entry) -> None:
    assert is_authentic(dataclasses.replace(entry, hits=7), SECRET)


def test_read_secret_makes_one_and_keeps_it(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"
    first = read_secret(None, folder)
    assert read_secret(None, folder) == first
    assert len(first) >= 32
    assert stat.S_IMODE((folder / "secret").stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == ["secret"]


def test_read_secret_by_many_workers_at_once_gives_all_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        secrets = set(pool.map(lambda _: read_secret(None, tmp_path), range(40)))
    assert len(secrets) == 1


def test_read_secret_takes_the_configured_one(tmp_path: Path) -> None:
    assert read_secret("configured", tmp_path) == b"configured"
    assert not list(tmp_path.iterdir())


def test_read_secret_that_was_cut_short_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"abc")
    with pytest.raises(ConfigError, match=r"at least 32 bytes, got 3; delete it"):
        read_secret(None, tmp_path)


def test_read_secret_where_nothing_can_be_written_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="data_dir must be a folder that can be written"):
        read_secret(None, tmp_path / "file" / "data")
