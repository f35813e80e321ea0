"""A headless Chromium that opens a file, over its own debugging protocol."""

import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import connect
from websockets.sync.connection import Connection

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
START_S = 30.0


def find() -> str | None:
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Tab:
    def __init__(self, socket: Connection) -> None:
        self._socket = socket
        self._calls = 0
        self.complaints: list[Any] = []

    def call(self, method: str, **parameters: Any) -> Any:
        self._calls += 1
        wanted = self._calls
        self._socket.send(json.dumps({"id": wanted, "method": method, "params": parameters}))
        while True:
            told = json.loads(self._socket.recv(timeout=START_S))
            if told.get("id") == wanted:
                return told["result"]
            if told.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.complaints.append(told["params"])

    def open(self, path: Path | str, width: int) -> None:
        url = path.as_uri() if isinstance(path, Path) else path
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=url)
        until = time.monotonic() + START_S
        ready = f"document.readyState == 'complete' && location.href == {url!r}"
        while not self.evaluate(ready):
            assert time.monotonic() < until, "the page did not load"
            time.sleep(0.05)

    def evaluate(self, expression: str) -> Any:
        return self.call("Runtime.evaluate", expression=expression)["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until an expression is true."""
        until = time.monotonic() + START_S
        while not self.evaluate(f"Boolean({expression})"):
            shown = self.evaluate("document.body.innerText")
            assert time.monotonic() < until, f"{expression} did not come true; shown: {shown}"
            time.sleep(0.05)

    def use(self, *, is_dark: bool) -> None:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def press(self, key: str, *, code: int, text: str = "") -> None:
        given = {"key": key, "windowsVirtualKeyCode": code, "text": text}
        self.call("Input.dispatchKeyEvent", type="keyDown", **given)
        self.call("Input.dispatchKeyEvent", type="keyUp", **given)

    def screenshot(self, path: Path, *, is_whole: bool = True) -> None:
        taken = self.call("Page.captureScreenshot", captureBeyondViewport=is_whole)
        path.write_bytes(base64.b64decode(taken["data"]))


@contextmanager
def tab(chromium: str) -> Iterator[Tab]:
    flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [chromium, *flags, f"--user-data-dir={profile}", "--remote-debugging-port=0"],
            stderr=subprocess.DEVNULL,
        )
        try:
            port_file = Path(profile) / "DevToolsActivePort"
            until = time.monotonic() + START_S
            while not (port_file.is_file() and port_file.read_text().strip()):
                assert time.monotonic() < until, "the browser did not start"
                time.sleep(0.05)
            port = port_file.read_text().split()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as listed:
                pages = [one for one in json.load(listed) if one["type"] == "page"]
            with connect(pages[0]["webSocketDebuggerUrl"], max_size=None, proxy=None) as socket:
                yield Tab(socket)
        finally:
            process.terminate()
            process.wait()
