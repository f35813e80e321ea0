"""Numbers, units, dates, versions: another value is another question, another spelling is not."""

import pytest

from nearhit.guards.numbers import numbers

DIFFERENT = [
    (
        "Can I take 500 mg of paracetamol every 4 hours?",
        "Can I take 1000 mg of paracetamol every 4 hours?",
    ),
    ("ibuprofen 5 ml for a toddler", "ibuprofen 5 mg for a toddler"),
    (
        "Can I appeal within 30 days of the decision?",
        "Can I appeal within 60 days of the decision?",
    ),
    ("How do I install Python 3.10 on Ubuntu?", "How do I install Python 3.1 on Ubuntu?"),
    ("what does type 1 diabetes do to the eyes", "What does type II diabetes do to the eyes?"),
    ("Is the store open at 10am on Sunday?", "Is the store open at 10pm on Sunday?"),
    (
        "Draft an email moving the meeting to Tuesday",
        "Draft an email moving the meeting to Thursday",
    ),
    ("What is the weather like in Rome in March?", "What is the weather like in Rome in May?"),
    ("Who was president in 1994?", "Who was president in 1998?"),
    ("Is a $5 tip enough for a haircut?", "Is a 15 dollar tip enough for a haircut?"),
    ("Plan a three-day trip to Lisbon", "Plan a five-day trip to Lisbon"),
    (
        "What happens in the seventh week of pregnancy?",
        "What happens in the seventeenth week of pregnancy?",
    ),
    ("Which vitamins are in B12 complex?", "Which vitamins are in B6 complex?"),
    ("How often is the weekly report sent?", "How often is the monthly report sent?"),
    ("port python2 code", "port python3 code"),
]
SAME = [
    ("Can I take two tablets?", "can i take 2 tablets"),
    ("Is 500mg of naproxen too much?", "Is 500 milligrams of naproxen too much?"),
    ("amoxicillin 0.5 g dose", "amoxicillin 500 mg dose"),
    ("How do I write a loop over 1,000 rows?", "How do I write a loop over 1000 rows?"),
    ("What is new in v3.11 of Python?", "What is new in Python 3.11?"),
    ("Are you open at 10am?", "Are you open at 10:00?"),
    ("Is $5 enough?", "Are 5 dollars enough?"),
    ("Does type II diabetes run in families?", "Does type 2 diabetes run in families?"),
    (
        "How do I set up 2FA for three users?",
        "How do I set up two-factor authentication for 3 users?",
    ),
    ("This one is broken, can I get a new one?", "It is broken, may I have a replacement?"),
    (
        "Can you give me a 30-minute workout for beginners?",
        "half an hour workout for beginners, 30 min",
    ),
    ("I have waited 8 weeks for an answer. What now?", "No answer for two months. What now?"),
    ("My husband, 39, snores", "My 39 y/o husband snores"),
    ("Can I pay GBP 2,000 in instalments?", "Can I pay £2000 in instalments?"),
    ("Which event started World War I?", "Which event started World War One?"),
    ("deadline under section 20 of the Act, two months?", "Is the deadline two months?"),
    ("What is 15 per cent of 240?", "15% of 240?"),
    (
        "Twenty-five employees, do we need a fire officer?",
        "25 employees, do we need a fire officer?",
    ),
    ("meet at 7pm", "meet at 19:00"),
]


@pytest.mark.parametrize(("stored", "asked"), DIFFERENT)
def test_number_that_differs_is_vetoed_both_ways(stored: str, asked: str) -> None:
    assert numbers(stored, asked)
    assert numbers(asked, stored)


@pytest.mark.parametrize(("stored", "asked"), SAME)
def test_number_that_is_the_same_passes_both_ways(stored: str, asked: str) -> None:
    assert not numbers(stored, asked)
    assert not numbers(asked, stored)
