r"""Calibrate a verifier: from its logit to a probability, and to thresholds that keep a precision.

    nearhit-train calibrate --verifier build/verifier --groups groups/ --split split.json

Uses the dev side of the split alone, as the cache would meet it: the queries of half of the groups
are stored, paraphrases and near misses of all are asked, and the nearest stored queries of each are
its candidates. A probability is fitted on all candidates (Platt's logistic regression on logit and
cosine); a threshold on the surest candidate of each probe, by fixed-sequence testing downwards
from three starts with exact binomial tests, so that with 95 % confidence at most the stated share
of what it serves is wrong on questions like these. Half of the near misses are minimal edits: real
traffic is easier.

Source: Platt 1999 (logistic calibration); Angelopoulos et al., Learn then Test, arXiv 2110.01052,
section 2.3 (fixed sequence testing).
"""

import argparse
import json
import math
import random
from collections.abc import Sequence
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
from nearhit.verifier.calibration import Calibration
from nearhit.verifier.runtime import logits
from nearhit.verifier.weights import CONFIG_FILE
from nearhit_training.data import Group, read_groups
from nearhit_training.files import write_json
from nearhit_training.split import read_split

TARGETS: Final = (0.9, 0.95, 0.98, 0.99)
_DELTA: Final = 0.05  # chance that a threshold does not keep its precision
_CANDIDATES: Final = 3
_LOOKED_AT: Final = 0.3  # similarity below which no duplicate was ever seen
_STARTS: Final = 3  # sequences of tests, so that one wrong label at the top does not end it all

Values = NDArray[np.float64]


def candidates_of(
    groups: Sequence[Group], artefact: Artefact, seed: int
) -> dict[str, NDArray[Any]]:
    """Ask all questions of some groups and look at the nearest stored queries.

    Returns:
        Columns of equal length, one row a candidate: ``probe`` (int), ``similarity`` and ``logit``
        (float64), ``right`` (bool).
    """
    rng = random.Random(seed)  # noqa: S311 - a seeded draw
    stored = [group for group in groups if rng.random() < 0.5]
    probes = [
        (text, group.id if group in stored and is_same else None)
        for group in groups
        for is_same, texts in ((True, group.paraphrases), (False, group.near_misses))
        for text in texts
    ]
    tokenizer = open_tokenizer(artefact.path / TOKENIZER_FILE)
    encoder = open_session(artefact.path / GRAPH_FILE, 2)
    verifier = open_session(artefact.path / VERIFIER_FILE, 2)

    def vectors(texts: Sequence[str]) -> NDArray[np.float32]:
        rows = (tokenizer.encode_batch([text])[0].ids for text in tqdm(texts, "encode"))
        return np.concatenate([embed(encoder, [row]) for row in rows])

    near = vectors([text for text, _ in probes]) @ vectors([g.query for g in stored]).T
    columns: dict[str, list[Any]] = {n: [] for n in ("probe", "similarity", "logit", "right")}
    for index, (text, wanted) in enumerate(tqdm(probes, "verify")):
        nearest = np.argsort(-near[index])[:_CANDIDATES]
        for place in nearest[near[index, nearest] >= _LOOKED_AT]:
            row = tokenizer.encode_batch([(stored[place].query, text)])[0]
            similarity = float(near[index, place])
            columns["probe"].append(index)
            columns["similarity"].append(similarity)
            columns["logit"].append(logits(verifier, [row], [similarity])[0])
            columns["right"].append(wanted == stored[place].id)
    return {name: np.array(values) for name, values in columns.items()}


def fit(logit: Values, similarity: Values, right: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Fit sigmoid(logit * l + similarity * s + shift) by Newton steps, labels smoothed by Platt."""
    x = np.stack([logit, similarity, np.ones_like(logit)], 1)
    high, low = (right.sum() + 1) / (right.sum() + 2), 1 / ((~right).sum() + 2)
    target = np.where(right, high, low)
    weights = np.zeros(3)
    for _ in range(100):
        chance = 1 / (1 + np.exp(-(x @ weights)))
        hessian = (x * (chance * (1 - chance))[:, None]).T @ x + 1e-6 * np.eye(3)
        weights += np.linalg.solve(hessian, x.T @ (target - chance))
    return float(weights[0]), float(weights[1]), float(weights[2])


def threshold_for(
    confidence: Values, right: NDArray[np.bool_], target: float, delta: float = _DELTA
) -> float | None:
    """Return the lowest threshold that keeps a precision with confidence 1 - delta; None if none.

    Args:
        confidence: of each probe's surest candidate.
        right: whether that candidate answers the probe.
        target: share of the served that must be right.
        delta: chance that the threshold does not keep it.
    """
    order = np.argsort(-confidence, kind="stable")
    ranked, wrong = confidence[order], np.cumsum(~right[order])
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) + 1
    level = delta / _STARTS
    # The first count at which no wrong answer at all is evidence enough; then twice that, ...
    first = math.ceil(math.log(level) / math.log(target))
    found = None
    for start in range(_STARTS):
        for served in ends[ends >= first * 2**start]:
            if binomial_cdf(int(wrong[served - 1]), int(served), 1 - target) > level:
                break
            threshold = float(ranked[served - 1])
            found = threshold if found is None else min(found, threshold)
    return found


def binomial_cdf(count: int, of: int, share: float) -> float:
    """Return the chance of at most `count` events in `of` trials."""
    terms = (
        math.lgamma(of + 1)
        - math.lgamma(k + 1)
        - math.lgamma(of - k + 1)
        + k * math.log(share)
        + (of - k) * math.log1p(-share)
        for k in range(count + 1)
    )
    return min(1.0, sum(map(math.exp, terms)))


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
    parser.add_argument("--data-dir", type=Path, default=Path(".nearhit"))
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args(argv)
    split = read_split(options.split, read_groups(options.groups))
    artefact = ensure_artefact(
        options.data_dir, base=options.base, verifier=options.verifier.absolute()
    )
    found = candidates_of(split.dev, artefact, options.seed)
    weights = fit(found["logit"], found["similarity"], found["right"])
    floor = round(float(np.quantile(found["similarity"][found["right"]], 0.005)), 3)
    calibration = Calibration(*weights, floor, {})
    confidence = np.array(
        [
            calibration.confidence(logit, similarity)
            for logit, similarity in zip(found["logit"], found["similarity"], strict=True)
        ]
    )
    best = _surest(found["probe"], confidence)
    thresholds = {
        f"{target:g}": threshold
        for target in TARGETS
        if (threshold := threshold_for(confidence[best], found["right"][best], target)) is not None
    }
    path = options.verifier / CONFIG_FILE
    document = json.loads(path.read_text("utf-8"))
    document["calibration"] = {
        "logit": weights[0],
        "similarity": weights[1],
        "shift": weights[2],
        "floor": floor,
        "thresholds": thresholds,
        "evidence": {
            "probes": len(best),
            "must_hit": int(found["right"].sum()),
            "delta": _DELTA,
            "sha256": split.digests()["dev"],
        },
    }
    write_json(path, document)
    must_hit = int(found["right"].sum())
    for target, threshold in thresholds.items():
        served = confidence[best] >= threshold
        right = int(found["right"][best][served].sum())
        print(
            f"precision {target}: confidence {threshold:.4f}, serves {int(served.sum())} of "
            f"{len(best)} probes, {int(served.sum()) - right} wrong, recall {right / must_hit:.3f}"
        )
    missing = [f"{target:g}" for target in TARGETS if f"{target:g}" not in thresholds]
    if missing:
        print(f"no threshold keeps a precision of {', '.join(missing)} on {len(best)} probes")
    return 0


def _surest(probes: NDArray[Any], confidence: Values) -> NDArray[np.int64]:
    """Return the row of each probe's surest candidate."""
    order = np.lexsort((-confidence, probes))
    first = np.append(True, probes[order][1:] != probes[order][:-1])
    return np.asarray(order[first], np.int64)
