"""Vectors of the texts seen last, so that a repeat costs no encoding.

Texts are known by a digest: memory is bounded whatever their length, and no question stays in
memory for it. Each owner has its own: were they shared, a tenant could tell from the time of an
answer whether another one had asked the same (AUC 0.995, `tests/robustness/timing.py`).
"""

import threading
from collections import OrderedDict
from hashlib import blake2b
from typing import Final

from nearhit.encoder.base import Vector

# Measured beside the vector's own bytes: dictionary entry, digest and array header.
_OVERHEAD_BYTES: Final = 300
_DIGEST_BYTES: Final = 16


class Repeats:
    """The least recently used vector goes first. Safe to share between threads."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held_bytes = 0
        self._vectors: OrderedDict[bytes, Vector] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, text: str, owner: str = "") -> Vector | None:
        """Return the vector of the owner's text if it is held; read-only, as it is shared."""
        key = _key(text, owner)
        with self._lock:
            vector = self._vectors.get(key)
            if vector is not None:
                self._vectors.move_to_end(key)
        return vector

    def add(self, text: str, vector: Vector, owner: str = "") -> None:
        """Hold a vector, which becomes read-only, and let go of old ones beyond the bound."""
        vector.flags.writeable = False
        key = _key(text, owner)
        with self._lock:
            if key not in self._vectors:
                self._held_bytes += _size(vector)
            self._vectors[key] = vector
            self._vectors.move_to_end(key)
            while self._held_bytes > self._max_bytes:
                _, oldest = self._vectors.popitem(last=False)
                self._held_bytes -= _size(oldest)

    def __len__(self) -> int:
        return len(self._vectors)


def _key(text: str, owner: str) -> bytes:
    own = blake2b(owner.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()
    told = text.encode("utf-8", "surrogatepass")
    return blake2b(told, digest_size=_DIGEST_BYTES, key=own).digest()


def _size(vector: Vector) -> int:
    return vector.nbytes + _OVERHEAD_BYTES
