"""The opposite of a question is another question; a negation that is a way of speaking is not."""

import pytest

from nearhit.guards.polarity import polarity

DIFFERENT = [
    ("How do I enable 2FA?", "How do I disable 2FA?"),
    ("Why did my cholesterol increase?", "Why did my cholesterol decrease?"),
    ("Can I exercise before surgery?", "Can I exercise after surgery?"),
    ("Does the plaintiff pay the court fee?", "Does the defendant pay the court fee?"),
    ("How do I mount an NFS share?", "How do I unmount an NFS share?"),
    ("export contacts from Gmail", "import contacts from Gmail"),
    ("how to encrypt a zip with a password", "how to decrypt a zip with a password"),
    ("What does a high TSH mean?", "What does a low TSH mean?"),
    ("Treatment of hypertension in pregnancy", "Treatment of hypotension in pregnancy"),
    ("Should I buy shares now?", "Should I sell shares now?"),
    (
        "Which rights does a tenant with a lease have?",
        "Which rights does a tenant without a lease have?",
    ),
    ("Find the maximum of a list", "Find the minimum of a list"),
    (
        "Who is eligible if the employer has a pension plan?",
        "Who is eligible if the employer has no pension plan?",
    ),
    ("Which drugs should be taken with food?", "Which drugs should not be taken with food?"),
    ("How do I make my dog wake less at night?", "How do I make my dog wake more at night?"),
    ("What if I am insured?", "What if I am uninsured?"),
    ("turn on dark mode", "turn off dark mode"),
]
SAME = [
    ("Why can't I log in?", "Why can I not log in?"),
    ("My discount code isn't accepted", "My discount code is rejected"),
    (
        "I don't know how to start a business. Where do I begin?",
        "Where do I begin when I start a business?",
    ),
    ("Isn't that illegal in Texas?", "Is that illegal in Texas?"),
    ("Is it safe to drink tap water in Rome?", "Is it unsafe to drink tap water in Rome?"),
    ("start a business without investment", "start a business with no investment"),
    ("Do I need a visa or not?", "Do I need a visa?"),
    ("Is Spotify available in India?", "Is Spotify not available in India?"),
    ("How do I increase the font size?", "How do I make the font size bigger?"),
    ("undo the last commit", "take back the last commit"),
    ("How do I remove a user from a group?", "How do I delete a user from a group?"),
    ("no one can hear me in a call", "nobody can hear me in a call"),
    ("before and after photos, how do I make them", "how do I make after and before photos"),
    ("What to do in London?", "What are some things to do out and about in London?"),
    ("Is a prenup binding?", "Is a pre-nup binding?"),
]


@pytest.mark.parametrize(("stored", "asked"), DIFFERENT)
def test_polarity_that_differs_is_vetoed_both_ways(stored: str, asked: str) -> None:
    assert polarity(stored, asked)
    assert polarity(asked, stored)


@pytest.mark.parametrize(("stored", "asked"), SAME)
def test_polarity_that_is_the_same_passes_both_ways(stored: str, asked: str) -> None:
    assert not polarity(stored, asked)
    assert not polarity(asked, stored)
