import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from unfreeze.analysis.calibration import expected_calibration_error, reliability_bins


def test_bins_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    top = rng.uniform(0.5, 1, 2000)
    probabilities, gold = np.stack([top, 1 - top], axis=1), rng.integers(0, 2, 2000)
    filled = reliability_bins(probabilities, gold).filter(reliability_bins(probabilities, gold)["count"].to_numpy() > 0)
    accuracy, confidence = calibration_curve(gold == 0, top, n_bins=15)
    np.testing.assert_allclose(filled["accuracy"].to_numpy(), accuracy)
    np.testing.assert_allclose(filled["confidence"].to_numpy(), confidence)


def test_ece_of_a_case_worked_by_hand():
    # Four answers at 0.9 of which three are right, one at 0.6 that is wrong: (4 × |0.75 − 0.9| + 1 × 0.6) / 5.
    probabilities = np.array([[0.9, 0.1]] * 4 + [[0.6, 0.4]])
    bins = reliability_bins(probabilities, np.array([0, 0, 0, 1, 1]))
    assert expected_calibration_error(bins) == pytest.approx((4 * 0.15 + 0.6) / 5)


def test_an_edge_belongs_to_the_bin_below_it():
    bins = reliability_bins(np.array([[0.6, 0.4], [1.0, 0.0]]), np.array([0, 0]), bins=5)
    assert bins["count"].to_pylist() == [0, 0, 1, 0, 1]
    assert bins["accuracy"].to_pylist() == [None, None, 1, None, 1]
