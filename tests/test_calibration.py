import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from unfreeze.analysis.calibration import expected_calibration_error, reliability_bins


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
