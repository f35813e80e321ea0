"""The response headers that say what the cache did. Pure.

Source: RFC 9211 (Cache-Status), RFC 9111 section 5.1 (Age).
"""

from collections.abc import Mapping

from nearhit.decision import Bypass, Hit, Miss, Outcome
from nearhit.store import Entry

FEEDBACK = "x-nearhit-feedback"  # request: `wrong`
DECISION = "x-nearhit-decision"  # response: names a hit in other words, for feedback by API

# LiteLLM's log has cost 0 for a hit; without these its headers would have the model's price.
_FREE = {f"x-litellm-response-cost{part}": "0.0" for part in ("", "-original", "-input", "-output")}


def describe(outcome: Outcome, now: float, *, is_shadow: bool = False) -> dict[str, str]:
    """Describe an outcome.

    Args:
        outcome: of the request.
        now: Unix seconds.
        is_shadow: whether a hit was not served.
    """
    match outcome:
        case Bypass(reason=reason):
            return {
                "x-nearhit": "bypass",
                "x-nearhit-reason": reason,
                "cache-status": f"nearhit; fwd=bypass; detail={reason}",
            }
        case Miss():
            return _miss(outcome)
        case Hit() if is_shadow:
            return {
                "x-nearhit": "shadow",
                **_about(outcome),
                "cache-status": "nearhit; fwd=bypass; detail=shadow",
            }
        case Hit():
            return _hit(outcome, now)


def not_asked(outcome: Outcome) -> dict[str, str]:
    """Describe a miss or bypass of which the model was not asked either."""
    headers = describe(outcome, 0)
    return headers | {"cache-status": f"nearhit; detail={headers['x-nearhit-reason']}"}


def says_wrong(headers: Mapping[str, str]) -> bool:
    """Tell whether a client says that what the cache serves to this request is wrong."""
    lower = {str(name).lower(): str(value).strip().lower() for name, value in headers.items()}
    return lower.get(FEEDBACK) == "wrong"


def entry_age_s(entry: Entry, now: float) -> int:
    """Return how long ago the answer was given, whole seconds, never negative."""
    return max(0, int(now) - entry.created_at)


def _miss(outcome: Miss) -> dict[str, str]:
    headers = {
        "x-nearhit": "miss",
        "x-nearhit-reason": outcome.reason,
        "cache-status": f"nearhit; fwd=miss; detail={outcome.reason}",
    }
    if outcome.similarity is not None:
        headers["x-nearhit-similarity"] = f"{outcome.similarity:.4f}"
    if outcome.confidence is not None:
        headers["x-nearhit-confidence"] = f"{outcome.confidence:.4f}"
    return headers


def _hit(outcome: Hit, now: float) -> dict[str, str]:
    ttl_s = max(0, outcome.entry.expires_at - int(now))
    served = "fwd=miss; collapsed" if outcome.kind == "coalesced" else f"hit; ttl={ttl_s}"
    return {
        "x-nearhit": "hit",
        **_about(outcome),
        "x-nearhit-entry": str(outcome.entry.id),
        "cache-status": f"nearhit; {served}; detail={outcome.kind}",
        "age": str(entry_age_s(outcome.entry, now)),
        **_FREE,
    }


def _about(outcome: Hit) -> dict[str, str]:
    return {
        "x-nearhit-kind": outcome.kind,
        "x-nearhit-similarity": f"{outcome.similarity:.4f}",
        "x-nearhit-confidence": f"{outcome.confidence:.4f}",
    }
