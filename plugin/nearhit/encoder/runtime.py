"""Run an artefact: requests of many callers, one worker thread, no fixed wait.

A text that finds the worker idle is computed at once and alone. Those that arrive meanwhile
wait, and are then taken in batches of like length (`batching`), the longest waiting first.
"""

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np

from nearhit.encoder.artefact import Artefact
from nearhit.encoder.base import Encoding, Vector
from nearhit.encoder.batching import choose_batch
from nearhit.encoder.recipe import GRAPH_FILE, TOKENIZER_FILE
from nearhit.encoder.repeats import Repeats
from nearhit.encoder.session import embed, give_back_memory, open_session
from nearhit.encoder.tokens import TextReader
from nearhit.errors import EncoderBusy, EncoderError

# Texts looked at for one batch: all that wait, by the default bound of the queue. It keeps a
# choice short where that bound is raised to thousands.
_IN_SIGHT: Final = 64
_WARM_UP_LENGTHS: Final = (8, 64)


@dataclass(slots=True, eq=False)
class _Job:
    """A text on its way; `ids` is set once it has been read."""

    text: str
    owner: str
    answer: "Future[Encoding]"
    ids: list[int] | None = None


class OnnxEncoder:
    """An `Encoder` on ONNX Runtime. Safe to share between event loops."""

    def __init__(
        self, artefact: Artefact, *, threads: int, max_pending: int, repeats_bytes: int
    ) -> None:
        manifest = self._manifest = artefact.manifest
        self._reader = TextReader.open(
            artefact.path / TOKENIZER_FILE,
            max_tokens=manifest.max_tokens,
            multilingual=manifest.multilingual,
        )
        self._session = open_session(artefact.path / GRAPH_FILE, threads)
        self._max_pending = max_pending
        self._repeats = Repeats(repeats_bytes)
        # Accepted and not yet answered: waiting, or computed just now. A job that a caller
        # gave up while it ran stays until it is done.
        self._pending: set[Future[Encoding]] = set()
        self._waiting: dict[Future[Encoding], _Job] = {}  # in order of arrival
        self._lock = threading.Lock()  # of the two above
        self._closed = False
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="nearhit-encoder")

    @classmethod
    def load(
        cls,
        artefact: Artefact,
        *,
        threads: int = 1,
        max_pending: int = 64,
        repeats_bytes: int = 4 * 2**20,
    ) -> "OnnxEncoder":
        """Load and warm up; blocks for a third of a second.

        Args:
            artefact: what `ensure_artefact` or `load_artefact` returned.
            threads: threads inside one operator; more than 1 takes cores from the proxy.
            max_pending: texts accepted and not yet answered; one more is refused.
            repeats_bytes: memory for vectors of texts seen before; 0 holds none.

        Raises:
            EncoderError: the artefact cannot be loaded.
        """
        encoder = cls(
            artefact, threads=threads, max_pending=max_pending, repeats_bytes=repeats_bytes
        )
        # The first call is slow (46 to 94 ms): let it not be a client's.
        for length in _WARM_UP_LENGTHS:
            embed(encoder._session, [[min(encoder._reader.frame)] * length])
        give_back_memory()
        return encoder

    @property
    def fingerprint(self) -> str:
        """Id of weights, number format, tokenizer and limits."""
        return self._manifest.fingerprint

    @property
    def dimension(self) -> int:
        """Length of each vector."""
        return self._manifest.dimension

    async def encode(self, text: str, owner: str = "") -> Encoding:
        """Encode one text on the worker thread; one that is cancelled before its turn is skipped.

        See `Encoder.encode`.

        Returns:
            float32 (dimension,) of unit length and read-only, or why there is none.

        Raises:
            EncoderBusy: `max_pending` texts are accepted and not yet answered.
            EncoderError: the encoder is closed or failed.
        """
        if self._closed:
            raise EncoderError("encoder must be open, got a call after close; load it again")
        if len(text) <= self._reader.max_characters:
            known = self._repeats.get(text, owner)
            if known is not None:
                return known
        answer: Future[Encoding] = Future()
        with self._lock:
            if len(self._pending) >= self._max_pending:
                raise EncoderBusy(
                    f"encoder.max_pending must exceed the texts that wait, got "
                    f"{len(self._pending)}; raise it or add proxy workers"
                )
            self._pending.add(answer)
            self._waiting[answer] = _Job(text, owner, answer)
        answer.add_done_callback(self._forget)
        try:
            self._worker.submit(self._work)
        except RuntimeError:  # closed by another thread just now
            answer.cancel()
        try:
            return await asyncio.wrap_future(answer)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if answer.cancelled() and not (task and task.cancelling()):
                # By close(), not by the caller.
                raise EncoderError("encoder was closed while the text waited") from None
            raise

    async def close(self) -> None:
        """Finish what is being computed, drop the texts that wait, end the thread."""
        self._closed = True
        with self._lock:
            waiting = list(self._waiting)
        for answer in waiting:
            answer.cancel()
        await asyncio.to_thread(self._worker.shutdown, wait=True, cancel_futures=True)

    def _forget(self, answer: "Future[Encoding]") -> None:
        """Free the place of a text that is answered or given up."""
        with self._lock:
            self._pending.discard(answer)
            self._waiting.pop(answer, None)

    def _work(self) -> None:
        """Compute the next batch, on the worker thread; nothing waits if an earlier one took all.

        Called once for each text, so that none is left however many a batch takes.
        """
        with self._lock:
            seen = [job for job, _ in zip(self._waiting.values(), range(_IN_SIGHT), strict=False)]
        readable = [job for job in seen if self._read(job)]
        batch = [readable[index] for index in choose_batch(len(job.ids or ()) for job in readable)]
        with self._lock:
            for job in batch:
                self._waiting.pop(job.answer, None)
        # From here on a caller can give up no more, only stop waiting.
        batch = [job for job in batch if job.answer.set_running_or_notify_cancel()]
        if not batch:
            return
        try:
            vectors = self._compute({job.text: job.ids or [] for job in batch})
        except Exception as error:  # noqa: BLE001 - each caller gets it
            for job in batch:
                job.answer.set_exception(_failure(error))
        else:
            for job in batch:
                self._repeats.add(job.text, vectors[job.text], job.owner)
                job.answer.set_result(vectors[job.text])

    def _read(self, job: _Job) -> bool:
        """Tokenize a text that waits; answer one that needs no computing, and say so."""
        if job.ids is not None:
            return True
        read: Encoding | list[int] | EncoderError | None = self._repeats.get(job.text, job.owner)
        try:
            if read is None:
                read = self._reader.read(job.text)
        except Exception as error:  # noqa: BLE001 - its caller gets it
            read = _failure(error)
        if isinstance(read, list):
            job.ids = read
            return True
        if job.answer.set_running_or_notify_cancel():
            if isinstance(read, EncoderError):
                job.answer.set_exception(read)
            else:
                job.answer.set_result(read)
        return False

    def _compute(self, rows: dict[str, list[int]]) -> dict[str, Vector]:
        """Vectors of texts by their ids; the same text is computed once."""
        matrix = embed(self._session, list(rows.values()))
        if not np.isfinite(matrix).all():
            raise EncoderError("encoder gave a vector that is not finite; check the base")
        # Copied: a row of the matrix would keep all of it in memory.
        return {text: row.copy() for text, row in zip(rows, matrix, strict=True)}


def _failure(error: Exception) -> EncoderError:
    """What a caller is told; never the text."""
    if isinstance(error, EncoderError):
        return error
    failure = EncoderError(f"encoder failed on a text ({type(error).__name__})")
    failure.__cause__ = error
    return failure
