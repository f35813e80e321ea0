"""Margins: what is compared, with which interval, and how a wrong set is refused."""

import json
import re
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from nearhit_eval.cli import main
from nearhit_eval.comparing import Cosines, project, read_compared, resampled_margins
from nearhit_eval.margins import compare

TRIPLETS = [
    {"anchor": "reset my password", "positive": "password reset", "negative": "bake bread"},
    {"anchor": "undo a git commit", "positive": "revert a commit in git", "negative": "buy shoes"},
]
GROUPS: list[dict[str, Any]] = [
    {
        "id": "1",
        "domain": "law",
        "query": "can my landlord evict me without notice",
        "paraphrases": ["eviction without notice, is my landlord allowed to?"],
        "near_misses": [{"text": "can I leave without giving my landlord notice", "kind": "actor"}],
    },
    {
        "id": "2",
        "domain": "general",
        "query": "how do I enable two-factor authentication",
        "paraphrases": ["turn on two-factor authentication, how?"],
        "near_misses": ["how do I disable two-factor authentication"],
    },
]


def write(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    return path


def write_adapter(folder: Path, strength: float) -> Path:
    """An adapter of rank 1 for the default base, drawn by seed."""
    rng = np.random.default_rng(3)
    folder.mkdir()
    tensors = {}
    for layer, part in product(range(6), ("query", "value")):
        name = f"base_model.model.encoder.layer.{layer}.attention.self.{part}"
        tensors[f"{name}.lora_A.weight"] = rng.standard_normal((1, 384)).astype(np.float32)
        drawn = strength * rng.standard_normal((384, 1))
        tensors[f"{name}.lora_B.weight"] = drawn.astype(np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["query", "value"]}
    (folder / "adapter_config.json").write_text(json.dumps(config | {"bias": "none"}))
    return folder


def test_margins_prints_the_table_of_each_domain_and_encoder(
    tmp_path: Path, eval_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    triplets = write(tmp_path / "easy.jsonl", *TRIPLETS)
    groups = write(tmp_path / "groups.jsonl", *GROUPS)
    adapter, out = write_adapter(tmp_path / "adapter", 0.02), tmp_path / "m.json"
    argv = ["margins", "--sets", str(triplets), str(groups), "--config", str(eval_config)]
    argv += ["--adapters", f"multi={adapter}", f"law={adapter}", "--json", str(out)]
    assert main([*argv, "--resamples", "200"]) == 0
    printed = capsys.readouterr().out
    header = "| Domain | Test triplets | Baseline | Domain-specific | Multi-domain | Winner |"
    assert header in printed
    assert "a relative gain would mean nothing" in printed
    report = json.loads(out.read_text())
    assert [one["domain"] for one in report["sets"]] == ["easy", "general", "law"]
    assert set(report["sha256"]) == {"easy.jsonl", "groups.jsonl"}
    easy, general, law = report["sets"]
    baseline = easy["encoders"]["baseline"]
    assert baseline["margin"] == pytest.approx(baseline["positive"] - baseline["negative"])
    assert baseline["margin"] > 0.3
    assert easy["encoders"]["multi"]["gain"]["relative"] is True
    assert general["encoders"]["multi"]["gain"]["relative"] is False
    assert (easy["specialist"], law["specialist"]) == (None, "law")
    fingerprints = {found["fingerprint"] for found in report["encoders"].values()}
    assert len(fingerprints) == 2
    assert sum(baseline["histogram"]["positive"]) == 2
    assert str(tmp_path) not in out.read_text()


def test_compare_names_the_winner_and_how_sure_that_is(tmp_path: Path) -> None:
    rows = [{"anchor": f"a{i}", "positive": f"p{i}", "negative": f"n{i}"} for i in range(40)]
    (one,) = read_compared(write(tmp_path / "t.jsonl", *rows), 7)
    rng = np.random.default_rng(0)

    def vectors(near: float) -> dict[str, Any]:
        angles = {"a": 0.0, "p": near, "n": 1.2}
        made = {}
        for text in one.texts:
            angle = angles[text[0]] + 0.01 * rng.standard_normal()
            made[text] = np.array([np.cos(angle), np.sin(angle)], np.float32)
        return made

    encoders = {"baseline": vectors(0.8), "multi": vectors(0.3), "other": vectors(0.0)}
    found = compare(one, encoders, {"other"}, 300, 7)
    assert (found["winner"], found["is_sure"]) == ("multi", True)
    gain = found["encoders"]["multi"]["gain"]
    assert 0 < gain["low"] < gain["value"] < gain["high"]
    assert found == compare(one, encoders, {"other"}, 300, 7)
    equal = {"baseline": encoders["multi"], "multi": encoders["multi"]}
    assert compare(one, equal, (), 300, 7)["is_sure"] is False


def test_separation_does_not_rise_with_the_scale_alone() -> None:
    sums = np.zeros((1, 4))
    narrow = Cosines(np.array([0.8, 0.9]), np.array([0.6, 0.7]), sums)
    wide = Cosines(np.array([0.6, 0.8]), np.array([0.2, 0.4]), sums)
    assert wide.margin == pytest.approx(2 * narrow.margin)
    assert wide.separation == pytest.approx(narrow.separation)


def test_resampled_margins_draw_anchors_with_all_their_texts() -> None:
    sums = np.array([[2.0, 2, 0.5, 1], [0.6, 1, 0.2, 1]])
    drawn = resampled_margins(Cosines(np.array([1.0]), np.array([0.0]), sums), 200, 1)
    assert {round(float(value), 6) for value in drawn} == {0.5, 0.4, round(2.6 / 3 - 0.35, 6)}


def test_pairs_and_clusters_are_compared_with_what_they_name(tmp_path: Path) -> None:
    pairs = [{"a": "x", "b": "y", "label": 1}, {"a": "x", "b": "z", "label": 0}]
    (one,) = read_compared(write(tmp_path / "p.jsonl", *pairs), 7)
    assert [(a.text, a.positives, a.negatives) for a in one.anchors] == [("x", ["y"], ["z"])]
    rows = [{"query": f"{c} {i}", "cluster": c} for c in "ab" for i in range(3)]
    (one,) = read_compared(write(tmp_path / "c.jsonl", *rows), 7)
    for anchor in one.anchors:
        assert all(text[0] == anchor.text[0] for text in anchor.positives)
        assert all(text[0] != anchor.text[0] for text in anchor.negatives)


def test_projection_keeps_the_distances_of_a_plane() -> None:
    plane = np.zeros((4, 9), np.float32)
    plane[:, 3], plane[:, 5] = [0, 3, 0, 3], [0, 0, 1, 1]
    found = project(plane)
    assert np.linalg.norm(found[0] - found[3]) == pytest.approx(10**0.5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"bad\.jsonl must hold at least one line, got none"),
        ('{"a": "x", "b": "y", "label": 1}', r"bad\.jsonl:1 .*got no negatives"),
        ('{"a": "x", "a": "y", "b": "y", "label": 1}', r"bad\.jsonl:1 .*the field 'a' twice"),
        ('{"a": "x", "b": 3, "label": 1}', r"bad\.jsonl:1 b must be a text, got a int; mend"),
        ('{"a": "x", "b": " ", "label": 1}', r"bad\.jsonl:1 b must not be blank"),
        ('{"a": "x", "b": "y", "label": 2}', r"bad\.jsonl:1 label must be 1 or 0, got 2"),
        ('{"store": [], "probes": []}', r"bad\.jsonl:1 must be a group, cluster, pair or triplet"),
        ('{"query": "x", "paraphrases": "y"}', r"bad\.jsonl:1 near_misses must be a list"),
        (
            '{"a": "x", "b": "y", "label": 1}\n{"query": "x", "cluster": 1}',
            r"bad\.jsonl:2 must be of the kind of the lines before it, pairs, got clusters",
        ),
        (
            '{"id": 1, "a": "x", "b": "y", "label": 1}\n{"id": 1, "a": "x", "b": "z", "label": 0}',
            r"bad\.jsonl:2 must have an id of its own, got 1 of line 1 again",
        ),
    ],
)
def test_set_with_a_fault_names_file_line_and_remedy(
    tmp_path: Path, content: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(content, "utf-8")
    assert main(["margins", "--sets", str(path)]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert re.search(message, error), error


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--adapters", "folder"], "--adapters must be NAME=FOLDER"),
        (["--adapters", "baseline=x"], "--adapters must have names of their own"),
        (["--resamples", "5"], "--resamples must be at least 100, got 5"),
    ],
)
def test_wrong_usage_of_margins_says_what_to_do(
    tmp_path: Path, given: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "t.jsonl", *TRIPLETS)
    assert main(["margins", "--sets", str(path), *given]) == 2
    assert message in capsys.readouterr().err
