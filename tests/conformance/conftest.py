"""The gateway under test, named on the command line or started here; the table at the end."""

import contextlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from conformance.asking import Case, Target
from conformance.figures import HEADER, Figures, table
from conformance.known import KNOWN
from conformance.own import OwnStack
from gateway import MODEL

_OPTIONS = {
    "--gateway": "base URL of the gateway under test, without /v1; default: nearhit, started here",
    "--gateway-key": "a key that the gateway accepts",
    "--gateway-other-key": "a second key, of another caller; without it isolation is skipped",
    "--gateway-model": f"name of a model of the gateway, default {MODEL}",
    "--gateway-other-model": "name of a second one, default gpt-4o",
    "--upstream-control": "base URL of examples/upstream.py, which must be the gateway's model",
    "--conformance-json": "file to write the table to",
}
_FIGURES = "conformance-figures"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance", "what a gateway's cache must and must not do")
    for name, text in _OPTIONS.items():
        group.addoption(name, help=text)
    group.addoption("--wrong-hits-allowed", type=int, help="of the pairs that must miss, default 2")


def option(config: pytest.Config, name: str, default: Any = None) -> Any:
    """Return a command-line option; a run of all tests loads this file too late to know them."""
    value = config.getoption(name, default=None)
    return default if value is None else value


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Figures(), _FIGURES)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    figures = config.pluginmanager.get_plugin(_FIGURES)
    assert isinstance(figures, Figures)
    if not figures.groups:
        return
    terminalreporter.section("conformance")
    for line in [*table([HEADER, *figures.rows()]), "", *map(": ".join, figures.rates.items())]:
        terminalreporter.write_line(line)
    path = option(config, "--conformance-json")
    if path is not None:
        Path(path).write_text(json.dumps(figures.as_json(), indent=1) + "\n", encoding="utf-8")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put what breaks the suite's own stack last; expect what is known to fail on it.

    A normal run of the suite's own stack leaves `conformance_full` out, unless `-m` names it.
    """
    is_foreign = option(config, "--gateway") is not None
    if not is_foreign and "conformance_full" not in option(config, "-m", ""):
        left_out = [item for item in items if item.get_closest_marker("conformance_full")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    for item in items:
        if item.get_closest_marker("own_stack") and is_foreign:
            item.add_marker(pytest.mark.skip(reason="needs the stack that the suite starts itself"))
        reason = KNOWN.get(item.name) if "conformance" in item.nodeid else None
        if reason is not None and not is_foreign:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
    items.sort(key=lambda item: item.get_closest_marker("own_stack") is not None)


@pytest.fixture(scope="session")
def own_stack(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OwnStack | None]:
    """The proxy that the suite starts, None where a gateway is named."""
    if option(pytestconfig, "--gateway") is not None:
        yield None
        return
    with contextlib.ExitStack() as running:
        yield OwnStack(tmp_path_factory.mktemp("conformance"), running)


@pytest.fixture(scope="session")
def target(
    pytestconfig: pytest.Config, own_stack: OwnStack | None, request: pytest.FixtureRequest
) -> Iterator[Target]:
    other_key = option(pytestconfig, "--gateway-other-key")
    with contextlib.ExitStack() as clients:
        if own_stack is not None:
            own_stack.start(request.getfixturevalue("real_artefacts"))
            url, control, other_key = own_stack.url, own_stack.upstream_url, "sk-bob"
        else:
            url = option(pytestconfig, "--gateway")
            control = option(pytestconfig, "--upstream-control")
            if control is None:
                pytest.fail("--gateway needs --upstream-control, the URL of examples/upstream.py")
        gateway, model = (
            clients.enter_context(httpx.Client(base_url=base, timeout=60, trust_env=False))
            for base in (url, control)
        )
        yield Target(
            gateway=gateway,
            control=model,
            key=option(pytestconfig, "--gateway-key", "sk-alice"),
            other_key=other_key,
            model=option(pytestconfig, "--gateway-model", MODEL),
            other_model=option(pytestconfig, "--gateway-other-model", "gpt-4o"),
            run=uuid.uuid4().hex[:8],
        )


@pytest.fixture
def case(target: Target) -> Case:
    """Questions about what no other test asks about."""
    return target.case()


@pytest.fixture
def wrong_hits_allowed(pytestconfig: pytest.Config) -> int:
    return int(option(pytestconfig, "--wrong-hits-allowed", 2))
