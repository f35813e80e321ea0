r"""Calibrate a verifier: from its logit to a probability, and to thresholds that keep a precision.

    nearhit-train calibrate --verifier build/verifier --groups groups/ --split split.json

Uses the dev side of the split alone, as the cache would meet it: all queries are stored, all
paraphrases and near misses asked, as many of one as of the other, and the nearest stored queries of
each are its candidates, less those that a guard forbids. A probability is fitted on all candidates
(Platt's logistic regression on logit and cosine); a threshold on the surest candidate of each
probe.

A threshold is *proven* where fixed-sequence testing downwards from three starts with exact binomial
tests says with 95 % confidence that at most the stated share of what it serves is wrong on
questions like these. That takes more than 400 served without a wrong one at 99 %. Where there are
not so many, it is *measured*: the lowest threshold at which the share of wrong answers, one more
assumed than were seen, is small enough. Which of the two it is stands beside it. Half of the near
misses are minimal edits: real traffic is easier.

Source: Platt 1999 (logistic calibration); `nearhit.evidence.bounds` (thresholds).
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from nearhit.encoder.artefact import Artefact, ensure_artefact
from nearhit.encoder.recipe import GRAPH_FILE, TOKENIZER_FILE, VERIFIER_FILE
from nearhit.encoder.session import embed, open_session
from nearhit.encoder.tokens import open_tokenizer
from nearhit.encoder.weights import DEFAULT_BASE
from nearhit.evidence.bounds import choose_threshold
from nearhit.guards import GUARDS, first_veto
from nearhit.verifier.runtime import logits
from nearhit.verifier.signals import NAMES, signals
from nearhit.verifier.weights import CONFIG_FILE
from nearhit_training.data import Group, read_groups
from nearhit_training.files import write_json
from nearhit_training.split import read_split

TARGETS: Final = (0.9, 0.95, 0.98, 0.99)
_CANDIDATES: Final = 3
_LOOKED_AT: Final = 0.5  # similarity below which nothing is verified, whatever the target
_SURE: Final = 2.0  # logit from which the fit looks
_ENOUGH: Final = 100  # right and wrong ones that it needs there
_RIDGE: Final = 0.01

Values = NDArray[np.float64]


def candidates_of(groups: Sequence[Group], artefact: Artefact) -> dict[str, NDArray[Any]]:
    """Ask all questions of some groups and look at the nearest stored queries.

    Returns:
        Columns of equal length, one row a candidate: ``probe`` (int), ``similarity`` and ``logit``
        (float64), ``signals`` (float64, as many as `signals.NAMES`), ``right`` (bool).
    """
    probes = [
        (text, group.id if is_same else None)
        for group in groups
        for is_same, texts in ((True, group.paraphrases), (False, group.near_misses))
        for text in texts
    ]
    tokenizer = open_tokenizer(artefact.path / TOKENIZER_FILE)
    encoder = open_session(artefact.path / GRAPH_FILE, 2)
    verifier = open_session(artefact.path / VERIFIER_FILE, 2)

    def vectors(texts: Sequence[str]) -> NDArray[np.float32]:
        rows = (
            tokenizer.encode_batch([text])[0].ids for text in tqdm(texts, "encode", disable=None)
        )
        return np.concatenate([embed(encoder, [row]) for row in rows])

    near = vectors([text for text, _ in probes]) @ vectors([g.query for g in groups]).T
    names = ("probe", "similarity", "logit", "signals", "right")
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for index, (text, wanted) in enumerate(tqdm(probes, "verify", disable=None)):
        nearest = np.argsort(-near[index])[:_CANDIDATES]
        for place in nearest[near[index, nearest] >= _LOOKED_AT]:
            if first_veto(groups[place].query, text, GUARDS) is not None:
                continue
            row = tokenizer.encode_batch([(groups[place].query, text)])[0]
            similarity = float(near[index, place])
            columns["probe"].append(index)
            columns["similarity"].append(similarity)
            columns["logit"].append(logits(verifier, [row], [similarity])[0])
            columns["signals"].append(signals(groups[place].query, text))
            columns["right"].append(wanted == groups[place].id)
    return {name: np.array(values) for name, values in columns.items()}


def fit(found: Mapping[str, NDArray[Any]]) -> Values:
    """Fit sigmoid(logit * w0 + similarity * w1 + signals * w2.. + shift) by Newton steps.

    Labels are smoothed as Platt does. Fitted where the verifier is rather sure, since only there
    anything is served; where that is too little, on all.
    """
    sure = found["logit"] > _SURE
    if min(found["right"][sure].sum(), (~found["right"])[sure].sum()) < _ENOUGH:
        sure = np.ones_like(sure)
    right = found["right"][sure]
    given = (found["logit"], found["similarity"], *found["signals"].T)
    x = np.stack([*(column[sure] for column in given), np.ones(len(right))], 1)
    high, low = (right.sum() + 1) / (right.sum() + 2), 1 / ((~right).sum() + 2)
    target = np.where(right, high, low)
    ridge = np.diag([_RIDGE] * (x.shape[1] - 1) + [1e-6])
    weights = np.zeros(x.shape[1])
    for _ in range(100):
        chance = 1 / (1 + np.exp(-(x @ weights).clip(-30, 30)))
        hessian = (x * (chance * (1 - chance))[:, None]).T @ x + ridge
        weights += np.linalg.solve(hessian, x.T @ (target - chance) - ridge @ weights)
    return weights


def main(argv: Sequence[str] | None = None) -> int:
    """Calibrate and write it into the verifier's config."""
    parser = argparse.ArgumentParser(
        prog="nearhit-train calibrate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--verifier", type=Path, required=True)
    parser.add_argument("--groups", type=Path, required=True)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--base", default=DEFAULT_BASE)
    parser.add_argument("--adapter", help="of the encoder that serves: a folder or hub name")
    parser.add_argument("--data-dir", type=Path, default=Path(".nearhit"))
    options = parser.parse_args(argv)
    split = read_split(options.split, read_groups(options.groups))
    artefact = ensure_artefact(
        options.data_dir,
        base=options.base,
        adapter=options.adapter,
        verifier=options.verifier.absolute(),
    )
    found = candidates_of(split.dev, artefact)
    must_hit = sum(len(group.paraphrases) for group in split.dev)
    logit, similarity, *weights, shift = fit(found).tolist()
    x = logit * found["logit"] + similarity * found["similarity"] + found["signals"] @ weights
    confidence = 1 / (1 + np.exp(-(x + shift)))
    best = _surest(found["probe"], confidence)
    evidence: dict[str, dict[str, Any]] = {}
    floors: dict[str, float] = {}
    for target in reversed(TARGETS):
        point = choose_threshold(confidence[best], found["right"][best], target)
        if point is None:
            print(f"no threshold keeps a precision of {target:g} on {len(best)} probes")
            continue
        threshold, is_proven = point
        higher = next(iter(evidence.values()), None)
        if higher is not None and higher["threshold"] < threshold:
            # A lower target never serves less than a higher one, however the labels fell.
            threshold, is_proven = higher["threshold"], higher["is_proven"]
        served = confidence[best] >= threshold
        right = int((served & found["right"][best]).sum())
        found_here = {
            "threshold": threshold,
            "is_proven": is_proven,
            "served": int(served.sum()),
            "wrong": int(served.sum()) - right,
            "recall": right / must_hit,
        }
        evidence = {f"{target:g}": found_here, **evidence}
        floors = {f"{target:g}": _floor(found, confidence >= threshold), **floors}
        print(
            f"precision {target:g}: confidence {threshold:.4f} "
            f"({'proven' if is_proven else 'measured'}), "
            f"{int(served.sum())} of {len(best)} served, "
            f"{int(served.sum()) - right} wrong, recall {right / must_hit:.3f}"
        )
    path = options.verifier / CONFIG_FILE
    document = json.loads(path.read_text("utf-8"))
    document["calibration"] = {
        "logit": logit,
        "similarity": similarity,
        "signals": dict(zip(NAMES, weights, strict=True)),
        "shift": shift,
        "floor": _LOOKED_AT,
        "floors": floors,
        "thresholds": {target: row["threshold"] for target, row in evidence.items()},
        "evidence": evidence,
        "probes": {"asked": len(best), "must_hit": must_hit, "sha256": split.digests()["dev"]},
    }
    write_json(path, document)
    print("nothing is verified below a similarity of", floors)
    return 0


def _floor(found: Mapping[str, NDArray[Any]], reached: NDArray[np.bool_]) -> float:
    """Return the similarity above which 99 % of the right ones among those are."""
    served_at = found["similarity"][reached & found["right"]]
    return round(float(np.quantile(served_at, 0.01)), 2) if len(served_at) else _LOOKED_AT


def _surest(probes: NDArray[Any], confidence: Values) -> NDArray[np.int64]:
    """Return the row of each probe's surest candidate."""
    order = np.lexsort((-confidence, probes))
    first = np.append(True, probes[order][1:] != probes[order][:-1])
    return np.asarray(order[first], np.int64)
