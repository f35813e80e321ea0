"""One upstream for all, one proxy for all tests that can share it."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

import stack
from gateway import Gateway, Upstream, config_of, running


@pytest.fixture(scope="session")
def upstream_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with stack.upstream(tmp_path_factory.mktemp("upstream")) as server:
        yield server.url


@pytest.fixture
def upstream(upstream_server: str) -> Upstream:
    """The model, with nothing scripted and nothing counted."""
    model = Upstream(upstream_server)
    model.reset()
    return model


@pytest.fixture(scope="session")
def shared_proxy(
    tmp_path_factory: pytest.TempPathFactory, upstream_server: str, real_artefacts: Path
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("proxy")
    config = config_of(upstream_server, nearhit={"similarity_threshold": 0.95, "deadline_ms": 2000})
    with running(folder, config, real_artefacts) as gateway:
        yield gateway


@pytest.fixture
def proxy(shared_proxy: Gateway, upstream: Upstream, request: pytest.FixtureRequest) -> Gateway:
    """The shared proxy, for questions that no other test asks."""
    return dataclasses.replace(shared_proxy, system=f"You serve {request.node.nodeid}.")
