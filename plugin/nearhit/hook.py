"""The LiteLLM callback: `litellm_settings.callbacks: nearhit.hook.proxy_hook`.

This module, `callbacks`, `replay`, `tracing` and `api` are the only ones that know LiteLLM.

How a hit gets out. Three ways were tried on LiteLLM 1.106 and 1.108. `mock_response` set in
the pre-call hook: a body works, but a stream is logged as a miss at full price and keeps one
content chunk. A `CustomLLM` provider: logged as a call to another model, so `cache_hit` is
false and the model group's spend is wrong. The third won: the pre-call hook looks up, and
LiteLLM's own cache look-up, after a deployment is chosen, returns what was found (`replay`).
Bodies and streams are then logged with `cache_hit` true and cost 0, keep every field, count as
the model group that was asked, and pass output guardrails like any answer.

How an answer gets in. A body is copied before output guardrails change it (they will run again
on every hit), a stream from the chunks as they came from the model, and not at all where a
guardrail may change chunks in place; both are stored only when the client has been sent all of
it, so what a guardrail blocks or a client cancels is not.
"""

import asyncio
import contextlib
import importlib
import logging
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import litellm
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy._types import ProxyException
from litellm.types.utils import ModelResponse

from nearhit import api, completion, config, replay, tracing
from nearhit.cache import Cache, Lookup, threshold_of
from nearhit.callbacks import go_last, is_alone_on_streams
from nearhit.caller import forwarded, is_allowed, is_off, metadata_of, tenant_of
from nearhit.config import Settings
from nearhit.decision import Bypass, Hit, Miss, Outcome
from nearhit.directives import Directives, read_directives
from nearhit.encoder.base import DIMENSION
from nearhit.errors import NearhitError
from nearhit.evidence.judge import answer_text
from nearhit.evidence.ledger import name_of, sums_of
from nearhit.evidence.witness import Witness
from nearhit.headers import DECISION, describe, not_asked, says_wrong
from nearhit.metrics import FaultLog, count_held, count_outcome, count_sums
from nearhit.request import (
    HARMLESS,
    Policy,
    Question,
    freshness_pattern,
    freshness_rule,
    read,
    tenant_digest,
    text_digest,
)
from nearhit.signing import read_secret

_log = logging.getLogger("nearhit")

_CHAT = "acompletion"
_MEASURE_EVERY_S = 10.0
# What LiteLLM adds to every request for its own use. Whatever else is there counts: the client,
# a key's or team's settings or another callback put it there.
_INTERNAL = frozenset(
    {
        "metadata",
        "litellm_metadata",
        "proxy_server_request",
        "secret_fields",
        "litellm_logging_obj",
        "headers",  # see `caller.forwarded`
    }
)


@dataclass(slots=True, weakref_slot=True, eq=False)
class _Call:
    """What is known of one request between the hooks that LiteLLM calls for it."""

    lookup: Lookup | None = None
    bypass: Bypass | None = None
    replayable: completion.JSON | None = None
    include_usage: bool = False
    is_replayed: bool = False
    packed: str | completion.Unstorable | None = None
    stream: Any = None
    is_shadow: bool = False
    directives: Directives = field(default_factory=Directives)
    request: completion.JSON = field(default_factory=dict)  # what the model would be asked

    @property
    def outcome(self) -> str | None:
        """How the ledger calls what became of a chat request; None: it was none."""
        if self.bypass is not None:
            return None if self.bypass.reason == "call_type" else "bypass"
        found = None if self.lookup is None else self.lookup.outcome
        if isinstance(found, Hit) and (self.is_shadow or self.is_replayed):
            return f"{'shadow' if self.is_shadow else 'hit'}_{found.kind}"
        return None if found is None else "miss"


class NearhitHook(CustomLogger):
    """One instance a worker process, shared by all requests."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self._policy = Policy(
            max_turns=settings.max_turns,
            max_temperature=settings.max_temperature,
            freshness=freshness_pattern(settings.freshness),
            classes=tuple(
                freshness_rule(one.words, one.patterns, one.ttl_s)
                for one in settings.freshness_classes
            ),
            exact_only="prompts_hashed" if settings.store.prompts == "hashed" else None,
        )
        configured = settings.secret.get_secret_value() if settings.secret else None
        self._secret = read_secret(configured, settings.data_dir)
        self._faults = FaultLog()
        # Keyed by LiteLLM's logging object, one a request, which no client can name.
        self._calls: WeakKeyDictionary[Any, _Call] = WeakKeyDictionary()
        self._by_id: WeakValueDictionary[str, _Call] = WeakValueDictionary()
        self._cache: Cache | None = None
        self.witness: Witness | None = None
        # The event loop keeps no strong reference to a task.
        self._running: list[asyncio.Task[None]] = []
        self._storing: set[asyncio.Task[None]] = set()

    # ---- before the model ------------------------------------------------------------------

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        """Look the question up; a hit is left where `replay` finds it.

        Raises:
            ProxyException: 504, where the client forbids to ask the model and nothing is stored.
        """
        try:
            await self._before(user_api_key_dict, data, call_type)
        except Exception as error:  # noqa: BLE001 - fail open: the model answers
            self._faults.record("hook", "pre_call", error)
            call = self._call_of(data)
            if call is not None:
                call.bypass, call.lookup, call.replayable = Bypass("error"), None, None
        call = self._call_of(data)
        if call is not None and call.directives.only_if_cached and call.replayable is None:
            raise _nothing_stored(call)
        return data

    async def _before(self, key: Any, data: dict[str, Any], call_type: str) -> None:
        logging_obj = data.get("litellm_logging_obj")
        if logging_obj is None:
            return
        call = self._calls[logging_obj] = _Call()
        self._by_id[str(data.get("litellm_call_id"))] = call
        # Moved only now, the callbacks behind it have not had their say on this request.
        is_early = go_last(self)
        found = self._read(call, key, data, call_type)
        if is_early and isinstance(found, Question):
            found = Bypass("starting")
        if isinstance(found, Bypass):
            call.bypass = found
            count_outcome(found)
            return
        call.lookup = await self._ready_cache().answer(found, call.directives)
        if self._is_refused(call, call.lookup, data):
            return
        outcome = call.lookup.outcome
        mode = self.settings.of_model(found.model).mode
        call.is_shadow = mode == "shadow" and isinstance(outcome, Hit)
        if isinstance(outcome, Hit) and not call.is_shadow:
            try:
                kept = completion.unpack(outcome.entry.completion)
                replay.replay_body(kept)  # what LiteLLM does not take must fail here, not later
                call.replayable = kept
            except Exception as error:  # noqa: BLE001 - an entry of another shape is a miss
                self._faults.record("store", "corrupt_entry", error)
                call.lookup.outcome = Miss("corrupt_entry")
        count_outcome(call.lookup.outcome, is_shadow=call.is_shadow)
        self._trace(call, call.lookup, key, data)
        if call.replayable is not None:
            options = data.get("stream_options")
            call.include_usage = isinstance(options, dict) and bool(options.get("include_usage"))
            replay.install(self._find)
            data["caching"] = True
            data.pop("cache", None)  # read already; LiteLLM would heed what is not allowed

    def _trace(self, call: _Call, lookup: Lookup, key: Any, data: Mapping[str, Any]) -> None:
        try:
            tracer = tracing.tracer()
            if tracer is not None:
                headers = (data.get("proxy_server_request") or {}).get("headers") or {}
                tracing.trace(tracer, key, headers, lookup, is_shadow=call.is_shadow)
        except Exception as error:  # noqa: BLE001 - a span that is lost costs no answer
            self._faults.record("hook", "tracing", error)

    def _is_refused(self, call: _Call, lookup: Lookup, data: dict[str, Any]) -> bool:
        """Give a client who says that the answer was wrong the model's, and remember it.

        Returns:
            Whether the cache keeps out of this request: where others share the answer, one
            client's word neither replaces nor forbids it.
        """
        headers = (data.get("proxy_server_request") or {}).get("headers") or {}
        if not (isinstance(lookup.outcome, Hit) and says_wrong(headers)):
            return False
        if self.witness is not None:
            self.witness.blamed(lookup, is_believed=self.is_believed)
        if self.is_believed:
            # The model's answer takes the place of what was stored for this very question.
            lookup.outcome = Miss("feedback")
            return False
        call.lookup, call.bypass = None, Bypass("feedback")
        count_outcome(call.bypass)
        return True

    def _read(
        self,
        call: _Call,
        key: Any,
        data: dict[str, Any],
        call_type: str,
        tenant: tuple[str, ...] | None = None,
    ) -> Question | Bypass:
        """Return the question that this request asks, or why it is none for the cache.

        Args:
            call: where it is noted what the model would be asked.
            key: who asks, as LiteLLM's authentication says.
            data: the request.
            call_type: LiteLLM's name of the route.
            tenant: whose question it is where a proxy admin says so; never of a request.
        """
        mode = self.settings.of_model(str(data.get("model"))).mode
        if mode == "off":
            return Bypass("mode_off")
        if call_type != _CHAT:
            return Bypass("call_type")
        request = data.get("proxy_server_request") or {}
        asked = read_directives(
            request.get("headers") or {},
            data,
            lambda name: is_allowed(getattr(self.settings.request_control, name), key),
            is_operators="cache" in metadata_of(key),
        )
        if mode == "on":  # in shadow nothing is served, and nobody is to notice
            call.directives = asked
        if asked.refusal is not None or is_off(key):
            return Bypass(asked.refusal or "key")
        tenant = tenant or tenant_of(key, self.settings.scope)
        if tenant is None:
            return Bypass("no_identity")
        body = {
            name: value
            for name, value in data.items()
            if name not in _INTERNAL and not name.startswith("_litellm")
        }
        call.request = _asked_again(body, data)
        # They choose among the deployments of a model group.
        body["metadata.tags"] = (data.get("metadata") or {}).get("tags") or None
        body["headers"] = forwarded(data.get("headers"))
        return read(body, tenant, self._policy, self._secret)

    # ---- for `api` ---------------------------------------------------------------------------

    def question_of(self, key: Any, body: dict[str, Any]) -> Question | Bypass:
        """Return the question that a chat request of this key asks."""
        return self._read(_Call(), key, body, _CHAT)

    def question_by(self, tenant: list[str], body: dict[str, Any]) -> Question | Bypass:
        """Return the question that a chat request of a named tenant asks."""
        return self._read(_Call(), None, body, _CHAT, tuple(tenant))

    @property
    def is_believed(self) -> bool:
        """Whether a client's word about an answer holds: it then has that answer to itself."""
        return self.settings.is_alone

    def digest_of(self, key: Any) -> str | None:
        """Return the digest of the tenant that a key belongs to; None: of none."""
        tenant = tenant_of(key, self.settings.scope)
        return None if tenant is None else self.tenant_digest(list(tenant))

    def tenant_digest(self, tenant: list[str]) -> str:
        """Return the digest of a tenant that is named."""
        return tenant_digest(tenant, self._secret)

    def text_digest(self, text: str) -> str:
        """Return the digest of a question's text."""
        return text_digest(text, self._secret)

    def _call_of(self, data: Mapping[str, Any]) -> _Call | None:
        logging_obj = data.get("litellm_logging_obj")
        return None if logging_obj is None else self._calls.get(logging_obj)

    def _find(self, logging_obj: Any) -> replay.Found | None:
        """Return what `replay` is to answer this call with."""
        call = self._calls.get(logging_obj)
        if call is None or call.replayable is None:
            return None
        call.is_replayed = True
        return call.replayable, call.include_usage

    async def async_filter_deployments(
        self,
        model: str,
        healthy_deployments: list[Any],
        messages: Any,
        request_kwargs: dict[str, Any] | None = None,
        parent_otel_span: Any = None,
    ) -> list[Any]:
        """Let a hit be served while every deployment cools down: it calls none of them."""
        if healthy_deployments or request_kwargs is None:
            return healthy_deployments
        call = self._call_of(request_kwargs)
        if call is None or call.replayable is None:
            return healthy_deployments
        from litellm.proxy.proxy_server import llm_router

        return list(llm_router.get_model_list(model_name=model) or []) if llm_router else []

    # ---- after the model -------------------------------------------------------------------

    async def async_post_call_success_deployment_hook(
        self, request_data: dict[str, Any], response: Any, call_type: Any
    ) -> None:
        """Copy a body as the model gave it."""
        call = self._call_of(request_data)
        if call is not None and call.lookup is not None and isinstance(response, ModelResponse):
            try:
                call.packed = completion.pack(response.model_dump(mode="json"))
            except Exception as error:  # noqa: BLE001 - an answer that cannot be copied is still one
                self._faults.record("hook", "copy", error)

    async def async_post_call_response_headers_hook(
        self,
        data: dict[str, Any],
        user_api_key_dict: Any,
        response: Any,
        request_headers: dict[str, str] | None = None,
        litellm_call_info: dict[str, Any] | None = None,
    ) -> dict[str, str]:
        """Say what the cache did; store a body, which is about to be sent; note a stream."""
        call = self._call_of(data)
        if call is None or response is None:
            return {}
        try:
            if call.lookup is not None and not call.is_replayed:
                if _attempted_fallbacks(response):
                    # The answer of another model group than the one that was asked.
                    self._ready_cache().drop(call.lookup, "fallback")
                    call.lookup.flight = None
                elif hasattr(response, "__aiter__"):
                    if is_alone_on_streams(self):
                        call.stream = response
                    else:
                        # Its chunks may be changed for this client before they are copied.
                        self._ready_cache().drop(call.lookup, "stream_guarded")
                        call.lookup.flight = None
                else:
                    self._store(call, call.packed)
            return self._describe(call)
        except Exception as error:  # noqa: BLE001 - fail open: the answer goes out without headers
            self._faults.record("hook", "post_call", error)
            return {}

    def _describe(self, call: _Call) -> dict[str, str]:
        """Say what the cache did, and write a hit down."""
        outcome: Outcome | None = call.bypass or (
            call.lookup.outcome if call.lookup is not None else None
        )
        if outcome is None:
            return {}
        if isinstance(outcome, Hit) and not call.is_replayed and not call.is_shadow:
            outcome = Miss("not_replayable")  # LiteLLM does not ask a cache for this provider
        headers = describe(outcome, time.time(), is_shadow=call.is_shadow)
        if call.lookup is not None and self.witness is not None:
            decision = self.witness.served(call.lookup, call.request) if call.is_replayed else None
            if decision is not None:
                headers[DECISION] = decision
        return headers

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Note what an answered request cost, and what it would have cost, as LiteLLM says."""
        try:
            call = self._by_id.get(str(kwargs.get("litellm_call_id")))
            outcome = None if call is None else call.outcome
            if outcome is not None and self.witness is not None:
                self._book(self.witness, outcome, kwargs["standard_logging_object"])
        except Exception as error:  # noqa: BLE001 - a sum that is lost costs no answer
            self._faults.record("evidence", "booking", error)

    def _book(self, witness: Witness, outcome: str, payload: Mapping[str, Any]) -> None:
        # Who asked is taken from here and not from the call: its id may be of a client's choice.
        who = payload.get("metadata") or {}
        token = who.get("user_api_key_hash") or who.get("user_api_key_user_id") or ""
        team = name_of(who.get("user_api_key_team_id"))
        is_hit = bool(payload.get("cache_hit"))
        if outcome.startswith("hit_") != is_hit:
            return  # of another call with the same id, or another cache's hit
        sums = sums_of(payload, outcome)
        key = self.tenant_digest(["key", str(token)])
        witness.book((key, team, name_of(payload.get("model_group")), outcome), sums)
        count_sums(team, outcome, sums)

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: Any, response: Any, request_data: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        """Pass a stream through; store it when the client has been sent all of it."""
        call = self._call_of(request_data)
        try:
            async for chunk in response:
                yield chunk
        except BaseException:
            if call is not None and call.lookup is not None and not call.is_replayed:
                self._ready_cache().drop(call.lookup, "stream_broken")
            raise
        if call is not None and call.stream is not None:
            # Not here: the client waits for the end of the stream.
            task = asyncio.create_task(self._store_stream(call))
            self._storing.add(task)
            task.add_done_callback(self._storing.discard)

    async def _store_stream(self, call: _Call) -> None:
        try:
            # In a thread: a thousand chunks take 13 ms to put together.
            self._store(call, await asyncio.to_thread(_pack_stream, call.stream))
        except Exception as error:  # noqa: BLE001 - the client has its answer
            self._faults.record("hook", "post_stream", error)

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: Any,
        traceback_str: str | None = None,
    ) -> None:
        """Send those who wait for this answer to the model."""
        # LiteLLM has taken the logging object out by now. The id may be of a client's choice: all
        # that it can do with another's is to send those who wait for it to the model.
        call = self._by_id.get(str(request_data.get("litellm_call_id")))
        if call is not None and call.lookup is not None and call.lookup.flight is not None:
            self._ready_cache().drop(call.lookup, "model_failed")

    def _store(self, call: _Call, packed: str | completion.Unstorable | None) -> None:
        if call.lookup is None:
            return
        if isinstance(packed, str):
            is_near = isinstance(call.lookup.outcome, Miss) and (
                call.lookup.outcome.reason != "feedback"
            )
            if self.witness is not None and (call.is_shadow or is_near):
                self.witness.answered(call.lookup, "shadow" if call.is_shadow else "near", packed)
            if not call.is_shadow:  # a cache that serves would not have asked for this answer
                self._ready_cache().keep(call.lookup, packed)
        else:
            reason = packed.reason if packed is not None else "other_cache"
            self._ready_cache().drop(call.lookup, reason)

    # ---- start-up --------------------------------------------------------------------------

    def _ready_cache(self) -> Cache:
        """Return the cache, made on the running loop; its encoder follows when it is loaded."""
        if self._cache is None:
            from nearhit.store.opening import open_store

            store = open_store(self.settings, DIMENSION, self._secret, bounded=True)
            cache = Cache(self.settings, self._secret, store)
            cache.watch.obey_flushes()  # before anything is served
            self._cache = cache
            self.witness = Witness(self.settings, self._cache, _ask_model)
            self._running = [
                asyncio.create_task(self._start(self._cache, store)),
                asyncio.create_task(self.witness.run()),
                asyncio.create_task(_measure(self._cache)),
            ]
            try:
                api.add_routes(self._cache, self.witness, self)
            except Exception as error:  # noqa: BLE001 - a proxy without our routes still serves
                self._faults.record("hook", "routes", error)
        return self._cache

    async def _start(self, cache: Cache, store: Any) -> None:
        """Bring store and encoder up ahead of the first question."""
        try:
            await store.start()
        except NearhitError as error:
            self._faults.record("store", "start", error)
        try:
            # Imports onnxruntime, and LiteLLM imports this module at once.
            serving = await asyncio.to_thread(importlib.import_module, "nearhit.encoder.serving")
            encoder, verifier = await asyncio.to_thread(serving.load_parts, self.settings)
        except Exception as error:  # noqa: BLE001 - exact repeats still hit; say it once and go on
            _log.error("nearhit has no encoder, only exact repeats hit: %s", error)
            self._faults.record("encoder", "start", error)
            return
        if self.witness is not None:
            # What was found wrong is known before anything is served in other words.
            try:
                await self.witness.look(encoder, verifier)
            except Exception as error:  # noqa: BLE001 - the journal may be out of order
                self._faults.record("evidence", "start", error)
        cache.verifier, cache.encoder = verifier, encoder
        _log.info(
            "nearhit is ready, encoder %s, another wording hits from %s %.4f",
            encoder.fingerprint[:16],
            "similarity" if verifier is None else "confidence",
            threshold_of(self.settings, verifier),
        )
        await self._report_stale(store, encoder.fingerprint)

    async def _report_stale(self, store: Any, fingerprint: str) -> None:
        """Say how many answers another encoder left, which are found by their exact text only."""
        try:
            page = await store.stale(fingerprint, None, 1, int(time.time()))
        except NearhitError as error:
            self._faults.record("store", "start", error)
            return
        if page.left:
            _log.warning(
                "%d stored answers have vectors of another encoder and match exactly only; "
                "`nearhit reembed CONFIG` migrates them while the proxy serves",
                page.left,
            )

    def start_soon(self) -> None:
        """Start now if an event loop runs, as it does when the proxy reads its config."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return  # the first request starts it
        if self.settings.mode != "off":
            self._ready_cache()


async def _measure(cache: Cache) -> None:
    """Show in this worker's metrics what the store holds and has removed."""
    while True:
        with contextlib.suppress(NearhitError):  # a store that is down is told of elsewhere
            count_held(await cache.held())
        await asyncio.sleep(_MEASURE_EVERY_S)


def _nothing_stored(call: _Call) -> ProxyException:
    """Return the answer to `only-if-cached` where nothing stored can be served.

    Source: RFC 9111 section 5.2.1.7.
    """
    outcome = call.bypass or (call.lookup.outcome if call.lookup is not None else Bypass("error"))
    return ProxyException(
        message="nothing that is stored answers this request, and only-if-cached forbids to ask "
        "the model",
        type="cache_miss",
        param=None,
        code=504,
        headers=not_asked(outcome),
    )


def _attempted_fallbacks(response: Any) -> bool:
    hidden = getattr(response, "_hidden_params", None) or {}
    headers = hidden.get("additional_headers") or {}
    return bool(headers.get("x-litellm-attempted-fallbacks"))


def _asked_again(body: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the model is asked where this request's hit is verified.

    As the client asked it, with what keeps it out of logs and what chooses the deployment; without
    retries and fallbacks, whose cost and answers are others'.
    """
    kept = {k: v for k, v in body.items() if k not in HARMLESS or k in ("no-log", "store", "user")}
    if data.get("headers"):
        kept["headers"] = data["headers"]
    given = data.get("metadata") or {}
    wanted = {name: given.get(name) for name in ("tags", "user_api_key_team_id")}
    kept["metadata"] = {name: value for name, value in wanted.items() if value}
    return kept


async def _ask_model(request: Mapping[str, Any]) -> str | None:
    """Ask a model of this proxy, past the cache; the spend is noted as user `nearhit`'s."""
    from litellm.proxy.proxy_server import llm_router

    if llm_router is None:
        return None
    response = await llm_router.acompletion(
        **{
            **request,
            "stream": False,
            "caching": False,
            "num_retries": 0,
            "disable_fallbacks": True,
            "metadata": {**request.get("metadata", {}), "user_api_key_user_id": "nearhit"},
        }
    )
    if _attempted_fallbacks(response):
        return None
    packed = completion.pack(response.model_dump(mode="json"))
    return answer_text(packed) if isinstance(packed, str) else None


def _pack_stream(stream: Any) -> str | completion.Unstorable:
    if getattr(stream, "custom_llm_provider", None) == "cached_response":
        return completion.Unstorable("other_cache")
    chunks = getattr(stream, "chunks", None)
    if not isinstance(chunks, list):
        return completion.Unstorable("unknown_stream")
    return completion.pack(
        completion.assemble(chunk.model_dump(mode="json", exclude_none=True) for chunk in chunks)
    )


def _load_settings() -> Settings:
    """Read the settings of the proxy that imports this module."""
    from litellm.proxy import proxy_server

    path = getattr(proxy_server, "user_config_file_path", None)
    if path and Path(path).is_file():
        section = config.read_section(config.read_config(Path(path)))
    else:  # the config comes from a bucket or a database
        section = (getattr(litellm, "callback_settings", None) or {}).get(config.SECTION)
    for line in config.unknown_variables():
        _log.warning("%s", line)
    return config.load(section)


def __getattr__(name: str) -> Any:
    """Make `proxy_hook` when LiteLLM asks for it, so that importing this module does nothing."""
    if name != "proxy_hook":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    hook = NearhitHook(_load_settings())
    globals()["proxy_hook"] = hook
    hook.start_soon()
    return hook
