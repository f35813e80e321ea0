"""Identical questions in flight."""

import asyncio
import gc
from uuid import uuid4

import pytest

from nearhit.flights import Flights
from nearhit.store import Entry


@pytest.fixture
def entry() -> Entry:
    return Entry(uuid4(), "s", "", "q", "{}", "m", 1, 2, 0, "")


async def test_flight_that_lands_gives_its_answer_to_all_who_wait(entry: Entry) -> None:
    flight = Flights().open(entry.id, OWNER)
    waiting = [asyncio.create_task(flight.wait(60)) for _ in range(3)]
    await asyncio.sleep(0)
    flight.land(entry)
    assert await asyncio.gather(*waiting) == [entry] * 3


async def test_flight_that_is_abandoned_sends_all_who_wait_away(entry: Entry) -> None:
    flight = Flights().open(entry.id, OWNER)
    waiting = asyncio.create_task(flight.wait(60))
    await asyncio.sleep(0)
    flight.abandon()
    flight.land(entry)
    assert await waiting is None


async def test_flight_that_takes_too_long_is_not_waited_for(entry: Entry) -> None:
    assert await Flights().open(entry.id, OWNER).wait(0.01) is None


async def test_waiter_that_is_cancelled_leaves_the_flight_to_the_others(entry: Entry) -> None:
    flight = Flights().open(entry.id, OWNER)
    gone, stays = (asyncio.create_task(flight.wait(60)) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    flight.land(entry)
    assert await stays == entry


async def test_find_gives_a_flight_from_its_opening_until_it_is_retired(entry: Entry) -> None:
    flights = Flights()
    assert flights.find(entry.id) is None
    flight = flights.open(entry.id, OWNER)
    assert flights.find(entry.id) is flight
    flight.land(entry)
    assert flights.find(entry.id) is flight
    assert await flight.wait(0) == entry
    flight.retire()
    assert flights.find(entry.id) is None


async def test_find_does_not_give_a_flight_that_was_abandoned(entry: Entry) -> None:
    flights = Flights()
    flights.open(entry.id, OWNER).abandon()
    assert flights.find(entry.id) is None


async def test_flight_that_is_retired_before_it_landed_sends_all_away(entry: Entry) -> None:
    flight = Flights().open(entry.id, OWNER)
    waiting = asyncio.create_task(flight.wait(60))
    await asyncio.sleep(0)
    flight.retire()
    assert await waiting is None


class Owner:
    """Anything that can vanish."""


OWNER = Owner()


async def test_flight_whose_owner_vanishes_sends_all_who_wait_away(entry: Entry) -> None:
    flights, owner = Flights(), Owner()
    flight = flights.open(entry.id, owner)
    waiting = asyncio.create_task(flight.wait(60))
    await asyncio.sleep(0)
    del owner
    gc.collect()
    assert await waiting is None
    assert flights.find(entry.id) is None
