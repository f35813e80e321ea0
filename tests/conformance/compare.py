"""Run the conformance suite against four gateways in turn, and print their table.

    python tests/conformance/compare.py
    python tests/conformance/compare.py --only "LiteLLM, exact cache" --out compare.json

They are the same LiteLLM with the same scripted model behind it: with nearhit, without a cache,
with its exact cache (`type: local`) and with its semantic cache (`type: qdrant-semantic`, its
Qdrant and its embedding model being `vector_standin` and `encoder_server` of `nearhit_eval`).
nearhit is started by the suite itself, so it also runs the cases that break and restart their
stack; the others are named by URL and skip them.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import stack
from conformance.figures import table
from conformance.own import proxy_config
from gateway import running
from nearhit.config import Settings
from nearhit.encoder.artefact import ensure_artefact

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# As careful as a user can be who has only a cosine to go by.
SIMILARITY = 0.95
EXACT = {"cache": True, "cache_params": {"type": "local", "supported_call_types": ["acompletion"]}}


def semantic(vectors: str, similarity: float) -> dict[str, Any]:
    """Return LiteLLM's settings for its semantic cache over the stand-in."""
    return {
        "cache": True,
        "cache_params": {
            "type": "qdrant-semantic",
            "qdrant_api_base": vectors,
            "qdrant_collection_name": "conformance",
            "qdrant_semantic_cache_embedding_model": "embedder",
            "qdrant_semantic_cache_vector_size": 384,
            "similarity_threshold": similarity,
            "supported_call_types": ["acompletion"],
        },
    }


def suite(out: Path, *options: str) -> dict[str, Any]:
    """Run the suite in a process of its own and return its figures."""
    command = [sys.executable, "-m", "pytest", str(HERE), "-q", "--tb=no", "-r", "N"]
    command += ["-m", "conformance_full or not conformance_full"]
    subprocess.run([*command, "--conformance-json", str(out), *options], cwd=ROOT, check=False)
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


@contextlib.contextmanager
def litellm_with(
    settings: dict[str, Any], folder: Path, model: str, embedder: str | None, artefacts: Path
) -> Iterator[str]:
    """Run LiteLLM without nearhit and yield its URL."""
    config = proxy_config(model, nearhit=None, litellm_settings=settings)
    config["litellm_settings"]["callbacks"] = []
    if embedder is not None:
        params = {"model": "openai/embedder", "api_base": f"{embedder}/v1", "api_key": "sk-none"}
        config["model_list"].append({"model_name": "embedder", "litellm_params": params})
    with running(folder, config, artefacts, is_warm=False) as gateway:
        yield gateway.url


@contextlib.contextmanager
def _module(folder: Path, name: str, *arguments: str) -> Iterator[str]:
    """Run a server of `nearhit_eval` and yield its URL."""
    port = stack.free_port()
    command = [sys.executable, "-m", f"nearhit_eval.{name}", *arguments, "--port", str(port)]
    with stack.server(command, folder / f"{name}.log", port, "/healthz") as server:
        yield server.url


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", help="name of a gateway; default: all four")
    parser.add_argument("--similarity", type=float, default=SIMILARITY)
    parser.add_argument("--data-dir", type=Path, default=Settings().data_dir)
    parser.add_argument("--out", type=Path, help="file for all figures")
    options = parser.parse_args(argv)
    options.data_dir.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Any] = {}
    with contextlib.ExitStack() as started:
        folder = Path(started.enter_context(tempfile.TemporaryDirectory()))
        model = started.enter_context(stack.upstream(folder)).url
        vectors = started.enter_context(_module(folder, "vector_standin"))
        artefact = str(ensure_artefact(options.data_dir).path)
        embedder = started.enter_context(_module(folder, "encoder_server", artefact))
        gateways: dict[str, dict[str, Any] | None] = {
            "nearhit": None,
            "LiteLLM, no cache": {},
            "LiteLLM, exact cache": EXACT,
            "LiteLLM, semantic cache": semantic(vectors, options.similarity),
        }
        for name, settings in gateways.items():
            if options.only and name not in options.only:
                continue
            own = folder / name.replace(", ", "-").replace(" ", "-")
            out = own.with_suffix(".json")
            if settings is None:
                figures[name] = suite(out)
                continue
            with litellm_with(settings, own, model, embedder, options.data_dir) as url:
                arguments = ["--gateway", url, "--upstream-control", model]
                keys = ["--gateway-key", "sk-alice", "--gateway-other-key", "sk-bob"]
                figures[name] = suite(out, *arguments, *keys)
    if options.out is not None:
        options.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print("\n".join(table(rows(figures))))


def rows(figures: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the table of all gateways: passed of cases, by group, and the two rates."""
    groups = sorted({group for found in figures.values() for group in found["groups"]})
    rates = sorted({rate for found in figures.values() for rate in found["rates"]})
    runs = list(figures.values())
    parts = [[found["groups"][group] for found in runs] for group in groups]
    totals = [list(found["groups"].values()) for found in runs]
    return [
        ("group", *figures),
        *(
            (group, *(_passed([one]) for one in part))
            for group, part in zip(groups, parts, strict=True)
        ),
        ("all", *map(_passed, totals)),
        *((rate, *(found["rates"].get(rate, "") for found in runs)) for rate in rates),
    ]


def _passed(groups: list[dict[str, int]]) -> str:
    passed = sum(group["passed"] for group in groups)
    cases = passed + sum(group["failed"] for group in groups)
    return f"{passed} of {cases}" if cases else "not run"


if __name__ == "__main__":
    main()
