"""The tools of this folder, each for seconds: what they check holds, and they print a table."""

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from gateway import Gateway, config_of, running
from nearhit.encoder.artefact import Artefact
from robustness import chaos, faults, fuzz, guided, routes, soak, timing
from robustness.stand import Stand, stand

SECONDS = 3.0


@pytest.fixture(scope="module")
def on(real_artefacts: Path) -> Iterator[Stand]:
    """One proxy that is broken and mended again."""
    with stand(real_artefacts) as made:
        made.start()
        yield made


@pytest.fixture(scope="module")
def plain(on: Stand, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """LiteLLM alone, beside it."""
    folder = tmp_path_factory.mktemp("plain")
    with running(folder, config_of(on.model, nearhit=None), on.built) as gateway:
        yield gateway


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    with (tmp_path / "table").open("w") as file:
        yield Console(file=file, width=200)


SHORT = [
    fault
    for fault in faults.FAULTS
    if fault.name
    in ("store's files cannot grow", "journal locked", "journal damaged while serving")
]


@pytest.mark.e2e
@pytest.mark.parametrize("fault", SHORT, ids=lambda fault: fault.name)
def test_fault_costs_no_answer_loses_nothing_and_heals(
    on: Stand, fault: faults.Fault, console: Console
) -> None:
    row = faults.try_out(fault, on, SECONDS)
    assert row.is_good, dataclasses.asdict(row)
    faults.show([row], console)


@pytest.mark.e2e
def test_kills_under_load_lose_nothing_that_was_acknowledged(on: Stand, console: Console) -> None:
    count = chaos.run_on(on, kills=6, proxies=0.0, seed=1, longest_s=0.5, flush_every=4)
    assert count.is_good, dataclasses.asdict(count)
    assert min(count.acknowledged, count.checked, count.flushes, count.kills_of_store) > 0
    chaos.show(count, console)


@pytest.mark.e2e
def test_hostile_requests_get_what_litellm_alone_would_have_answered(
    on: Stand, plain: Gateway, console: Console
) -> None:
    found = fuzz.fuzz_proxies(on.gateway, plain, SECONDS, 1)
    assert found.wrong == []
    fuzz.show([found], console)


@pytest.mark.e2e
def test_hostile_requests_to_the_routes_get_no_error_no_secret_and_change_nothing(
    on: Stand, console: Console
) -> None:
    found = routes.fuzz_routes(on.gateway, SECONDS, 1)
    assert found.wrong == []
    assert found.examples > 0
    fuzz.show([found], console)


@pytest.mark.e2e
def test_load_is_answered_as_litellm_alone_would(
    on: Stand, plain: Gateway, console: Console
) -> None:
    sides = soak.load({"nearhit": on.gateway, "LiteLLM alone": plain}, SECONDS, clients=8)
    assert [dict(side.errors) for side in sides.values()] == [{}, {}]
    assert sides["nearhit"].outcomes.total() == sides["nearhit"].answers > 0
    figures = soak.report(sides, {}, SECONDS, console)
    assert figures["nearhit"]["answers"] > 0


def test_hostile_requests_in_process_break_nothing() -> None:
    for found in fuzz.run_in_process(SECONDS, 1):
        assert found.wrong == [], found
        assert found.examples > 0, found


@pytest.mark.parametrize("seed", guided.SEEDS)
def test_inputs_that_coverage_leads_on_from_break_nothing(seed: bytes) -> None:
    tried = guided.targets()
    assert {one[0] for one in guided.SEEDS} == set(range(len(tried)))
    tried[seed[0]](seed[1:])


def test_time_of_an_answer_does_not_tell_what_another_tenant_asked(
    tmp_path: Path, real_artefact: Artefact
) -> None:
    found = asyncio.run(timing.measure(tmp_path / "data", real_artefact.path, 40, 1))
    # The tenant's own repeats are far apart from what is new; so was another's, once.
    assert found["the tenant itself"]["auc"] > 0.9
    assert found["another tenant"]["auc"] < 0.9


def test_auc_and_slope_of_what_is_known() -> None:
    fast, slow = np.arange(10.0), np.arange(10.0) + 100
    assert timing.auc(slow, fast) == 1.0
    assert timing.auc(fast, slow) == 0.0
    line = [(float(second), 100 + second / 60) for second in range(200)]
    assert soak.slope(line) == pytest.approx((1.0, 1.0, 1.0))


@pytest.mark.parametrize("tool", [chaos, faults, fuzz, guided, soak, timing])
def test_tool_says_how_it_is_used(tool: object, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        tool.main(["--help"])  # type: ignore[attr-defined]
    assert "python tests/robustness/" in capsys.readouterr().out
