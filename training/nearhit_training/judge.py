"""The second opinion: does one answer serve two questions completely?"""

import hashlib
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, StrictBool

from nearhit_training import templates
from nearhit_training.asking import Asker
from nearhit_training.drafts import Unusable, read_reply, strict_object
from nearhit_training.endpoint import Ask

Verdict: TypeAlias = Literal["same", "different", "unclear"]

_SCHEMA: Final = strict_object(
    difference={"type": "string"}, one_answer_serves_both={"type": "boolean"}
)
_MAX_TOKENS: Final = 200


class _Opinion(BaseModel):
    model_config = ConfigDict(frozen=True)
    one_answer_serves_both: StrictBool


@dataclass(frozen=True, slots=True)
class Judge:
    """A model that is asked, at temperature 0.

    Attributes:
        model: name that the endpoint knows.
        both_orders: ask twice, the questions exchanged, and trust only what agrees: costs twice
            as much, and catches a judge who prefers what stands first.
    """

    model: str
    both_orders: bool = False

    def asks(self, a: str, b: str) -> list[Ask]:
        """Write the requests for a pair; which question comes first is drawn by their text."""
        first, second = sorted((a, b), key=lambda text: hashlib.sha256(text.encode()).digest())
        orders = [(first, second), (second, first)] if self.both_orders else [(first, second)]
        return [
            Ask(
                purpose="judge",
                model=self.model,
                messages=(("user", templates.fill("judge", first=left, second=right)),),
                schema=_SCHEMA,
                temperature=0.0,
                max_tokens=_MAX_TOKENS,
            )
            for left, right in orders
        ]

    async def compare(self, asker: Asker, a: str, b: str) -> Verdict:
        """Ask; ``unclear`` when a reply is not usable or two disagree.

        Raises:
            EndpointError: an unanswered call.
        """
        opinions = set()
        for ask in self.asks(a, b):
            reply = await asker.ask(ask)
            try:
                opinion = read_reply(reply.text, _Opinion)
            except Unusable:
                return "unclear"
            opinions.add(opinion.one_answer_serves_both)
        if len(opinions) > 1:
            return "unclear"
        return "same" if opinions.pop() else "different"
