"""Entities: another place, language, system or product of the same class needs another answer.

Closed classes only: what stands in none of them is left to the verifier. A class decides where each
question names a member of it, and neither names one that the other names. Names of one thing (USA
and America, mac and macOS) are one member.
"""

import re
from functools import lru_cache
from typing import Final

# One class a line, members between commas, names of one member between slashes.
_CLASSES: Final = """
alabama, alaska, arizona/az, arkansas, california/ca/calif, colorado, connecticut, delaware, florida/fl, georgia, hawaii, idaho, illinois, indiana, iowa, kansas, kentucky, louisiana, maryland, massachusetts, michigan, minnesota, mississippi, missouri, montana, nebraska, nevada, new hampshire, new jersey/nj, new mexico, new york/ny/nyc, north carolina, north dakota, ohio, oklahoma, oregon, pennsylvania, rhode island, south carolina, south dakota, tennessee, texas/tx, utah, vermont, virginia, wisconsin, wyoming
argentina, australia, austria, belgium, brazil, bulgaria, chile, china, colombia, croatia, czechia/czech republic, denmark, egypt, finland, france, germany, greece, hungary, iceland, india, indonesia, iran, ireland, israel, italy, japan, kenya, luxembourg, malaysia, mexico, netherlands/holland, new zealand, nigeria, norway, pakistan, peru, philippines, poland, portugal, romania, russia, saudi arabia, singapore, south africa, south korea, spain, sweden, switzerland, taiwan, thailand, turkey, ukraine, vietnam
arabic, bengali, cantonese, czech, danish, dutch, english, finnish, french, german, greek, hebrew, hindi, hungarian, indonesian, italian, japanese, korean, latin, mandarin/chinese, norwegian, persian/farsi, polish, portuguese, romanian, russian, spanish, swedish, tagalog, thai, turkish, ukrainian, urdu, vietnamese
windows/win10/win11, macos/mac/osx/os x, linux/ubuntu/debian/fedora/centos/arch
android, ios/iphone/ipad
python/py, java, javascript/js/node/nodejs/typescript/ts, ruby, rust, golang, php, perl, kotlin, swift, scala, haskell, julia, matlab, fortran, cobol, bash/shell/zsh
mysql/mariadb, postgres/postgresql/psql, sqlite, mongodb/mongo, redis, oracle, cassandra, mssql/sql server
pandas, polars, numpy, tensorflow, pytorch/torch, sklearn/scikit
django, flask, fastapi, rails, laravel, spring
angular, react, vue, svelte
chrome, firefox, safari
aws, azure, gcp
docker, podman
npm, yarn, pnpm
monday/mon, tuesday/tues, wednesday, thursday/thurs, friday, saturday, sunday
january/jan, february/feb, march, april/apr, june, july, august/aug, september/sept/sep, october/oct, november/nov, december/dec
ibuprofen/advil/motrin/nurofen, paracetamol/acetaminophen/tylenol, aspirin, naproxen/aleve, diclofenac, tramadol, codeine, morphine, oxycodone
metformin, insulin, glipizide, empagliflozin, semaglutide/ozempic/wegovy
lisinopril, amlodipine, losartan, ramipril, metoprolol, bisoprolol, hydrochlorothiazide
sertraline/zoloft, fluoxetine/prozac, escitalopram/lexapro, citalopram, venlafaxine, bupropion/wellbutrin, mirtazapine, paroxetine
amoxicillin, azithromycin, doxycycline, ciprofloxacin, penicillin, cephalexin
omeprazole, famotidine, pantoprazole
warfarin, apixaban/eliquis, rivaroxaban/xarelto
salt, sugar
mother/mom/mum, father/dad
husband, wife
brother, sister
son, daughter
dog/puppy, cat/kitten, rabbit, horse
infant/baby/newborn, toddler, teenager/teen/adolescent, adult/adults, elderly
"""
_LONGEST: Final = 4000  # characters looked at


def _read(table: str) -> dict[str, tuple[int, str]]:
    """Return the class and the member of each name."""
    found = {}
    for number, line in enumerate(table.strip().splitlines()):
        for member in line.split(","):
            names = [name.strip() for name in member.split("/")]
            found.update(dict.fromkeys(names, (number, names[0])))
    return found


_MEMBERS: Final = _read(_CLASSES)
_NAME: Final = re.compile(
    r"(?<![\w.])(?:"
    + "|".join(map(re.escape, sorted(_MEMBERS, key=len, reverse=True)))
    + r")(?!\w)"
)


def differ(stored: str, asked: str) -> bool:
    """Whether the questions name other members of one class."""
    one, two = _named(stored[:_LONGEST]), _named(asked[:_LONGEST])
    return any(members.isdisjoint(two[number]) for number, members in one.items() if number in two)


@lru_cache(maxsize=1024)
def _named(text: str) -> dict[int, frozenset[str]]:
    found: dict[int, set[str]] = {}
    for name in _NAME.findall(text.lower()):
        number, member = _MEMBERS[name]
        found.setdefault(number, set()).add(member)
    return {number: frozenset(members) for number, members in found.items()}
