import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhit_training.constraints import lost_constraint, named_things, quantities
from nearhit_training.filters import (
    MEANING,
    broken_rule,
    is_other_language,
    is_other_length,
    normal,
)
from nearhit_training.shortcuts import Shortcuts, auc, measure, overlap


@pytest.mark.parametrize(
    ("question", "paraphrase"),
    [
        ("aneurysm of 4.6 cm, how often scanned", "scan interval for a 46 mm aneurysm"),
        ("delayed four hours", "a delay of 4 hours"),
        ("delayed 4 hours", "a delay of four hours"),
        ("within 28 days", "inside a four-week window"),
        ("turn on two-factor login", "enable 2FA"),
        ("rent of 1,500 pounds", "1500 pounds rent"),
        ("a 2 year lease", "a lease of 24 months"),
        ("Is it legal in England?", "legal under English law?"),
        ("How do I fix Postgres locks?", "fix locks in postgers"),
        ("What does the World Health Organization say?", "what is the WHO's position"),
        ("twenty five of them", "25 of them"),
        ("I'M SHOUTING", "am I shouting"),
    ],
)
def test_paraphrase_that_keeps_number_unit_or_name_passes(question: str, paraphrase: str) -> None:
    assert lost_constraint(question, paraphrase) is None


@pytest.mark.parametrize(
    ("question", "text", "said"),
    [
        ("aneurysm of 4.6 cm", "aneurysm of 4.6 mm", "drops the number"),
        ("dose for 5 mg", "dose for 50 mg", "drops the number 5"),
        ("install python 3.11", "install python", "drops the number"),
        ("rent a flat", "rent a flat for 900", "adds the number 900"),
        ("version 1.2.3 fails", "version 1.2.4 fails", "drops the number 1.2.3"),
        ("How do I back up Postgres?", "How do I back up MySQL?", "swaps 'Postgres' for 'MySQL'"),
        ("Rules in Texas please", "Rules in Ohio please", "swaps 'Texas' for 'Ohio'"),
    ],
)
def test_paraphrase_that_changes_number_unit_or_name_is_named(
    question: str, text: str, said: str
) -> None:
    assert said in str(lost_constraint(question, text))


@given(st.text())
def test_any_text_keeps_its_own_constraints(text: str) -> None:
    assert lost_constraint(text, text) is None


@given(st.text(), st.text())
def test_any_two_texts_can_be_filtered(a: str, b: str) -> None:
    assert broken_rule(a, b, same=True, seen={normal(a)}) in {None, *MEANING}
    assert 0 <= overlap(a, b) <= 1
    quantities(a)
    named_things(a)


@given(st.text())
def test_normal_text_stays_normal(text: str) -> None:
    assert normal(normal(text)) == normal(text)


@given(st.text(), st.text())
def test_constraint_of_a_pair_is_kept_or_lost_in_both_directions(a: str, b: str) -> None:
    assert (lost_constraint(a, b) is None) == (lost_constraint(b, a) is None)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_numbers_that_differ_are_a_lost_constraint(a: int, b: int) -> None:
    lost = lost_constraint(f"what is {a} worth", f"what is {b} worth")
    assert (lost is None) == (a == b)


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("How do I reset it?", "Wie setze ich das Passwort zurück und was ist zu tun"),
        ("How do I reset my password for the router", "как сбросить пароль"),
        ("What is the notice period for this", "¿Cuál es el plazo de preaviso para los contratos?"),
    ],
)
def test_text_in_another_language_is_found(question: str, text: str) -> None:
    assert is_other_language(question, text)


def test_keywords_without_function_words_pass_as_any_language() -> None:
    assert not is_other_language("Wie setze ich das Passwort zurück", "passwort reset router")


@pytest.mark.parametrize(
    ("question", "text", "other"),
    [
        ("How do I reset my password?", "reset password", False),
        ("How do I reset my password?", " ".join(["word"] * 60), True),
        (" ".join(["word"] * 30), "postgres upsert", True),
        ("reset?", "reset", False),
    ],
)
def test_length_far_from_the_question_is_found(question: str, text: str, other: bool) -> None:
    assert is_other_length(question, text) is other


def test_rule_that_is_broken_first_is_the_one_counted() -> None:
    seen = {normal("How do I reset it?")}
    assert broken_rule("How do I reset it?", "how do i RESET it", same=True, seen=seen) == (
        "duplicate"
    )
    assert broken_rule("Take 5 mg now?", "Take 6 mg now?", same=True, seen=set()) == "constraint"
    assert broken_rule("Take 5 mg now?", "Take 6 mg now?", same=False, seen=set()) is None


VALUES = st.lists(st.floats(-5, 5, allow_nan=False), min_size=1, max_size=20)


@given(VALUES, VALUES)
def test_auc_equals_the_share_of_pairs_won(positive: list[float], negative: list[float]) -> None:
    won = sum((p > n) + (p == n) / 2 for p in positive for n in negative)
    assert auc(positive, negative) == pytest.approx(won / (len(positive) * len(negative)))
    assert auc(positive, negative) == pytest.approx(1 - auc(negative, positive))


def test_shortcut_that_tells_the_label_is_warned_of() -> None:
    found = measure([("How is it?", ["how is it", "how was it"], ["What Now", "Why Not"])])
    assert found.lower_case == 1.0
    assert any(line.startswith("lower_case alone must not") for line in found.warnings())
    assert Shortcuts(0.5, 0.35, 0.65).warnings() == []
