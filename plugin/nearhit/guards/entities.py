"""Another named thing: place, language, system, programming language, product, drug, disorder.

Vetoes where each question names a thing that the other does not, and both are of one kind: two
jurisdictions, two databases, two generic drug names. Names of different kinds forbid nothing, so
that a brand may stand for its drug, an abbreviation for its term and a city for its country.

Where the questions differ in one word only, two names of any kind are enough (WCAG AA and AAA).
"""

import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Final

from nearhit.guards.kinds import is_substituted, named, table
from nearhit.guards.wording import FUNCTION_WORDS, REMEMBERED, listed, plain, shares_words

_KINDS: Final = table(
    """
    us / usa / u.s / u.s.a / america / american / united states, uk / u.k / britain / british /
    united kingdom / england / english / gb / great britain, scotland / scottish / scots, wales
    / welsh, northern ireland, ireland / irish, canada / canadian, australia / australian, new
    zealand, india / indian, germany / german / deutschland, france / french, spain / spanish,
    italy / italian, portugal / portuguese, netherlands / dutch / holland, belgium / belgian,
    austria / austrian, switzerland / swiss, sweden / swedish, norway / norwegian, denmark /
    danish, finland / finnish, poland / polish, russia / russian, ukraine / ukrainian, greece /
    greek, turkey / turkish, china / chinese / mandarin, japan / japanese, korea / korean /
    south korea, brazil / brazilian, mexico / mexican, argentina, south africa, nigeria, kenya,
    egypt, israel / hebrew, pakistan, bangladesh, indonesia, philippines, vietnam / vietnamese,
    thailand / thai, singapore, malaysia, uae / dubai, saudi arabia, latin, arabic, hindi, urdu,
    alabama, alaska, arizona, arkansas, california / californian, colorado, connecticut,
    delaware, florida, georgia, hawaii, idaho, illinois, indiana, iowa, kansas, kentucky,
    louisiana, maine, maryland, massachusetts, michigan, minnesota, mississippi, missouri,
    montana, nebraska, nevada, new hampshire, new jersey, new mexico, new york / ny / nyc, north
    carolina, north dakota, ohio, oklahoma, oregon, pennsylvania, rhode island, south carolina,
    south dakota, tennessee, texas / texan, utah, vermont, virginia, wisconsin, wyoming,
    ontario, quebec, alberta, british columbia, queensland, new south wales / nsw, bavaria

    windows / win10 / win11, macos / mac / macbook / os x / osx / macs, linux / ubuntu / debian
    / fedora / centos / arch, android, ios / iphone / ipad / iphones

    python / py / python3, java, javascript / js / node / nodejs / typescript / ts, typescript /
    ts, c, c++ / cpp, c# / csharp, golang / go, rust, ruby / rails, php, swift, kotlin, scala,
    perl, bash / shell / zsh / sh, powershell, matlab, r, haskell, lua, julia, elixir, vba

    react / reactjs, vue / vuejs, angular, svelte, django, flask, fastapi, laravel, spring /
    spring boot, jquery

    mysql / mariadb, postgresql / postgres / psql, sqlite, mongodb / mongo, oracle, sql server /
    mssql / t sql, redis, cassandra, dynamodb, snowflake, bigquery, elasticsearch

    aws / amazon web services, azure, gcp / google cloud

    github, gitlab, bitbucket, svn

    json, yaml / yml, xml, csv, toml

    npm, yarn, pnpm, pip, conda

    pandas, polars, numpy, spark / pyspark, dplyr

    pytorch / torch, tensorflow, keras

    terraform, ansible, kubernetes / k8s, helm

    excel, google sheets / sheets

    gmail, outlook

    teams, zoom, slack, google meet

    chrome, firefox, safari, edge

    whatsapp, telegram, signal

    instagram, facebook, twitter, tiktok, snapchat, youtube, linkedin, pinterest, reddit, quora

    paypal, venmo, stripe

    bitcoin / btc, ethereum / eth

    netflix, spotify, hulu

    ibuprofen / advil / nurofen / motrin, paracetamol / acetaminophen / tylenol / panadol,
    aspirin, naproxen / aleve, codeine, morphine, tramadol, insulin, metformin, warfarin,
    prednisone / prednisolone, melatonin, caffeine, alcohol, nicotine, cannabis / marijuana /
    weed, cocaine, meth / methamphetamine

    depression, anxiety, adhd, autism, ocd, ptsd, bipolar, schizophrenia, anorexia, bulimia,
    dyslexia, dementia / alzheimer's / alzheimers, narcissism

    mri, ct, x-ray, ultrasound

    hindu / hinduism, muslim / islam / islamic, christian / christianity, jewish / judaism,
    buddhist / buddhism, sikh

    hepatitis a, hepatitis b, hepatitis c
    """
)
# Stems of international nonproprietary names.
# Source: WHO, The use of stems in the selection of INN for pharmaceutical substances.
_DRUG: Final = re.compile(
    r"[a-z]{2,20}(?:pril|sartan|olol|vastatin|conazole|nidazole|cillin|mycin|floxacin|cycline"
    r"|prazole|tidine|oxetine|triptyline|zepam|zolam|setron|gliptin|gliflozin|glutide|xaban|zumab"
    r"|tinib|ciclovir|parin|dipine|lukast|triptan|dronate|thiazide|caine|codone|profen|coxib"
    r"|methasone|statin)"
)
_CASED_WORD: Final = re.compile(r"[^\W_]+(?:['.&-][^\W_]+)*(?:\+\+|#)?")
_HYPHEN: Final = re.compile(r"(?<=[^\W\d_])[-.](?=[^\W\d_]{2})")
_MOST_DRUGS: Final = 16  # compared letter by letter, so that the time stays bounded
_ALIKE: Final = 0.8  # letters that two spellings of one name share
_ARTICLES: Final = listed("a an the please")


def entities(stored: str, asked: str) -> bool:
    """Whether each names a thing of one kind that the other does not name."""
    one, other = _cased(stored), _cased(asked)
    is_different = (
        is_substituted(_named(stored), _named(asked))
        or _differ(_drugs(one), _drugs(other))
        or _is_renamed(one, other)
    )
    return is_different and shares_words(stored, asked, 0.0)


@lru_cache(maxsize=REMEMBERED)
def _cased(text: str) -> tuple[str, ...]:
    return tuple(_CASED_WORD.findall(_HYPHEN.sub(" ", plain(text))))


@lru_cache(maxsize=REMEMBERED)
def _named(text: str) -> Mapping[int, set[frozenset[str]]]:
    return named([word.removesuffix("'s") for word in _cased(text)], _KINDS)


def _drugs(cased: Sequence[str]) -> frozenset[str]:
    return frozenset(w for w in map(str.lower, cased) if len(w) > 6 and _DRUG.fullmatch(w))


def _differ(one: frozenset[str], other: frozenset[str]) -> bool:
    ours, theirs = one - other, other - one
    if max(len(ours), len(theirs)) > _MOST_DRUGS:
        return bool(ours) and bool(theirs)
    return _has_unlike(ours, other) and _has_unlike(theirs, one)


def _has_unlike(ours: frozenset[str], theirs: frozenset[str]) -> bool:
    return any(not any(_is_alike(one, other) for other in theirs) for one in ours)


def _is_alike(one: str, other: str) -> bool:
    return one == other or SequenceMatcher(None, one, other, False).ratio() >= _ALIKE


def _is_renamed(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether all words are the same but one, which is a name in both."""
    ours = [word for word in one if word.lower() not in _ARTICLES]
    theirs = [word for word in other if word.lower() not in _ARTICLES]
    if len(ours) != len(theirs):
        return False
    both = enumerate(zip(ours, theirs, strict=True))
    places = [place for place, (a, b) in both if a.lower() != b.lower()]
    if len(places) != 1 or places[0] == 0:
        return False
    a, b = ours[places[0]], theirs[places[0]]
    if min(len(a), len(b)) == 1 or {a.lower(), b.lower()} & FUNCTION_WORDS:
        return False
    if a.isupper() and b.isupper():
        return True
    return a[0].isupper() and b[0].isupper() and not _is_alike(a.lower(), b.lower())
