"""The numbers, months and weekdays of a text, each in one spelling. Pure; read by `numbers`.

Not a grammar of dates: "12 May 2024" is the numbers 12 and 2024 and the month May.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from nearhit.guards.wording import REMEMBERED, listed, plain

_YEAR_S: Final = 31_557_600.0
_NOON: Final = 720  # minutes
_DAY: Final = 1440
ORDINAL: Final = "#"


def _counted(start: int, words: str) -> dict[str, int]:
    return {word: value for value, word in enumerate(words.split(), start)}


_SMALL: Final = _counted(
    0,
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen",
)
_TENS: Final = {
    word: 10 * value
    for word, value in _counted(2, "twenty thirty forty fifty sixty seventy eighty ninety").items()
}
_TIMES: Final = {
    "hundred": 10**2,
    "k": 10**3,
    "thousand": 10**3,
    "grand": 10**3,
    "lakh": 10**5,
    "million": 10**6,
    "crore": 10**7,
    "bn": 10**9,
    "billion": 10**9,
}
_ORDINALS: Final = _counted(
    1,
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth "
    "fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth",
)
_OFTEN: Final = {"twice": "2", "thrice": "3"}
_VAGUE: Final = {
    "half": "0.5",
    "couple": "2",
    "pair": "2",
    "both": "2",
    "double": "2",
    "bid": "2",
    "tid": "3",
    "tds": "3",
    "qid": "4",
    "dozen": "12",
}
_ROMAN: Final = {"i": 1, "ii": 2, "iii": 3, "iv": 4, "v": 5, "vi": 6, "vii": 7, "viii": 8, "ix": 9}
_TELLING: Final = (
    listed("once a an per noon midnight")
    | _OFTEN.keys()
    | _VAGUE.keys()
    | _ORDINALS.keys()
    | _ROMAN.keys()
)
_NUMBERED: Final = listed("type stage phase grade class level part chapter title article war tier")

_UNITS: Final[dict[str, tuple[str, float]]] = {
    spelling: (dimension, scale)
    for dimension, scale, spellings in (
        ("mass", 1e-3, "mcg µg μg ug microgram micrograms"),
        ("mass", 1, "mg mgs milligram milligrams"),
        ("mass", 1e3, "g gm gms gram grams"),
        ("mass", 1e6, "kg kgs kilo kilos kilogram kilograms"),
        ("mass", 453_592.37, "lb lbs"),
        ("mass", 28_349.5, "oz ounce ounces"),
        ("mass", 1e9, "tonne tonnes"),
        ("volume", 1, "ml mls cc millilitre millilitres milliliter milliliters"),
        ("volume", 1e3, "l litre litres liter liters"),
        ("length", 1, "mm millimetre millimetres millimeter millimeters"),
        ("length", 10, "cm centimetre centimetres centimeter centimeters"),
        ("length", 1e3, "metre metres meter meters"),
        ("length", 1e6, "km kms kilometre kilometres kilometer kilometers"),
        ("length", 25.4, "inch inches"),
        ("length", 304.8, "ft feet foot"),
        ("length", 1_609_344, "mile miles"),
        ("time", 1e-3, "ms millisecond milliseconds"),
        ("time", 1, "s sec secs second seconds"),
        ("time", 60, "min mins minute minutes"),
        ("time", 3600, "h hr hrs hour hours"),
        ("time", 86_400, "day days night nights"),
        ("time", 604_800, "week weeks wk wks"),
        ("time", 1_209_600, "fortnight fortnights"),
        ("time", _YEAR_S / 12, "month months mo mos mth mths"),
        ("time", _YEAR_S, "year years yr yrs"),
        ("time", 10 * _YEAR_S, "decade decades"),
        ("data", 1, "kb kilobyte kilobytes"),
        ("data", 1e3, "mb megabyte megabytes"),
        ("data", 1e6, "gb gig gigs gigabyte gigabytes"),
        ("data", 1e9, "tb terabyte terabytes"),
        ("charge", 1, "mah"),
        ("charge", 1e3, "ah"),
        ("percent", 1, "% percent pct pc"),
        ("usd", 1, "$ dollar dollars usd buck bucks"),
        ("eur", 1, "€ euro euros eur"),
        ("gbp", 1, "£ gbp quid"),
        ("inr", 1, "₹ rupee rupees inr rs"),
        ("pound", 1, "pound pounds"),
        ("degree", 1, "° degree degrees"),
        ("celsius", 1, "°c celsius"),
        ("fahrenheit", 1, "°f fahrenheit"),
    )
    for spelling in spellings.split()
}
_CURRENCIES: Final = listed("$ € £ ₹ usd eur gbp inr rs")
_CITED: Final = {
    word: name
    for name, words in (
        ("section", "s ss sec section sections"),
        ("article", "art arts article articles"),
        ("act", "act code bill law sb ab hb"),
        ("rule", "rule rules reg regulation para paragraph"),
        ("bound", "under over above below than least most max maximum min minimum"),
        ("covid", "covid sars"),
    )
    for word in words.split()
}

_MONTHS: Final = {
    word: name
    for name in listed(
        "january february march april may june july august september october november december"
    )
    for word in (name, name[:3])
} | {"sept": "september"}
_NOT_ALWAYS_MONTHS: Final = listed("may march mar")
_BESIDE_MONTH: Final = listed("in of by until till since last next early late mid")
_WEEKDAYS: Final = {
    word: name
    for name in listed("monday tuesday wednesday thursday friday saturday sunday")
    for word in (name, f"{name}s")
} | {"tue": "tuesday", "tues": "tuesday", "thu": "thursday", "thurs": "thursday", "fri": "friday"}
_PERIODS: Final = {
    "hourly": "hour",
    "daily": "day",
    "weekly": "week",
    "fortnightly": "fortnight",
    "monthly": "month",
    "quarterly": "quarter",
    "yearly": "year",
    "annually": "year",
    "annual": "year",
}

_TOKEN: Final = re.compile(
    r"[0-9]{1,2}:[0-9]{2}(?![0-9:])|[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]+)?"
    r"|[0-9]+(?:\.[0-9]+)*|°[cf]?|[$€£₹%<>§]|[^\W\d_]+"
)
_HALF: Final = re.compile(r"\b([0-9]{1,4}) and a half\b")
_MERIDIEM: Final = re.compile(r"\b([ap])\.\s?m\b")
_SYMBOLS: Final = {"<": "bound", ">": "bound", "§": "section"}
_YEAR: Final = re.compile(r"1[5-9][0-9]{2}|20[0-9]{2}")
_HIGHEST: Final = 1e18
_CENTURIES: Final = (17, 18, 19, 20)


@dataclass(frozen=True, slots=True)
class Number:
    """A number of a text.

    Attributes:
        text: its digits in plain form; with more than one dot it is a version.
        dimension: of its unit, or "".
        sizes: in one unit of the dimension; more than one where a clock time is ambiguous.
        unit: size of the unit it is written in.
        is_firm: whether it counts by itself.
        label: the word it is part of; it counts where the other text has the word, too.
    """

    text: str
    dimension: str = ""
    sizes: tuple[float, ...] = ()
    is_firm: bool = True
    label: str = ""
    unit: float = 1.0

    @property
    def value(self) -> float:
        """Its value; of a version that of its first two parts."""
        return _value(self.text)


@dataclass(frozen=True, slots=True)
class Quantities:
    """What a text says of numbers and dates.

    Attributes:
        numbers: without order and repeats.
        months: by full name.
        weekdays: by full name.
        periods: of "weekly" and the like.
    """

    numbers: frozenset[Number]
    months: frozenset[str]
    weekdays: frozenset[str]
    periods: frozenset[str]


NO_QUANTITIES: Final = Quantities(frozenset(), frozenset(), frozenset(), frozenset())


class _Token(NamedTuple):
    text: str
    start: int
    end: int


@lru_cache(maxsize=REMEMBERED)
def quantities(text: str) -> Quantities:
    """Read the numbers, months and weekdays of a text."""
    lowered = _HALF.sub(r"\1.5", _MERIDIEM.sub(r"\1m", plain(text).lower()))
    tokens = [_Token(m.group(), m.start(), m.end()) for m in _TOKEN.finditer(lowered)]
    return Quantities(
        frozenset(_numbers(tokens)),
        frozenset(_months(tokens)),
        frozenset(_WEEKDAYS[t.text] for t in tokens if t.text in _WEEKDAYS),
        frozenset(_PERIODS[t.text] for t in tokens if t.text in _PERIODS),
    )


def _numbers(tokens: Sequence[_Token]) -> Iterator[Number]:
    place = 0
    while place < len(tokens):
        word = tokens[place].text
        if word[0].isdecimal():
            number, place = _digits(tokens, place)
            yield number
            continue
        if word in _SMALL or word in _TENS:
            number, place = _spelled(tokens, place)
            yield number
            continue
        if word in _TELLING:
            yield from _other(tokens, place)
        place += 1


def _digits(tokens: Sequence[_Token], place: int) -> tuple[Number, int]:
    """Read a number in digits; return it and the place after what belongs to it."""
    token, before, after = tokens[place], _text(tokens, place - 1), _text(tokens, place + 1)
    if ":" in token.text or after in ("am", "pm"):
        return _clock(tokens, place)
    is_glued = place + 1 < len(tokens) and tokens[place + 1].start == token.end
    text = _plain_digits(token.text)
    if is_glued and after in ("st", "nd", "rd", "th"):
        return Number(text, ORDINAL, (_value(text),), label=ORDINAL), place + 2
    if before.isalpha() and tokens[place - 1].end == token.start:
        return Number(text, is_firm=False, label=_CITED.get(before, before)), place + 1
    is_money = before in _CURRENCIES
    if after in _TIMES or (is_money and after == "m"):
        text = _plain_digits(str(round(_value(text) * _TIMES.get(after, 10**6))))
        place, is_glued = place + 1, after == "k" and not is_money
        after = _text(tokens, place + 1) if not is_glued else "k"
    if is_money:
        dimension, scale = _UNITS[before]
        return Number(text, dimension, (_value(text) * scale,)), place + 1
    if is_glued and after == "s" and text.endswith("0"):  # "in his 20s"
        return Number(text, is_firm=False, label="s"), place + 2
    if after in _UNITS or (after == "per" and _text(tokens, place + 2) == "cent"):
        dimension, scale = _UNITS.get(after, ("percent", 1))
        label = _CITED.get(before, _SYMBOLS.get(before, ""))
        size = _value(text) * scale
        return Number(text, dimension, (size,), label == "", label, scale), place + 2
    if is_glued and after.isalpha():
        return Number(text, is_firm=False, label=after), place + (after != "k") + 1
    return _bare(text, before), place + 1


def _bare(text: str, before: str) -> Number:
    label = _CITED.get(before, _SYMBOLS.get(before, ""))
    if label:
        return Number(text, is_firm=False, label=label)
    dimension = "year" if _YEAR.fullmatch(text) else ""
    sizes = (_value(text),) if dimension else ()
    return Number(text, dimension, sizes, label=before if before.isalpha() else "")


def _spelled(tokens: Sequence[_Token], place: int) -> tuple[Number, int]:
    """Read a number in words; return it and the place after what belongs to it."""
    first, total, current = place, 0, 0
    while place < len(tokens):
        word = tokens[place].text
        value = _TENS.get(word, _SMALL.get(word))
        if value is not None:
            if place > first and current in _CENTURIES and value > 9 and not total:
                current *= 100  # nineteen ninety-four
            elif place > first and (current % 10 or (current % 100 and value > 9)):
                break
            current += value
        elif word in _TIMES and word != "k":
            current *= _TIMES[word]
            if word != "hundred":
                total, current = total + current, 0
        elif word != "and" or tokens[place - 1].text not in _TIMES:
            break
        place += 1
    text = str(total + current)
    unit = _UNITS.get(_text(tokens, place))
    if unit is not None:
        return Number(text, unit[0], (_value(text) * unit[1],), unit=unit[1]), place + 1
    if text in ("0", "1"):
        return Number(text, is_firm=False), place
    return _bare(text, _text(tokens, first - 1)), place


def _clock(tokens: Sequence[_Token], place: int) -> tuple[Number, int]:
    hours, _, rest = tokens[place].text.replace(".", ":").partition(":")
    text, after = _plain_digits(hours), _text(tokens, place + 1)
    minutes = min(_value(text), 24.0) * 60 + _value(_plain_digits(rest.replace(":", ".")))
    if after in ("am", "pm"):
        half = _NOON if after == "pm" else 0
        return Number(text, "clock", (minutes % _NOON + half,)), place + 2
    sizes = (minutes, (minutes + _NOON) % _DAY) if minutes <= _NOON + 59 else (minutes,)
    return Number(text, "clock", sizes), place + 1


def _other(tokens: Sequence[_Token], place: int) -> Iterator[Number]:
    """Yield what a word that is no plain number says of a number."""
    word, before, after = tokens[place].text, _text(tokens, place - 1), _text(tokens, place + 1)
    if word in _OFTEN:
        yield Number(_OFTEN[word])
    elif word == "once" and after in ("a", "daily", "per", "every", "weekly", "monthly"):
        yield Number("1")
    elif word in _VAGUE:
        yield Number(_VAGUE[word], is_firm=False)
    elif word in _ORDINALS and not (word == "second" and before.isdecimal()):
        value = _ORDINALS[word]
        yield Number(str(value), ORDINAL, (value,), is_firm=False, label=ORDINAL)
    elif word in _ROMAN and before in _NUMBERED:
        yield Number(str(_ROMAN[word]), label=before)
    elif word in ("a", "an", "per") and after in _UNITS:
        dimension, scale = _UNITS[after]
        yield Number("1", dimension, (scale,), is_firm=False, unit=scale)
    elif word in ("noon", "midnight"):
        sizes = (720.0,) if word == "noon" else (0.0, 1440.0)
        yield Number("12", "clock", sizes, is_firm=False)


def _months(tokens: Sequence[_Token]) -> Iterator[str]:
    for place, token in enumerate(tokens):
        if token.text in _MONTHS:
            beside = _text(tokens, place - 1), _text(tokens, place + 1)
            if (
                token.text not in _NOT_ALWAYS_MONTHS
                or beside[0] in _BESIDE_MONTH
                or any(text[:1].isdecimal() for text in beside)
            ):
                yield _MONTHS[token.text]


def _text(tokens: Sequence[_Token], place: int) -> str:
    return tokens[place].text if 0 <= place < len(tokens) else ""


def _plain_digits(text: str) -> str:
    """Return a number without thousands separators, leading zeros and a fraction of zero."""
    text = text.replace(",", "").lstrip("0") or "0"
    text = f"0{text}" if text.startswith(".") else text
    return text.removesuffix(".0").removesuffix(".00") if text.count(".") == 1 else text


def _value(text: str) -> float:
    """Return the value of a number; of a version its first two parts."""
    return min(float(".".join(text.split(".")[:2])), _HIGHEST)
