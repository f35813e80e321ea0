"""The hook's place among LiteLLM's callbacks.

It goes last, so that it looks up after guardrails, masking, budget and rate limits have had their
say, and sees a stream end after every guardrail has.
"""

from typing import Any

import litellm
from litellm.integrations.custom_guardrail import CustomGuardrail
from litellm.proxy.utils import ProxyLogging


def go_last(own: Any) -> bool:
    """Put a callback behind all others; tell whether this request is still too early for it.

    It is when a callback that may mask or refuse the request has its turn after this one.
    """
    callbacks = litellm.callbacks
    if not callbacks or callbacks[-1] is own or own not in callbacks:
        return False
    behind = callbacks[callbacks.index(own) + 1 :]
    # A new list: others may be walking through the old one.
    litellm.callbacks = [*(other for other in callbacks if other is not own), own]
    return not all(map(_is_bookkeeping, behind))


def is_alone_on_streams(own: Any) -> bool:
    """Whether no callback but LiteLLM's own bookkeeping may change the chunks of a stream."""
    found = ProxyLogging.callback_capabilities()
    return not found.has_streaming_chunk_override and all(
        callback is own or _is_bookkeeping(callback) for callback, _ in found.iterator_overrides
    )


def _is_bookkeeping(callback: Any) -> bool:
    """Whether a callback is LiteLLM's own and no guardrail: it changes no question, no answer."""
    is_litellms = isinstance(callback, str) or type(callback).__module__.startswith("litellm.")
    return is_litellms and not isinstance(callback, CustomGuardrail)
