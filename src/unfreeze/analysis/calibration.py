"""Does a probability of 0.8 come true in 80 of 100 cases?"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

BINS = 15


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
    edges = np.linspace(0, 1, bins + 1)
    # Inner edges only: rounding may carry a probability past 1, and it belongs to the last bin.
    which = np.digitize(confidence, edges[1:-1], right=True)
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
        bins: what :func:`reliability_bins` returns.

    Returns:
        ECE between 0 and 1 (Guo et al. 2017, *On Calibration of Modern Neural Networks*, equation 3).
    """
    gap = np.abs(bins["accuracy"].to_numpy() - bins["confidence"].to_numpy())
    count = bins["count"].to_numpy()
    return float(np.nansum(gap * count) / max(count.sum(), 1))
