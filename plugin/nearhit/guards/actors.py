"""Another person, animal, joint, vehicle or colour: child and adult, mother and father.

Vetoes where each question names one that the other does not, and both are of one kind. Left out are
roles that belong together (tenant and landlord, employee and employer, patient and doctor): "my
landlord" is "a tenant's rights", and a third of what they would forbid are duplicates.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from nearhit.guards.kinds import is_substituted, named, table
from nearhit.guards.wording import REMEMBERED, shares_words, words

_KINDS: Final = table(
    """
    child / children / kid / kids / toddler / toddlers / baby / babies / infant / newborn / son /
    daughter / girl / boy, adult / adults / grown-up, teenager / teen / teens / adolescent,
    elderly / senior / seniors

    baby / newborn / infant, toddler, teenager / teen / adolescent

    mother / mum / mom / mummy, father / dad / daddy

    husband, wife

    brother / bro, sister / sis

    son, daughter

    grandmother / grandma / gran / nan, grandfather / grandpa / grandad

    uncle, aunt

    girlfriend / gf, boyfriend / bf

    dog / dogs / puppy / pup, cat / cats / kitten / kitty, rabbit / rabbits, horse / horses,
    hamster, guinea pig, parrot, cow / cattle, pig

    knee, shoulder, ankle, wrist, hip, elbow, neck

    car, bike / bicycle, motorbike / motorcycle, truck / lorry, bus, train, boat

    red, blue, green, yellow, orange, purple, pink, black, white, brown, grey / gray
    """
)


def actors(stored: str, asked: str) -> bool:
    """Whether each names one of a kind that the other does not name."""
    return is_substituted(_named(stored), _named(asked)) and shares_words(stored, asked)


@lru_cache(maxsize=REMEMBERED)
def _named(text: str) -> Mapping[int, set[frozenset[str]]]:
    return named([word.removesuffix("'s") for word in words(text)], _KINDS)
