"""Every answer that was paid for, kept the moment it arrives.

One JSON object a line, appended and flushed to the disk before it is used, so that a kill at any
instant loses nothing but the calls under way. An answer is found again by the digest of all that
was asked (model, messages, temperature): the same command goes on where it stopped, another
prompt or model asks anew.

    {"key": "<sha256 of the request>", "purpose": "generate", "text": "...", "refused": false,
     "truncated": false, "prompt_tokens": 812, "completion_tokens": 301}
"""

import fcntl
import json
import os
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from nearhit.errors import ConfigError
from nearhit_training.endpoint import Reply


@checked_dataclass(frozen=True, slots=True)
class Entry:
    """One line: a reply and what it replies to."""

    key: str
    purpose: str
    text: str
    refused: bool
    truncated: bool
    prompt_tokens: int
    completion_tokens: int

    @property
    def reply(self) -> Reply:
        """The reply as the endpoint gave it."""
        return Reply(
            self.text, self.refused, self.truncated, self.prompt_tokens, self.completion_tokens
        )


_ENTRY = TypeAdapter(Entry)


class Journal:
    """Replies by key, in a file that one process at a time may write.

    Raises:
        ConfigError: another process writes the file, or a line of it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._entries = self._read()
        except BlockingIOError:
            self._file.close()
            raise ConfigError(
                f"{path} must be written by one run at a time, got a second; wait for the first, "
                f"or give this one another --out"
            ) from None
        except BaseException:
            self._file.close()
            raise

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def get(self, key: str) -> Reply | None:
        """Return the reply to a request, or None when it was never answered."""
        entry = self._entries.get(key)
        return entry.reply if entry else None

    def count(self, purpose: str) -> int:
        """Return how many replies of one purpose it holds."""
        return sum(entry.purpose == purpose for entry in self._entries.values())

    def append(self, key: str, purpose: str, reply: Reply) -> None:
        """Keep a reply; it is on the disk when this returns."""
        entry = Entry(key=key, purpose=purpose, **asdict(reply))
        self._file.write(_ENTRY.dump_json(entry) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._entries[key] = entry

    def _read(self) -> dict[str, Entry]:
        """Read all whole lines; cut off a last one that a kill left torn."""
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self._file.truncate(whole)
        entries = {}
        for number, line in enumerate(content[:whole].splitlines(), start=1):
            try:
                entry = _ENTRY.validate_python(json.loads(line))
            except (ValueError, ValidationError) as error:
                raise ConfigError(
                    f"{self.path}:{number} must be a line that this command wrote, got one that "
                    f"cannot be read ({type(error).__name__}); delete that line, its call is paid "
                    f"for once more"
                ) from error
            entries[entry.key] = entry
        return entries
