"""What holds for every guard, whatever it looks for."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearhit.guards import DEFAULT, GUARDS, Guard, first_veto

TEXTS = st.one_of(
    st.text(max_size=300),
    st.lists(
        st.sampled_from(
            [
                "the",
                "not",
                "enable",
                "disable",
                "5",
                "five",
                "500mg",
                "3.11",
                "10:00",
                "10am",
                "$",
                "£5",
                "II",
                "second",
                "to",
                "from",
                "me",
                "sue",
                "I",
                "`x_y`",
                "--force",
                "-r",
                '"quoted',
                'words"',
                "```",
                ":",
                "\n",
                "US",
                "us",
                "texas",
                "C++",
                "dog",
                "cat",
                ".",
                "?",
                "'",
                "½",
                "²",
                "unsafe",
                "1,000",
                "24/7",
                "99999999999999999999",
                "May",
                "x=2",
                "a[i]",
                "a[j]",
                "=",
                "3:5",
                "5:3",
            ]
        ),
        max_size=40,
    ).map(" ".join),
)
HOSTILE = [
    "a" * 100_000,
    "1" * 100_000,
    "1," * 50_000,
    "1.1" * 33_000,
    '"' * 100_000,
    '" ' * 50_000,
    "`" * 100_000,
    "_" * 100_000,
    "a_" * 50_000,
    "-a" * 50_000,
    "a." * 50_000,
    "/a" * 50_000,
    "to from " * 12_000,
    "not enable " * 9_000,
    "twenty " * 14_000,
    "million " * 12_000,
    "us uk " * 16_000,
    " " * 100_000,
    "\n" * 100_000,
    "=<>" * 33_000,
    "a=1 " * 25_000,
    "a = " * 25_000,
    "(a[" * 33_000,
    "1:2 " * 25_000,
    "1 =" + " " * 100_000 + "2",
    "unununun" * 12_000,
    "'" * 100_000,
    "a'" * 50_000,
    " ".join(str(n) for n in range(20_000)),
    "\u0301" * 100_000,
    "ﷺ" * 100_000,
]
each_guard = pytest.mark.parametrize("guard", GUARDS.values(), ids=list(GUARDS))


@each_guard
@given(stored=TEXTS, asked=TEXTS)
@settings(max_examples=150, deadline=None)
def test_guard_on_any_two_texts_says_the_same_both_ways(
    guard: Guard, stored: str, asked: str
) -> None:
    assert guard(stored, asked) is guard(asked, stored)


@each_guard
@given(text=TEXTS)
@settings(max_examples=150, deadline=None)
def test_guard_on_a_text_and_itself_never_vetoes(guard: Guard, text: str) -> None:
    assert not guard(text, text)
    assert not guard(text, f"  {text}\n")


@each_guard
@pytest.mark.parametrize(
    "text",
    [
        "How do I enable 2FA for 3 users on Ubuntu before May?",
        "Translate into French: where is the station",
        "Can my landlord in Texas sue me for not paying $500?",
        "My 5-year-old had a fever of 39.5 for two days; is it the flu?",
    ],
)
def test_guard_on_a_question_typed_in_lower_case_never_vetoes(guard: Guard, text: str) -> None:
    assert not guard(text, text.lower())
    assert not guard(text, "  ".join(text.split()))


@each_guard
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_guard_on_a_long_hostile_text_returns(guard: Guard, text: str) -> None:
    assert not guard(text, text)
    assert guard(text, "How do I enable 2FA for 3 users?") in (True, False)


def test_a_number_among_other_words_or_deep_in_a_long_text_is_not_vetoed() -> None:
    assert first_veto("How did 3 of the children fare?", "ring road, 7 lanes", DEFAULT) is None
    story = "My router from work keeps failing and support cannot tell me anything useful. " * 5
    other = "Our printer upstairs has stopped, nobody in the office knows any reason for it. " * 5
    assert first_veto(f"{story} It has 3 lamps.", f"{other} It has 4 lamps.", DEFAULT) is None


def test_first_veto_names_the_first_guard_in_force_that_forbids() -> None:
    stored, asked = "enable 5 alarms", "disable 7 alarms"
    assert first_veto(stored, asked, DEFAULT) == "numbers"
    assert first_veto(stored, asked, ("polarity",)) == "polarity"
    assert first_veto(stored, asked, ("direction",)) is None
    assert first_veto(stored, asked, ()) is None


def test_defaults_are_known_guards() -> None:
    assert set(DEFAULT) <= set(GUARDS)


def test_accents_without_end_are_read_as_a_few() -> None:
    marked = "enable sync for the cafe" + "\u0301\u0323" * 1900
    assert first_veto(marked, "disable sync for the cafe", DEFAULT) == "polarity"
    assert first_veto("caf" + "e\u0301", "caf\u00e9", DEFAULT) is None
