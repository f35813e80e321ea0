"""The prompts: text files of this package, filled in here; a run saves the sha256 of each."""

import hashlib
from importlib.resources import files
from string import Template
from typing import Final

NAMES: Final = ("generate", "judge", "repair")


def fill(name: str, **values: str | int) -> str:
    """Return the prompt `name` with its fields filled in; a `$` inside a value stays as it is."""
    return Template(_read(name)).substitute(values).strip()


def digests() -> dict[str, str]:
    """Return the sha256 of each prompt: another prompt makes other data."""
    return {name: hashlib.sha256(_read(name).encode()).hexdigest() for name in NAMES}


def _read(name: str) -> str:
    return files(__package__).joinpath("prompts", f"{name}.txt").read_text("utf-8")
