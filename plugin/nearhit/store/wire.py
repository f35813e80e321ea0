"""The frames between a worker and the store process.

    12 bytes   three big-endian uint32: lengths of header, vectors and body
    header     a JSON object: `id` of the call, `op`, small fields, one object per entry
    vectors    float32 little-endian, one row per entry that has a vector
    body       UTF-8, text then completion of each entry

Vectors and completions stay out of the JSON: five neighbours of 384 floats would be 40 kB
of digits. A reply carries the `id` of its call, so one connection holds many calls.
"""

import asyncio
import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np

from nearhit.errors import StoreError
from nearhit.store.base import Entry, Vector

PROTOCOL = 2
MAX_FRAME_BYTES = 64 * 2**20

_PREFIX = struct.Struct("!III")
_PLAIN = (
    "scope",
    "fingerprint",
    "model",
    "created_at",
    "expires_at",
    "epoch",
    "signature",
    "hits",
    "tenant",
)


@dataclass(frozen=True, slots=True)
class Frame:
    """One message, either way."""

    header: Mapping[str, Any]
    vectors: bytes = field(default=b"", repr=False)
    body: bytes = field(default=b"", repr=False)

    @property
    def size(self) -> int:
        """Bytes of vectors and body, which is nearly all of a large frame."""
        return len(self.vectors) + len(self.body)


def encode(frame: Frame) -> bytes:
    """Return the frame's bytes.

    Raises:
        StoreError: The frame is larger than `MAX_FRAME_BYTES`.
    """
    header = json.dumps(frame.header, separators=(",", ":")).encode()
    if len(header) + frame.size > MAX_FRAME_BYTES:
        raise StoreError(f"a frame must be at most {MAX_FRAME_BYTES} bytes, got more")
    prefix = _PREFIX.pack(len(header), len(frame.vectors), len(frame.body))
    return b"".join((prefix, header, frame.vectors, frame.body))


async def read(reader: asyncio.StreamReader) -> Frame:
    """Read one frame.

    Raises:
        StoreError: It is too large or not a frame; the connection is of no more use.
        asyncio.IncompleteReadError: The other side is gone.
    """
    sizes = _sizes(await reader.readexactly(_PREFIX.size))
    return _split(sizes, await reader.readexactly(sum(sizes)))


def decode(data: bytes) -> Frame:
    """Return the frame that exactly these bytes hold.

    Raises:
        StoreError: They hold no frame, or more than one.
    """
    if len(data) < _PREFIX.size:
        raise StoreError("a frame must have a prefix of 12 bytes")
    sizes = _sizes(data[: _PREFIX.size])
    if len(data) != _PREFIX.size + sum(sizes):
        raise StoreError("a frame must be as long as its prefix says")
    return _split(sizes, data[_PREFIX.size :])


def pack_entries(header: Mapping[str, Any], entries: Iterable[Entry]) -> Frame:
    """Return a frame that carries the entries beside the fields of `header`."""
    described: list[dict[str, Any]] = []
    vectors: list[bytes] = []
    body: list[bytes] = []
    for entry in entries:
        text, completion = entry.text.encode(), entry.completion.encode()
        fields = {name: getattr(entry, name) for name in _PLAIN}
        fields |= {"id": entry.id.hex, "text": len(text), "completion": len(completion)}
        fields["dimension"] = 0 if entry.vector is None else entry.vector.size
        described.append(fields)
        body += (text, completion)
        if entry.vector is not None:
            vectors.append(pack_vector(entry.vector))
    return Frame({**header, "entries": described}, b"".join(vectors), b"".join(body))


def unpack_entries(frame: Frame) -> list[Entry]:
    """Return the entries of a frame made by `pack_entries`; field types are not checked.

    Raises:
        StoreError: The frame contradicts itself.
    """
    entries: list[Entry] = []
    at = vector_at = 0
    try:
        for fields in frame.header["entries"]:
            middle = at + fields["text"]
            end = middle + fields["completion"]
            vector_end = vector_at + 4 * fields["dimension"]
            if not (at <= middle <= end <= len(frame.body)) or vector_end < vector_at:
                raise ValueError("lengths")
            vector = unpack_vector(frame.vectors[vector_at:vector_end])
            if vector.size != fields["dimension"]:
                raise ValueError("dimension")
            entry = Entry(
                id=UUID(hex=fields["id"]),
                text=frame.body[at:middle].decode(),
                completion=frame.body[middle:end].decode(),
                vector=vector if vector.size else None,
                **{name: fields[name] for name in _PLAIN},
            )
            entries.append(entry)
            at, vector_at = end, vector_end
        if at != len(frame.body) or vector_at != len(frame.vectors):
            raise ValueError("rest")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        # Not `from error`: a decoding error shows the bytes, which are someone's prompt.
        name = type(error).__name__
        raise StoreError(f"a frame's entries must match their lengths ({name})") from None
    return entries


def pack_vector(vector: Vector) -> bytes:
    """Return the vector as little-endian float32."""
    return vector.astype("<f4", copy=False).tobytes()


def unpack_vector(data: bytes) -> Vector:
    """Return the float32 vector `(len(data) / 4,)` of bytes made by `pack_vector`.

    Raises:
        ValueError: The length is no multiple of four.
    """
    return np.frombuffer(data, dtype="<f4").astype(np.float32)


def _sizes(prefix: bytes) -> tuple[int, int, int]:
    """Lengths of header, vectors and body, bounded before anything is read or allocated."""
    header, vectors, body = _PREFIX.unpack(prefix)
    if header + vectors + body > MAX_FRAME_BYTES:
        raise StoreError(f"a frame must be at most {MAX_FRAME_BYTES} bytes, got more")
    return header, vectors, body


def _split(sizes: tuple[int, int, int], data: bytes) -> Frame:
    """Frame of the bytes after a prefix."""
    try:
        header = json.loads(data[: sizes[0]])
    except (ValueError, RecursionError) as error:
        raise StoreError(f"a frame's header must be JSON ({type(error).__name__})") from None
    if not isinstance(header, dict):
        raise StoreError("a frame's header must be a JSON object")
    start = sizes[0] + sizes[1]
    return Frame(header, data[sizes[0] : start], data[start:])
