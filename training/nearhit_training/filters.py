"""What is thrown away, and under which name it is counted. Every rule is a pure function.

A rule takes a question and a text that was written for it, and says whether the text breaks it.
Rules that need vectors or a judge are in `generate` and `mine`; their names are here as well, so
that one table lists them all.
"""

import re
import unicodedata
from collections.abc import Set
from typing import Final, Literal, TypeAlias

from nearhit_training.constraints import lost_constraint

Rule: TypeAlias = Literal[
    "unanswered",
    "refused",
    "malformed",
    "duplicate",
    "language",
    "length",
    "constraint",
    "leakage",
    "near_duplicate",
    "judge",
    "unjudged",
    "emptied",
    "unencodable",
    "contradictory",
]

MEANING: Final[dict[Rule, str]] = {
    "unanswered": "the endpoint did not answer in time; the same command asks again",
    "refused": "the model declined, or its provider's filter cut in",
    "malformed": "not the JSON that was asked for, after one repair round",
    "duplicate": "the same words as a text that is already there",
    "language": "another language or script than the question's",
    "length": "far shorter or far longer than the question",
    "constraint": "a paraphrase drops, adds or swaps a number, a unit or a name",
    "leakage": "in a held-out file, word for word or nearly",
    "near_duplicate": "nearly a text of an earlier group",
    "judge": "the judge reads the pair otherwise than it was written",
    "unjudged": "the judge gave no usable verdict",
    "emptied": "a group left without a paraphrase or without a near miss",
    "unencodable": "no trustworthy vector: too long, or words that the encoder does not know",
    "contradictory": "the same pair labelled right by one line and wrong by another",
}

# Function words that hardly occur in the other languages. Two of them decide.
_FUNCTION_WORDS: Final = {
    "en": "the and is are what how does with for from my can why which when should this that "
    "you your of to do have it if an be between",
    "de": "der das und ist sind wie mit für von mein kann warum welche wenn ein eine nicht ich "
    "zu auf den dem wird was bei oder",
    "fr": "le les et est sont quel quelle comment avec pour mon ma pourquoi une des du que je "
    "pas dans sur peut au aux ce",
    "es": "el los las y es son qué cómo con para mi por una del que puedo cuando se cuál en "
    "puede hay como",
    "pt": "o os e é são como com para meu minha uma do da que posso quando não em qual por um",
    "it": "il lo gli è sono come con per mio perché una del della che posso quando non si qual "
    "di un nel",
    "nl": "de het een en is zijn wat hoe met voor van mijn kan waarom welke wanneer niet ik op "
    "te wordt bij",
}
_VOCABULARIES: Final = {name: frozenset(words.split()) for name, words in _FUNCTION_WORDS.items()}
_WORD: Final = re.compile(r"\w+")

# A keyword search may have a fifth of a question's words; a chatty version three times as many.
_SHORTEST: Final = 0.2
_LONGEST: Final = 3.0
_SLACK_WORDS: Final = 12
_FEWEST_WORDS: Final = 2


def normal(text: str) -> str:
    """Return a text's letters and digits only, in one case: what two copies have in common."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_WORD.findall(folded))


def is_duplicate(text: str, seen: Set[str]) -> bool:
    """Whether `normal(text)` is in `seen`, or nothing is left of it."""
    plain = normal(text)
    return not plain or plain in seen


def script_of(text: str) -> str:
    """Return the script of most letters, as Unicode names it: LATIN, CYRILLIC, CJK, ..."""
    counts: dict[str, int] = {}
    for character in text:
        if character.isalpha():
            script = unicodedata.name(character, "UNNAMED").split(" ")[0]
            counts[script] = counts.get(script, 0) + 1
    return max(sorted(counts), key=lambda script: counts[script], default="")


def language_of(text: str, lead: int = 2) -> str | None:
    """Return the language of a text in Latin script where its function words tell, else None.

    Args:
        text: any text.
        lead: so many function words more than the next language has.
    """
    words = set(_WORD.findall(text.casefold()))
    hits = {name: len(words & vocabulary) for name, vocabulary in _VOCABULARIES.items()}
    first, second = sorted(hits, key=lambda name: -hits[name])[:2]
    return first if hits[first] - hits[second] >= lead else None


def is_other_language(question: str, text: str) -> bool:
    """Whether two texts differ in script, or clearly in language; keywords alone tell nothing."""
    if script_of(question) and script_of(text) and script_of(question) != script_of(text):
        return True
    here, there = language_of(question, lead=1), language_of(text)
    return here is not None and there is not None and here != there


def is_other_length(question: str, text: str) -> bool:
    """Whether a text has far fewer or far more words than the question that it belongs to."""
    asked, written = len(question.split()), len(text.split())
    # Scripts without spaces have one word a sentence; there characters are counted.
    if asked <= 2 and len(question) > 10 and script_of(question) != "LATIN":
        asked, written = len(question), len(text)
    fewest = min(asked, max(_FEWEST_WORDS, _SHORTEST * asked))
    return not fewest <= written <= _LONGEST * asked + _SLACK_WORDS


def broken_rule(question: str, text: str, *, same: bool, seen: Set[str]) -> Rule | None:
    """Return the first rule that a text breaks by its words alone.

    Args:
        question: the seed.
        text: a paraphrase or a near miss of it.
        same: whether the text claims to mean the same.
        seen: `normal` texts that the group has already.
    """
    if is_duplicate(text, seen):
        return "duplicate"
    if is_other_language(question, text):
        return "language"
    if is_other_length(question, text):
        return "length"
    if same and lost_constraint(question, text) is not None:
        return "constraint"
    return None
