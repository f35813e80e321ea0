import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearhit.encoder import Encoder, Encoding, Unencodable
from nearhit.encoder.artefact import Artefact, ensure_artefact
from nearhit.encoder.recipe import Precision
from nearhit.encoder.runtime import OnnxEncoder
from nearhit.errors import EncoderBusy, EncoderError


class WatchedSession:
    """Stands before the ONNX session and notes thread and shape (texts, tokens) of each run."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.threads: list[int] = []
        self.shapes: list[tuple[int, ...]] = []

    def run(self, outputs: Any, inputs: Any) -> Any:
        self.threads.append(threading.get_ident())
        self.shapes.append(inputs["input_ids"].shape)
        return self.session.run(outputs, inputs)


def watch(encoder: OnnxEncoder) -> WatchedSession:
    watched = WatchedSession(encoder._session)
    encoder._session = watched  # type: ignore[assignment, unused-ignore]
    return watched


@asynccontextmanager
async def held(encoder: OnnxEncoder) -> AsyncIterator[None]:
    """Keep the worker thread busy, so that whatever is asked meanwhile waits."""
    started, release = threading.Event(), threading.Event()

    def wait() -> None:
        started.set()
        release.wait(30)

    encoder._worker.submit(wait)
    await asyncio.to_thread(started.wait, 30)
    try:
        yield
    finally:
        release.set()


def vector(encoding: Encoding) -> np.ndarray:
    assert not isinstance(encoding, Unencodable)
    return encoding


async def test_vector_is_float32_of_unit_length(tiny_encoder: OnnxEncoder) -> None:
    encoder: Encoder = tiny_encoder
    got = vector(await encoder.encode("How do I reset my password?"))
    assert got.dtype == np.float32
    assert got.shape == (encoder.dimension,)
    assert np.linalg.norm(got) == pytest.approx(1, abs=1e-5)


async def test_fingerprint_is_the_artefacts(
    tiny_encoder: OnnxEncoder, tiny_artefact: Artefact
) -> None:
    assert tiny_encoder.fingerprint == tiny_artefact.manifest.fingerprint


async def test_same_text_gives_the_same_bytes_whatever_came_between(
    tiny_encoder: OnnxEncoder, tiny_artefact: Artefact
) -> None:
    text = "how do i reset my password"
    first = vector(await tiny_encoder.encode(text))
    await tiny_encoder.encode("word " * 200)
    again = vector(await tiny_encoder.encode(text))
    other = OnnxEncoder.load(tiny_artefact)
    loaded_again = vector(await other.encode(text))
    await other.close()
    assert first.tobytes() == again.tobytes() == loaded_again.tobytes()


async def test_each_word_counts_up_to_the_last(tiny_encoder: OnnxEncoder) -> None:
    """The tokenizer's own file truncates to 128 tokens."""
    long = "word " * 253
    one = vector(await tiny_encoder.encode(long + "hello"))
    two = vector(await tiny_encoder.encode(long + "password"))
    assert not np.allclose(one, two, atol=1e-4)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("word " * 255, "too_long"),
        ("word " * 100_000, "too_long"),
        ("a" * 300_000, "too_long"),
        ("a" * 200, "unknown_tokens"),
        ("你好世界", "unknown_tokens"),
        ("wo ist mein hello", "other_language"),
        ("hello \N{PARTY POPPER}", "unknown_tokens"),
        ("hello [UNK]", "unknown_tokens"),
        ("hello \ud800", "unknown_tokens"),
        ("", "empty"),
        (" \n\t ", "empty"),
        (" " * 300_000, "empty"),
        ("[SEP]", "empty"),
        ("\N{ZERO WIDTH SPACE}", "empty"),
    ],
)
async def test_text_without_a_trustworthy_vector_is_unencodable(
    tiny_encoder: OnnxEncoder, text: str, reason: str
) -> None:
    assert await tiny_encoder.encode(text) == Unencodable(reason)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "word " * 254,
        " ".join(["a" * 100] * 2),
        "hello" + " " * 300_000 + "word",
        "\n\n\thello \t\r\n" * 100 + "word" + " \n" * 50_000,
        "hello" + "\N{COMBINING ACUTE ACCENT}" * 50_000 + " word",
        "hello" + "\N{ZERO WIDTH SPACE}" * 50_000 + " word",
        "hello" + "\x00" * 50_000 + " word",
    ],
    ids=["254", "two-of-100", "spaces", "blank-lines", "accents", "invisible", "controls"],
)
async def test_text_that_fits_is_never_refused_for_its_characters(
    tiny_encoder: OnnxEncoder, text: str
) -> None:
    ids = tiny_encoder._reader.tokenizer.encode(text).ids
    assert len(ids) <= 256
    assert vector(await tiny_encoder.encode(text)).shape == (tiny_encoder.dimension,)


async def test_surplus_blanks_do_not_change_the_vector(tiny_encoder: OnnxEncoder) -> None:
    one = vector(await tiny_encoder.encode("hello word"))
    two = vector(await tiny_encoder.encode("  hello" + " \t\r\n" * 20_000 + "word "))
    assert one.tobytes() == two.tobytes()


async def test_encoding_runs_on_one_thread_that_is_not_the_loops(
    tiny_encoder: OnnxEncoder,
) -> None:
    watched = watch(tiny_encoder)
    for text in ("hello", "word", "password"):
        await tiny_encoder.encode(text)
    assert len(watched.threads) == 3
    assert len(set(watched.threads)) == 1
    assert threading.get_ident() not in watched.threads


async def encode_together(encoder: OnnxEncoder, texts: Sequence[str]) -> list[Encoding]:
    """Ask for all texts while the worker is busy, so that they wait together."""
    async with held(encoder):
        waiting = [asyncio.create_task(encoder.encode(text)) for text in texts]
        await asyncio.sleep(0)
    return await asyncio.gather(*waiting)


async def test_texts_that_wait_are_computed_with_those_of_like_length(
    tiny_artefact: Artefact,
) -> None:
    encoder = OnnxEncoder.load(tiny_artefact)
    watched = watch(encoder)
    texts = ["hello", "word " * 50, "password", "the " * 48, "word"]
    await encode_together(encoder, texts)
    assert watched.shapes == [(3, 3), (2, 52)]
    await encoder.close()


@pytest.mark.parametrize("precision", ["fp16", "int8"])
async def test_vector_does_not_depend_on_what_waits_beside_it(
    tmp_path: Path, tiny_base: Path, precision: Precision
) -> None:
    artefact = ensure_artefact(tmp_path, base=str(tiny_base), precision=precision)
    encoder = OnnxEncoder.load(artefact, repeats_bytes=0)
    watched = watch(encoder)
    texts = [" ".join(["word"] * n + ["hello"] * m) for n in range(5, 9) for m in range(1, 4)]
    alone = [vector(await encoder.encode(text)) for text in texts]
    together = [vector(found) for found in await encode_together(encoder, texts)]
    assert max(shape[0] for shape in watched.shapes) > 4
    np.testing.assert_allclose(np.stack(together), np.stack(alone), atol=1e-6)
    await encoder.close()


async def test_same_text_asked_at_once_is_computed_once(tiny_artefact: Artefact) -> None:
    encoder = OnnxEncoder.load(tiny_artefact)
    watched = watch(encoder)
    found = [vector(encoding) for encoding in await encode_together(encoder, ["hello"] * 6)]
    assert watched.shapes == [(1, 3)]
    assert len({one.tobytes() for one in found}) == 1
    await encoder.close()


async def test_repeated_text_is_computed_once_and_its_vector_cannot_be_changed(
    tiny_encoder: OnnxEncoder,
) -> None:
    watched = watch(tiny_encoder)
    first, again = [vector(await tiny_encoder.encode("hello word")) for _ in range(2)]
    assert again is first
    assert len(watched.shapes) == 1
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0.0


async def test_text_that_cannot_be_read_fails_alone(tiny_artefact: Artefact) -> None:
    encoder = OnnxEncoder.load(tiny_artefact)
    found = await encode_together(encoder, ["hello", "a" * 200, "word"])
    assert found[1] == Unencodable("unknown_tokens")
    assert not isinstance(found[0], Unencodable)
    assert not isinstance(found[2], Unencodable)
    await encoder.close()


async def test_loop_goes_on_while_texts_wait(tiny_encoder: OnnxEncoder) -> None:
    async with held(tiny_encoder):
        waiting = asyncio.create_task(tiny_encoder.encode("hello"))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not waiting.done()
    vector(await waiting)


async def test_one_text_too_many_is_busy_until_another_is_done(
    tiny_encoder: OnnxEncoder,
) -> None:
    async with held(tiny_encoder):
        waiting = [asyncio.create_task(tiny_encoder.encode(text)) for text in ("hello", "i")]
        await asyncio.sleep(0)
        with pytest.raises(EncoderBusy, match=r"encoder.max_pending .* got 2"):
            await tiny_encoder.encode("word")
    await asyncio.gather(*waiting)
    vector(await tiny_encoder.encode("word"))


async def test_text_whose_caller_gave_up_is_not_encoded(tiny_encoder: OnnxEncoder) -> None:
    watched = watch(tiny_encoder)
    async with held(tiny_encoder):
        words = ("hello", "password")
        first, second = (asyncio.create_task(tiny_encoder.encode(word)) for word in words)
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        third = asyncio.create_task(tiny_encoder.encode("word"))  # the place is free again
        await asyncio.sleep(0)
    await asyncio.gather(second, third)
    assert watched.shapes == [(2, 3)]


async def test_deadline_of_a_caller_is_obeyed(tiny_encoder: OnnxEncoder) -> None:
    async with held(tiny_encoder):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await tiny_encoder.encode("hello")


async def test_close_fails_the_texts_that_wait_and_all_later_ones(
    tiny_artefact: Artefact,
) -> None:
    encoder = OnnxEncoder.load(tiny_artefact)
    async with held(encoder):
        waiting = asyncio.create_task(encoder.encode("hello"))
        await asyncio.sleep(0)
        closing = asyncio.create_task(encoder.close())
        with pytest.raises(EncoderError, match="closed while the text waited"):
            await waiting
    await closing
    await encoder.close()
    with pytest.raises(EncoderError, match="got a call after close"):
        await encoder.encode("hello")


async def test_failure_in_the_runtime_is_an_error_without_the_text(
    tiny_encoder: OnnxEncoder,
) -> None:
    class Failing:
        def run(self, *arguments: Any) -> Any:
            raise RuntimeError("secret question")

    tiny_encoder._session = Failing()  # type: ignore[assignment, unused-ignore]
    with pytest.raises(EncoderError, match=r"^encoder failed on a text \(RuntimeError\)$"):
        await tiny_encoder.encode("secret question")


def test_artefact_that_cannot_be_loaded_is_an_error(
    tmp_path: Path, tiny_artefact: Artefact
) -> None:
    (tmp_path / "encoder.onnx").write_bytes(b"no graph")
    (tmp_path / "tokenizer.json").write_bytes((tiny_artefact.path / "tokenizer.json").read_bytes())
    with pytest.raises(EncoderError, match=r"encoder.onnx must be a graph"):
        OnnxEncoder.load(Artefact(tmp_path, tiny_artefact.manifest))
