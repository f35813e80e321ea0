"""What every store promises, on every backend."""

import dataclasses
from collections.abc import Callable
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import pytest

from nearhit.errors import StoreError
from nearhit.store import Entry, Store
from nearhit.store.base import MAX_ENTRY_BYTES, Browse, Vector

# The client's in-process engine says that it has none.
pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning")

Make = Callable[..., Entry]
At = Callable[[float], Vector]


def same(a: Entry | None, b: Entry) -> bool:
    """Whether all fields but the vector are equal, and the vector to half precision."""
    assert a is not None
    fields = [field.name for field in dataclasses.fields(Entry) if field.name != "vector"]
    if any(getattr(a, name) != getattr(b, name) for name in fields):
        return False
    if a.vector is None or b.vector is None:
        return a.vector is b.vector
    return a.vector.dtype == np.float32 and np.allclose(a.vector, b.vector, atol=1e-3)


async def test_get_after_put_returns_every_field(store: Store, make_entry: Make, now: int) -> None:
    entry = make_entry(hits=3, model="m/1", degrees=30)
    await store.put(entry)
    assert same(await store.get(entry.id, now), entry)


async def test_get_of_unknown_id_returns_none(store: Store, now: int) -> None:
    assert await store.get(uuid5(NAMESPACE_URL, "nobody"), now) is None


async def test_put_with_known_id_replaces_all_of_the_entry(
    store: Store, make_entry: Make, at: At, now: int
) -> None:
    await store.put(make_entry("q", degrees=0, hits=5, completion="old"))
    newer = make_entry("q", degrees=90, completion="new")
    await store.put(newer)
    assert same(await store.get(newer.id, now), newer)
    assert await store.count() == 1
    (found,) = await store.search("tenant", "encoder", at(90), 5, now)
    assert found.similarity == pytest.approx(1.0, abs=1e-3)


async def test_put_of_exact_only_entry_is_found_by_id_and_by_no_search(
    store: Store, make_entry: Make, at: At, now: int
) -> None:
    entry = make_entry("exact", degrees=None)
    await store.put(make_entry("near"))
    await store.put(entry)
    assert same(await store.get(entry.id, now), entry)
    found = await store.search("tenant", "encoder", at(0), 5, now)
    assert [neighbour.entry.text for neighbour in found] == ["near"]


async def test_put_without_vector_over_one_with_vector_hides_it_from_search(
    store: Store, make_entry: Make, at: At, now: int
) -> None:
    await store.put(make_entry("q"))
    await store.put(make_entry("q", degrees=None))
    assert await store.search("tenant", "encoder", at(0), 5, now) == []


async def test_put_of_any_text_returns_it_unchanged(
    store: Store, make_entry: Make, now: int
) -> None:
    for text in ("ünïcödé 你好 \U0001f600", "nul \x00 and \u2028", "", "\ufeff"):
        entry = make_entry(text, completion=text * 3, model=text)
        await store.put(entry)
        assert same(await store.get(entry.id, now), entry)


async def test_put_of_a_large_completion_returns_it_unchanged(
    store: Store, make_entry: Make, now: int
) -> None:
    # Encrypted it takes a third more.
    entry = make_entry(completion="é" * (3 * MAX_ENTRY_BYTES // 8 - 1000))
    await store.put(entry)
    assert same(await store.get(entry.id, now), entry)


async def test_search_orders_by_similarity_and_computes_the_cosine(
    store: Store, make_entry: Make, at: At, now: int
) -> None:
    for degrees in (60, 0, 120, 30):
        await store.put(make_entry(str(degrees), degrees=degrees))
    found = await store.search("tenant", "encoder", at(0), 10, now)
    assert [neighbour.entry.text for neighbour in found] == ["0", "30", "60", "120"]
    expected = [1.0, 3**0.5 / 2, 0.5, -0.5]
    assert [neighbour.similarity for neighbour in found] == pytest.approx(expected, abs=1e-3)
    assert all(-1 <= neighbour.similarity <= 1 for neighbour in found)


async def test_search_with_limit_returns_the_most_similar(
    store: Store, make_entry: Make, at: At, now: int
) -> None:
    for degrees in range(0, 100, 10):
        await store.put(make_entry(str(degrees), degrees=degrees))
    found = await store.search("tenant", "encoder", at(0), 3, now)
    assert [neighbour.entry.text for neighbour in found] == ["0", "10", "20"]


async def test_search_never_crosses_scopes(
    store: Store, make_entry: Make, at: At, now: int
) -> None:
    await store.put(make_entry("q", scope="theirs"))
    await store.put(make_entry("q", scope="ours", degrees=80))
    found = await store.search("ours", "encoder", at(0), 5, now)
    assert [neighbour.entry.scope for neighbour in found] == ["ours"]


async def test_search_never_crosses_encoders(
    store: Store, make_entry: Make, at: At, now: int
) -> None:
    await store.put(make_entry("q", fingerprint="old encoder"))
    assert await store.search("tenant", "encoder", at(0), 5, now) == []


async def test_entry_from_its_expiry_second_on_is_gone(
    store: Store, make_entry: Make, at: At, now: int
) -> None:
    entry = make_entry(expires_at=now + 5)
    await store.put(entry)
    assert await store.get(entry.id, now + 4) is not None
    assert len(await store.search("tenant", "encoder", at(0), 5, now + 4)) == 1
    assert await store.get(entry.id, now + 5) is None
    assert await store.search("tenant", "encoder", at(0), 5, now + 5) == []


async def test_search_finds_live_entries_behind_nearer_ones_that_may_not_be_served(
    store: Store, make_entry: Make, at: At, now: int
) -> None:
    for number in range(3):
        await store.put(make_entry(f"dead {number}", degrees=0.1 * number, expires_at=now))
        other = make_entry(f"other {number}", degrees=0.1 * number, fingerprint="another encoder")
        await store.put(other)
    for degrees in (10, 20, 30):
        await store.put(make_entry(f"live {degrees}", degrees=degrees))
    for limit in (1, 2, 3, 5):
        found = await store.search("tenant", "encoder", at(0), limit, now)
        wanted = ["live 10", "live 20", "live 30"][:limit]
        assert [neighbour.entry.text for neighbour in found] == wanted


async def test_flush_forgets_every_entry_and_keeps_later_ones(
    store: Store, make_entry: Make, at: At, now: int
) -> None:
    old = make_entry("old")
    await store.put(old)
    assert await store.flush() == 1
    new = make_entry("new", epoch=1, degrees=50)
    await store.put(new)
    assert await store.epoch() == 1
    assert await store.get(old.id, now) is None
    found = await store.search("tenant", "encoder", at(0), 5, now)
    assert [neighbour.entry.text for neighbour in found] == ["new"]


async def test_put_of_another_epoch_is_dropped_without_an_error(
    store: Store, make_entry: Make, now: int
) -> None:
    await store.flush()
    for epoch in (0, 2):
        entry = make_entry(epoch=epoch)
        await store.put(entry)
        assert await store.get(entry.id, now) is None
    assert await store.count() == 0


async def test_touch_adds_to_the_hits_and_changes_nothing_else(
    store: Store, make_entry: Make, now: int
) -> None:
    entry = make_entry(hits=1)
    await store.put(entry)
    await store.touch(entry.id, 2, now)
    await store.touch(entry.id, 4, now + 5)
    assert same(await store.get(entry.id, now), dataclasses.replace(entry, hits=7))


async def test_touch_of_unknown_id_is_no_error(store: Store) -> None:
    await store.touch(uuid5(NAMESPACE_URL, "nobody"), 1, 7)
    assert await store.count() == 0


async def test_delete_removes_the_named_and_ignores_the_unknown(
    store: Store, make_entry: Make, now: int
) -> None:
    entries = [make_entry(str(number)) for number in range(450)]
    for entry in entries:
        await store.put(entry)
    unknown = uuid5(NAMESPACE_URL, "nobody")
    await store.delete([entry.id for entry in entries[1:]] + [unknown, unknown])
    assert await store.count() == 1
    assert await store.get(entries[0].id, now) is not None
    await store.delete([])


BAD_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"id": "not a uuid"}, "entry.id"),
    ({"scope": 7}, "entry.scope"),
    ({"completion": "\ud800"}, "entry.completion.*surrogate"),
    ({"completion": "a" * (MAX_ENTRY_BYTES + 1)}, "entry.completion.*bytes"),
    ({"expires_at": 2e9}, "entry.expires_at"),
    ({"hits": True}, "entry.hits"),
    ({"created_at": -1}, "entry.created_at"),
    ({"expires_at": 2**60}, "entry.expires_at"),
    ({"vector": np.ones(3, dtype=np.float32)}, "entry.vector.*shape"),
    ({"vector": np.eye(8)[0]}, "entry.vector.*float32"),
    ({"vector": np.full(8, np.nan, dtype=np.float32)}, "entry.vector.*finite"),
    ({"vector": np.ones(8, dtype=np.float32)}, "entry.vector.*unit"),
    ({"fingerprint": ""}, "entry.fingerprint"),
    ({"vector": None}, "entry.fingerprint"),
]


async def test_put_of_a_bad_entry_names_the_field_and_stores_nothing(
    store: Store, make_entry: Make
) -> None:
    for fields, message in BAD_FIELDS:
        with pytest.raises(StoreError, match=message) as caught:
            await store.put(make_entry("secret", **fields))
        assert "secret" not in str(caught.value)
    assert await store.count() == 0


BAD_ARGUMENTS: list[tuple[dict[str, Any], str]] = [
    ({"limit": 0}, "`limit`"),
    ({"limit": 101}, "`limit`"),
    ({"fingerprint": ""}, "`fingerprint`"),
    ({"now": 1.5}, "`now`"),
    ({"vector": np.zeros(8, dtype=np.float32)}, "`vector`"),
]


async def test_search_with_a_bad_argument_names_it(store: Store, at: At, now: int) -> None:
    arguments: dict[str, Any] = {
        "scope": "tenant",
        "fingerprint": "encoder",
        "vector": at(0),
        "limit": 5,
        "now": now,
    }
    for change, message in BAD_ARGUMENTS:
        with pytest.raises(StoreError, match=message):
            await store.search(**(arguments | change))


async def test_pages_of_stale_entries_name_each_once_whatever_their_size(
    store: Store, make_entry: Make, now: int
) -> None:
    old = [make_entry(str(number), fingerprint="old") for number in range(7)]
    current = [make_entry("current"), make_entry("exact", degrees=None)]
    dead = make_entry("dead", fingerprint="old", expires_at=now)
    for entry in [*old, *current, dead]:
        await store.put(entry)
    for limit in (1, 3, 7, 100):
        seen, after = [], None
        while (page := await store.stale("encoder", after, limit, now)).entries:
            assert len(page.entries) <= limit
            assert page.left == len(old)
            seen += [entry.text for entry in page.entries]
            after = page.entries[-1].id
        assert sorted(seen) == [str(number) for number in range(7)]


async def test_stale_entry_has_every_field_but_its_vector(
    store: Store, make_entry: Make, now: int
) -> None:
    entry = make_entry(hits=3, model="m/1", fingerprint="old")
    await store.put(entry)
    (found,) = (await store.stale("encoder", None, 10, now)).entries
    assert found.vector is None
    assert same(found, dataclasses.replace(entry, vector=None))


async def test_stale_entries_of_an_earlier_epoch_are_not_named(
    store: Store, make_entry: Make, now: int
) -> None:
    await store.put(make_entry(fingerprint="old"))
    await store.flush()
    page = await store.stale("encoder", None, 10, now)
    assert (page.entries, page.left) == ([], 0)


async def test_page_with_a_bad_argument_names_it(store: Store, now: int) -> None:
    for fingerprint, limit, message in (("", 5, "`fingerprint`"), ("encoder", 0, "`limit`")):
        with pytest.raises(StoreError, match=message):
            await store.stale(fingerprint, None, limit, now)


async def listed(store: Store, **browse: Any) -> list[str]:
    texts: list[str] = []
    after = None
    while True:
        page = await store.browse(Browse(**browse, after=after))
        assert len(page.entries) <= browse["limit"]
        texts += [entry.text for entry in page.entries]
        after = page.next
        if after is None:
            return texts


async def test_listings_name_each_live_entry_once_whatever_their_size(
    store: Store, make_entry: Make, now: int
) -> None:
    live = [make_entry(str(n), scope=f"s{n % 2}", tenant=f"t{n % 2}") for n in range(7)]
    live.append(make_entry("exact", degrees=None))
    for entry in [*live, make_entry("dead", expires_at=now)]:
        await store.put(entry)
    for limit in (1, 3, 8, 100):
        found = await listed(store, limit=limit, now=now)
        assert sorted(found) == sorted(entry.text for entry in live)
        assert sorted(await listed(store, limit=limit, now=now, tenant="t1")) == ["1", "3", "5"]
    await store.flush()
    assert await listed(store, limit=5, now=now) == []


async def test_listing_by_text_finds_it_in_any_case_and_behind_any_number_of_others(
    store: Store, make_entry: Make, now: int
) -> None:
    for n in range(30):
        await store.put(make_entry(f"other {n}"))
    await store.put(make_entry("How do I reset my Straße?"))
    for limit in (1, 100):
        found = await listed(store, limit=limit, now=now, contains="my STRASSE")
        assert found == ["How do I reset my Straße?"]
    assert len(await listed(store, limit=7, now=now, contains="other")) == 30
    assert await listed(store, limit=7, now=now, contains="nowhere") == []


async def test_listing_by_vector_crosses_scopes_and_keeps_to_a_tenant(
    store: Store, make_entry: Make, at: At, now: int
) -> None:
    for degrees in (0, 30, 60):
        for tenant in ("a", "b"):
            name = f"{tenant}{degrees}"
            entry = make_entry(name, degrees=degrees, scope=tenant, tenant=tenant)
            await store.put(entry)
    await store.put(make_entry("old", fingerprint="old", degrees=0))
    asked: dict[str, Any] = {"now": now, "vector": at(0), "fingerprint": "encoder"}
    page = await store.browse(Browse(limit=4, **asked))
    assert {entry.text for entry in page.entries[:2]} == {"a0", "b0"}
    assert all(entry.vector is not None for entry in page.entries)
    assert page.next is None
    assert await listed(store, limit=4, tenant="b", **asked) == ["b0", "b30", "b60"]


async def test_listing_with_a_bad_argument_names_it(store: Store, at: At, now: int) -> None:
    bad = [
        (Browse(limit=0, now=now), "`limit`"),
        (Browse(limit=1, now=-1), "`now`"),
        (Browse(limit=1, now=now, contains="\ud800"), "`contains`"),
        (Browse(limit=1, now=now, vector=at(0)), "`fingerprint`"),
    ]
    for browse, message in bad:
        with pytest.raises(StoreError, match=message):
            await store.browse(browse)


async def test_exchange_replaces_the_entry_and_keeps_its_hits(
    store: Store, make_entry: Make, at: At, now: int
) -> None:
    old = make_entry(fingerprint="old", degrees=0)
    await store.put(old)
    await store.touch(old.id, 5, now)  # between the page and the exchange
    new = dataclasses.replace(old, vector=at(90), fingerprint="encoder", signature="cd" * 32)
    assert await store.exchange(old.signature, new)
    assert same(await store.get(old.id, now), dataclasses.replace(new, hits=5))
    (found,) = await store.search("tenant", "encoder", at(90), 5, now)
    assert found.similarity == pytest.approx(1.0, abs=1e-3)
    assert await store.search("tenant", "old", at(0), 5, now) == []


async def test_exchange_of_what_changed_meanwhile_does_nothing(
    store: Store, make_entry: Make, now: int
) -> None:
    old = make_entry(fingerprint="old")
    new = dataclasses.replace(old, completion="new", signature="cd" * 32)
    assert not await store.exchange(old.signature, new)  # deleted, or never there
    assert await store.count() == 0
    newer = dataclasses.replace(old, completion="newer", signature="ef" * 32)
    await store.put(newer)
    assert not await store.exchange(old.signature, new)
    assert same(await store.get(old.id, now), newer)
    await store.flush()
    assert not await store.exchange(newer.signature, new)
    assert await store.get(old.id, now) is None


async def test_exchange_of_a_bad_entry_names_the_field(store: Store, make_entry: Make) -> None:
    with pytest.raises(StoreError, match=r"entry.fingerprint"):
        await store.exchange("ab" * 32, make_entry(fingerprint=""))
