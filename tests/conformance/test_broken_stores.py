"""Whatever becomes of the store, the client has the model's answer."""

import os
import signal
import subprocess
import time

import pytest

from conformance.asking import Case, Target
from conformance.own import OwnStack

pytestmark = pytest.mark.own_stack


@pytest.fixture
def store(own_stack: OwnStack | None, target: Target) -> OwnStack:
    """The stack whose store is about to fail."""
    assert own_stack is not None
    return own_stack


def living_store(store: OwnStack, case: Case) -> int:
    """Return the pid of the store process, which questions bring back after it was killed."""
    end = time.monotonic() + 15
    while True:
        case.send(case.body())
        try:
            return store.store_process()
        except subprocess.CalledProcessError:
            assert time.monotonic() < end, "the store did not come back"
            time.sleep(0.1)


@pytest.mark.parametrize("stream", [False, True], ids=["as a body", "as a stream"])
def test_question_is_answered_while_the_store_is_dead(
    store: OwnStack, case: Case, stream: bool
) -> None:
    case.learn(case.body(stream=stream))
    os.kill(living_store(store, case), signal.SIGKILL)
    for _ in range(3):
        reply = case.send(case.body(stream=stream)).reply
        assert reply.status == 200
        assert reply.text


def test_question_is_answered_while_the_store_hangs(store: OwnStack, case: Case) -> None:
    case.is_repeated(case.body())
    pid = living_store(store, case)
    os.kill(pid, signal.SIGSTOP)
    try:
        seen = case.send(case.body())
        assert (seen.reply.status, seen.calls) == (200, 1)
    finally:
        os.kill(pid, signal.SIGCONT)


def test_answer_is_served_again_once_the_store_is_back(store: OwnStack, case: Case) -> None:
    case.learn(case.body())
    os.kill(living_store(store, case), signal.SIGKILL)
    living_store(store, case)
    time.sleep(2.2)  # longer than the proxy serves an answer that has just come from its memory
    assert case.send(case.body()).is_hit
