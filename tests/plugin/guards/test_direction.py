"""The same things the other way round are another question; another order of telling is not."""

import pytest

from nearhit.guards.direction import direction

DIFFERENT = [
    ("Can I sue my landlord?", "Can my landlord sue me?"),
    ("How do I migrate from MySQL to Postgres?", "How do I migrate from Postgres to MySQL?"),
    ("convert Celsius to Fahrenheit", "convert Fahrenheit to Celsius"),
    ("Translate this from German into Dutch", "Translate this from Dutch into German"),
    ("Should I eat before running?", "Should I do the running before I eat?"),
    ("Does anxiety cause insomnia?", "Does insomnia cause anxiety?"),
    ("Why is Java faster than Python?", "Why is Python faster than Java?"),
    ("What happens if my employer owes me money?", "What happens if I owe my employer money?"),
    ("How do I call Python from Rust?", "How do I call Rust from Python?"),
    ("I was born in Hamburg but live in Munich", "I was born in Munich but live in Hamburg"),
    ("turn rows into columns", "turn columns into rows"),
    ("Can a dog infect a cat?", "Can a cat infect a dog?"),
    ("train to Lyon from Paris", "train to Paris from Lyon"),
]
SAME = [
    ("How do I migrate from MySQL to Postgres?", "migrating to Postgres from MySQL"),
    ("tea or coffee, which has more caffeine?", "coffee or tea, which has more caffeine?"),
    ("hard link vs symbolic link", "symbolic link vs hard link"),
    ("python list sort", "sort a list python"),
    (
        "What is the difference between net profit and gross profit?",
        "What is the difference between gross profit and net profit?",
    ),
    (
        "Our order and the invoice differ. Whose terms apply under the UCC?",
        "Under the UCC, whose terms apply if our order and the invoice differ?",
    ),
    ("Factors for a motion to transfer venue", "Factors for a venue transfer motion"),
    ("How do OKRs differ from KPIs?", "How do KPIs differ from OKRs?"),
    ("Can I sue my landlord?", "Is it possible for me to sue my landlord?"),
    ("trains from Paris to Lyon", "Paris to Lyon trains"),
    ("Is autism caused by vaccines?", "Do vaccines cause autism?"),
    ("stroke FAST meaning", "the meaning of FAST in stroke"),
]


@pytest.mark.parametrize(("stored", "asked"), DIFFERENT)
def test_direction_that_differs_is_vetoed_both_ways(stored: str, asked: str) -> None:
    assert direction(stored, asked)
    assert direction(asked, stored)


@pytest.mark.parametrize(("stored", "asked"), SAME)
def test_direction_that_is_the_same_passes_both_ways(stored: str, asked: str) -> None:
    assert not direction(stored, asked)
    assert not direction(asked, stored)
