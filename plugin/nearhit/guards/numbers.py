"""Numbers: another quantity, date, version or amount of money needs another answer.

Values are compared however they are written: "2" and "two", "1,000" and "1k", "500mg" and
"500 mg", "v3.11" and "3.11", "3 pm" and "15:00". They differ where one stands for another: both
questions have as many that the other lacks, of the same unit or of none. A value that only one side
has is left to the verifier: many paraphrases say it in words ("half a dozen", "a score"). "One",
"a" and ordinals in words say nothing.
"""

import re
from collections import Counter
from functools import lru_cache
from typing import Final

_ONES: Final = {
    "one": "1",
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
}
_TENS: Final = {
    "twenty": "20",
    "thirty": "30",
    "forty": "40",
    "fifty": "50",
    "sixty": "60",
    "seventy": "70",
    "eighty": "80",
    "ninety": "90",
}
_WORDS: Final = {
    **{word: value for word, value in _ONES.items() if word != "one"},
    **_TENS,
    "ten": "10",
    "eleven": "11",
    "twelve": "12",
    "dozen": "12",
    "thirteen": "13",
    "fourteen": "14",
    "fifteen": "15",
    "sixteen": "16",
    "seventeen": "17",
    "eighteen": "18",
    "nineteen": "19",
    "twice": "2",
    "thrice": "3",
    "double": "2",
    "triple": "3",
}
_MULTIPLIERS: Final = {"k": 3, "thousand": 3, "grand": 3, "hundred": 2, "million": 6, "billion": 9}
# Units by their plain name; what is not here is no unit.
_UNITS: Final = {
    alias: name
    for name, aliases in {
        "mg": "mg milligram milligrams",
        "mcg": "mcg ug microgram micrograms",
        "g": "g gram grams gm",
        "kg": "kg kilo kilos kilogram kilograms",
        "lb": "lb lbs pound pounds",
        "ml": "ml milliliter milliliters millilitre millilitres",
        "l": "l liter liters litre litres",
        "oz": "oz ounce ounces",
        "km": "km kilometer kilometers kilometre kilometres",
        "mile": "mi mile miles",
        "cm": "cm centimeter centimeters centimetre centimetres",
        "mm": "mm millimeter millimeters",
        "meter": "meter meters metre metres",
        "foot": "ft foot feet",
        "inch": "inch inches",
        "second": "sec secs seconds",
        "minute": "min mins minute minutes",
        "hour": "h hr hrs hour hours",
        "day": "day days",
        "week": "week weeks wk wks",
        "month": "month months mo mos",
        "year": "year years yr yrs yo y/o",
        "percent": "percent pct %",
        "kb": "kb kib",
        "mb": "mb mib",
        "gb": "gb gib",
        "tb": "tb tib",
        "celsius": "c celsius",
        "fahrenheit": "f fahrenheit",
    }.items()
    for alias in aliases.split()
}
_NUMBER: Final = re.compile(
    r"(?<![a-z])v?(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)*|\.\d+)"
    r"[ -]?(%|[a-z]+(?:/o)?)?",
    re.IGNORECASE,
)
_WORD: Final = re.compile(r"(?<![a-z])(?:" + "|".join(_WORDS) + r")(?![a-z])", re.IGNORECASE)
_COMPOUND: Final = re.compile(
    rf"(?<![a-z])({'|'.join(_TENS)})[ -]({'|'.join(_ONES)})(?![a-z])", re.IGNORECASE
)
_HALF: Final = re.compile(
    r"(\d+)(?: and a half| 1/2|\u00bd)|(\u00bd|half an? )(?=hour|litre|liter|mile|year)"
)
_CLOCK: Final = re.compile(r"(?<![\d.])(\d{1,2})(?::(\d\d))? ?([ap])\.?m\b\.?", re.IGNORECASE)
_LONGEST: Final = 4000  # characters looked at


def differ(stored: str, asked: str) -> bool:
    """Whether the questions hold other numbers."""
    one, two = Counter(_values(stored[:_LONGEST])), Counter(_values(asked[:_LONGEST]))
    gone, new = one - two, two - one
    return len(gone) == len(new) and any(_is_conflict(old, fresh) for old in gone for fresh in new)


def _is_conflict(old: tuple[str, str], new: tuple[str, str]) -> bool:
    """Whether one value may stand where the other stood: another number of the same unit."""
    if old[0] == new[0]:
        return bool(old[1] and new[1])  # the same number, of another unit
    return old[1] == new[1] or not (old[1] and new[1])


def _clock(match: re.Match[str]) -> str:
    """Write a time of day in 24 hours: 3 pm and 3:00 pm as 15:00."""
    hour = int(match[1]) % 12 + (12 if match[3].lower() == "p" else 0)
    return f"{hour}:{match[2] or '00'} "


@lru_cache(maxsize=1024)
def _values(text: str) -> tuple[tuple[str, str], ...]:
    """Read the values of a text and the units behind them, "" for none."""
    text = _COMPOUND.sub(lambda m: f"{_TENS[m[1].lower()][0]}{_ONES[m[2].lower()]}", text)
    text = _WORD.sub(lambda match: _WORDS[match.group().lower()], text)
    text = _HALF.sub(lambda m: f"{m[1]}.5" if m[1] else "0.5 ", text)
    text = _CLOCK.sub(_clock, text)
    found = []
    for number, behind in _NUMBER.findall(text):
        behind = "million" if behind == "M" else behind.lower()
        value = number.replace(",", "")
        if value.count(".") == 1:
            value = value.rstrip("0").rstrip(".")
            value = f"0{value}" if value.startswith(".") else value
        if value.isdigit():
            value = value.lstrip("0") or "0"
        if behind in _MULTIPLIERS and "." not in value:
            value += "0" * _MULTIPLIERS[behind]
        if value != "1":
            found.append((value, _UNITS.get(behind, "")))
    return tuple(found)
