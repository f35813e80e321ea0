"""What forbids that a stored answer is served, whatever encoder and verifier say. Pure.

Cosine similarity cannot tell "enable 2FA" from "disable 2FA". A guard looks for one kind of
difference between two questions and vetoes the hit where it finds one; it can never make a hit.
Each is a function of (stored question, asked question), takes some tens of microseconds and reads
English only.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Final

from nearhit.guards.actors import actors
from nearhit.guards.direction import direction
from nearhit.guards.entities import entities
from nearhit.guards.formula import formula
from nearhit.guards.literals import literals
from nearhit.guards.numbers import numbers
from nearhit.guards.order import order
from nearhit.guards.payload import payload
from nearhit.guards.polarity import polarity

Guard = Callable[[str, str], bool]
"""Whether two questions differ so that the answer of one must not be served for the other."""

GUARDS: Final[Mapping[str, Guard]] = {
    "numbers": numbers,
    "entities": entities,
    "polarity": polarity,
    "literals": literals,
    "formula": formula,
    "direction": direction,
    "order": order,
    "payload": payload,
    "actors": actors,
}
"""The guards by name, in the order they are asked."""

DEFAULT: Final[tuple[str, ...]] = tuple(GUARDS)


def first_veto(stored: str, asked: str, names: Collection[str]) -> str | None:
    """Return the first guard that forbids it, or None.

    Args:
        stored: the question that the stored answer was given to.
        asked: the new question.
        names: of the guards in force.
    """
    return next((n for n, guard in GUARDS.items() if n in names and guard(stored, asked)), None)
