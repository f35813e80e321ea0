"""The installation's secret, and the signature that each entry carries.

Whoever can write into the store cannot thereby answer questions: an entry whose signature does
not fit is never served.
"""

import hashlib
import hmac
import os
import secrets
import tempfile
from pathlib import Path

from nearhit.errors import ConfigError
from nearhit.request import canonical
from nearhit.store import Entry

_FILE = "secret"
_BYTES = 32


def read_secret(configured: str | None, data_dir: Path) -> bytes:
    """Return the configured secret, else the one in the data folder, made if there is none.

    Raises:
        ConfigError: the folder cannot be written, or the file there is no secret.
    """
    if configured is not None:
        return configured.encode("utf-8")
    path = data_dir / _FILE
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _create(path)
        value = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"data_dir must be a folder that can be written, got {data_dir}: {error.strerror}; "
            "set data_dir (or NEARHIT_DATA_DIR) to one"
        ) from None
    if len(value) < _BYTES:
        raise ConfigError(
            f"{path} must hold at least {_BYTES} bytes, got {len(value)}; "
            "delete it (stored answers are then lost) or restore it"
        )
    return value


def _create(path: Path) -> None:
    """Write a new secret; of several workers that start at once the first one's counts."""
    descriptor, name = tempfile.mkstemp(prefix=f"{_FILE}.", dir=path.parent)  # mode 0600
    draft = Path(name)
    try:
        os.write(descriptor, secrets.token_hex(_BYTES).encode("ascii"))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(draft, path)  # unlike rename, fails where another worker was first
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def sign(entry: Entry, secret: bytes) -> str:
    """Return the HMAC-SHA256, in hex, over all of the entry but vector and hit count.

    The store may round a vector, and counts hits; neither is an answer.
    """
    signed = [
        str(entry.id),
        entry.scope,
        entry.fingerprint,
        entry.text,
        entry.completion,
        entry.model,
        entry.created_at,
        entry.expires_at,
        entry.epoch,
        *([entry.tenant] if entry.tenant else []),  # older entries have none
    ]
    return hmac.new(secret, canonical(signed), hashlib.sha256).hexdigest()


def is_authentic(entry: Entry, secret: bytes) -> bool:
    """Tell whether the entry was signed with this secret, in constant time."""
    return hmac.compare_digest(entry.signature, sign(entry, secret))
