"""Read questions, and the texts that must never be trained on, with the place of every fault.

Questions: JSON lines with a text under `query`, `question` or `text`, and if known `id`, `domain`
and `topic`; or a .txt file with one question a line. Held-out files: JSON lines of any shape that
holds questions (pairs, triplets, clusters, groups, feedback), or .txt.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nearhit.errors import ConfigError

_TEXT_FIELDS: Final = ("query", "question", "text")
_HELD_OUT_FIELDS: Final = (
    *_TEXT_FIELDS,
    *("a", "b", "anchor", "positive", "negative", "stored_question"),
)
_HELD_OUT_LISTS: Final = ("paraphrases", "near_misses")


@dataclass(frozen=True, slots=True)
class Question:
    """A question and where it stands.

    Attributes:
        text: as written, outer spaces removed.
        domain: such as ``medical``; the command's default where the file says nothing.
        topic: narrow subject; empty when unknown.
        name: the file's id; empty when it has none.
    """

    text: str
    domain: str
    topic: str = ""
    name: str = ""


def read_questions(paths: Sequence[Path], domain: str) -> list[Question]:
    """Read all questions of some files, in order.

    Raises:
        ConfigError: a file cannot be read, or a line is not a question.
    """
    found = []
    for path in paths:
        for place, line in rows(path):
            if isinstance(line, str):
                found.append(Question(line, domain))
                continue
            text = next((line[field] for field in _TEXT_FIELDS if field in line), None)
            if not isinstance(text, str) or not text.strip():
                raise ConfigError(
                    f"{place} must hold a text under one of {', '.join(_TEXT_FIELDS)}, got "
                    f"{_brief(text if text is not None else sorted(line))}; "
                    f"rename the field or remove the line"
                )
            extra = {}
            for field, default in (("domain", domain), ("topic", ""), ("id", "")):
                value = line.get(field)
                if value is not None and not isinstance(value, str):
                    raise ConfigError(
                        f"{place}: {field} must be a text, got {_brief(value)}; "
                        f"put it in quotes or leave it out"
                    )
                extra[field] = value or default
            found.append(Question(text.strip(), extra["domain"], extra["topic"], extra["id"]))
    if not found:
        raise ConfigError(
            f"{', '.join(map(str, paths))} must hold questions, got none; give other files"
        )
    return found


def read_held_out(paths: Sequence[Path]) -> list[str]:
    """Read every text of some evaluation files.

    Raises:
        ConfigError: a file cannot be read, or a line holds no text that is known to be one.
    """
    texts = []
    for path in paths:
        for place, line in rows(path):
            here = [line] if isinstance(line, str) else list(_texts_of(line))
            if not here:
                raise ConfigError(
                    f"{place} must hold a text under one of "
                    f"{', '.join(_HELD_OUT_FIELDS + _HELD_OUT_LISTS)}, got {_brief(line)}; "
                    f"rename the field: a held-out text that is not seen would be trained on"
                )
            texts += here
    return texts


def rows(path: Path) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """Give each line of a file with its place ``file:line``; blank lines are left out.

    Raises:
        ConfigError: the file cannot be read, or a line of a JSON file is not an object.
    """
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} must be a file of UTF-8 text, got {type(error).__name__}; check the path"
        ) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if path.suffix == ".txt":
            yield f"{path}:{number}", line.strip()
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise ConfigError(
                f"{path}:{number} must be one JSON object, got {_brief(line)} ({error}); "
                f"correct the line, or name a file of plain questions *.txt"
            ) from error
        if not isinstance(value, dict):
            raise ConfigError(
                f"{path}:{number} must be one JSON object, got {_brief(value)}; "
                f'write {{"query": "..."}}'
            )
        yield f"{path}:{number}", value


def _texts_of(line: dict[str, Any]) -> Iterator[str]:
    values = [line.get(field) for field in _HELD_OUT_FIELDS]
    for field in _HELD_OUT_LISTS:
        items = line.get(field)
        if isinstance(items, list):
            values += [item.get("text") if isinstance(item, dict) else item for item in items]
    return (value for value in values if isinstance(value, str) and value.strip())


def _brief(value: object) -> str:
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return repr(shown if len(shown) <= 60 else shown[:57] + "...")
