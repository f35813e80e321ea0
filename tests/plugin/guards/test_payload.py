"""Another text to work on is another question; other words around the same text are not."""

import pytest

from nearhit.guards.payload import payload

DIFFERENT = [
    (
        'Translate into French: "The lift is out of order until Thursday."',
        'Translate into French: "The lift is out of order until Tuesday."',
    ),
    (
        'Summarise this: "We will close the office on Monday for a holiday."',
        'Summarise this: "We will open the office on Monday for a visit."',
    ),
    ("Proofread: me and him has went home early", "Proofread: me and her has went home early"),
    ("Translate to German: where is the station", "Translate to German: where is the airport"),
    (
        'Is this polite? "As I already told you, the file goes there."',
        'Is this polite? "As discussed on Monday, the file goes there."',
    ),
    (
        "Explain this code: ```x = [i for i in range(3)]```",
        "Explain this code: ```x = [i for i in range(4)]```",
    ),
    (
        'Classify as spam or not: "You have won a free holiday in Spain"',
        'Classify as spam or not: "Your invoice for the month of May is attached"',
    ),
    (
        'Rewrite "I can not come to the meeting this week" formally',
        'Rewrite "I will not come to the party this week" formally',
    ),
    (
        "Correct this sentence: she don't like no apples",
        "Correct this sentence: she don't like no pears",
    ),
    (
        'How do you say "I would like a table for two" in Italian?',
        'How do you say "I would like a room for two" in Italian?',
    ),
]
SAME = [
    (
        'Translate into French: "The lift is out of order until Thursday."',
        'how do you say "The lift is out of order until Thursday." in french',
    ),
    (
        'Translate into French: "The lift is out of order until Thursday."',
        "Please translate to French: The lift is out of order until Thursday.",
    ),
    (
        'Proofread: "me and him has went home early"',
        '"me and him  has went home early" - please check the grammar',
    ),
    (
        "Summarise this: the vendor sent the wrong disks, so we are late",
        "Condense: because of wrong disks from the vendor we are late",
    ),
    ("Explain ```x = 1``` to me", "What does ```x  =  1``` do?"),
    ('What does "jointly and severally liable" mean?', "meaning of joint and several liability"),
    ("Translate to German: where is the station", 'Translate "Where is the station?" to German'),
    (
        'How do I fix "too many devices are streaming right now"?',
        "error about too many devices streaming at the moment",
    ),
    ("Write a poem: autumn, rain, a dog", "Write a poem about rain and a dog in autumn"),
    (
        'Is "you are not my dad" normal at ten?',
        "My stepson of ten told me I am not his dad. Is that normal?",
    ),
]


@pytest.mark.parametrize(("stored", "asked"), DIFFERENT)
def test_payload_that_differs_is_vetoed_both_ways(stored: str, asked: str) -> None:
    assert payload(stored, asked)
    assert payload(asked, stored)


@pytest.mark.parametrize(("stored", "asked"), SAME)
def test_payload_that_is_the_same_passes_both_ways(stored: str, asked: str) -> None:
    assert not payload(stored, asked)
    assert not payload(asked, stored)
