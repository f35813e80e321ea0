"""Frames: what goes in comes out, and nothing else gets through."""

import asyncio
import contextlib
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhit.errors import StoreError
from nearhit.store import wire
from nearhit.store.base import Entry
from nearhit.store.wire import Frame

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
INTS = st.integers(0, 2**53)
VECTORS = st.none() | st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=9).map(
    lambda values: np.array(values, dtype=np.float32)
)
ENTRIES = st.builds(
    Entry,
    id=st.uuids(),
    scope=TEXT,
    fingerprint=TEXT,
    text=TEXT,
    completion=TEXT,
    model=TEXT,
    created_at=INTS,
    expires_at=INTS,
    epoch=INTS,
    signature=TEXT,
    hits=INTS,
    vector=VECTORS,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 40) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
FIELDS = ("id", "text", "completion", "dimension", *wire._PLAIN)


def plain(entry: Entry) -> dict[str, Any]:
    fields = {name: getattr(entry, name) for name in Entry.__slots__}
    return fields | {"vector": None if entry.vector is None else entry.vector.tolist()}


@given(st.dictionaries(TEXT, JSON, max_size=4), st.binary(max_size=40), st.binary(max_size=40))
def test_frame_decoded_after_encoding_is_the_same(
    header: dict[str, Any], vectors: bytes, body: bytes
) -> None:
    frame = Frame(header, vectors, body)
    assert wire.decode(wire.encode(frame)) == frame


@given(st.lists(ENTRIES, max_size=4))
def test_entries_unpacked_after_packing_are_the_same(entries: list[Entry]) -> None:
    frame = wire.decode(wire.encode(wire.pack_entries({"id": 7}, entries)))
    assert frame.header["id"] == 7
    assert [plain(e) for e in wire.unpack_entries(frame)] == [plain(e) for e in entries]


@given(st.binary(max_size=60))
def test_arbitrary_bytes_decoded_raise_nothing_but_a_store_error(data: bytes) -> None:
    with contextlib.suppress(StoreError):
        wire.decode(data)


@given(
    st.lists(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=12) | JSON, max_size=3),
    st.binary(max_size=40),
    st.binary(max_size=40),
)
def test_arbitrary_entries_unpacked_raise_nothing_but_a_store_error(
    described: list[Any], vectors: bytes, body: bytes
) -> None:
    with contextlib.suppress(StoreError):
        wire.unpack_entries(Frame({"entries": described}, vectors, body))


@given(st.lists(ENTRIES, min_size=1, max_size=3), st.data())
def test_entries_with_bytes_missing_are_refused(entries: list[Entry], data: st.DataObject) -> None:
    frame = wire.pack_entries({}, entries)
    whole = frame.body + b"."
    cut = data.draw(st.integers(0, len(whole)).filter(lambda at: at != len(frame.body)))
    with pytest.raises(StoreError, match="entries must match"):
        wire.unpack_entries(Frame(frame.header, frame.vectors, whole[:cut]))


def test_frame_above_the_bound_is_not_encoded() -> None:
    with pytest.raises(StoreError, match="at most"):
        wire.encode(Frame({}, body=bytes(wire.MAX_FRAME_BYTES)))


async def test_prefix_above_the_bound_is_refused_before_its_bytes_come() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(struct.pack("!III", 2**31, 0, 0))
    with pytest.raises(StoreError, match="at most"):
        await wire.read(reader)


async def test_stream_that_ends_within_a_frame_is_an_end_of_file() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(wire.encode(Frame({"op": "get"}))[:-1])
    reader.feed_eof()
    with pytest.raises(EOFError, match="bytes read"):
        await wire.read(reader)


@pytest.mark.parametrize("header", [b"[]", b"{", b"\xff", b"[" * 100_000])
def test_header_that_is_no_json_object_is_refused(header: bytes) -> None:
    with pytest.raises(StoreError, match="header must be"):
        wire.decode(struct.pack("!III", len(header), 0, 0) + header)


def test_message_about_undecodable_text_shows_none_of_it() -> None:
    frame = wire.pack_entries({}, [])
    secret = b"my secret \xff"
    fields = dict.fromkeys(wire._PLAIN, 0) | {
        "id": "0" * 32,
        "text": len(secret),
        "completion": 0,
        "dimension": 0,
    }
    with pytest.raises(StoreError, match="entries must match") as caught:
        wire.unpack_entries(Frame({**frame.header, "entries": [fields]}, body=secret))
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
