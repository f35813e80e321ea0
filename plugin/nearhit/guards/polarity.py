"""Polarity: the opposite of what was asked needs another answer.

A pair of opposites decides where one question has one of them, the other question has the other,
and neither has both: enable and disable, import and export, first and last. Others tell near misses
from paraphrases only where every other word is the same: with and without ("with no"), before and
after, buyer and seller. So does a negation that was put in: elsewhere "why can't I" and "isn't it"
ask what "how can I" asks.
"""

import re
from functools import lru_cache
from typing import Final

_OPPOSITES: Final = """
enable enables enabled enabling | disable disables disabled disabling
activate activates activated activating activation | deactivate deactivated deactivating deactivation
increase increases increased increasing raise raising | decrease decreases decreased decreasing reduce reduces reduced reducing lower lowering
allow allows allowed allowing permit permitted | forbid forbids forbidden block blocks blocked blocking deny denied prohibit prohibited
include includes included including | exclude excludes excluded excluding except
add adds added adding | remove removes removed removing delete deletes deleted deleting
install installs installed installing | uninstall uninstalls uninstalled uninstalling
encrypt encrypts encrypted encrypting encryption | decrypt decrypts decrypted decrypting decryption
encode encodes encoded encoding | decode decodes decoded decoding
import imports imported importing | export exports exported exporting
upload uploads uploaded uploading | download downloads downloaded downloading
upgrade upgrades upgraded upgrading | downgrade downgrades downgraded downgrading
mount mounts mounted mounting | unmount unmounts unmounted unmounting
compress compressed compressing zip | decompress decompressed decompressing unzip extract
lock locks locked locking | unlock unlocks unlocked unlocking
buy buys buying bought purchase | sell sells selling sold
lend lends lending lent | borrow borrows borrowing borrowed
start starts started starting begin beginning | stop stops stopped stopping quit quitting
open opens opened opening | close closes closed closing
gain gains gaining gained | lose loses losing lost
ascending | descending
minimum min minimise minimize | maximum max maximise maximize
lowest smallest | highest largest biggest
hyperthyroidism hyperthyroid | hypothyroidism hypothyroid
hyperglycemia hyperglycaemia | hypoglycemia hypoglycaemia
hypertension | hypotension
hyperkalemia hyperkalaemia | hypokalemia hypokalaemia
hypernatremia hypernatraemia | hyponatremia hyponatraemia
tachycardia | bradycardia
synchronous sync | asynchronous async
positive | negative
first | last
advantages pros benefits | disadvantages cons drawbacks
plaintiff claimant | defendant
input inputs | output outputs
internal | external
"""
# Opposites that decide only where every other word is the same.
_IN_PLACE: Final = """
with | without
before | after
up | down
left | right
up | off
on | off
over | under
more | less fewer
best | worst
buyer | seller
employer | employee
landlord | tenant
lender | borrower
parent | child
doctor | patient
teacher | student
husband | wife
public | private
request requests | response responses
likely | unlikely
possible | impossible
early earlier | late later
"""
_NEGATIONS: Final = frozenset({"not", "no", "never", "without", "cannot", "nt"})
_OPENING: Final = 2  # words of an opening such as "why can't"
_WORD: Final = re.compile(r"[a-z]+")
_ANY_WORD: Final = re.compile(r"[^\W_]+")
_SHORT: Final = re.compile(r"n['\u2019]t\b")
_LONGEST: Final = 4000  # characters looked at


def _read(table: str) -> dict[str, tuple[tuple[int, int], ...]]:
    """Return of each word the pairs it belongs to and on which side."""
    sides: dict[str, list[tuple[int, int]]] = {}
    for number, line in enumerate(table.strip().splitlines()):
        for side, words in enumerate(line.split("|")):
            for word in words.split():
                sides.setdefault(word, []).append((number, side))
    return {word: tuple(found) for word, found in sides.items()}


_SIDES: Final = _read(_OPPOSITES)
_SIDES_IN_PLACE: Final = _read(_IN_PLACE)


def differ(stored: str, asked: str) -> bool:
    """Whether the questions ask for opposites."""
    one, two = _poles(stored[:_LONGEST]), _poles(asked[:_LONGEST])
    if any(
        (number, 1 - side) in two and (number, side) not in two and (number, 1 - side) not in one
        for number, side in one
    ):
        return True
    return _is_opposite_in_place(_words(stored[:_LONGEST]), _words(asked[:_LONGEST]))


def _is_opposite_in_place(one: tuple[str, ...], two: tuple[str, ...]) -> bool:
    """Whether a negation was put in, or a word replaced by its opposite, and nothing else done."""
    if len(one) == len(two):
        changed = [(old, new) for old, new in zip(one, two, strict=True) if old != new]
        return len(changed) == 1 and any(
            (number, 1 - side) in _SIDES_IN_PLACE.get(changed[0][1], ())
            for number, side in _SIDES_IN_PLACE.get(changed[0][0], ())
        )
    short, long = sorted((one, two), key=len)
    if len(long) - len(short) != 1:
        return False
    place = next((i for i, word in enumerate(short) if word != long[i]), len(short))
    # "Isn't it", "why can't I" ask what "is it", "why can I" ask.
    return place > _OPENING and long[place] in _NEGATIONS and long[place + 1 :] == short[place:]


@lru_cache(maxsize=1024)
def _words(text: str) -> tuple[str, ...]:
    return tuple(_ANY_WORD.findall(_SHORT.sub(" nt", text.lower())))


@lru_cache(maxsize=1024)
def _poles(text: str) -> frozenset[tuple[int, int]]:
    return frozenset(pole for word in _WORD.findall(text.lower()) for pole in _SIDES.get(word, ()))
