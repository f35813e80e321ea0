"""A proxy that may be broken: one scripted model, one data folder, one proxy at a time.

Everything listens on 127.0.0.1 and lives in a temporary folder.
"""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import stack
from gateway import JSON, Gateway, config_of, running, store_process

ROOT = Path(__file__).resolve().parents[2]

# In every question that is asked here; a log that holds it holds someone's prompt.
MARK = "xylophonists"
NEARHIT: JSON = {"deadline_ms": 500}
_SAMPLE = re.compile(r'^nearhit_faults_total\{part="(\w+)",reason="(\w+)"\} ([\d.e+]+)$', re.M)


def artefacts() -> Path:
    """Return the folder of artefacts that demo and benchmark use too."""
    return artefact_folder().parent


def artefact_folder() -> Path:
    """Return the default artefact, built if need be."""
    from nearhit.encoder.artefact import ensure_artefact
    from nearhit.encoder.recipe import AUTO

    data_dir = Path(os.environ.get("NEARHIT_DATA_DIR") or ROOT / ".nearhit").absolute()
    return ensure_artefact(data_dir, verifier=AUTO).path


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """Give a temporary folder, and remove it though a store process may still be saving."""
    folder = Path(tempfile.mkdtemp(prefix="nearhit-"))
    try:
        yield folder
    finally:
        for _ in range(50):
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break
            time.sleep(0.1)


class Stand:
    """The proxy of one folder, started, stopped and killed at will."""

    def __init__(self, folder: Path, model: str, built: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.data = folder / "data"
        self.model = model
        self.built = built
        self._running = contextlib.ExitStack()
        self._gateway: Gateway | None = None

    @property
    def gateway(self) -> Gateway:
        """The running proxy."""
        assert self._gateway is not None, "no proxy runs"
        return self._gateway

    def start(self, *, is_warm: bool = True, **nearhit: Any) -> Gateway:
        """Start a proxy on the folder."""
        config = config_of(
            self.model,
            nearhit={**NEARHIT, **nearhit},
            litellm_settings={
                "callbacks": ["recorder.recorder", "nearhit.hook.proxy_hook", "prometheus"],
                "num_retries": 0,
                "require_auth_for_metrics_endpoint": False,
            },
        )
        started = running(self.folder, config, self.built, is_warm=is_warm)
        self._gateway = self._running.enter_context(started)
        return self._gateway

    def restart(self) -> Gateway:
        """Start the proxy anew, whatever became of the one before; the store process stays."""
        self._running.close()
        return self.start()

    def stop(self) -> None:
        """Stop the proxy and its store process."""
        store = self.store_pid() if self._gateway is not None else None
        self._running.close()
        self._gateway = None
        if store is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(store, 15)
            wait_until_gone(store)

    def store_pid(self) -> int | None:
        """Return the pid of the store process, if one runs."""
        try:
            return store_process(self.gateway)
        except (subprocess.CalledProcessError, IndexError):
            return None

    def faults(self) -> dict[str, int]:
        """Return what nearhit counts in the proxy's /metrics: faults by part and reason."""
        got = self.gateway.client.get("/metrics/", follow_redirects=True)
        found = _SAMPLE.findall(got.text)
        return {f"{part} {reason}": int(float(count)) for part, reason, count in found}

    def logged(self) -> str:
        """Return all that proxy and store process have written."""
        logs = (self.folder / "proxy.log", self.data / "store.log")
        return "".join(p.read_text("utf-8", "replace") for p in logs if p.exists())


def wait_until_gone(pid: int, seconds: float = 20) -> None:
    """Wait for the end of a process that is not ours."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
        except OSError:
            return
        if stat.rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    raise AssertionError(f"process {pid} did not end")


@contextlib.contextmanager
def stand(built: Path | None = None) -> Iterator[Stand]:
    """Give a stand with a model and no proxy yet."""
    with workplace() as folder, stack.upstream(folder) as model:
        made = Stand(folder / "proxy", model.url, built or artefacts())
        try:
            yield made
        finally:
            made.stop()
