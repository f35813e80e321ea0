"""The groups that ship: whole, without texts twice, and without a form that tells the answer."""

from collections import Counter
from pathlib import Path

import pytest

from nearhit_training import shortcuts
from nearhit_training.data import Group, read_groups

FOLDER = Path(__file__).parents[2] / "training" / "groups"


@pytest.fixture(scope="module")
def groups() -> list[Group]:
    return read_groups(FOLDER)


def test_groups_have_what_their_card_counts(groups: list[Group]) -> None:
    counts = Counter(group.part for group in groups)

    card = (FOLDER / "README.md").read_text("utf-8")
    for part, count in counts.items():
        assert f"| `{part}.jsonl` | {count:,} |" in card
    assert min(len(group.paraphrases) for group in groups) >= 3
    assert min(len(group.near_misses) for group in groups) >= 4


def test_groups_put_no_text_on_both_sides_of_one_question(groups: list[Group]) -> None:
    both = [group.id for group in groups if {*group.paraphrases} & {*group.near_misses}]

    assert both == []


def test_groups_are_not_told_apart_by_their_form(groups: list[Group]) -> None:
    for part in {group.part for group in groups}:
        some = [(g.query, g.paraphrases, g.near_misses) for g in groups if g.part == part]

        assert shortcuts.measure(some).warnings() == []
