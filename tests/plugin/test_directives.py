"""What a client may ask of the cache: who is heard, and what is made of nonsense."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhit.directives import NAMES, Directives, read_directives

LEFT_ALONE = ("no_cache", "no_store")


def may(*names: str) -> Callable[[str], bool]:
    assert set(names) <= set(NAMES)
    return names.__contains__


def of(header: str, *names: str) -> Directives:
    return read_directives({"Cache-Control": header}, {}, may(*(names or NAMES)))


@pytest.mark.parametrize(
    ("headers", "data", "reason"),
    [
        ({}, {}, None),
        ({"X-Nearhit": " OFF "}, {}, "header"),
        ({"x-nearhit": "on"}, {}, None),
        ({"Cache-Control": "max-age=0, No-Store"}, {}, "cache_control"),
        ({"cache-control": "max-age=0"}, {}, "cache_control"),
        ({"cache-control": "max-age=60"}, {}, None),
        ({"cache-control": "max-stale=5,No-Cache"}, {}, "cache_control"),
        ({"cache-control": "only-if-cached"}, {}, None),
        ({"x-nearhit-ttl": "5"}, {}, None),
        ({}, {"cache": {}}, "cache_field"),
        ({}, {"cache": {"s-maxage": 60}}, "cache_field"),
        ({}, {"cache": {"ttl": 60}}, "cache_field"),
        ({}, {"cache": {"namespace": "theirs"}}, "cache_field"),
        ({}, {"cache": "no-cache"}, "cache_field"),
        ({}, {"caching": False}, "cache_field"),
        ({}, {"caching": True}, None),
    ],
)
def test_request_of_a_caller_with_the_default_rights_is_left_alone_or_looked_up(
    headers: Any, data: Any, reason: str | None
) -> None:
    assert read_directives(headers, data, may(*LEFT_ALONE)) == Directives(refusal=reason)


@pytest.mark.parametrize(
    ("headers", "data"),
    [
        ({"x-nearhit": "off"}, {}),
        ({"cache-control": "no-cache, no-store, max-age=0, only-if-cached"}, {}),
        ({"x-nearhit-ttl": "5"}, {}),
        ({}, {"cache": {"no-cache": True, "no-store": True, "ttl": 5, "s-maxage": 5}}),
        ({}, {"cache": {"namespace": "theirs"}, "caching": False}),
    ],
)
def test_caller_without_any_right_is_not_heard(headers: Any, data: Any) -> None:
    assert read_directives(headers, data, may()) == Directives()


@pytest.mark.parametrize(
    ("header", "age"),
    [
        ("max-age=60", 60),
        ('Max-Age="60"', 60),
        (" max-age = 60 ,", 60),
        ("max-age=60, max-age=10", 10),
        ("max-age=99999999999999999999", 2**31),
        ("private=x, max-age=7", 7),
        ("s-maxage=7", None),
        ("x-max-age=7", None),
    ],
)
def test_age_of_a_header_is_read_in_every_spelling(header: str, age: int | None) -> None:
    assert of(header) == Directives(max_age_s=age)


@pytest.mark.parametrize(
    "header", ["max-age", "max-age=", "max-age=-1", "max-age=1.5", "max-age=soon", "max-age=٣"]
)
def test_age_that_cannot_be_read_asks_for_a_fresh_answer(header: str) -> None:
    for right in ("max_age", "no_cache"):
        assert of(header, right).refusal == "cache_control"


def test_each_directive_needs_its_own_right() -> None:
    assert of("no-store", "no_cache", "max_age") == Directives()
    assert of("no-cache", "no_store", "max_age") == Directives()
    assert of("max-age=5", "no_cache", "no_store") == Directives()
    assert of("only-if-cached", "max_age") == Directives()
    assert of("only-if-cached, max-age=5") == Directives(max_age_s=5, only_if_cached=True)


@pytest.mark.parametrize("ttl", ["", "0", "-5", "soon", "1e3"])
def test_life_that_cannot_be_read_keeps_the_answer_out_of_the_store(ttl: str) -> None:
    assert read_directives({"x-nearhit-ttl": ttl}, {}, may("ttl")).refusal == "header"
    assert read_directives({}, {"cache": {"ttl": ttl}}, may("ttl")).refusal == "cache_field"


def test_litellms_own_controls_mean_the_same() -> None:
    body = {"cache": {"s-maxage": 60, "ttl": 30}}
    both = Directives(max_age_s=60, ttl_s=30)
    assert read_directives({}, body, may("max_age", "ttl")) == both
    headers = {"cache-control": "max-age=10", "x-nearhit-ttl": "100"}
    assert read_directives(headers, body, may(*NAMES)) == Directives(max_age_s=10, ttl_s=30)
    assert read_directives({}, {"cache": {"no-cache": False}}, may(*NAMES)) == Directives()


def test_controls_that_the_operator_gave_a_key_hold_without_any_right() -> None:
    data = {"cache": {"s-maxage": 60, "ttl": 30}}
    found = read_directives({}, data, may(), is_operators=True)
    assert found == Directives(max_age_s=60, ttl_s=30)
    found = read_directives({}, {"cache": {"no-cache": True}}, may(), is_operators=True)
    assert found.refusal == "cache_field"


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
controls = st.dictionaries(
    st.sampled_from(["no-cache", "no-store", "s-maxage", "s-max-age", "ttl", "use-cache", "x"]),
    junk,
)


@given(
    header=st.text() | st.lists(st.sampled_from(["max-age", "=", ",", '"', "no-cache", "9", " "])),
    ttl=st.text(),
    cache=junk | controls,
    rights=st.sets(st.sampled_from(NAMES)),
)
def test_nothing_that_a_client_sends_raises_or_gives_more_than_its_rights(
    header: Any, ttl: str, cache: Any, rights: set[str]
) -> None:
    headers = {"cache-control": "".join(header), "x-nearhit-ttl": ttl}
    found = read_directives(headers, {"cache": cache}, may(*rights))
    assert found.max_age_s is None or ("max_age" in rights and 0 <= found.max_age_s <= 2**31)
    assert found.ttl_s is None or ("ttl" in rights and 0 <= found.ttl_s <= 2**31)
    assert not found.only_if_cached or "only_if_cached" in rights
    if found.ttl_s == 0 or found.max_age_s == 0:
        assert found.refusal is not None


def test_long_header_of_nothing_but_signs_is_read() -> None:
    for signs in itertools.product('", =a', repeat=3):
        assert of("".join(signs) * 20_000).max_age_s is None
