"""Rows of JSON lines, each with the number of its line."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nearhit.errors import ConfigError


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a file.

    Raises:
        ConfigError: the file cannot be read, or a line is no JSON object, or names a field twice.
    """
    try:
        lines = path.read_text("utf-8").split("\n")  # a text may hold other line separators
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} must be a readable UTF-8 file; check the path") from error
    for number, line in enumerate(lines, 1):
        if not line and number == len(lines):
            return
        try:
            row = json.loads(line, object_pairs_hook=_once)
        except ValueError as error:
            raise ConfigError(
                f"{path}:{number} must be JSON, got {error}; mend the line"
            ) from error
        if not isinstance(row, dict):
            raise ConfigError(f"{path}:{number} must be a JSON object; mend the line")
        yield number, row


def text_in(row: Mapping[str, Any], name: str, place: str) -> str:
    """Return a field that must be a text.

    Raises:
        ConfigError: it is absent, none, or blank; names the place.
    """
    value = row.get(name)
    if not isinstance(value, str):
        got = "none" if value is None else f"a {type(value).__name__}"
        raise ConfigError(f"{place} {name} must be a text, got {got}; mend the line")
    if not value.strip():
        raise ConfigError(f"{place} {name} must not be blank; mend the line or leave it out")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse what JSON leaves open: which of two values of one field holds."""
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {double!r} twice")
    return row
