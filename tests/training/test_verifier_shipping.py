"""From a trained cross-encoder to what ships, and to thresholds that keep a promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="needs the training extra")

from nearhit.evidence.bounds import binomial_cdf, choose_threshold, threshold_for
from nearhit.verifier.weights import CODES, SCALES
from nearhit_training.calibrate import fit
from nearhit_training.shrink import shrink


def test_shrink_packs_linear_layers_and_keeps_the_rest_whole() -> None:
    rng = np.random.default_rng(1)
    base = {"layer.weight": rng.standard_normal((12, 64)).astype(np.float32)}
    change = 0.05 * rng.standard_normal((12, 64)).astype(np.float32)
    trained = {
        "layer.weight": base["layer.weight"] + change,
        "layer.bias": np.ones(12, np.float32),
        "out.weight": np.ones((1, 5), np.float32),
    }
    shipped, error = shrink(trained, base)
    assert 0 < error < 0.012
    assert shipped["layer.weight" + CODES].shape == (12, 32)
    assert shipped["layer.weight" + SCALES].shape == (12, 2)
    assert shipped["layer.bias"].tolist() == [1] * 12
    assert shipped["out.weight"].shape == (1, 5)


def test_fit_finds_what_made_the_labels() -> None:
    rng = np.random.default_rng(2)
    logit, similarity = rng.normal(2, 2, size=40_000), rng.uniform(size=40_000)
    told = rng.uniform(size=(40_000, 4))
    weights = (1.5, 2.0, -1.0, 0.5, 0.0, 1.0)
    x = weights[0] * logit + weights[1] * similarity + told @ weights[2:] - 4
    right = rng.uniform(size=40_000) < 1 / (1 + np.exp(-x))
    columns = {"logit": logit, "similarity": similarity, "signals": told, "right": right}
    np.testing.assert_allclose(fit(columns), (*weights, -4), atol=0.3)


def test_threshold_keeps_its_precision_in_nineteen_of_twenty_draws() -> None:
    """Stated confidences are the truth here, so what a threshold serves is known exactly."""
    broken = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        confidence = 1 - rng.uniform(size=3000) ** 2
        right = rng.uniform(size=3000) < confidence
        threshold = threshold_for(confidence, right, 0.95)
        if threshold is not None:
            # The mean of u^2 over u <= sqrt(1 - threshold).
            broken += (1 - threshold) / 3 > 0.05
    assert broken <= 0.05 * 300 * 1.6


def test_threshold_is_none_without_evidence_enough() -> None:
    few = np.ones(100)
    assert threshold_for(few, few.astype(bool), 0.99) is None


def test_threshold_without_proof_is_measured_and_says_so() -> None:
    confidence = np.linspace(1, 0.5, 1000)
    right = np.arange(1000) % 250 != 120  # a wrong one at places 120, 370, 620, 870
    assert threshold_for(confidence, right, 0.99) is None
    threshold, is_proven = choose_threshold(confidence, right, 0.99) or (0.0, True)
    assert not is_proven
    # 999 served have 4 wrong and 1 assumed: half a percent.
    assert threshold == confidence[-1]
    assert choose_threshold(confidence[:40], right[:40], 0.99) is None


def test_threshold_survives_one_wrong_label_at_the_top() -> None:
    confidence = np.linspace(1, 0.5, 4000)
    right = np.ones(4000, bool)
    right[0] = False
    assert threshold_for(confidence, right, 0.99) is not None


@settings(max_examples=50)
@given(st.integers(1, 60), st.floats(0.01, 0.99), st.data())
def test_binomial_cdf_adds_up(of: int, share: float, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, of))
    exact = np.random.default_rng(of).binomial(of, share, 20_000) <= count
    assert binomial_cdf(count, of, share) == pytest.approx(exact.mean(), abs=0.02)
    assert binomial_cdf(of, of, share) == pytest.approx(1)
