"""Start the scripted upstream and a real LiteLLM proxy on loopback, and stop them again."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: where it listens, its process, and the file with what it prints."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def printed(self) -> str:
        """Return all that the server has printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")


def free_port() -> int:
    """Return a port on loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def upstream(folder: Path) -> Iterator[Server]:
    """Run the scripted upstream."""
    port = free_port()
    command = [sys.executable, str(HERE / "upstream.py"), "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with run(command, {}, folder / "upstream.log", url, "/control/calls") as server:
        yield server


@contextlib.contextmanager
def server(command: list[str], log: Path, port: int, ready: str) -> Iterator[Server]:
    """Run any other server that listens on this port; ready when this path is answered."""
    with run(command, {}, log, f"http://127.0.0.1:{port}", ready) as started:
        yield started


@contextlib.contextmanager
def proxy(
    config: Path,
    folder: Path,
    environ: Mapping[str, str],
    *,
    python: str = sys.executable,
    workers: int = 1,
    cwd: Path | None = None,
    port: int | None = None,
) -> Iterator[Server]:
    """Run `litellm --config CONFIG`; ready when it says so.

    `python` names the interpreter of the environment whose `litellm` is run.
    """
    port = port or free_port()
    command = [
        str(Path(python).parent / "litellm"),
        *("--config", str(config)),
        *("--host", "127.0.0.1"),
        *("--port", str(port)),
        *("--num_workers", str(workers)),
    ]
    if workers > 1:
        # On a busy machine a worker imports for longer than the 5 s after which it is killed.
        command += ["--timeout_worker_healthcheck", "120"]
    settings = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "127.0.0.1", **environ}
    url = f"http://127.0.0.1:{port}"
    with run(command, settings, folder / "proxy.log", url, "/health/readiness", cwd) as server:
        yield server


@contextlib.contextmanager
def run(
    command: list[str],
    environ: Mapping[str, str],
    log: Path,
    url: str,
    ready: str,
    cwd: Path | None = None,
) -> Iterator[Server]:
    """Run a server whose output goes to `log`; ready when `url` answers at `ready`."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=cwd,
        )
        server = Server(url, process, log)
        try:
            _wait(server, url + ready)
            yield server
        finally:
            stop(process)


def _wait(server: Server, url: str, seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if server.process.poll() is not None:
            raise RuntimeError(f"the server ended at its start:\n{server.printed()[-4000:]}")
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, timeout=2).status_code == 200:
                return
        time.sleep(0.1)
    raise RuntimeError(f"no answer from {url} in {seconds} s:\n{server.printed()[-4000:]}")


def stop(process: subprocess.Popen[bytes], grace_s: float = 10) -> None:
    """End a server and all that it started in its session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(grace_s)
