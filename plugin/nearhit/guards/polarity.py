"""Polarity: the opposite of what was asked needs another answer.

A pair of opposites decides where one question has one of them, the other question has the other,
and neither has both: enable and disable, import and export, first and last. Left out, because they
told near misses from paraphrases no better than seven times in eight: with and without ("with no"),
before and after, legal and illegal (one question), landlord and tenant (both stand there). Negation
decides nothing for the same reason: "why can't I" and "isn't it" ask what "how can I" asks.
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
_WORD: Final = re.compile(r"[a-z]+")
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


def differ(stored: str, asked: str) -> bool:
    """Whether the questions ask for opposites."""
    one, two = _poles(stored[:_LONGEST]), _poles(asked[:_LONGEST])
    return any(
        (number, 1 - side) in two and (number, side) not in two and (number, 1 - side) not in one
        for number, side in one
    )


@lru_cache(maxsize=1024)
def _poles(text: str) -> frozenset[tuple[int, int]]:
    return frozenset(pole for word in _WORD.findall(text.lower()) for pole in _SIDES.get(word, ()))
