"""No caller is given the answer of another, whatever it sends."""

import hashlib

import pytest

from conformance.answers import JSON, say
from conformance.asking import Case, Seen

NAMED = "a-name-that-both-know"
# Fields of a body that some gateway reads, or may read, as the name of an entry or of a caller.
FIELDS: dict[str, JSON] = {
    "cache_key": {"cache_key": NAMED},
    "preset_cache_key": {"preset_cache_key": NAMED},
    "preset_cache_key of LiteLLM": {"litellm_params": {"preset_cache_key": NAMED}},
    "cache with a namespace": {"cache": {"namespace": NAMED}},
    "cache with a key": {"cache": {"key": NAMED}},
    "caching": {"caching": True},
    "namespace": {"namespace": NAMED},
    "metadata with a cache key": {"metadata": {"cache_key": NAMED, "namespace": NAMED}},
    "prompt_cache_key": {"prompt_cache_key": NAMED},
    "user": {"user": "ann"},
    "safety_identifier": {"safety_identifier": "ann"},
    "extra_body": {"extra_body": {"cache_key": NAMED}},
    "settings of the cache": {"similarity_threshold": 0.0, "scope": "global", "ttl": 10**9},
}
HEADERS: dict[str, dict[str, str]] = {
    "cache key": {"x-cache-key": NAMED, "cache-key": NAMED},
    "cache namespace": {"x-cache-namespace": NAMED, "x-portkey-cache-namespace": NAMED},
    "cache key of LiteLLM": {"x-litellm-cache-key": NAMED},
    "cache key of Bifrost": {"x-bf-cache-key": NAMED, "x-bf-cache-threshold": "0.1"},
    "cache key of Cloudflare": {"cf-aig-cache-key": NAMED},
    "seed of Helicone": {"helicone-cache-seed": NAMED, "helicone-cache-enabled": "true"},
    "user": {"x-user-id": "ann", "x-forwarded-user": "ann", "x-litellm-end-user-id": "ann"},
    "tenant": {"x-tenant-id": NAMED, "x-org-id": NAMED, "openai-organization": NAMED},
    "scope of nearhit": {"x-nearhit-scope": "global", "x-nearhit": "on", "x-nearhit-tenant": "a"},
}


@pytest.fixture
def other(case: Case) -> str:
    """A second caller's key."""
    if case.target.other_key is None:
        pytest.skip("needs a second key: --gateway-other-key")
    return case.target.other_key


def is_own(seen: Seen) -> bool:
    """Whether a caller got an answer of the model for itself, or none."""
    return not seen.is_hit


def test_question_of_another_is_answered_anew(case: Case, other: str) -> None:
    case.learn(case.body())
    assert is_own(case.send(case.body(), key=other))


def test_question_of_another_is_answered_anew_as_a_stream(case: Case, other: str) -> None:
    case.learn(case.body(stream=True))
    assert is_own(case.send(case.body(stream=True), key=other))


def test_question_of_another_in_other_words_is_answered_anew(case: Case, other: str) -> None:
    case.learn(case.body(f"How can I repair a {case.subject}?"))
    assert is_own(case.send(case.body(f"How do I repair a {case.subject}?"), key=other))


def test_each_of_two_callers_keeps_an_answer_of_its_own(case: Case, other: str) -> None:
    case.plan(**say("For the one."))
    case.learn(case.body())
    case.plan(**say("For the other."))
    case.learn(case.body(), key=other)
    hits = [case.send(case.body(), key=key) for key in (case.target.key, other)]
    assert all(hit.is_hit for hit in hits)
    assert [hit.reply.text for hit in hits] == ["For the one.", "For the other."]


@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS.keys())
def test_field_that_both_callers_send_opens_nothing(case: Case, other: str, fields: JSON) -> None:
    case.learn(case.body(**fields))
    assert is_own(case.send(case.body(**fields), key=other))


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS.keys())
def test_header_that_both_callers_send_opens_nothing(
    case: Case, other: str, headers: dict[str, str]
) -> None:
    case.learn(case.body(), headers=headers)
    assert is_own(case.send(case.body(), key=other, headers=headers))


CLAIMS = ("user_api_key", "user_api_key_hash", "user_api_key_user_id", "user_api_key_team_id")


@pytest.mark.parametrize("name", CLAIMS)
@pytest.mark.parametrize("place", ["metadata", "litellm_metadata"])
def test_caller_that_claims_to_be_another_is_not_believed(
    case: Case, other: str, name: str, place: str
) -> None:
    key = case.target.key
    for claim in (key, f"hash-of-{key}", hashlib.sha256(key.encode()).hexdigest()):
        asked = case.target.case()
        asked.learn(asked.body())
        assert is_own(asked.send(asked.body(**{place: {name: claim}}), key=other))


def disclosed(seen: Seen) -> str:
    """Return what the gateway told the one caller of its entry's name, in any header."""
    headers = seen.reply.headers
    return next((value for name, value in headers.items() if "cache-key" in name), NAMED)


@pytest.mark.parametrize("field", ["cache_key", "preset_cache_key"])
def test_name_of_an_entry_that_leaked_opens_nothing(case: Case, other: str, field: str) -> None:
    case.learn(case.body())
    leaked = disclosed(case.send(case.body()))
    assert is_own(case.send(case.body(**{field: leaked}), key=other))


@pytest.mark.parametrize("field", ["cache_key", "preset_cache_key"])
def test_answer_is_not_planted_for_another(case: Case, other: str, field: str) -> None:
    neighbour = case.target.case()
    neighbour.learn(neighbour.body())
    leaked = disclosed(neighbour.send(neighbour.body()))
    case.plan(**say("Planted."))
    case.learn(case.body(**{field: leaked}), key=other)
    case.plan(**say("Grown."))
    assert case.send(case.body()).reply.text == "Grown."


def test_unknown_key_is_given_no_kept_answer(case: Case) -> None:
    case.learn(case.body())
    refused = case.send(case.body(), key="sk-nobody-at-all")
    assert refused.reply.status in (401, 403)
    assert not refused.is_hit
