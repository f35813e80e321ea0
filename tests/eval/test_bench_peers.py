"""The benchmark on its smallest sizes: real proxies, the stand-in, ratios of known samples."""

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from nearhit_eval.asking import Cell, Cells
from nearhit_eval.bench_figures import describe, ratios
from nearhit_eval.cli import main
from nearhit_eval.growth import Grown
from nearhit_eval.vector_standin import create_app

RATIOS = {
    "semantic_hit_added_vs_litellm_semantic",
    "exact_hit_added_vs_litellm_semantic",
    "miss_added_vs_litellm_semantic",
    "semantic_hit_added_vs_gptcache",
    "miss_added_vs_gptcache",
    "lookup_1m_vs_10k_1000_tenants",
    "lookup_100k_vs_10k_one_tenant",
    "rss_vs_sentence_transformers",
}


@pytest.fixture
def data_dir(tmp_path: Path, real_artefacts: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    (data / "artefacts").symlink_to(real_artefacts)
    (data / "base").symlink_to(real_artefacts.parent / "base")
    monkeypatch.setenv("NEARHIT_DATA_DIR", str(data))
    return data


@pytest.mark.e2e
def test_bench_compares_two_proxies_and_grows_a_store(
    tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bench.json"
    argv = ["bench", "--requests", "2", "--callers", "1", "--sides", "litellm", "nearhit"]
    argv += ["--sizes", "1000", "--no-memory", "--json", str(out)]
    assert main(argv) == 0
    assert capsys.readouterr().out.startswith("ratios")
    report = json.loads(out.read_text())
    assert set(report["ratios"]) == RATIOS
    assert set(report["not_measured"]) == RATIOS
    shares = {(row["side"], row["kind"]): row["hit_share"] for row in report["peers"]}
    for kind in ("exact_hit", "semantic_hit", "semantic_hit_stream"):
        assert shares["nearhit", kind] == 1
        assert shares["litellm", kind] == 0
    assert shares["nearhit", "miss"] == 0
    streams = [row for row in report["peers"] if row["kind"].endswith("stream")]
    assert all(0 < row["first_ms"] <= row["ms"] for row in streams)
    assert [(one["tenants"], one["recall"]) for one in report["growth"]] == [(1, 1), (1000, 1)]


def _cells(medians: dict[tuple[str, str], float], hit: int = 3) -> Cells:
    return {
        (side, kind, 1): Cell([ms - 1, ms, ms + 50], [], [1.0], 3, 0 if "hit" in kind else hit)
        for (side, kind), ms in medians.items()
    }


def _grown(entries: int, tenants: int, lookup_ms: float) -> Grown:
    return Grown(entries, tenants, lookup_ms, lookup_ms, 1.0, 100, 100, 1)


def test_ratios_are_what_nearhit_adds_by_what_the_other_adds() -> None:
    kinds = ("exact_hit", "semantic_hit", "miss")
    plain = {("litellm", kind): 20.0 for kind in kinds}
    semantic = {("litellm-semantic", kind): 60.0 for kind in kinds}
    ours = {("nearhit", "exact_hit"): 16.0, ("nearhit", "semantic_hit"): 30.0}
    ours["nearhit", "miss"] = 40.0
    cells = _cells(plain | semantic | ours)
    grown = [
        _grown(10_000, 1, 2.0),
        _grown(100_000, 1, 8.0),
        _grown(10_000, 1000, 1.0),
        _grown(1_000_000, 1000, 1.5),
    ]
    found, reasons = ratios(cells, grown, {"nearhit": 100.0, "sentence-transformers": 400.0})
    assert set(found) == RATIOS
    assert found["semantic_hit_added_vs_litellm_semantic"] == 0.25
    assert found["exact_hit_added_vs_litellm_semantic"] == -0.1
    assert found["miss_added_vs_litellm_semantic"] == 0.5
    assert found["lookup_100k_vs_10k_one_tenant"] == 4
    assert found["lookup_1m_vs_10k_1000_tenants"] == 1.5
    assert found["rss_vs_sentence_transformers"] == 0.25
    assert set(reasons) == {"semantic_hit_added_vs_gptcache", "miss_added_vs_gptcache"}
    assert "gptcache was not measured" in reasons["miss_added_vs_gptcache"]
    added = {(row["side"], row["kind"]): row["added_ms"] for row in describe(cells)}
    assert added["nearhit", "miss"] == 20


def test_ratios_of_a_side_that_does_not_hit_are_null() -> None:
    cells = _cells({("litellm", "semantic_hit"): 20.0, ("nearhit", "semantic_hit"): 30.0})
    cells["litellm-semantic", "semantic_hit", 1] = Cell([25.0], [], [1.0], 3, 3)
    found, reasons = ratios(cells, [], {})
    assert found["semantic_hit_added_vs_litellm_semantic"] is None
    assert "hit 0%" in reasons["semantic_hit_added_vs_litellm_semantic"]


def test_standin_returns_the_nearest_point_of_a_key() -> None:
    client = TestClient(create_app())
    assert client.get("/collections/c/exists").json()["result"] == {"exists": False}
    client.put("/collections/c", json={"vectors": {"size": 2, "distance": "Cosine"}})
    points = [
        {"id": name, "vector": vector, "payload": {"litellm_cache_key": key, "text": name}}
        for name, vector, key in (("a", [1, 0], "k"), ("b", [0, 2], "k"), ("c", [0, 1], "other"))
    ]
    client.put("/collections/c/points", json={"points": points})
    asked: dict[str, Any] = {"vector": [0.1, 3], "limit": 1, "with_payload": True}
    asked["filter"] = {"must": [{"key": "litellm_cache_key", "match": {"value": "k"}}]}
    (found,) = client.post("/collections/c/points/search", json=asked).json()["result"]
    assert found["payload"]["text"] == "b"
    assert found["score"] == pytest.approx(0.9994, abs=1e-4)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--requests", "0"], "`--requests` must be at least 1"),
        (["--callers", "0"], "`--callers` must be at least 1"),
        (["--sides", "litellm", "other"], "`--sides` must be of litellm"),
        (["--sides", "nearhit"], "`--sides` must have litellm"),
        (["--sizes", "1500"], "`--sizes` must be multiples of 1000"),
    ],
)
def test_arguments_that_cannot_be_measured_are_named(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *argv]) == 2
    assert message in capsys.readouterr().err
