"""Who asks: from what LiteLLM authenticated, and from nothing else."""

from types import SimpleNamespace
from typing import Any

import pytest

from nearhit.caller import forwarded, opt_out, tenant_of


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
    ("headers", "data", "metadata", "reason"),
    [
        ({}, {}, {}, None),
        ({"X-Nearhit": " OFF "}, {}, {}, "header"),
        ({"x-nearhit": "on"}, {}, {}, None),
        ({"Cache-Control": "max-age=0, No-Store"}, {}, {}, "cache_control"),
        ({"cache-control": "max-age=0"}, {}, {}, "cache_control"),
        ({"cache-control": "max-age=60"}, {}, {}, None),
        ({}, {"cache": {}}, {}, "cache_field"),
        ({}, {"caching": False}, {}, "cache_field"),
        ({}, {}, {"nearhit": False}, "key"),
        ({}, {}, {"nearhit": "on"}, None),
    ],
)
def test_opt_out_names_who_asked(headers: Any, data: Any, metadata: Any, reason: Any) -> None:
    assert opt_out(headers, data, key(metadata=metadata)) == reason


def test_forwarded_headers_count_but_those_that_name_one_request() -> None:
    sent = {"X-Locale": "de", "x-request-id": "1", "traceparent": "2", "x-stainless-os": "3"}
    assert forwarded(sent) == {"x-locale": "de"}
    assert forwarded({"x-request-id": "1"}) is None
    assert forwarded(None) is None
