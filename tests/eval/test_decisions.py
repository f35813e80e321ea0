"""The command on a small set: what serves is what is measured."""

import json
from pathlib import Path
from typing import Any

import pytest

from nearhit_eval.cli import main
from nearhit_eval.decisions import ablate, measure
from nearhit_eval.observing import Observation, Run, Seen
from nearhit_eval.sets import QuestionSet

SET = {
    "store": [["2fa", "How do I enable two-factor authentication?"], ["git", "git undo commit"]],
    "probes": [
        ["2fa", "How do I enable two-factor authentication?"],
        ["2fa", "How can I enable two factor authentication?"],
        [None, "How do I bake bread?"],
        [None, "What is the weather today?"],
        [None, "Wie backe ich ein Brot?"],
    ],
}


@pytest.fixture
def config(tmp_path: Path, real_artefacts: Path) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    (data / "artefacts").symlink_to(real_artefacts)
    path = tmp_path / "config.yaml"
    path.write_text(f"nearhit:\n  data_dir: {data}\n  similarity_threshold: 0.9\n")
    return path


def test_decisions_measures_what_the_cache_serves(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "small.json", tmp_path / "out.json"
    path.write_text(json.dumps(SET))
    argv = ["decisions", str(path), "--config", str(config), "--ablate", "--json", str(out)]
    assert main(argv) == 0
    printed = capsys.readouterr().out
    assert "small" in printed
    assert "pooled" in printed
    report = json.loads(out.read_text())
    found = report["sets"]["small"]
    assert set(found["recall_at_wrong"]) == {"0.01", "0.02", "0.05"}
    assert found["n_must_hit"] == 2
    assert found["retrievable"] == 1.0
    default = found["at_default"]
    assert (default["served"], default["wrong"], default["recall"]) == (2, 0, 1.0)
    assert default["threshold"] == 0.9
    assert found["reasons"] == {"below_threshold": 1, "freshness": 1, "other_language": 1}
    assert report["pooled"]["recall_at_wrong"] == found["recall_at_wrong"]
    assert report["ablation"]["encoder"]["recall_at_wrong"]["0.01"] == 1.0
    assert report["latency_ms"]["p50"] > 0


def test_convert_writes_a_set_that_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"a": f"stored {i}", "b": f"asked {i}", "label": i % 2} for i in range(4)]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "sets" / "p.json"
    argv = ["decisions", "--convert", str(tmp_path / "p.jsonl"), "--out", str(out)]
    assert main(argv) == 0
    assert "4 stored, 4 probes, 2 of them must hit" in capsys.readouterr().out
    assert len(json.loads(out.read_text())["store"]) == 4


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "must be given at least once"),
        (["absent.json"], "must be a readable file"),
        (["--convert", "absent.jsonl"], "--out must name the file"),
    ],
)
def test_wrong_usage_says_what_to_do(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["decisions", *argv]) == 2
    assert message in capsys.readouterr().err


def seen(key: str, similarity: float, confidence: float, veto: str | None = None) -> Seen:
    return Seen(key, key, similarity, confidence, veto)


def observed(
    key: str | None, *candidates: Seen, served: str | None = None, text: str = "q"
) -> Observation:
    reason = "" if served else "below_threshold"
    return Observation(key, text, served, False, reason, tuple(candidates))


def test_measure_pools_sets_under_one_threshold() -> None:
    sets = [
        QuestionSet("a", (("x", "x"),), (("x", "q"), (None, "q"))),
        QuestionSet("b", (("y", "y"),), (("y", "q"), (None, "q"))),
    ]
    run = Run(
        {
            "a": [
                observed("x", seen("x", 0.9, 0.9), served="x"),
                observed(None, seen("x", 0.8, 0.3)),
            ],
            "b": [
                observed("y", seen("y", 0.7, 0.2)),
                observed(None, seen("y", 0.9, 0.8), served="y"),
            ],
        },
        (0.01, 0.03),
    )
    found: dict[str, Any] = measure(sets, run, 0.7)
    assert found["sets"]["a"]["recall_at_wrong"]["0.01"] == 1.0
    assert found["sets"]["b"]["recall_at_wrong"]["0.01"] == 0.0
    assert found["pooled"]["recall_at_wrong"]["0.01"] == 0.5
    assert found["pooled"]["at_default"]["wrong"] == 1
    assert found["sets"]["b"]["worst"][0]["confidence"] == 0.8
    assert found["latency_ms"]["p50"] == pytest.approx(20)


def test_ablation_shows_what_a_guard_costs_and_saves() -> None:
    from nearhit.config import Settings

    sets = [QuestionSet("a", (("x", "Is 500 mg safe?"),), (("x", "q"), (None, "q")))]
    stored = Seen("x", "Is 500 mg safe?", 0.99, 0.99, "numbers")
    run = Run(
        {
            "a": [
                observed("x", Seen("x", "Is 500 mg safe?", 0.9, 0.95, None), text="500 mg safe?"),
                observed(None, stored, text="Is 200 mg safe?"),
            ]
        },
        (),
    )
    found = ablate(sets, run, Settings())
    assert found["encoder"]["recall_at_wrong"]["0.01"] == 0.0
    alone = found["+ guard numbers alone"]
    assert alone["recall_at_wrong"]["0.01"] == 1.0
    assert (alone["wrong_vetoed"], alone["right_vetoed"]) == (1, 0)


def test_shipped_verifier_serves_everyday_questions_and_none_wrongly(
    tmp_path: Path, real_artefacts: Path, pytestconfig: pytest.Config
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "artefacts").symlink_to(real_artefacts)
    config, out = tmp_path / "config.yaml", tmp_path / "out.json"
    config.write_text(f"nearhit:\n  data_dir: {data}\n")
    path = pytestconfig.rootpath / "tests" / "data" / "decisions" / "everyday.json"
    argv = ["decisions", str(path), "--config", str(config), "--json", str(out), "--timed", "1"]
    assert main([*argv, "--ablate"]) == 0
    report = json.loads(out.read_text())
    found = report["sets"]["everyday"]
    assert found["at_default"]["wrong"] == 0
    assert found["at_default"]["recall"] >= 0.1
    assert found["recall_at_wrong"]["0.01"] >= 0.6
    bare = report["ablation"]["encoder"]
    assert found["recall_at_wrong"]["0.01"] > bare["recall_at_wrong"]["0.01"] + 0.3
    assert found["auc"] > bare["auc"] + 0.1
