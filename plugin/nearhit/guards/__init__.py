"""Guards: what forbids a hit, however sure the verifier is. Pure functions of two questions.

Each is one small module with a function `differ(stored, asked)` that is symmetric and can only turn
a hit into a miss. What a guard costs and saves: `nearhit-eval decisions --ablate`,
docs/decisions.md.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Final, TypeAlias

from nearhit.guards import direction, entities, literals, numbers, payload, polarity

Guard: TypeAlias = Callable[[str, str], bool]
"""Whether the answer of the first question must not be given to the second."""

GUARDS: Final[Mapping[str, Guard]] = {
    "numbers": numbers.differ,
    "literals": literals.differ,
    "entities": entities.differ,
    "polarity": polarity.differ,
    "direction": direction.differ,
    "payload": payload.differ,
}
DEFAULT: Final = tuple(GUARDS)


def first_veto(stored: str, asked: str, names: Collection[str]) -> str | None:
    """Return the first guard among `names` that forbids the hit, None if none does."""
    return next(
        (name for name, guard in GUARDS.items() if name in names and guard(stored, asked)), None
    )
