"""How a stored answer leaves through LiteLLM as if the model had given it.

`ReplayCache` stands where LiteLLM keeps its response cache, around the cache that the operator
may have configured there. When the hook has found an answer for a call it returns that, so
LiteLLM itself logs a cache hit at no cost; every other call goes to the operator's cache.
`ReplayStream` is the stream form: LiteLLM's own replay sends one lump, drops log probabilities
and further choices, and counts tokens anew; this one yields exactly the chunks it is given.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import litellm
from litellm.caching.caching import Cache as LiteLLMCache
from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper
from litellm.types.utils import ModelResponse, ModelResponseStream

from nearhit import completion

_CALL_TYPE = "acompletion"

# Given a call's logging object: the completion to replay and whether to send usage, or None.
Found = tuple[completion.JSON, bool]
Finder = Callable[[Any], Found | None]


class ReplayCache(LiteLLMCache):
    """Answers the calls that the hook found an answer for; else the operator's cache, if any."""

    def __init__(self, inner: LiteLLMCache | None, find: Finder) -> None:
        # Not super().__init__: it would open a cache of its own. What LiteLLM reads of a cache
        # beside its methods comes from the operator's, or is what it would be without one.
        self.inner = inner
        self._find = find
        source = vars(inner) if inner is not None else {}
        self.__dict__.update({k: v for k, v in source.items() if k not in self.__dict__})
        self.cache = getattr(inner, "cache", None)
        self.type = getattr(inner, "type", None)
        self.mode = getattr(inner, "mode", None)
        self.ttl = getattr(inner, "ttl", None)
        self.namespace = getattr(inner, "namespace", None)
        self.redis_flush_size = getattr(inner, "redis_flush_size", None)
        self._inner_types = list(getattr(inner, "supported_call_types", None) or [])
        self.supported_call_types = [*self._inner_types, _CALL_TYPE]

    async def async_get_cache(self, dynamic_cache_object: Any = None, **kwargs: Any) -> Any:
        """Return the answer that was found for this call, else what the operator's cache has."""
        logging_obj = kwargs.get("litellm_logging_obj")
        found = self._find(logging_obj) if logging_obj is not None else None
        if found is not None:
            kept, include_usage = found
            if kwargs.get("stream"):
                return replay_stream(kept, include_usage, str(kwargs.get("model")), logging_obj)
            return replay_body(kept)
        if not self._inner_serves(kwargs):
            return None
        return await self.inner.async_get_cache(  # type: ignore[union-attr]
            dynamic_cache_object=dynamic_cache_object, **kwargs
        )

    async def async_add_cache(self, result: Any, **kwargs: Any) -> None:
        """Store in the operator's cache; nearhit stores by itself, once an answer is complete."""
        if self._inner_serves(kwargs):
            await self.inner.async_add_cache(result, **kwargs)  # type: ignore[union-attr]

    def get_cache(self, **kwargs: Any) -> Any:
        """Ask the operator's cache; nearhit serves the proxy, which is asynchronous."""
        return self.inner.get_cache(**kwargs) if self.inner is not None else None

    def add_cache(self, result: Any, **kwargs: Any) -> None:
        """Store in the operator's cache."""
        if self.inner is not None:
            self.inner.add_cache(result, **kwargs)

    async def async_add_cache_pipeline(self, result: Any, **kwargs: Any) -> None:
        """Store embeddings in the operator's cache."""
        if self.inner is not None:
            await self.inner.async_add_cache_pipeline(result, **kwargs)

    def get_cache_key(self, **kwargs: Any) -> str:
        """Return the operator's cache key; without one there is none."""
        return self.inner.get_cache_key(**kwargs) if self.inner is not None else ""

    def supports_async(self) -> bool:
        """Say that `async_get_cache` is to be asked."""
        return True

    def should_use_cache(self, **kwargs: Any) -> bool:
        """Whether LiteLLM may store this call's answer in the operator's cache."""
        return self._inner_serves(kwargs) and self.inner.should_use_cache(**kwargs)  # type: ignore[union-attr]

    async def ping(self) -> Any:
        """Ping the operator's cache."""
        return await self.inner.ping() if self.inner is not None else None

    async def delete_cache_keys(self, keys: Any) -> Any:
        """Delete from the operator's cache."""
        return await self.inner.delete_cache_keys(keys) if self.inner is not None else None

    async def disconnect(self) -> None:
        """Disconnect the operator's cache."""
        if self.inner is not None:
            await self.inner.disconnect()

    def _inner_serves(self, kwargs: dict[str, Any]) -> bool:
        """Whether the operator's cache takes this call: it may leave chat completions out."""
        if self.inner is None:
            return False
        return "messages" not in kwargs or _CALL_TYPE in self._inner_types


def install(find: Finder) -> None:
    """Stand around whatever cache LiteLLM has now; again after the operator changes it."""
    if not isinstance(litellm.cache, ReplayCache):
        litellm.cache = ReplayCache(litellm.cache, find)


def replay_body(kept: completion.JSON) -> ModelResponse:
    """Return the answer as a body with an id and time of its own."""
    body = ModelResponse(**completion.as_body(kept, _new_id(), int(time.time())))
    body._hidden_params = _Unpriced(cache_hit=True)
    return body


class _Unpriced(dict[str, Any]):
    """Hidden parameters that take no price.

    LiteLLM notes here that a hit costs 0, and then computes what the hit saved from that note:
    0 for every body (a stream, which has no such note, is right).
    """

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Take everything but the price."""
        super().update({k: v for k, v in dict(*args, **kwargs).items() if k != "response_cost"})


def replay_stream(
    kept: completion.JSON, include_usage: bool, model: str, logging_obj: Any
) -> "ReplayStream":
    """Return the answer as a stream with an id and time of its own."""
    answer_id, created = _new_id(), int(time.time())
    chunks = completion.as_chunks(kept, answer_id, created, include_usage=include_usage)
    whole = ModelResponse(**completion.as_body(kept, answer_id, created))
    return ReplayStream(chunks, whole, model, logging_obj)


class ReplayStream(CustomStreamWrapper):
    """A stream of given chunks that LiteLLM logs as a cache hit with the whole answer."""

    def __init__(
        self,
        chunks: Iterable[completion.JSON],
        whole: ModelResponse,
        model: str,
        logging_obj: Any,
    ) -> None:
        super().__init__(
            completion_stream=chunks,
            model=model,
            custom_llm_provider="cached_response",
            logging_obj=logging_obj,
        )
        self._replayed: Iterator[completion.JSON] = iter(chunks)
        self._whole = whole
        self._is_logged = False

    async def __anext__(self) -> ModelResponseStream:
        # First, not last: all is known now, and LiteLLM would log and bill a stream that the
        # client leaves half-way as one from the model.
        self._log_success()
        for chunk in self._replayed:
            # A pause of no length: other requests go on, and each chunk is sent on its own.
            await asyncio.sleep(0)
            return ModelResponseStream(**chunk)
        raise StopAsyncIteration

    def _log_success(self) -> None:
        """Hand the whole answer to LiteLLM's loggers, as its own wrapper does at a stream's end."""
        if self._is_logged:
            return
        self._is_logged = True
        if getattr(self.logging_obj, "_on_deferred_stream_complete", None) is not None:
            # Output guardrails are on: LiteLLM logs when they have read to the end.
            self.logging_obj._deferred_stream_complete_args = (self._whole, True)
            return
        task = asyncio.create_task(
            self.logging_obj.dispatch_success_handlers(
                self._whole,
                cache_hit=True,
                start_time=None,
                end_time=None,
                prefer_async_handlers=True,
            )
        )
        _LOGGING.add(task)
        task.add_done_callback(_LOGGING.discard)


# The event loop keeps no strong reference to a task.
_LOGGING: set[asyncio.Task[None]] = set()


def _new_id() -> str:
    return f"chatcmpl-{uuid.uuid4()}"
