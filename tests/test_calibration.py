import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from unfreeze.analysis.calibration import (
    brier_score,
    calibration_scores,
    equal_mass_bins,
    expected_calibration_error,
    fit_temperature,
    reliability_bins,
)


def test_bins_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    top = rng.uniform(0.5, 1, 2000)
    bins = reliability_bins(top, correct := rng.random(2000) < top**2)
    filled = bins.filter(bins["count"].to_numpy() > 0)
    accuracy, confidence = calibration_curve(correct, top, n_bins=15)
    np.testing.assert_allclose(filled["accuracy"].to_numpy(), accuracy)
    np.testing.assert_allclose(filled["confidence"].to_numpy(), confidence)


def test_ece_of_a_case_worked_by_hand():
    # Four answers at 0.9 of which three are right, one at 0.6 that is wrong: (4 × |0.75 − 0.9| + 1 × 0.6) / 5.
    bins = reliability_bins(np.array([0.9, 0.9, 0.9, 0.9, 0.6]), np.array([True, True, True, False, False]))
    assert expected_calibration_error(bins) == pytest.approx((4 * 0.15 + 0.6) / 5)


def test_an_edge_belongs_to_the_bin_below_it():
    bins = reliability_bins(np.array([0.6, 1.0]), np.array([True, True]), bins=5)
    assert bins["count"].to_pylist() == [0, 0, 1, 0, 1]
    assert bins["accuracy"].to_pylist() == [None, None, 1, None, 1]


def test_equal_mass_bins_hold_as_many_examples_each():
    rng = np.random.default_rng(1)
    top = 1 - rng.exponential(0.02, 3000).clip(0, 0.5)
    bins = equal_mass_bins(top, rng.random(3000) < top)
    assert bins["count"].to_pylist() == [200] * 15
    np.testing.assert_allclose(bins["confidence"].to_numpy(), np.sort(top).reshape(15, 200).mean(axis=1))


def test_ties_share_a_bin_of_equal_mass():
    # Half of the answers are certain; an edge cannot part them.
    bins = equal_mass_bins(np.array([0.5, 0.6, 1, 1]), np.array([True, False, True, False]), bins=4)
    assert bins["count"].to_pylist() == [1, 1, 2]
    assert expected_calibration_error(bins) == pytest.approx((0.5 + 0.6 + 2 * 0.5) / 4)


def test_brier_of_the_forecasts_worked_by_hand():
    # Brier (1950) sums over the classes: (0.3² + 0.3²) for 70 % on what came, 2 for certain of what did not.
    assert brier_score(np.array([[0.7, 0.3]]), np.array([0])) == pytest.approx(0.18)
    assert brier_score(np.array([[0.7, 0.3], [0.0, 1.0]]), np.array([0, 0])) == pytest.approx((0.18 + 2) / 2)


def test_brier_agrees_with_scikit_learn():
    rng = np.random.default_rng(2)
    probabilities, gold = rng.dirichlet([1, 1], 300), rng.integers(0, 2, 300)
    assert brier_score(probabilities, gold) == pytest.approx(2 * brier_score_loss(gold, probabilities[:, 1]))


def drawn(rng, examples, temperature):
    """Logits whose gold labels come as often as softmax(logits / temperature) says."""
    logits = 3 * temperature * rng.normal(size=(examples, 3))
    cumulative = softmax(logits / temperature, axis=1).cumsum(axis=1)
    return logits, (rng.random((examples, 1)) > cumulative).sum(axis=1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_made_the_labels_is_found_again(temperature):
    rng = np.random.default_rng(3)
    assert fit_temperature(*drawn(rng, 20_000, temperature)) == pytest.approx(temperature, rel=0.05)


def test_the_temperature_is_where_the_loss_no_longer_falls():
    logits, gold = drawn(np.random.default_rng(4), 500, 2.0)
    inverse = 1 / fit_temperature(logits, gold)
    expected = (softmax(logits * inverse, axis=1) * logits).sum(axis=1) - logits[np.arange(500), gold]
    assert expected.mean() == pytest.approx(0, abs=1e-4)


def test_scaling_mends_an_overconfident_classifier():
    rng = np.random.default_rng(5)
    temperature = fit_temperature(*drawn(rng, 4000, 3.0))
    logits, gold = drawn(rng, 4000, 3.0)
    before, after = calibration_scores(logits, gold), calibration_scores(logits / temperature, gold)
    assert before["ece"] > 0.08 > 0.03 > after["ece"]
    assert before["ece_mass"] > 0.08 > 0.03 > after["ece_mass"]
    assert after["brier"] < before["brier"]
    assert after["loss"] < before["loss"]
    assert after["loss"] == pytest.approx(-log_softmax(logits / temperature, axis=1)[np.arange(4000), gold].mean())


def test_perfect_and_useless_classifiers_have_a_temperature():
    gold = np.array([0, 1, 0, 1])
    assert fit_temperature(np.eye(2)[gold], gold) == 1
    assert 10 < fit_temperature(-np.eye(2)[gold], gold) <= 100
