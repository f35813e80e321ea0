"""Another person, animal or joint is another question; another word for the same one is not."""

import pytest

from nearhit.guards.actors import actors

DIFFERENT = [
    ("Ibuprofen dose for a child", "Ibuprofen dose for an adult"),
    ("Can dogs eat grapes?", "Can cats eat grapes?"),
    ("Exercises for knee pain", "Exercises for shoulder pain"),
    ("My mother snores loudly", "My father snores loudly"),
    ("How do I get my wife to sleep earlier?", "How do I get my husband to sleep earlier?"),
    ("Bedtime for a toddler", "Bedtime for a newborn"),
    ("Gift for my brother", "Gift for my sister"),
    ("Is my girlfriend jealous?", "Is my boyfriend jealous?"),
    ("Insure a car abroad", "Insure a motorbike abroad"),
    ("Why is my urine orange?", "Why is my urine brown?"),
    ("Is a horse allowed on the road?", "Is a cow allowed on the road?"),
]
SAME = [
    ("Can dogs eat grapes?", "can my puppy eat grapes"),
    ("My mum snores loudly", "My mother snores loudly"),
    ("Ibuprofen dose for a child", "how much ibuprofen for kids"),
    ("What may my landlord deduct?", "What may be deducted from a tenant?"),
    ("Can my employer read my mail?", "May an employee's mail be read?"),
    ("Gift for my sister", "Gift for my sister and her husband"),
    ("bike tyre pressure", "Bicycle tyre pressure"),
    ("Exercises for knee pain", "my knee hurts, which exercises"),
    ("Is grey hair hereditary?", "Is gray hair hereditary?"),
    ("My son is ill", "My child is ill"),
    ("Does the doctor tell my parents?", "Will a patient's parents be told?"),
]


@pytest.mark.parametrize(("stored", "asked"), DIFFERENT)
def test_actor_that_differs_is_vetoed_both_ways(stored: str, asked: str) -> None:
    assert actors(stored, asked)
    assert actors(asked, stored)


@pytest.mark.parametrize(("stored", "asked"), SAME)
def test_actor_that_is_the_same_passes_both_ways(stored: str, asked: str) -> None:
    assert not actors(stored, asked)
    assert not actors(asked, stored)
