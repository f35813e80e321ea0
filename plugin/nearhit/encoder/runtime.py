"""Run an artefact: tokenizer and ONNX graph on one thread of its own.

One text a call. On a CPU a batch of unlike lengths costs twice what one at a time costs,
because padding is computed.
"""

import asyncio
import re
import unicodedata
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer, models

from nearhit.encoder.artefact import GRAPH_FILE, TOKENIZER_FILE, Artefact
from nearhit.encoder.base import Encoding, Unencodable
from nearhit.errors import EncoderBusy, EncoderError

# Unicode categories that a BERT tokenizer may drop or that part words: spaces, marks, controls.
_WEIGHTLESS: Final = frozenset({"Zs", "Zl", "Zp", "Mn", "Mc", "Me", "Cc", "Cf", "Cn", "Co", "Cs"})
# What every BERT tokenizer takes for a space. Not \s: it drops the control characters in that.
_BLANKS: Final = re.compile(r"[ \t\r\n]{2,}")


class OnnxEncoder:
    """An `Encoder` on ONNX Runtime. Safe to share between event loops."""

    def __init__(self, artefact: Artefact, threads: int, max_pending: int) -> None:
        self._manifest = artefact.manifest
        self._tokenizer = open_tokenizer(artefact.path / TOKENIZER_FILE)
        self._session = open_session(artefact.path / GRAPH_FILE, threads)
        self._max_pending = max_pending
        # Not yet answered. A job that a caller gave up while it ran stays until it is done; add
        # and discard are atomic, and discard runs on the worker thread.
        self._jobs: set[Future[Encoding]] = set()
        self._closed = False
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="nearhit-encoder")
        # What every text is framed with ([CLS], [SEP]), and the id that stands for any word.
        self._frame = frozenset(self._tokenizer.encode("").ids)
        word_piece = self._tokenizer.model
        self._unknown = self._tokenizer.token_to_id(word_piece.unk_token)
        self._max_characters = artefact.manifest.max_tokens * word_piece.max_input_chars_per_word

    @classmethod
    def load(cls, artefact: Artefact, *, threads: int = 1, max_pending: int = 64) -> "OnnxEncoder":
        """Load and warm up; blocks for a third of a second.

        Args:
            artefact: what `ensure_artefact` returned.
            threads: threads inside one operator; more than 1 takes cores from the proxy.
            max_pending: texts accepted and not yet answered; one more is refused.

        Raises:
            EncoderError: the artefact cannot be loaded.
        """
        encoder = cls(artefact, threads, max_pending)
        # The first call of each size is slow (46 to 94 ms): let it not be a client's.
        for length in (8, artefact.manifest.max_tokens):
            embed(encoder._session, [[min(encoder._frame)] * length])
        return encoder

    @property
    def fingerprint(self) -> str:
        """Id of weights, number format, tokenizer and limits."""
        return self._manifest.fingerprint

    @property
    def dimension(self) -> int:
        """Length of each vector."""
        return self._manifest.dimension

    async def encode(self, text: str) -> Encoding:
        """Encode one text on the worker thread; one that is cancelled before its turn is skipped.

        Returns:
            float32 (dimension,) of unit length, or why there is none.

        Raises:
            EncoderBusy: `max_pending` texts are accepted and not yet answered.
            EncoderError: the encoder is closed or failed.
        """
        if self._closed:
            raise EncoderError("encoder must be open, got a call after close; load it again")
        if len(self._jobs) >= self._max_pending:
            raise EncoderBusy(
                f"encoder.max_pending must exceed the texts that wait, got {len(self._jobs)}; "
                f"raise it or add proxy workers"
            )
        job = self._worker.submit(self._encode, text)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        try:
            return await asyncio.wrap_future(job)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if job.cancelled() and not (
                task and task.cancelling()
            ):  # by close(), not by the caller
                raise EncoderError("encoder was closed while the text waited") from None
            raise

    async def close(self) -> None:
        """Finish the text that is being computed, drop those that wait, end the thread."""
        self._closed = True
        await asyncio.to_thread(self._worker.shutdown, wait=True, cancel_futures=True)

    def _encode(self, text: str) -> Encoding:
        """Runs on the worker thread."""
        if len(text) > self._max_characters:
            # Three million spaces take 1.8 s as they are, 9 ms as one.
            text = _BLANKS.sub(" ", text)
            if _exceeds(text, self._max_characters):
                return Unencodable("too_long")
        try:
            text.encode()
        except UnicodeEncodeError:  # half a surrogate pair, which JSON can carry: no token
            return Unencodable("unknown_tokens")
        try:
            # encode() would hold the interpreter for the whole text; encode_batch() lets go.
            ids = self._tokenizer.encode_batch([text])[0].ids
            if len(ids) > self._manifest.max_tokens:
                return Unencodable("too_long")
            if self._unknown in ids:
                return Unencodable("unknown_tokens")
            if self._frame.issuperset(ids):
                return Unencodable("empty")
            vector: NDArray[np.float32] = embed(self._session, [ids])[0]
        except Exception as error:
            raise EncoderError(f"encoder failed on a text ({type(error).__name__})") from error
        if not np.isfinite(vector).all():
            raise EncoderError("encoder gave a vector that is not finite; check the base")
        return vector


def open_tokenizer(path: Path) -> Tokenizer:
    """Load a WordPiece tokenizer that neither pads nor truncates.

    The file of all-MiniLM-L6-v2 does both, to 128: a question of 9 tokens would cost 30 ms
    instead of 4, and two long texts with the same beginning would look equal.

    Raises:
        EncoderError: the file cannot be read, or is of another kind.
    """
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        raise EncoderError(
            f"{path} must be a tokenizer of the tokenizers library, got {type(error).__name__}; "
            f"fetch the base again"
        ) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if not isinstance(tokenizer.model, models.WordPiece):
        raise EncoderError(
            f"{path} must be a WordPiece tokenizer, got {type(tokenizer.model).__name__}; "
            f"choose a BERT base such as all-MiniLM-L6-v2"
        )
    return tokenizer


def open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """Load a graph to run on the CPU.

    Raises:
        EncoderError: the file cannot be loaded.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # A thread that waits by spinning doubles the CPU time where cores are shared.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    except Exception as error:
        raise EncoderError(
            f"{path} must be a graph that onnxruntime {onnxruntime.__version__} loads, got "
            f"{type(error).__name__}; delete its folder, it is built again"
        ) from error


def embed(
    session: onnxruntime.InferenceSession, rows: Sequence[Sequence[int]]
) -> NDArray[np.float32]:
    """Run the graph.

    Args:
        session: from `open_session`.
        rows: token ids of each text; shorter rows are padded and masked.

    Returns:
        float32 (len(rows), dimension), rows of unit length.
    """
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    mask = np.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    result: Any = session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
    return np.asarray(result, dtype=np.float32)


def _exceeds(text: str, limit: int) -> bool:
    """Whether more than `limit` characters of a text reach the words of a WordPiece tokenizer.

    A token covers at most `max_input_chars_per_word` characters (a longer word is one [UNK],
    which is refused as well), so such a text cannot be encoded. What the tokenizer may drop
    does not count: a question followed by a million spaces is not long.
    """
    kept = 0
    for character in text:
        kept += unicodedata.category(character) not in _WEIGHTLESS
        if kept > limit:
            return True
    return False
