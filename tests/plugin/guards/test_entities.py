"""Another thing of the same kind is another question; another name of one thing is not."""

import pytest

from nearhit.guards.entities import entities

DIFFERENT = [
    ("Notice period for a tenant in Texas", "Notice period for a tenant in California"),
    ("Can I be fired without cause in the UK?", "Can I be fired without cause in the US?"),
    ("take a screenshot on Windows", "take a screenshot on a Mac"),
    ("reverse a list in python", "reverse a list in javascript"),
    ("create an index in MySQL", "create an index in PostgreSQL"),
    ('Translate "cheese" into French', 'Translate "cheese" into German'),
    ("Can I take ibuprofen with warfarin?", "Can I take paracetamol with warfarin?"),
    ("side effects of lisinopril", "side effects of ramipril"),
    ("what helps with anxiety at night", "what helps with depression at night"),
    ("What contrast does WCAG AA require?", "What contrast does WCAG AAA require?"),
    ("Who founded Siemens in Berlin?", "Who founded Bayer in Berlin?"),
    ("best practices in C#", "best practices in C++"),
    ("parse a json file", "parse a yaml file"),
    ("Scottish law on wills", "English law on wills"),
]
SAME = [
    ("Does Tylenol thin the blood?", "Does acetaminophen thin the blood?"),
    ("side effects of Glucophage", "side effects of metformin"),
    (
        "Is my data protected under GDPR?",
        "Is my data protected under the General Data Protection Regulation?",
    ),
    ("tenant rights in the USA", "tenant rights in the United States"),
    ("js array to object", "JavaScript: turn an array into an object"),
    ("postgres add column", "PostgreSQL: add a column"),
    ("Who wrote the US constitution?", "Who wrote the U.S. constitution?"),
    ("What is an MI?", "What is a myocardial infarction?"),
    ("let us know how to swift through files", "tell me how to go through files"),
    ("map or forEach in JavaScript?", "map or forEach in JavaScipt?"),
    (
        "What can the council do about a loud neighbour in Leeds?",
        "my neighbour in England is loud, powers of the council",
    ),
    ("How do I open windows on a Mac?", "On a Mac, how do I open a window?"),
    (
        "My toddler drank bleach. Do I call someone?",
        "My toddler drank bleach. Should I call someone?",
    ),
    ("Are prenups binding in England?", "Are prenups binding in England and Wales?"),
]


@pytest.mark.parametrize(("stored", "asked"), DIFFERENT)
def test_entity_that_differs_is_vetoed_both_ways(stored: str, asked: str) -> None:
    assert entities(stored, asked)
    assert entities(asked, stored)


@pytest.mark.parametrize(("stored", "asked"), SAME)
def test_entity_that_is_the_same_passes_both_ways(stored: str, asked: str) -> None:
    assert not entities(stored, asked)
    assert not entities(asked, stored)


def test_twenty_drugs_are_told_apart_as_a_few_are() -> None:
    story = "may i take " + " ".join(f"word{a}{b}" for a in "xyz" for b in "abcdefghijklmnopqrst")
    named = [f"{a}{b}pril" for a in ("abc", "xyz", "klm", "opq") for b in "fghij"]
    others = [f"{a}{b}olol" for a in ("cba", "zyx", "mlk", "qpo") for b in "fghij"]
    asked = f"{story} {' '.join(named)}"
    assert not entities(asked, f"{story} {' '.join(reversed(named))}")
    assert entities(asked, f"{story} {' '.join(others)}")


def test_a_name_said_a_thousand_times_is_one_name() -> None:
    assert not entities("sort in " + "C " * 1500, "sort in " + "Rust " * 700 + "C")
    assert entities("sort in " + "C " * 1500, "sort in " + "Rust " * 700)
