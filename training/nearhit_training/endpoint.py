"""Ask a model through any OpenAI-compatible endpoint: vLLM, Ollama, a LiteLLM proxy, a vendor.

One deadline covers a call with all its attempts. What may pass (429, 5xx, a cut or garbled
answer) is tried again with exponential back-off and full jitter, or after what the endpoint asks
for; what cannot pass (a wrong key, an unknown model) ends the run with a message. A request
field that the endpoint refuses is left out from then on.
"""

import asyncio
import hashlib
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Final, Self

import httpx

from nearhit.errors import ConfigError, NearhitError

_log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S: Final = 10.0
_LONGEST_WAIT_S: Final = 60.0
# Client errors that pass by themselves; 409 and 425 are what some gateways say while they load.
_PASSING: Final = frozenset({408, 409, 425, 429})
_TEXT_PER_TOKEN: Final = 4  # characters; English, about
_SAID: Final = 200  # characters of an endpoint's message that are shown


class EndpointError(NearhitError):
    """A call was not answered within its deadline or its attempts; another may be."""


class EndpointRefusal(NearhitError):  # noqa: N818 - the endpoint's, not a fault of ours
    """The endpoint will answer no call like this one; the run ends."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One chat request.

    Attributes:
        purpose: what it is for: ``generate`` or ``judge``.
        model: name that the endpoint knows.
        messages: (role, content) pairs.
        schema: JSON schema of the reply.
        temperature: 0 to 2.
        max_tokens: bound on the reply.
    """

    purpose: str
    model: str
    messages: tuple[tuple[str, str], ...]
    schema: Mapping[str, Any]
    temperature: float
    max_tokens: int

    @property
    def key(self) -> str:
        """Digest of what decides the reply: 64 hexadecimal digits."""
        asked = json.dumps([self.model, self.messages, self.temperature], ensure_ascii=False)
        return hashlib.sha256(asked.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def prompt_tokens(self) -> int:
        """An estimate."""
        return sum(tokens_of(content) + 4 for _, content in self.messages)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, usable or not: it was paid for."""

    text: str
    refused: bool
    truncated: bool
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Policy:
    """How an endpoint is called.

    Attributes:
        url: up to and including ``/v1``.
        concurrency: calls under way at once.
        deadline_s: for one call, waiting and attempts included.
        attempts: at most so many for one call.
        backoff_s: upper bound of the first wait; it doubles with each attempt.
    """

    url: str
    concurrency: int = 8
    deadline_s: float = 120.0
    attempts: int = 8
    backoff_s: float = 1.0


def tokens_of(text: str) -> int:
    """Estimate the tokens of a text."""
    return 1 + len(text) // _TEXT_PER_TOKEN


class ChatClient(AbstractAsyncContextManager["ChatClient"]):
    """Calls one endpoint. Use it in one event loop, as a context manager."""

    def __init__(
        self,
        policy: Policy,
        key: str | None = None,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._policy = policy
        self._key = key
        self._sleep = sleep
        self._slots = asyncio.Semaphore(policy.concurrency)
        # Jitter only; what is generated does not depend on it.
        self._random = random.Random()  # noqa: S311 - not for secrets
        self._formats = ["json_schema", "json_object", ""]
        self._length_field = "max_tokens"
        self._sends_temperature = True
        self._open_at = 0.0
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(None, connect=_CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=policy.concurrency),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def complete(self, ask: Ask) -> Reply:
        """Make one call.

        Raises:
            EndpointError: not answered in time or after all attempts.
            EndpointRefusal: the endpoint says that it never will be.
        """
        fault = "no answer"
        async with self._slots:
            try:
                async with asyncio.timeout(self._policy.deadline_s):
                    for attempt in range(self._policy.attempts):
                        await self._wait_until_open()
                        outcome = await self._attempt(ask, attempt)
                        if isinstance(outcome, Reply):
                            return outcome
                        fault = outcome
            except TimeoutError:
                raise EndpointError(
                    f"a call must be answered within {self._policy.deadline_s:g} s, got {fault}; "
                    f"raise --deadline, lower --concurrency, or run the same command again later"
                ) from None
        raise EndpointError(
            f"a call must be answered within {self._policy.attempts} attempts, got {fault}; "
            f"run the same command again later"
        )

    async def _attempt(self, ask: Ask, attempt: int) -> Reply | str:
        """Try once; return the reply, or what went wrong after the wait that it calls for."""
        wait_s = self._random.uniform(0, self._policy.backoff_s * 2**attempt)
        body = self._body(ask)
        try:
            response = await self._http.post(f"{self._policy.url}/chat/completions", json=body)
        except (httpx.TransportError, httpx.DecodingError) as error:
            fault = type(error).__name__
        else:
            if response.status_code == httpx.codes.OK:
                reply = _read_reply(response, ask)
                if reply is not None:
                    return reply
                fault = "an answer that is no chat completion"
            elif self._may_pass(response, body):
                fault = f"status {response.status_code}"
                if response.status_code in (400, 422):
                    return fault  # the body will be another; no reason to wait
                asked_s = _retry_after_s(response)
                if asked_s is not None:
                    # Jitter on top: else all that wait call again in the same instant.
                    wait_s += asked_s
                    self._open_at = max(self._open_at, time.monotonic() + asked_s)
            else:
                raise self._refusal(response)
        _log.debug("attempt %d failed (%s), next in %.1f s", attempt + 1, fault, wait_s)
        await self._sleep(min(wait_s, _LONGEST_WAIT_S))
        return fault

    async def _wait_until_open(self) -> None:
        """Hold a call back while the endpoint has asked for a pause."""
        wait_s = self._open_at - time.monotonic()
        if wait_s > 0:
            await self._sleep(wait_s)

    def _body(self, ask: Ask) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": ask.model,
            "messages": [{"role": role, "content": content} for role, content in ask.messages],
            self._length_field: ask.max_tokens,
        }
        if self._sends_temperature:
            body["temperature"] = ask.temperature
        if self._formats[0] == "json_schema":
            schema = {"name": ask.purpose, "strict": True, "schema": ask.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif self._formats[0]:
            body["response_format"] = {"type": self._formats[0]}
        return body

    def _may_pass(self, response: httpx.Response, body: Mapping[str, Any]) -> bool:
        """Whether another attempt makes sense; leave out the field that was refused, if one was."""
        said = response.text
        if response.status_code in (400, 422):
            return self._leave_out(said, body)
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS and "insufficient_quota" in said:
            return False  # an empty account does not fill while we wait
        return response.status_code in _PASSING or response.status_code >= 500

    def _leave_out(self, said: str, body: Mapping[str, Any]) -> bool:
        """Change what is sent by what a 400 names; False when nothing is left to change."""
        sent = body.get("response_format", {}).get("type", "")
        if sent and any(word in said for word in ("response_format", "json_schema", sent)):
            if self._formats[0] == sent:  # another call may have found out meanwhile
                self._formats.pop(0)
            return True
        if "max_tokens" in body and "max_completion_tokens" in said:
            self._length_field = "max_completion_tokens"
            return True
        if "temperature" in body and "temperature" in said:
            self._sends_temperature = False
            return True
        return False

    def _refusal(self, response: httpx.Response) -> EndpointRefusal:
        said = " ".join(response.text.split())
        if self._key:
            said = said.replace(self._key, "***")
        remedy = {
            401: "set the key in the variable that --api-key-env names",
            403: "ask for a key that may use this model",
            404: "check --model, and that --endpoint ends in /v1",
            429: "the account is empty: fill it and run the same command again",
        }.get(response.status_code, "check --endpoint and --model")
        return EndpointRefusal(
            f"--endpoint {self._policy.url} must answer chat completions, got status "
            f"{response.status_code} ({said[:_SAID]}); {remedy}"
        )


def check_url(url: str) -> str:
    """Return an endpoint's URL without a trailing slash.

    Raises:
        ConfigError: it is none, or carries a password, which would end in logs.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigError(
            f"--endpoint must be an http or https URL, got {url!r}; "
            f"give one like http://localhost:8000/v1"
        )
    if parsed.userinfo or parsed.query:
        raise ConfigError(
            "--endpoint must carry no user, password or query, got one that does; "
            "put the key into the variable that --api-key-env names"
        )
    return url.rstrip("/")


def _read_reply(response: httpx.Response, ask: Ask) -> Reply | None:
    """Read a chat completion; None when the body is something else."""
    try:
        body = response.json()
        choice = body["choices"][0]
        message = choice["message"]
        content = message.get("content")
        finish = choice.get("finish_reason")
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    text = content if isinstance(content, str) else ""
    usage = body.get("usage") if isinstance(body.get("usage"), dict) else {}
    counted = [usage.get("prompt_tokens"), usage.get("completion_tokens")]
    guessed = [ask.prompt_tokens, tokens_of(text)]
    tokens = [
        count if isinstance(count, int) else guess
        for count, guess in zip(counted, guessed, strict=True)
    ]
    return Reply(
        text=text,
        refused=bool(message.get("refusal")) or finish == "content_filter",
        truncated=finish == "length",
        prompt_tokens=tokens[0],
        completion_tokens=tokens[1],
    )


def _retry_after_s(response: httpx.Response) -> float | None:
    """Read Retry-After. Source: RFC 9110, section 10.2.3: seconds or a date."""
    value = response.headers.get("retry-after", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
