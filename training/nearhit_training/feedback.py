"""Read what a proxy exports of its own decisions: feedback and shadow log.

One JSON object a line; other fields are allowed and not read:

    {"question": "how do i turn on 2fa", "stored_question": "Enable two-factor authentication",
     "similarity": 0.91, "label": "right"}

question         what a client asked
stored_question  the question whose answer was served, or would have been
similarity       cosine at that time, -1 to 1, or null
label            "right": the stored answer served the question too; "wrong": it did not;
                 null or absent: nobody has said (a shadow line)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from nearhit.errors import ConfigError
from nearhit_training.questions import rows

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class FeedbackLine(BaseModel):
    """One decision of the proxy and what was said of it."""

    model_config = ConfigDict(frozen=True)
    question: Text
    stored_question: Text
    similarity: float | None = Field(default=None, ge=-1.001, le=1.001)
    label: Literal["right", "wrong"] | None = None


def read_feedback(paths: Sequence[Path]) -> list[FeedbackLine]:
    """Read exported lines.

    Raises:
        ConfigError: a file cannot be read, or a line has another shape.
    """
    lines = []
    for path in paths:
        for place, row in rows(path):
            try:
                lines.append(FeedbackLine.model_validate(row))
            except ValidationError as error:
                fault = error.errors()[0]
                name = ".".join(map(str, fault["loc"])) or "the line"
                raise ConfigError(
                    f"{place}: {name} must fit (rule: {fault['msg']}), got "
                    f"{str(fault['input'])[:60]!r}; correct or remove the line"
                ) from error
    return lines
