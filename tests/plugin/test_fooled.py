"""The ways in which a cache is fooled: pairs that guards forbid, and pairs that they must not."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearhit.guards import DEFAULT, GUARDS, first_veto

FORBIDDEN = {
    "numbers": [
        ("Is 500 mg of ibuprofen safe?", "Is 200 mg of ibuprofen safe?"),
        ("What changed in Python 3.11?", "What changed in Python 3.12?"),
        ("How do I convert 10 miles to km?", "How do I convert 12 miles to km?"),
        ("Can I get my deposit back after 14 days?", "Can I get my deposit back after 30 days?"),
        ("Who won the world cup in 2014?", "Who won the world cup in 2018?"),
        ("is a BMI of 24.5 healthy", "is a BMI of 31 healthy"),
        ("Plan a trip to Rome for three days", "Plan a trip to Rome for five days"),
        ("How much is 15% of 80?", "How much is 20% of 80?"),
        ("Set an alarm for 7 am", "Set an alarm for 7 pm"),
        ("Is 5 mg of it safe?", "Is 5 g of it safe?"),
    ],
    "literals": [
        ("What does `git reset` do?", "What does `git revert` do?"),
        ("What does --force do in git push?", "What does --dry-run do in git push?"),
        ("How do I call read_csv?", "How do I call read_json?"),
        ("what is in /etc/passwd", "what is in /etc/shadow"),
        ("Show the case D-7781", "Show the case D-7782"),
        ("How do I use os.path.join?", "How do I use os.path.split?"),
        ("What is MAX_RETRIES for?", "What is MAX_DELAY for?"),
        ("When does getElementById return null?", "When does querySelectorAll return null?"),
    ],
    "entities": [
        ("Is it legal in Texas?", "Is it legal in California?"),
        ("Translate this to French", "Translate this to German"),
        ("install docker on Windows", "install docker on macOS"),
        ("Read a file in Python", "Read a file in Java"),
        ("Can I take aspirin after surgery?", "Can I take ibuprofen after surgery?"),
        ("What happens on Monday?", "What happens on Tuesday?"),
        ("connect to postgres from node", "connect to mysql from node"),
        ("gift ideas for my mother", "gift ideas for my father"),
        ("visa for Japan", "visa for South Korea"),
        ("Is fever dangerous in a toddler?", "Is fever dangerous in an adult?"),
    ],
    "polarity": [
        ("How do I enable 2FA?", "How do I disable 2FA?"),
        ("How can I increase my heart rate?", "How can I decrease my heart rate?"),
        ("import contacts into Outlook", "export contacts from Outlook"),
        ("How do I mount a disk?", "How do I unmount a disk?"),
        ("Should I buy a house now?", "Should I sell a house now?"),
        ("encrypt a file with gpg", "decrypt a file with gpg"),
        ("causes of hypothyroidism", "causes of hyperthyroidism"),
        ("What is the minimum value?", "What is the maximum value?"),
        ("sort in ascending order", "sort in descending order"),
        ("delete rows where C is empty", "delete rows where C is not empty"),
    ],
    "direction": [
        ("Convert 10 miles to km", "Convert 10 km to miles"),
        ("switch from Lantus to Toujeo", "switch from Toujeo to Lantus"),
        ("Solve log2(x) = 5", "Solve log2(5) = x"),
        ("a teacher who wants to become a nurse", "a nurse who wants to become a teacher"),
        ("Can my landlord sue my tenant?", "Can my tenant sue my landlord?"),
        ("Does stress cause insomnia?", "Does insomnia cause stress?"),
        ("move from Hamburg to Vienna with a cat", "move from Vienna to Hamburg with a cat"),
        ("Does Anna owe Robert money?", "Does Robert owe Anna money?"),
        (
            "Why do liberals trust science less than conservatives?",
            "Why do conservatives trust science less than liberals?",
        ),
        ("import users from X into Y", "import users from Y into X"),
    ],
}
SAME = {
    "numbers": [
        ("Can I take two aspirin?", "can i take 2 aspirin"),
        ("Is 500mg too much?", "is 500 mg too much?"),
        ("I earn 1,000 dollars", "I earn $1000"),
        ("I earn 40k a year", "I earn 40,000 a year"),
        ("I am twenty-five years old", "I'm 25 yrs old"),
        ("Set an alarm for 3 pm", "set an alarm for 15:00"),
        ("What is 50% of it?", "What is 50 percent of it?"),
        ("python v3.11 news", "Python 3.11 news"),
        ("give me one reason", "give me a reason"),
        ("How do I enable 2FA?", "How do I enable two-factor authentication?"),
    ],
    "literals": [
        ("What does `git reset` do?", "what does git reset do"),
        ("How do I call read_csv?", "read_csv how to call it?"),
        ("What is a NullPointerException?", "null pointer exception meaning"),
        ("node.js event loop", "How does the Node event loop work?"),
        ("Is example.com down?", "is example.com not reachable?"),
        ("Show case #D-7781.", "show the case D-7781"),
        ("the file setup.py", "`setup.py` file"),
        ("What is --force for?", "What does force do?"),
        ("How do I reset my password?", "password reset how"),
        ("e.g. what to eat", "what to eat, for example"),
    ],
    "entities": [
        ("Is it legal in Texas?", "is this allowed in TX?"),
        ("Can I take Tylenol?", "Can I take acetaminophen?"),
        ("Read a file with node", "Read a file with JavaScript"),
        ("fly from Spain to France", "flights to France from Spain"),
        ("Which is better, React or Vue?", "vue or react, which one?"),
        ("docker on ubuntu", "docker on linux"),
        ("French or German, which is easier?", "Is French easier than German?"),
        ("my wife is ill", "my spouse is ill"),
        ("weather", "climate"),
        ("a gift for mum", "a present for my mother"),
    ],
    "polarity": [
        ("Isn't it dangerous?", "Is it dangerous?"),
        ("I don't know how to start", "How do I start?"),
        ("open and close a file", "close a file after you open it"),
        ("Should I buy or sell?", "sell or buy?"),
        ("without sugar", "with no sugar"),
        ("Is it legal?", "Is it illegal?"),
        ("landlord sues tenant", "tenant is sued by landlord"),
        ("add a user", "create a user"),
        ("lower my blood pressure", "reduce my blood pressure"),
    ],
    "direction": [
        ("hypertension and AF in women", "AF and hypertension in women"),
        ("How do OKRs differ from KPIs?", "How do KPIs differ from OKRs?"),
        ("React or Vue for a blog?", "Vue or React for a blog?"),
        ("In Texas, who pays the broker?", "Who pays the broker in Texas?"),
        ("git: undo a commit", "undo a commit git"),
        ("What is the capital of France?", "what is the capital of france"),
        ("sort a list in python", "python sort a list in"),
        ("tea vs coffee", "coffee vs tea"),
        ("How do I reset my password?", "How do I change my password?"),
        ("", ""),
    ],
}


@pytest.mark.parametrize(
    ("way", "stored", "asked"),
    [(way, *pair) for way, pairs in FORBIDDEN.items() for pair in pairs],
)
def test_guard_forbids_the_answer_to_another_question(way: str, stored: str, asked: str) -> None:
    assert first_veto(stored, asked, DEFAULT) is not None


@pytest.mark.parametrize(
    ("way", "stored", "asked"),
    [(way, *pair) for way, pairs in SAME.items() for pair in pairs],
)
def test_guard_leaves_the_same_question_in_other_words_alone(
    way: str, stored: str, asked: str
) -> None:
    assert first_veto(stored, asked, DEFAULT) is None


@settings(max_examples=200)
@given(st.text(max_size=80), st.text(max_size=80))
def test_guards_answer_for_any_text_and_in_both_orders(one: str, two: str) -> None:
    for name in GUARDS:
        assert first_veto(one, two, (name,)) == first_veto(two, one, (name,))
        assert first_veto(one, one, (name,)) is None


@given(st.sampled_from([pair for pairs in FORBIDDEN.values() for pair in pairs]))
def test_guards_never_forbid_a_question_its_own_answer(pair: tuple[str, str]) -> None:
    for text in pair:
        assert first_veto(text, f"  {text.upper()} ", ("numbers", "entities", "polarity")) is None
        assert first_veto(text, text, DEFAULT) is None


@pytest.mark.parametrize(
    "piece", ["a", "1", "1,", "/a", "a.", "a_", "-", '"', ":\n", "`", "@a", "v1."]
)
def test_guards_end_on_long_texts_of_one_kind(piece: str) -> None:
    long = piece * 100_000
    assert first_veto(long, long + "b", DEFAULT) is None
    first_veto(long, "x " + long, DEFAULT)


def test_no_guard_in_force_forbids_nothing() -> None:
    assert first_veto(*FORBIDDEN["numbers"][0], ()) is None
