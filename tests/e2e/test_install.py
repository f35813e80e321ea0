"""What a stranger does: install the wheel into a clean environment, or type `make demo`."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import yaml

import stack
from gateway import MODEL, Upstream
from nearhit.encoder.weights import DEFAULT_BASE

KEY = "sk-master-of-these-tests-0123456789"


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def clean_python(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Path:
    """The interpreter of an environment that holds `nearhit[proxy]` from a wheel, and no source."""
    root, folder = pytestconfig.rootpath, tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, root)
    [wheel] = folder.glob("nearhit-*.whl")
    run(sys.executable, "-m", "venv", folder / "env")
    python = folder / "env" / "bin" / "python"
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "--constraint", root / "requirements.lock", f"nearhit[proxy] @ {wheel.as_uri()}")
    return python


@pytest.mark.timeout(600)
def test_wheel_in_a_clean_environment_serves_hits_without_torch(
    tmp_path: Path, upstream: Upstream, clean_python: Path, real_base: Path
) -> None:
    data = tmp_path / "data"
    (data / "base").mkdir(parents=True)
    (data / "base" / DEFAULT_BASE).symlink_to(real_base)
    params = {"model": f"openai/{MODEL}", "api_base": f"{upstream.url}/v1", "api_key": "x"}
    config = tmp_path / "config.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "model_list": [{"model_name": MODEL, "litellm_params": params}],
                "litellm_settings": {"callbacks": "nearhit.hook.proxy_hook"},  # and nothing else
                "general_settings": {"master_key": KEY},
            }
        )
    )
    bin_ = clean_python.parent
    assert "is valid" in run(bin_ / "nearhit", "check", config, cwd=tmp_path)
    missing = (
        "import importlib.util as u; print(u.find_spec('torch'), u.find_spec('nearhit').origin)"
    )
    torch, origin = run(clean_python, "-c", missing, cwd=tmp_path).split()
    assert torch == "None"
    assert str(bin_.parent) in origin

    environ = {"NEARHIT_DATA_DIR": str(data), "NEARHIT_DEADLINE_MS": "2000", "PYTHONPATH": ""}
    with stack.proxy(config, tmp_path, environ, python=str(clean_python), cwd=tmp_path) as server:

        def ask(text: str) -> httpx.Response:
            body = {"model": MODEL, "messages": [{"role": "user", "content": text}]}
            headers = {"authorization": f"Bearer {KEY}"}
            url = f"{server.url}/v1/chat/completions"
            return httpx.post(url, json=body, headers=headers, timeout=60).raise_for_status()

        def kind(text: str) -> object:
            return ask(text).headers.get("x-nearhit-kind")

        until(lambda: ask(f"{time.time()}?").headers["x-nearhit-reason"] != "no_encoder")
        until(lambda: kind("How do I enable two-factor authentication on GitHub?") == "exact")
        hit = ask("How can I enable two-factor authentication on GitHub?")
        assert hit.headers.get("x-nearhit-kind") == "semantic", hit.headers


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.2)


def test_demo_prints_its_table_and_ends_well(
    tmp_path: Path, real_artefacts: Path, pytestconfig: pytest.Config
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "artefacts").symlink_to(real_artefacts)
    done = subprocess.run(
        [sys.executable, pytestconfig.rootpath / "examples" / "demo.py"],
        env={**os.environ, "NEARHIT_DATA_DIR": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("cache, semantic") == 2
    assert "All right." in done.stdout


def test_load_loses_no_answer(
    tmp_path: Path, real_artefacts: Path, pytestconfig: pytest.Config
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "artefacts").symlink_to(real_artefacts)
    command = [sys.executable, str(pytestconfig.rootpath / "examples" / "load.py")]
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        [
            *command,
            "--requests",
            "120",
            "--callers",
            "8",
            "--json",
            str(figures),
            "--thinks-s",
            "0.1",
        ],
        env={**os.environ, "NEARHIT_DATA_DIR": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    read = json.loads(figures.read_text())
    assert read["errors"] == []
    assert sum(row["count"] for name, row in read["served"].items() if "alone" not in name) == 120
