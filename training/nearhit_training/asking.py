"""Ask each thing once: from the journal if it was paid for, else from the endpoint, in budget."""

import asyncio
import signal
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from tqdm import tqdm

from nearhit.errors import NearhitError
from nearhit_training.endpoint import Ask, ChatClient, EndpointError, Reply
from nearhit_training.journal import Journal

# What the time estimate assumes of an endpoint; a laptop is slower, a GPU server faster.
_TOKENS_PER_S: Final = 40.0
_OVERHEAD_S: Final = 0.5

Item = TypeVar("Item")
Result = TypeVar("Result")


class BudgetSpent(NearhitError):  # noqa: N818 - a state
    """The next call might cost more than --max-cost allows."""


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars per million tokens; None when unknown.

    Attributes:
        prompt: for what is sent.
        completion: for what comes back.
        limit: most that a run may cost with all its earlier starts; None for no limit.
    """

    prompt: float | None = None
    completion: float | None = None
    limit: float | None = None

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """Return dollars, or None without prices."""
        if self.prompt is None or self.completion is None:
            return None
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run will take, before it starts; calls that the journal holds are not in it."""

    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    time_s: float

    def __add__(self, other: "Estimate") -> "Estimate":
        unknown = self.cost is None or other.cost is None
        return Estimate(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            None if unknown else (self.cost or 0.0) + (other.cost or 0.0),
            self.time_s + other.time_s,
        )

    def __str__(self) -> str:
        cost = "unknown (give --price-in and --price-out)"
        if self.cost is not None:
            cost = f"about ${self.cost:,.2f}"
        return (
            f"about {self.calls:,} calls, {self.prompt_tokens:,} tokens in, "
            f"{self.completion_tokens:,} out; cost {cost}; "
            f"{_duration(self.time_s)} at {_TOKENS_PER_S:g} tokens a second and call"
        )


class Asker:
    """Journal, endpoint and purse in one; what a run has asked and spent.

    Attributes:
        calls: replies paid for in this process.
        reused: replies that the journal had.
        prompt_tokens: sent for all replies used, earlier starts included.
        completion_tokens: received for them.
    """

    def __init__(self, client: ChatClient, journal: Journal, prices: Prices) -> None:
        self._client = client
        self._journal = journal
        self._prices = prices
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._counted: set[str] = set()
        self._reserved = 0.0
        self.calls = 0
        self.reused = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0

    @property
    def spent(self) -> float | None:
        """Dollars for all replies used, earlier starts included; None without prices."""
        return self._prices.cost(self.prompt_tokens, self.completion_tokens)

    async def ask(self, ask: Ask) -> Reply:
        """Return the reply to a request; two that ask the same at once share one call.

        Raises:
            EndpointError: not answered.
            EndpointRefusal: never will be.
            BudgetSpent: the call might exceed the limit.
        """
        key = ask.key
        async with self._locks[key]:
            reply = self._journal.get(key)
            if reply is None:
                reply = await self._pay(ask, key)
                self.calls += 1
            elif key not in self._counted:
                self.reused += 1
        if key not in self._counted:
            self._counted.add(key)
            self.prompt_tokens += reply.prompt_tokens
            self.completion_tokens += reply.completion_tokens
        return reply

    async def _pay(self, ask: Ask, key: str) -> Reply:
        most = self._prices.cost(ask.prompt_tokens, ask.max_tokens) or 0.0
        limit = self._prices.limit
        if limit is not None and (self.spent or 0.0) + self._reserved + most > limit:
            raise BudgetSpent(
                f"--max-cost must cover the next call, got {limit:g} with "
                f"{self.spent or 0.0:.4f} spent and {self._reserved + most:.4f} under way; "
                f"raise it and run the same command again, nothing is paid for twice"
            )
        self._reserved += most
        try:
            reply = await self._client.complete(ask)
        finally:
            self._reserved -= most
        self._journal.append(key, ask.purpose, reply)
        return reply


def estimate(
    asks: Iterable[Ask], expected_tokens: int, prices: Prices, concurrency: int
) -> Estimate:
    """Estimate the calls of one stage.

    Args:
        asks: the requests that are not paid for yet.
        expected_tokens: of a usual reply.
        prices: of the model.
        concurrency: calls under way at once.
    """
    calls = prompt_tokens = 0
    for ask in asks:
        calls += 1
        prompt_tokens += ask.prompt_tokens
    completion_tokens = calls * expected_tokens
    seconds = calls * _OVERHEAD_S + completion_tokens / _TOKENS_PER_S
    cost = prices.cost(prompt_tokens, completion_tokens)
    return Estimate(calls, prompt_tokens, completion_tokens, cost, seconds / concurrency)


async def for_each(
    items: Sequence[Item],
    work: Callable[[Item], Awaitable[Result]],
    *,
    title: str,
    concurrency: int,
) -> list[Result | None]:
    """Work on all items, so many at once, under a progress bar; results in order of the items.

    An item whose call is not answered gives None. The first Ctrl-C lets the calls under way end,
    since they are paid for; the second does not.

    Raises:
        KeyboardInterrupt: after Ctrl-C.
        EndpointError: so many calls in a row were not answered that the endpoint must be down.
    """
    results: list[Result | None] = [None] * len(items)
    waiting = iter(enumerate(items))
    stopping = asyncio.Event()
    silent = 0
    bar = tqdm(total=len(items), desc=title, unit="item", disable=None, file=sys.stderr)

    async def take_turns() -> None:
        nonlocal silent
        for index, item in waiting:
            if stopping.is_set():
                return
            try:
                results[index] = await work(item)
                silent = 0
            except EndpointError:
                silent += 1
                if silent >= 2 * concurrency:
                    stopping.set()
                    raise
            except BaseException:
                stopping.set()  # the others still take what they have paid for
                raise
            bar.update()

    def stop() -> None:
        print("\nfinishing the calls under way; again to stop at once", file=sys.stderr)
        stopping.set()
        loop.remove_signal_handler(signal.SIGINT)

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, stop)
    workers = [asyncio.create_task(take_turns()) for _ in range(concurrency)]
    try:
        endings = await asyncio.gather(*workers, return_exceptions=True)
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        bar.close()
    for ending in endings:
        if ending is not None:
            raise ending
    if stopping.is_set():
        raise KeyboardInterrupt
    return results


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
