"""Identical questions in flight: the first goes to the model, the others wait for its answer."""

import asyncio
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
    """The questions in flight in this process, by id.

    Weak: a flight whose request vanished without a word is gone with it.
    """

    def __init__(self) -> None:
        self._flights: WeakValueDictionary[UUID, Flight] = WeakValueDictionary()

    def find(self, question_id: UUID) -> Flight | None:
        """Return this question's flight, if it is open or has just landed."""
        flight = self._flights.get(question_id)
        return None if flight is None or flight.is_over else flight

    def open(self, question_id: UUID) -> Flight:
        """Open a flight; the caller must land or abandon it."""
        flight = Flight()
        self._flights[question_id] = flight
        return flight
