"""Identical questions in flight: the first goes to the model, the others wait for its answer."""

import asyncio
import weakref
from uuid import UUID
from weakref import WeakValueDictionary

from nearhit.store import Entry


class Flight:
    """One question on its way to the model. Whoever opened it lands or abandons it, once."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[Entry | None] = asyncio.get_running_loop().create_future()
        self.is_over = False

    def land(self, entry: Entry) -> None:
        """Give the answer to all who wait, and to those who come until `retire`."""
        if not self._answer.done():
            self._answer.set_result(entry)

    def abandon(self) -> None:
        """Send all who wait to the model; without effect after `land`."""
        if not self._answer.done():
            self._answer.set_result(None)
            self.is_over = True

    def retire(self) -> None:
        """End it: from now on the answer comes from the store."""
        self.abandon()
        self.is_over = True

    async def wait(self, seconds: float) -> Entry | None:
        """Return the answer, or None when it fails or takes longer than `seconds`."""
        done, _ = await asyncio.wait({self._answer}, timeout=seconds)
        return self._answer.result() if done else None


class Flights:
    """The questions in flight in this process, by id."""

    def __init__(self) -> None:
        self._flights: WeakValueDictionary[UUID, Flight] = WeakValueDictionary()

    def find(self, question_id: UUID) -> Flight | None:
        """Return this question's flight, if it is open or has just landed."""
        flight = self._flights.get(question_id)
        return None if flight is None or flight.is_over else flight

    def retire(self) -> None:
        """End all of them."""
        for flight in list(self._flights.values()):
            flight.retire()

    def open(self, question_id: UUID, owner: object) -> Flight:
        """Open a flight; its owner must land or abandon it, and abandons it by vanishing."""
        flight, loop = Flight(), asyncio.get_running_loop()

        def abandon() -> None:
            # The owner may be collected by any thread, and after the loop has ended.
            if not loop.is_closed():
                loop.call_soon_threadsafe(flight.abandon)

        weakref.finalize(owner, abandon).atexit = False
        self._flights[question_id] = flight
        return flight
