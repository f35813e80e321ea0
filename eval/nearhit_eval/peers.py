"""The sides of the benchmark: what each is made of, started together and stopped again.

litellm            a LiteLLM proxy without a cache
litellm-semantic   a proxy with `qdrant-semantic`, an embedding endpoint, a vector server
gptcache           GPTCache as the model behind the first proxy
nearhit            a proxy with nearhit and its store process
"""

import contextlib
import importlib
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

import nearhit
from nearhit.encoder.artefact import Artefact
from nearhit.errors import ConfigError

SIDES: Final = ("litellm", "litellm-semantic", "gptcache", "nearhit")
MODEL: Final = "gpt-4o-mini"
SIMILARITY: Final = 0.8  # of both peers: the value in LiteLLM's documentation

NEARHIT: Final = {"deadline_ms": 5000, "encoder": {"repeats_bytes": 0}}
SETTINGS: Final = {"similarity_threshold": SIMILARITY, "encoder": "the same, repeats encoded again"}

# GPTCache 0.1.44 is of 2024 and loads what it needs as it goes: here it is, as tried.
GPTCACHE: Final = (
    "gptcache==0.1.44",
    "faiss-cpu>=1.12,<2",
    "sqlalchemy>=2,<3",
    "numpy>=2,<3",
    "onnx>=1.18,<2",
    "onnxruntime>=1.22,<2",
    "safetensors>=0.5,<1",
    "tokenizers>=0.21,<1",
    "pydantic>=2.11,<3",
    "pyyaml>=6,<7",
    "httpx>=0.27,<1",
    "starlette<2",
    "uvicorn<1",
)
_EXAMPLES: Final = Path(__file__).resolve().parents[2] / "examples"
_STANDIN: Final = "its vector server is a stand-in, exact numpy search in one loopback process"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start."""

    sides: tuple[str, ...]
    qdrant_url: str | None = None
    gptcache_python: Path | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """Where to ask a side, for which model, and the processes that it consists of."""

    name: str
    url: str
    model: str
    roots: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stack:
    """All sides, the model that they share, what was left out or stood in for, the key."""

    sides: tuple[Side, ...]
    upstream: str
    notes: Mapping[str, str]
    key: str


@contextlib.contextmanager
def running(folder: Path, artefact: Artefact, plan: Plan) -> Iterator[Stack]:
    """Run every side that can be run.

    Raises:
        ConfigError: This is no checkout.
    """
    servers = _servers()
    notes: dict[str, str] = {}
    with contextlib.ExitStack() as open_:
        upstream = open_.enter_context(servers.upstream(folder))
        start = _Starter(servers, open_, folder, artefact, upstream.url)
        behind: list[int] = []
        models = {MODEL: upstream.url}
        if "gptcache" in plan.sides:
            python = plan.gptcache_python or _install_gptcache(folder / "venv", notes)
            if python is not None:
                cache = start.gptcache(python)
                models["gptcache"] = cache.url
                behind.append(cache.process.pid)
        plain = start.proxy("litellm", models, {})
        sides = [Side("litellm", plain.url, MODEL, (plain.process.pid,))]
        if "litellm-semantic" in plan.sides:
            notes["litellm-semantic"] = plan.qdrant_url or _STANDIN
            sides.append(start.semantic(plan.qdrant_url))
        if behind:
            roots = (plain.process.pid, *behind)
            sides.append(Side("gptcache", plain.url, "gptcache", roots))
        if "nearhit" in plan.sides:
            sides.append(start.nearhit())
        yield Stack(tuple(sides), upstream.url, notes, start.key)


class _Starter:
    """Starts servers into one exit stack; one key opens all proxies."""

    def __init__(
        self,
        servers: Any,
        open_: contextlib.ExitStack,
        folder: Path,
        artefact: Artefact,
        upstream: str,
    ) -> None:
        self._servers, self._open, self._folder = servers, open_, folder
        self._artefact, self._upstream = artefact, upstream
        self.key = "sk-" + secrets.token_hex(16)

    def proxy(self, name: str, models: Mapping[str, str], settings: Mapping[str, Any]) -> Any:
        """A LiteLLM proxy with these models, by the address that serves each."""
        folder = self._folder / name
        folder.mkdir()
        content: dict[str, Any] = {
            "model_list": [_deployment(model, url) for model, url in models.items()],
            "general_settings": {"master_key": self.key},
            "router_settings": {"disable_cooldowns": True},
            **settings,
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(content), "utf-8")
        (folder / "data").mkdir(mode=0o700)
        (folder / "data" / "artefacts").symlink_to(self._artefact.path.parent)
        environ = {"NEARHIT_DATA_DIR": str(folder / "data")}
        return self._open.enter_context(
            self._servers.proxy(folder / "config.yaml", folder, environ)
        )

    def semantic(self, qdrant_url: str | None) -> Side:
        """LiteLLM's own semantic cache with all that it needs."""
        encoder = self._serve("encoder_server", sys.executable, str(self._artefact.path))
        roots = [encoder.process.pid]
        if qdrant_url is None:
            vectors = self._serve("vector_standin", sys.executable)
            roots.append(vectors.process.pid)
            qdrant_url = vectors.url
        cache = {
            "type": "qdrant-semantic",
            "qdrant_semantic_cache_embedding_model": "encoder",
            "qdrant_collection_name": "bench",
            "qdrant_semantic_cache_vector_size": self._artefact.manifest.dimension,
            "qdrant_api_base": qdrant_url,
            "similarity_threshold": SIMILARITY,
        }
        models = {MODEL: self._upstream, "encoder": encoder.url}
        settings = {"litellm_settings": {"cache": True, "cache_params": cache}}
        proxy = self.proxy("litellm-semantic", models, settings)
        return Side("litellm-semantic", proxy.url, MODEL, (proxy.process.pid, *roots))

    def nearhit(self) -> Side:
        """A proxy with nearhit, which starts its store process itself."""
        settings = {
            "litellm_settings": {"callbacks": "nearhit.hook.proxy_hook"},
            "callback_settings": {"nearhit": NEARHIT},
        }
        proxy = self.proxy("nearhit", {MODEL: self._upstream}, settings)
        return Side("nearhit", proxy.url, MODEL, (proxy.process.pid,))

    def gptcache(self, python: Path) -> Any:
        """GPTCache's server, in its own environment."""
        data = self._folder / "gptcache"
        more = (f"--upstream={self._upstream}", f"--folder={data}")
        return self._serve("gptcache_server", str(python), str(self._artefact.path), *more)

    def _serve(self, module: str, python: str, *argv: str) -> Any:
        """One of our servers, by its file: another interpreter has no evaluation package."""
        port = self._servers.free_port()
        script = Path(__file__).with_name(f"{module}.py")
        command = [python, str(script), *argv, f"--port={port}"]
        environ = {"PYTHONPATH": str(Path(nearhit.__file__).parents[1])}
        log = self._folder / f"{module}.log"
        url = f"http://127.0.0.1:{port}"
        return self._open.enter_context(self._servers.run(command, environ, log, url, "/healthz"))


def _servers() -> Any:
    """The module of the examples that starts servers."""
    if not (_EXAMPLES / "stack.py").exists():
        raise ConfigError(
            f"`nearhit-eval bench` must run from a checkout, got no {_EXAMPLES}; clone the "
            "project, or use --no-peers"
        )
    if str(_EXAMPLES) not in sys.path:
        sys.path.append(str(_EXAMPLES))
    return importlib.import_module("stack")


def _deployment(model: str, url: str) -> dict[str, Any]:
    params = {"model": f"openai/{model}", "api_base": f"{url}/v1", "api_key": "sk-scripted"}
    return {"model_name": model, "litellm_params": params | {"max_retries": 0}}


def _install_gptcache(folder: Path, notes: dict[str, str]) -> Path | None:
    """Make GPTCache's environment; None, with a note, where that cannot be done."""
    python = folder / "bin" / "python"
    steps = (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *GPTCACHE],
    )
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False, env=environ)  # noqa: S603 - pinned names
        if done.returncode:
            why = (done.stderr.strip().splitlines() or ["no output"])[-1][:200]
            notes["gptcache"] = f"left out, it cannot be installed here: {why}"
            return None
    return python
