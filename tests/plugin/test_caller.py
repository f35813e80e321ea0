"""Who asks: from what LiteLLM authenticated, and from nothing else."""

from types import SimpleNamespace
from typing import Any

import pytest

from nearhit.caller import forwarded, is_allowed, is_off, tenant_of


def key(**fields: Any) -> Any:
    blank = dict.fromkeys(["api_key", "token", "user_id", "team_id", "org_id", "end_user_id"])
    return SimpleNamespace(**{**blank, "metadata": {}, **fields})


ALICE = key(api_key="a", team_id="red", org_id="north", end_user_id="x")
BOB = key(api_key="b", team_id="red", org_id="north", end_user_id="x")
FRANK, GRACE = key(user_id="frank"), key(user_id="grace")


@pytest.mark.parametrize(
    ("scope", "is_shared"),
    [("key", False), ("end_user", False), ("team", True), ("org", True), ("global", True)],
)
def test_two_keys_of_one_team_share_by_scope(scope: str, is_shared: bool) -> None:
    assert (tenant_of(ALICE, scope) == tenant_of(BOB, scope)) is is_shared


@pytest.mark.parametrize("scope", ["key", "team", "org", "end_user"])
def test_two_users_without_keys_or_teams_never_share(scope: str) -> None:
    assert tenant_of(FRANK, scope) != tenant_of(GRACE, scope)
    assert tenant_of(FRANK, scope) == tenant_of(key(user_id="frank"), scope)


@pytest.mark.parametrize("scope", ["key", "team", "org", "end_user"])
def test_caller_of_whom_nothing_is_known_has_no_tenant(scope: str) -> None:
    assert tenant_of(key(), scope) is None


def test_two_end_users_of_one_key_are_told_apart() -> None:
    other = key(api_key="a", end_user_id="y")
    assert tenant_of(ALICE, "end_user") != tenant_of(other, "end_user")


def test_team_and_key_of_one_name_are_two_tenants() -> None:
    assert tenant_of(key(api_key="k", team_id="a"), "team") != tenant_of(key(api_key="a"), "team")


@pytest.mark.parametrize(
    ("metadata", "off"),
    [
        ({}, False),
        (None, False),
        ({"nearhit": "on"}, False),
        ({"nearhit": False}, True),
        ({"nearhit": "OFF"}, True),
    ],
)
def test_settings_of_a_key_keep_it_out_of_the_cache(metadata: Any, off: bool) -> None:
    assert is_off(key(metadata=metadata)) is off


@pytest.mark.parametrize(
    ("callers", "who"),
    [
        (["all"], "alice bob frank nobody"),
        ([], ""),
        (["key:a"], "alice"),
        (["team:red"], "alice bob"),
        (["org:north", "user:frank"], "alice bob frank"),
        (["user:grace", "team:None", "key:red", "team:a", "user:x"], ""),
    ],
)
def test_list_of_callers_names_keys_teams_organisations_and_users(
    callers: list[str], who: str
) -> None:
    people = {"alice": ALICE, "bob": BOB, "frank": FRANK, "nobody": key()}
    assert [name for name, one in people.items() if is_allowed(callers, one)] == who.split()


def test_forwarded_headers_count_but_those_that_name_one_request() -> None:
    sent = {"X-Locale": "de", "x-request-id": "1", "traceparent": "2", "x-stainless-os": "3"}
    assert forwarded(sent) == {"x-locale": "de"}
    assert forwarded({"x-request-id": "1"}) is None
    assert forwarded(None) is None
