"""What a model writes for one question, and how it is asked for, checked and repaired."""

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from nearhit_training import templates
from nearhit_training.endpoint import Ask
from nearhit_training.questions import Question

Kind = Literal[
    "entity", "attribute", "polarity", "quantity", "scope", "direction", "actor", "intent"
]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

# A group's texts differ in these ways, in turn, so that no form belongs to one label.
_PARAPHRASES: Final = (
    "lexically distant: synonyms, abbreviation for full term, lay word for technical word, "
    "clauses in another order; few words in common with the question",
    "another register or form: keywords, chatty, very polite, or careless as people type",
    "free: as another person would ask it",
    "a light edit that keeps at least 70 % of the words: a typo or two, a contraction, a moved "
    "clause, one synonym",
)
_NEAR_MISSES: Final = (
    "a minimal edit of the question: one or two words changed",
    "a minimal edit of your first or second paraphrase, in its register, with its carelessness",
    "a minimal edit of the question: one or two words changed",
    "the same topic in other words: few words in common with the question, in any register",
)
_TOKENS_A_TEXT: Final = 90
_FENCE: Final = re.compile(r"<think>.*?</think>", re.DOTALL)

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000)]
Model = TypeVar("Model", bound=BaseModel)


class NearMiss(BaseModel):
    """A text that looks like the question and needs another answer."""

    model_config = ConfigDict(frozen=True)
    text: Text
    kind: Kind


class Draft(BaseModel):
    """A model's whole answer for one question."""

    model_config = ConfigDict(frozen=True)
    topic: Text
    paraphrases: tuple[Text, ...]
    near_misses: tuple[NearMiss, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """How much is wanted for each question, from which model."""

    model: str
    paraphrases: int
    near_misses: int
    temperature: float
    seed: int


class Unusable(ValueError):  # noqa: N818 - said of a reply
    """A reply is not the JSON that was asked for; the message says what to correct."""


def ask_for_draft(question: Question, order: Order, position: int) -> Ask:
    """Write the request for one question.

    The kinds go round over the file, each file from another start, so that all eight are asked
    for equally often.
    """
    # A permutation of the kinds by seed, then round and round.
    kinds = random.Random(order.seed).sample(KINDS, len(KINDS))  # noqa: S311 - not for secrets
    start = position * order.near_misses
    wanted = [kinds[(start + index) % len(KINDS)] for index in range(order.near_misses)]
    paraphrases = [_PARAPHRASES[i % len(_PARAPHRASES)] for i in range(order.paraphrases)]
    near_misses = [
        f"{kind}; {_NEAR_MISSES[index % len(_NEAR_MISSES)]}" for index, kind in enumerate(wanted)
    ]
    content = templates.fill(
        "generate",
        paraphrases=order.paraphrases,
        near_misses=order.near_misses,
        paraphrase_plan=_numbered(paraphrases),
        near_miss_plan=_numbered(near_misses),
        domain=question.domain,
        question=question.text,
    )
    longest = max(_TOKENS_A_TEXT, len(question.text) // 2)
    return Ask(
        purpose="generate",
        model=order.model,
        messages=(("user", content),),
        schema=_SCHEMA,
        temperature=order.temperature,
        max_tokens=200 + longest * (order.paraphrases + order.near_misses),
    )


def ask_to_repair(ask: Ask, text: str, fault: str) -> Ask:
    """Write the second and last request: the same, the unusable reply, what is wrong with it."""
    repair = templates.fill("repair", fault=fault)
    return Ask(
        purpose=ask.purpose,
        model=ask.model,
        messages=(*ask.messages, ("assistant", text), ("user", repair)),
        schema=ask.schema,
        temperature=ask.temperature,
        max_tokens=ask.max_tokens,
    )


def read_draft(text: str, order: Order) -> Draft:
    """Read a reply; more texts than were asked for are cut off.

    Raises:
        Unusable: no JSON, another shape, or too few texts.
    """
    draft = read_reply(text, Draft)
    for name, wanted in (("paraphrases", order.paraphrases), ("near_misses", order.near_misses)):
        got = len(getattr(draft, name))
        if got < wanted:
            raise Unusable(f"{name} must have {wanted} entries, it has {got}")
    return Draft(
        topic=draft.topic,
        paraphrases=draft.paraphrases[: order.paraphrases],
        near_misses=draft.near_misses[: order.near_misses],
    )


def read_reply(text: str, model: type[Model]) -> Model:
    """Find the first JSON object in a reply, around it what models like to add, and check it.

    Raises:
        Unusable: there is none, or it has another shape.
    """
    value = _first_object(_FENCE.sub("", text))
    if value is None:
        raise Unusable("it holds no complete JSON object")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()[:3]
        ]
        raise Unusable("; ".join(faults)) from error


def _first_object(text: str) -> dict[str, Any] | None:
    decoder = json.JSONDecoder()
    start = text.find("{")
    while start >= 0:
        try:
            value, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            start = text.find("{", start + 1)
            continue
        return value if isinstance(value, dict) else None
    return None


def _numbered(lines: Sequence[str]) -> str:
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1))


def strict_object(**fields: Any) -> dict[str, Any]:
    """Return a JSON schema that all providers take: every field required, none besides."""
    return {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


_STRING: Final = {"type": "string"}
_SCHEMA: Final = strict_object(
    topic=_STRING,
    paraphrases={"type": "array", "items": _STRING},
    near_misses={
        "type": "array",
        "items": strict_object(text=_STRING, kind={"type": "string", "enum": list(KINDS)}),
    },
)
