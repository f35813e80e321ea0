"""The suite's own stack: scripted model, real proxy and nearhit, which a test may break."""

import contextlib
from pathlib import Path
from typing import Any

import stack
from gateway import JSON, Gateway, config_of, running, store_process

# Time enough for a look-up on a machine that is busy; no case is about speed. And every caller may
# ask of the cache what RFC 9111 lets it ask: a gateway that heeds it can be told to.
NEARHIT = {
    "deadline_ms": 2000,
    "request_control": {"max_age": "all", "only_if_cached": "all", "ttl": "all"},
}

# LiteLLM refuses them for models that it does not know to take them.
_ALLOWED = ["reasoning_effort", "verbosity", "functions", "function_call"]


def proxy_config(upstream: str, *, nearhit: JSON | None, **sections: Any) -> JSON:
    """Return the config of a proxy that passes every field of the chat API on."""
    config = config_of(upstream, nearhit=nearhit, **sections)
    for deployment in config["model_list"]:
        deployment["litellm_params"]["allowed_openai_params"] = _ALLOWED
    return config


class OwnStack:
    """One upstream, and one proxy at a time over the same data folder."""

    def __init__(self, folder: Path, until_the_end: contextlib.ExitStack) -> None:
        self.folder = folder
        self._upstream = until_the_end.enter_context(stack.upstream(folder))
        self._proxy = until_the_end.enter_context(contextlib.ExitStack())
        self._gateway: Gateway | None = None

    @property
    def upstream_url(self) -> str:
        return self._upstream.url

    @property
    def url(self) -> str:
        assert self._gateway is not None
        return self._gateway.url

    def start(self, artefacts: Path, **nearhit: Any) -> None:
        """Start the proxy, after stopping the one before; both find the same data."""
        self._proxy.close()
        config = proxy_config(self.upstream_url, nearhit={**NEARHIT, **nearhit})
        started = running(self.folder / "proxy", config, artefacts)
        self._gateway = self._proxy.enter_context(started)

    def store_process(self) -> int:
        """Return the pid of the proxy's store process."""
        assert self._gateway is not None
        return store_process(self._gateway)
