"""Rows of JSON lines, each with the number of its line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nearhit.errors import ConfigError


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a file.

    Raises:
        ConfigError: the file cannot be read, or a line is no JSON object.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} must be a readable UTF-8 file; check the path") from error
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ConfigError(
                f"{path}:{number} must be JSON, got {error}; mend the line"
            ) from error
        if not isinstance(row, dict):
            raise ConfigError(f"{path}:{number} must be a JSON object; mend the line")
        yield number, row
