"""Another number: dose, version, date, deadline, price, clock time, ordinal, weekday or month.

Vetoes where each question has a number of one kind (a dose, a time, a year) that the other lacks,
and they share some words otherwise. A number that only one of them has
forbids nothing: people leave out what they think is understood ("my 39 y/o husband").

Equal are "2" and "two", "500mg", "500 milligrams" and "0.5 g", "1,000" and "1000", "v3.11" and
"3.11", "10am" and "10:00", "$5" and "5 dollars", "type II" and "type 2". The word "one" is a number
only before a unit, and a number inside a word (2FA, python3, B12) only where the other question has
the same word with another number.
"""

from collections.abc import Iterable
from typing import Final

from nearhit.guards.quantities import NO_QUANTITIES, ORDINAL, Number, quantities
from nearhit.guards.wording import shares_words

_MOST_NUMBERS: Final = 64  # compared one with another, so that the time stays bounded
_LEAST_ROUNDED: Final = 20.0  # from here on a decimal is the same as its rounding
_ABOUT: Final = 0.09  # 8 weeks are 2 months, 60 days too; only between different units
_SAME_DIMENSION: Final = (
    {"pound", "gbp"},
    {"pound", "mass"},
    {"degree", "celsius"},
    {"degree", "fahrenheit"},
    {"time", "clock"},
    {"mass", "data"},  # a 4G swap file
)
_UNMEASURED: Final = frozenset({"", "year", ORDINAL})


def numbers(stored: str, asked: str) -> bool:
    """Whether each has a number, a month, a weekday or a period that the other lacks."""
    one = quantities(stored)
    if one == NO_QUANTITIES:
        return False
    other = quantities(asked)
    if other == NO_QUANTITIES or not shares_words(stored, asked):
        return False
    if (
        _differ(one.months, other.months)
        or _differ(one.weekdays, other.weekdays)
        or _differ(one.periods, other.periods)
    ):
        return True
    if not _differ(one.numbers, other.numbers):
        return False
    if max(len(one.numbers), len(other.numbers)) > _MOST_NUMBERS:
        return True
    left = _unmatched(one.numbers - other.numbers, other.numbers)
    right = _unmatched(other.numbers - one.numbers, one.numbers)
    return any(_is_conflict(a, b) for a in left for b in right)


def _differ(one: frozenset[object], other: frozenset[object]) -> bool:
    return not (one <= other or other <= one)


def _unmatched(ours: Iterable[Number], theirs: Iterable[Number]) -> list[Number]:
    return [a for a in ours if not any(_is_same(a, b) for b in theirs)]


def _is_conflict(one: Number, other: Number) -> bool:
    """Whether two unmatched numbers stand for each other: a dose for a dose, a year for a year."""
    if one.label and one.label == other.label:
        return True
    is_comparable = one.dimension == other.dimension or one.text == other.text
    return one.is_firm and other.is_firm and is_comparable


def _is_same(one: Number, other: Number) -> bool:
    if one.dimension and one.dimension == other.dimension:
        tolerance = _ABOUT if one.dimension == "time" and one.unit != other.unit else 0.0
        return any(_is_close(a, b, tolerance) for a in one.sizes for b in other.sizes)
    kinds = {one.dimension, other.dimension}
    if not kinds & _UNMEASURED and kinds not in _SAME_DIMENSION:
        return False
    if one.text == other.text:
        return True
    if kinds == {"", "clock"}:
        hours = {size // 60 % 12 for size in one.sizes + other.sizes}
        return any(n.value % 12 in hours for n in (one, other) if not n.dimension)
    if kinds == {"", "year"}:  # Ramadan 27
        return one.text[-2:] == other.text[-2:] and min(len(one.text), len(other.text)) == 2
    if one.text.count(".") > 1 or other.text.count(".") > 1:
        return False
    return _is_rounded(one.value, other.value)


def _is_close(a: float, b: float, tolerance: float) -> bool:
    return abs(a - b) <= max(tolerance, 1e-6) * max(a, b) or _is_rounded(a, b)


def _is_rounded(a: float, b: float) -> bool:
    """Whether one is a decimal and the other the whole number it rounds to."""
    if min(a, b) < _LEAST_ROUNDED or abs(a - b) >= 1:
        return False
    return a.is_integer() != b.is_integer() and round(a) == round(b)
