"""Speed, memory, start and event loop of the encoder, beside sentence-transformers.

    python eval/nearhit_eval/encoder_bench.py --out encoder_bench.json
    python eval/nearhit_eval/encoder_bench.py --pairs pairs.jsonl   # flips, texts refused as well

Every figure that is compared is measured in one run, turn by turn, and given as a median and a
ratio: this machine's absolute times are nobody else's. `pairs.jsonl` has one `{"a": question,
"b": question, "label": 1 or 0}` a line. Needs the extras `training` and `eval`.
"""

import argparse
import asyncio
import json
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nearhit.encoder import Unencodable
from nearhit.encoder.artefact import Artefact, ensure_artefact
from nearhit.encoder.language import is_foreign
from nearhit.encoder.recipe import GRAPH_FILE, TOKENIZER_FILE
from nearhit.encoder.runtime import OnnxEncoder
from nearhit.encoder.session import embed, open_session
from nearhit.encoder.tokens import open_tokenizer
from nearhit.encoder.weights import DEFAULT_BASE, base_folder

CALLERS = 32
ROUNDS = 60
BURSTS = 5
ENCODES = 1000
THRESHOLDS = (0.7, 0.8, 0.9)
QUESTIONS = Path(__file__).parents[2] / "tests" / "data" / "encoder" / "questions.txt"
QUESTION = "Can I take ibuprofen and paracetamol together if I have had a fever?"  # 16 tokens

# Each is run in a process of its own; argv: folder of the base or data folder, questions.
_START = """
import asyncio, sys, time
begun = time.perf_counter()
from pathlib import Path
from nearhit.encoder.artefact import ensure_artefact
from nearhit.encoder.runtime import OnnxEncoder
encoder = OnnxEncoder.load(
    ensure_artefact(Path(sys.argv[1]), precision="{precision}"), repeats_bytes=4 * 2**20)
asyncio.run(encoder.encode("How do I reset my password?"))
print(time.perf_counter() - begun)
"""
_SERVE = (
    _START
    + """
texts = Path(sys.argv[2]).read_text("utf-8").splitlines()
async def serve():
    for index in range(1000 // {callers}):
        some = [texts[(index * {callers} + i) % len(texts)] + " " * (index // 6)
                for i in range({callers})]
        await asyncio.gather(*map(encoder.encode, some))
asyncio.run(serve())
"""
)
_LIBRARY = """
import sys, time
begun = time.perf_counter()
from pathlib import Path
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], device="cpu")
model.encode("How do I reset my password?")
print(time.perf_counter() - begun)
texts = Path(sys.argv[2]).read_text("utf-8").splitlines()
for index in range(1000):
    model.encode(texts[index % len(texts)])
"""
_MEMORY = """
print(next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmRSS")) / 1024)
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data-dir", type=Path, help="keeps base and artefacts between runs")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--pairs", type=Path, action="append", default=[], help="labelled pairs")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="nearhit-bench-") as scratch:
        data_dir = options.data_dir or Path(scratch)
        base = base_folder(DEFAULT_BASE, data_dir)
        artefacts = {
            precision: ensure_artefact(data_dir, precision=precision)
            for precision in ("fp16", "int8")
        }
        results: dict[str, Any] = {"machine": f"{_processor()}, Python {platform.python_version()}"}
        results["single"] = _single(base, artefacts)
        results["concurrent"] = {name: _concurrent(a) for name, a in artefacts.items()}
        results["processes"] = _processes(base, data_dir)
        if options.pairs:
            results["flips"] = _flips(base, artefacts, options.pairs)
    _print(results)
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    return 0


def _single(base: Path, artefacts: dict[str, Artefact]) -> dict[str, float]:
    """Median ms of one question of 16 tokens on one thread, all turn by turn."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    model = SentenceTransformer(str(base), device="cpu")
    tokenizer = open_tokenizer(base / TOKENIZER_FILE)
    loop = asyncio.new_event_loop()
    runs: dict[str, Callable[[], object]] = {
        "sentence-transformers": lambda: model.encode(QUESTION, normalize_embeddings=True)
    }
    with tempfile.TemporaryDirectory(prefix="nearhit-bench-") as scratch:
        exported = Path(scratch) / GRAPH_FILE
        _export(model, exported)
        sessions = {"torch export on ONNX Runtime": open_session(exported, 1)}
    for name, artefact in artefacts.items():
        sessions[f"plain call {name}"] = open_session(artefact.path / GRAPH_FILE, 1)
        encoder = OnnxEncoder.load(artefact, repeats_bytes=0)
        runs[f"nearhit {name}"] = partial(_encode, loop, encoder)
    repeating = OnnxEncoder.load(artefacts["fp16"])
    runs["nearhit, seen before"] = partial(_encode, loop, repeating)
    for name, session in sessions.items():
        runs[name] = partial(_plain, session, tokenizer)
    taken: dict[str, list[float]] = {name: [] for name in runs}
    order, rng = list(runs), random.Random(7)  # noqa: S311 - no secret
    for turn in range(ROUNDS + 5):
        rng.shuffle(order)  # whoever follows the library finds the caches cold
        for name in order:
            begun = time.perf_counter()
            runs[name]()
            if turn >= 5:
                taken[name].append(1000 * (time.perf_counter() - begun))
    return {name: statistics.median(times) for name, times in taken.items()}


def _encode(loop: asyncio.AbstractEventLoop, encoder: OnnxEncoder) -> None:
    loop.run_until_complete(encoder.encode(QUESTION))


def _plain(session: Any, tokenizer: Any) -> None:
    embed(session, [tokenizer.encode_batch([QUESTION])[0].ids])


def _export(model: Any, path: Path) -> None:
    """Export with PyTorch's tracing exporter: the fastest float32 graph that was found."""
    import torch

    class Whole(torch.nn.Module):  # type: ignore[misc]
        def __init__(self, bert: Any) -> None:
            super().__init__()
            self.bert = bert

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask)[0]
            mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(mean, dim=1)

    bert = model[0].auto_model
    bert.set_attn_implementation("eager")
    example = torch.ones((2, 8), dtype=torch.int64)
    torch.onnx.export(
        Whole(bert).eval(),
        (example, example),
        str(path),
        dynamo=False,
        opset_version=17,
        input_names=["input_ids", "attention_mask"],
        output_names=["embedding"],
        dynamic_axes={name: {0: "n", 1: "t"} for name in ("input_ids", "attention_mask")},
    )


def _concurrent(artefact: Artefact) -> dict[str, float]:
    """Texts a second of 32 callers, beside every way to batch the same texts at leisure."""
    texts = QUESTIONS.read_text("utf-8").splitlines()[: 4 * CALLERS]
    tokenizer = open_tokenizer(artefact.path / TOKENIZER_FILE)
    session = open_session(artefact.path / GRAPH_FILE, 1)
    rows = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    by_length = sorted(rows, key=len)

    def batches(ordered: list[list[int]], size: int) -> Callable[[], None]:
        def run() -> None:
            for start in range(0, len(ordered), size):
                embed(session, ordered[start : start + size])

        return run

    ways = {"one at a time": batches(rows, 1), "8 as they come": batches(rows, 8)}
    ways |= {f"{n} sorted by length": batches(by_length, n) for n in (4, 8, 16, 32)}
    encoder = OnnxEncoder.load(artefact, repeats_bytes=0)
    lags: list[float] = []
    waits: list[float] = []
    ways["nearhit, 32 callers"] = lambda: asyncio.run(_burst(encoder, texts, lags, waits))
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(BURSTS):
        for name, run in ways.items():
            begun = time.perf_counter()
            run()
            rates[name].append(len(texts) / (time.perf_counter() - begun))
    result = {name: statistics.median(values) for name, values in rates.items()}
    result["loop lag p99, ms"] = 1000 * float(np.percentile(lags, 99))
    result["answer p50, ms"] = 1000 * statistics.median(waits)
    return result


async def _burst(
    encoder: OnnxEncoder, texts: Sequence[str], lags: list[float], waits: list[float]
) -> None:
    """32 callers, each with the next text as soon as it has an answer; the loop is watched."""
    queue = iter(texts)

    async def call() -> None:
        for text in queue:
            begun = time.perf_counter()
            found = await encoder.encode(text)
            assert not isinstance(found, Unencodable)  # noqa: S101 - a wrong figure otherwise
            waits.append(time.perf_counter() - begun)

    async def watch() -> None:
        while True:
            begun = time.perf_counter()
            await asyncio.sleep(0.001)
            lags.append(time.perf_counter() - begun - 0.001)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(call() for _ in range(CALLERS)))
    watching.cancel()


def _processes(base: Path, data_dir: Path) -> dict[str, dict[str, float]]:
    """Start and resident memory of whole processes, medians of three."""
    questions = str(QUESTIONS)
    serve = {
        precision: _SERVE.format(precision=precision, callers=CALLERS) + _MEMORY
        for precision in ("fp16", "int8")
    }
    commands = {
        "nearhit fp16": (serve["fp16"], str(data_dir)),
        "nearhit int8": (serve["int8"], str(data_dir)),
        "sentence-transformers": (_LIBRARY + _MEMORY, str(base)),
    }
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in commands}
    for _ in range(3):
        for name, (code, folder) in commands.items():
            done = subprocess.run(  # noqa: S603 - our own interpreter and code
                [sys.executable, "-c", code, folder, questions],
                check=True,
                capture_output=True,
                text=True,
            )
            first, memory = map(float, done.stdout.split())
            found[name].append((first, memory, 0.0))
    return {
        name: {
            "first vector, s": statistics.median(run[0] for run in runs),
            "resident after 1,000 encodes, MB": statistics.median(run[1] for run in runs),
        }
        for name, runs in found.items()
    }


def _flips(
    base: Path, artefacts: dict[str, Artefact], files: Sequence[Path]
) -> dict[str, dict[str, float]]:
    """How many pairs change sides of a threshold against float32 arithmetic of the same base."""
    from sentence_transformers import SentenceTransformer

    pairs = [json.loads(line) for file in files for line in file.open(encoding="utf-8")]
    texts = sorted({pair[side] for pair in pairs for side in "ab"})
    place = {text: index for index, text in enumerate(texts)}
    labels = np.array([bool(pair["label"]) for pair in pairs])
    a, b = (np.array([place[pair[side]] for pair in pairs]) for side in "ab")
    print(f"{sum(map(is_foreign, texts))} of {len(texts)} texts refused as another language")
    model = SentenceTransformer(str(base), device="cpu")
    model.max_seq_length = 256
    vectors = {"sentence-transformers": model.encode(texts, normalize_embeddings=True)}
    for name, artefact in artefacts.items():
        tokenizer = open_tokenizer(artefact.path / TOKENIZER_FILE)
        session = open_session(artefact.path / GRAPH_FILE, 1)
        rows = [encoding.ids[:256] for encoding in tokenizer.encode_batch(texts)]
        vectors[name] = np.concatenate([embed(session, [row]) for row in rows])
    similarity = {name: (v[a] * v[b]).sum(1) for name, v in vectors.items()}
    exact = similarity["sentence-transformers"]
    result = {}
    for name, ours in similarity.items():
        result[name] = {
            "pairs": len(pairs),
            "AUC": _auc(ours, labels),
            "similarity error p99": float(np.percentile(np.abs(ours - exact), 99)),
        } | {f"flips at {t}": int(((ours >= t) != (exact >= t)).sum()) for t in THRESHOLDS}
    return result


def _auc(similarity: Any, labels: Any) -> float:
    """Probability that a duplicate is nearer than another pair, ties counted half."""
    same, other = similarity[labels], np.sort(similarity[~labels])
    below = np.searchsorted(other, same, "left") + np.searchsorted(other, same, "right")
    return float(below.mean() / (2 * len(other)))


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    name = next((line.partition(":")[2].strip() for line in lines if "model name" in line), "?")
    flags = next((line for line in lines if line.startswith("flags")), "")
    return f"{name}, {'VNNI' if 'vnni' in flags else 'no VNNI'}"


def _print(results: dict[str, Any]) -> None:
    print(results["machine"])
    single = results["single"]
    print("\none question of 16 tokens, one thread: ms, ratio to sentence-transformers")
    for name, value in single.items():
        print(f"  {name:<32}{value:>9.3f}{single['sentence-transformers'] / value:>9.2f}")
    for precision, ways in results["concurrent"].items():
        best = max(value for name, value in ways.items() if "ms" not in name and "near" not in name)
        print(f"\n{precision}: texts a second, ratio to the best batching")
        for name, value in ways.items():
            ratio = "" if "ms" in name else f"{value / best:>9.2f}"
            print(f"  {name:<32}{value:>9.2f}{ratio}")
    for title in ("processes", "flips"):
        for name, values in results.get(title, {}).items():
            shown = ", ".join(f"{key} {value:.5g}" for key, value in values.items())
            print(f"\n{name}: {shown}")


if __name__ == "__main__":
    sys.exit(main())
