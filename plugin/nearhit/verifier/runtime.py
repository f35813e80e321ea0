"""Run a verifier: the candidates of one request together, on one worker thread."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
from tokenizers import Encoding

from nearhit.encoder.batching import choose_batch
from nearhit.encoder.session import give_back_memory, open_session
from nearhit.encoder.tokens import open_tokenizer
from nearhit.errors import ConfigError, EncoderBusy, EncoderError
from nearhit.verifier.weights import Description

_WARM_UP: Final = ("How do I sort a list?", "how to sort a list")


class OnnxVerifier:
    """A `Verifier` on ONNX Runtime. Safe to share between event loops."""

    def __init__(
        self,
        graph: Path,
        tokenizer: Path,
        description: Description,
        *,
        fingerprint: str,
        is_calibrated: bool,
        threads: int,
        max_pending: int,
    ) -> None:
        """Load and warm up; blocks for a third of a second.

        Args:
            graph: the ONNX file.
            tokenizer: the base's tokenizer.json.
            description: what the verifier says of itself.
            fingerprint: names it.
            is_calibrated: whether its thresholds hold for the encoder beside it.
            threads: threads inside one operator.
            max_pending: requests that may wait; one more is refused.

        Raises:
            EncoderError: a file cannot be loaded.
        """
        self._tokenizer = open_tokenizer(tokenizer)
        self._session = open_session(graph, threads)
        self._description = description
        self._fingerprint = fingerprint
        self._is_calibrated = is_calibrated
        self._max_pending = max_pending
        self._pending = 0
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="nearhit-verifier")
        self._logits(_WARM_UP[0], [_WARM_UP[1]], [0.5])
        give_back_memory()

    @property
    def fingerprint(self) -> str:
        """Names it; equal where the confidences are."""
        return self._fingerprint

    def floor(self, confidence: float) -> float:
        """See `matching.Verifier`."""
        return self._description.calibration.floor_at(confidence)

    def threshold(self, target_precision: float) -> float:
        """Return the confidence that keeps a precision.

        Raises:
            ConfigError: none is known to, or none for the encoder beside it.
        """
        if not self._is_calibrated:
            raise ConfigError(
                "target_precision must be calibrated for encoder.base and encoder.adapter, got "
                "another encoder; set confidence_threshold, similarity_threshold or calibrate"
            )
        return self._description.calibration.threshold(target_precision)

    async def confidences(
        self, asked: str, stored: Sequence[str], similarities: Sequence[float]
    ) -> list[float]:
        """See `matching.Verifier`. A pair that is too long to be read has confidence 0."""
        if not stored:
            return []
        if self._pending >= self._max_pending:
            raise EncoderBusy(
                f"encoder.max_pending must exceed the requests that wait to be verified, got "
                f"{self._pending}; raise it or add proxy workers"
            )
        self._pending += 1
        loop = asyncio.get_running_loop()
        try:
            work = loop.run_in_executor(
                self._worker, self._logits, asked, list(stored), list(similarities)
            )
        except RuntimeError as error:
            self._pending -= 1
            raise EncoderError("verifier must be open, got a call after close") from error
        # Counted until the work is done, not until its caller has given it up.
        work.add_done_callback(self._count_down)
        try:
            told = await work
        except Exception as error:
            raise EncoderError(f"verifier failed on a pair ({type(error).__name__})") from error
        calibration = self._description.calibration
        return [
            0.0 if logit is None else calibration.confidence(logit, similarity, text, asked)
            for logit, similarity, text in zip(told, similarities, stored, strict=True)
        ]

    async def close(self) -> None:
        """Finish what is being computed, end the thread."""
        await asyncio.to_thread(self._worker.shutdown, wait=True, cancel_futures=True)

    def _count_down(self, work: "asyncio.Future[list[float | None]]") -> None:
        self._pending -= 1
        if not work.cancelled():
            work.exception()  # looked at, so that a caller who gave up leaves no warning

    def _logits(
        self, asked: str, stored: Sequence[str], similarities: Sequence[float]
    ) -> list[float | None]:
        """Compute the logits of the pairs; like lengths together, None for one that is too long."""
        rows = [self._tokenizer.encode_batch([(text, asked)])[0] for text in stored]
        told: list[float | None] = [None] * len(rows)
        left = sorted(
            (i for i, row in enumerate(rows) if len(row.ids) <= self._description.max_tokens),
            key=lambda i: len(rows[i].ids),
        )
        while left:
            batch = [left[place] for place in choose_batch(len(rows[i].ids) for i in left)]
            found = logits(
                self._session, [rows[i] for i in batch], [similarities[i] for i in batch]
            )
            for i, logit in zip(batch, found, strict=True):
                told[i] = logit
            left = [i for i in left if i not in batch]
        return told


def logits(
    session: onnxruntime.InferenceSession, rows: Sequence[Encoding], similarities: Sequence[float]
) -> list[float]:
    """Run the graph.

    Args:
        session: from `open_session`.
        rows: each pair as the tokenizer gives it; shorter ones are padded and masked.
        similarities: cosine of each pair.

    Raises:
        EncoderError: a logit is not finite.
    """
    shape = (len(rows), max(len(row.ids) for row in rows))
    ids, types, mask = (np.zeros(shape, np.int64) for _ in range(3))
    for index, row in enumerate(rows):
        length = len(row.ids)
        ids[index, :length] = row.ids
        types[index, :length] = row.type_ids
        mask[index, :length] = 1
    given = {"input_ids": ids, "token_type_ids": types, "attention_mask": mask}
    found = session.run(None, {**given, "similarity": np.array(similarities, np.float32)})[0]
    values = [float(value) for value in np.asarray(found)]
    if not np.isfinite(values).all():
        raise EncoderError("verifier gave a logit that is not finite; check it")
    return values
