"""What the commands read beside their data, and what they write: whole or not at all."""

import hashlib
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from nearhit.errors import ConfigError

_REMOVALS: Final = 50


def sha256_of(paths: Iterable[Path]) -> dict[str, str]:
    """Return the sha256 of files by name.

    Raises:
        ConfigError: a file cannot be read.
    """
    try:
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    except OSError as error:
        raise ConfigError(f"{error.filename} must be a readable file; check the path") from error


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a folder for a store, and remove it, though the store process may still be saving."""
    folder = Path(tempfile.mkdtemp(prefix="nearhit-eval-"))
    try:
        yield folder
    finally:
        for _ in range(_REMOVALS):
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break
            time.sleep(0.1)


def write_text(path: Path, text: str) -> None:
    """Write a file under another name and rename it; its folder is made if absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text, "utf-8")
    unfinished.replace(path)


def write_json(path: Path, report: Mapping[str, Any]) -> None:
    """Write a report, a field or object a line, with null for what is not finite."""
    write_text(path, _indented(finite(report), "\n") + "\n")


def _indented(value: Any, line: str) -> str:
    """Like `json.dumps` with an indent, but lists of plain values stay on one line."""
    inner = line + " "
    if isinstance(value, Mapping) and value:
        fields = (f"{json.dumps(key)}: {_indented(one, inner)}" for key, one in value.items())
        return "{" + inner + f",{inner}".join(fields) + line + "}"
    if isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
        return "[" + inner + f",{inner}".join(_indented(one, inner) for one in value) + line + "]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def finite(value: Any) -> Any:
    """Replace what JSON cannot say by null."""
    if isinstance(value, Mapping):
        return {str(key): finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
