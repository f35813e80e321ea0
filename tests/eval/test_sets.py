"""Sets of questions: what is read, what is refused, and how other formats become one."""

import json
from pathlib import Path
from typing import Any

import pytest

from nearhit.errors import ConfigError
from nearhit_eval.sets import convert, read_set

GROUP = {
    "query": "how do i reset my password",
    "paraphrases": ["password reset, how?", "i forgot my password, reset it"],
    "near_misses": [{"text": "how do i change my user name", "kind": "entity"}, "delete password"],
}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    return path


def test_set_is_read_with_its_name(tmp_path: Path) -> None:
    path = write(
        tmp_path / "mine.json", {"store": [["a", "x"]], "probes": [["a", "y"], [None, "z"]]}
    )
    found = read_set(path)
    assert (found.name, found.must_hit) == ("mine", 1)
    assert found.store == (("a", "x"),)
    assert found.probes == (("a", "y"), (None, "z"))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "must be an object with store and probes"),
        ({"store": [["a", "x"]]}, "must be an object with store and probes"),
        ({"store": {}, "probes": []}, "store must be a list, got dict"),
        ({"store": [["a", 3]], "probes": []}, r"store\[0\] must be \[key, text\], got \['a', 3\]"),
        ({"store": [[None, "x"]], "probes": []}, r"store\[0\] must have a text key"),
        ({"store": [["a", " "]], "probes": []}, r"store\[0\] must not be blank"),
        (
            {"store": [["a", "x"], ["a", "y"]], "probes": []},
            r"store\[1\] must have a key of its own, got 'a' again",
        ),
        ({"store": [["a", "x"]], "probes": [["b", "y"]]}, r"probes\[0\] must name a key of store"),
        ({"store": [], "probes": []}, "at least one store entry and one probe"),
        ({"store": [["a", "x"]], "probes": [["a", "y"]]}, "probes of both kinds"),
    ],
)
def test_set_with_a_fault_names_file_place_and_remedy(
    tmp_path: Path, document: Any, message: str
) -> None:
    path = write(tmp_path / "bad.json", document)
    with pytest.raises(ConfigError, match=rf"bad\.json.*{message}"):
        read_set(path)


def test_set_in_the_wrong_format_points_to_convert(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="turned into it by --convert"):
        read_set(write(tmp_path / "groups.json", GROUP, GROUP))
    with pytest.raises(ConfigError, match="must be a readable file"):
        read_set(tmp_path / "absent.json")


def test_groups_are_stored_by_half_and_their_near_misses_never_hit(tmp_path: Path) -> None:
    rows = [
        {
            "query": f"query {i}",
            "paraphrases": [f"same {i}"],
            "near_misses": [{"text": f"other {i}"}],
        }
        for i in range(400)
    ]
    made = convert([write(tmp_path / "g.jsonl", *rows)], "g", seed=7)
    assert 160 < len(made.store) < 240
    assert made.must_hit == len(made.store)
    by_text = {text: key for key, text in made.probes}
    assert all(key is None for text, key in by_text.items() if text.startswith("other"))
    assert convert([tmp_path / "g.jsonl"], "g", seed=7) == made
    assert convert([tmp_path / "g.jsonl"], "g", seed=8) != made


def test_clusters_hit_the_member_that_is_stored(tmp_path: Path) -> None:
    rows = [{"query": f"{c} {i}", "cluster": c} for c in "abcdefgh" for i in range(3)]
    made = convert([write(tmp_path / "c.jsonl", *rows)], "c", seed=1)
    for key, text in made.probes:
        assert key is None or dict(made.store)[key][0] == text[0]
    assert 0 < made.must_hit < len(made.probes)


def test_pairs_and_triplets_store_the_first_text(tmp_path: Path) -> None:
    pairs = write(
        tmp_path / "p.jsonl", {"a": "x", "b": "y", "label": 1}, {"a": "u", "b": "v", "label": 0}
    )
    made = convert([pairs], "p", seed=1)
    assert [text for _, text in made.store] == ["x", "u"]
    assert [(key is None, text) for key, text in made.probes] == [(False, "y"), (True, "v")]
    triplets = write(tmp_path / "t.jsonl", {"anchor": "x", "positive": "y", "negative": "z"})
    made = convert([triplets], "t", seed=1)
    assert [(key is None, text) for key, text in made.probes] == [(False, "y"), (True, "z")]


def test_text_that_two_rows_store_is_one_entry_and_a_contradicted_probe_is_dropped(
    tmp_path: Path,
) -> None:
    pairs = write(
        tmp_path / "p.jsonl",
        {"a": "how to x", "b": "x how", "label": 1},
        {"a": "How  to X", "b": "y", "label": 0},
        {"a": "z", "b": "how to x", "label": 0},
    )
    made = convert([pairs], "p", seed=1)
    assert [text for _, text in made.store] == ["how to x", "z"]
    assert [text for _, text in made.probes] == ["x how", "y"]


@pytest.mark.parametrize("row", ['{"q": 1}', "[1]", "nothing"])
def test_line_of_no_known_kind_is_named(tmp_path: Path, row: str) -> None:
    path = tmp_path / "odd.jsonl"
    path.write_text(row, "utf-8")
    with pytest.raises(ConfigError, match=r"odd\.jsonl:1 must be"):
        convert([path], "odd", seed=1)
