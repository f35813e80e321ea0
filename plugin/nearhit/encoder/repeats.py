"""Vectors of the texts seen last, so that a repeat costs no encoding.

Texts are known by a digest: memory is bounded whatever their length, and no question stays in
memory for it.
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

    def get(self, text: str) -> Vector | None:
        """Return the text's vector if it is held; read-only, as it is shared."""
        key = _key(text)
        with self._lock:
            vector = self._vectors.get(key)
            if vector is not None:
                self._vectors.move_to_end(key)
        return vector

    def add(self, text: str, vector: Vector) -> None:
        """Hold a vector, which becomes read-only, and let go of old ones beyond the bound."""
        vector.flags.writeable = False
        key = _key(text)
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


def _key(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()


def _size(vector: Vector) -> int:
    return vector.nbytes + _OVERHEAD_BYTES
