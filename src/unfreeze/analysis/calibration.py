"""Does a probability of 0.8 come true in 80 of 100 cases?"""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

BINS = 15
COLDEST, HOTTEST = 0.01, 100.0


def reliability_bins(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> pa.Table:
    """Group predictions by confidence into bins of equal width.

    Args:
        confidence: shape (examples,), the probability of each predicted label.
        correct: shape (examples,), whether it is the gold label.
        bins: how many intervals (lower, upper] share 0 to 1.

    Returns:
        One row a bin: ``lower``, ``upper``, ``count``, ``confidence`` and ``accuracy``; both means are null where
        the bin is empty.
    """
    return _bins(confidence, correct, np.linspace(0, 1, bins + 1))


def equal_mass_bins(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> pa.Table:
    """Group predictions into bins of as many examples each (Nguyen and O'Connor 2015).

    Most predictions of a trained classifier are confident and share one or two bins of equal width; here they spread
    over all. Predictions of the same confidence stay together.

    Args:
        confidence: shape (examples,), the probability of each predicted label.
        correct: shape (examples,), whether it is the gold label.
        bins: how many; fewer where ties leave no edge between two.

    Returns:
        As :func:`reliability_bins`.
    """
    edges = np.quantile(confidence, np.linspace(0, 1, bins + 1)[1:-1], method="inverted_cdf")
    return _bins(confidence, correct, np.unique([0.0, *edges, 1.0]))


def _bins(confidence: np.ndarray, correct: np.ndarray, edges: np.ndarray) -> pa.Table:
    # Inner edges only: rounding may carry a probability past 1, and it belongs to the last bin.
    which, bins = np.digitize(confidence, edges[1:-1], right=True), len(edges) - 1
    count = np.bincount(which, minlength=bins)
    filled = np.maximum(count, 1)
    empty = count == 0
    return pa.table(
        {
            "lower": edges[:-1],
            "upper": edges[1:],
            "count": count,
            "confidence": pa.array(np.bincount(which, confidence, bins) / filled, mask=empty),
            "accuracy": pa.array(np.bincount(which, correct, bins) / filled, mask=empty),
        }
    )


def expected_calibration_error(bins: pa.Table) -> float:
    """Mean distance between confidence and accuracy, weighted by how many predictions fall into each bin.

    Args:
        bins: what :func:`reliability_bins` or :func:`equal_mass_bins` returns.

    Returns:
        ECE between 0 and 1 (Guo et al. 2017, *On Calibration of Modern Neural Networks*, equation 3).
    """
    gap = np.abs(bins["accuracy"].to_numpy() - bins["confidence"].to_numpy())
    count = bins["count"].to_numpy()
    return float(np.nansum(gap * count) / max(count.sum(), 1))


def brier_score(probabilities: np.ndarray, gold: np.ndarray) -> float:
    """Mean squared distance between the probabilities and the gold label, summed over labels (Brier 1950).

    Args:
        probabilities: shape (examples, labels).
        gold: shape (examples,), label indices.

    Returns:
        0 for certain and right, 2 for certain and wrong.
    """
    right = probabilities[np.arange(len(gold)), gold]
    return float((np.square(probabilities).sum(axis=1) - 2 * right + 1).mean())


def negative_log_likelihood(logits: np.ndarray, gold: np.ndarray) -> float:
    """Mean over examples, in nats.

    Args:
        logits: shape (examples, labels).
        gold: shape (examples,), label indices.
    """
    return float(-log_softmax(logits, axis=1)[np.arange(len(gold)), gold].mean())


def fit_temperature(logits: np.ndarray, gold: np.ndarray) -> float:
    """The temperature that makes the gold labels likeliest (Guo et al. 2017, section 4.2).

    The loss is convex in 1 / T, so it has one minimum in log T as well.

    Args:
        logits: shape (examples, labels), of examples that were not trained on.
        gold: shape (examples,), label indices.

    Returns:
        What to divide logits by, between 0.01 and 100; above 1 where the classifier is too sure. 1 where it makes no
        mistake: colder would always be better there, and its first mistake elsewhere would cost all the more.
    """
    if (logits.argmax(axis=1) == gold).all():
        return 1.0
    bounds = (math.log(COLDEST), math.log(HOTTEST))
    best = minimize_scalar(
        lambda log_temperature: negative_log_likelihood(logits / math.exp(log_temperature), gold),
        bounds=bounds,
        method="bounded",
        options={"xatol": 1e-6},
    )
    return math.exp(best.x)


def calibration_scores(logits: np.ndarray, gold: np.ndarray) -> dict[str, float]:
    """How far the probabilities can be believed.

    Args:
        logits: shape (examples, labels).
        gold: shape (examples,), label indices.

    Returns:
        ``loss`` (mean negative log-likelihood, nats), ``ece`` (15 bins of equal width), ``ece_mass`` (of equal mass)
        and ``brier``.
    """
    probabilities = softmax(logits, axis=1)
    confidence, correct = probabilities.max(axis=1), logits.argmax(axis=1) == gold
    return {
        "loss": negative_log_likelihood(logits, gold),
        "ece": expected_calibration_error(reliability_bins(confidence, correct)),
        "ece_mass": expected_calibration_error(equal_mass_bins(confidence, correct)),
        "brier": brier_score(probabilities, gold),
    }
