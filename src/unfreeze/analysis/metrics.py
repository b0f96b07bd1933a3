"""How good one run's predictions are, as numbers that JSON can hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.special import log_softmax
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from unfreeze.analysis.calibration import expected_calibration_error, reliability_bins
from unfreeze.records import logits_array


def evaluate(predictions: pa.Table, labels: Sequence[str]) -> dict[str, Any]:
    """Score a :data:`~unfreeze.records.PREDICTIONS` table.

    Args:
        predictions: at least one row.
        labels: class names, indexed by ``gold`` and ``predicted``.

    Returns:
        ``accuracy``, ``macro_f1`` (over the classes that are gold or predicted at least once, as scikit-learn does),
        ``loss`` (mean negative log-likelihood, nats), ``ece`` (15 bins), ``mistakes`` (a count), ``per_class``
        (label → precision, recall, f1, support; 0 where undefined) and ``confusion`` (counts, rows gold).
    """
    gold = predictions["gold"].to_numpy()
    predicted = predictions["predicted"].to_numpy()
    log_probabilities = log_softmax(logits_array(predictions).astype(np.float64), axis=1)
    confusion = confusion_matrix(gold, predicted, labels=range(len(labels)))
    scores = precision_recall_fscore_support(gold, predicted, labels=range(len(labels)), zero_division=0)
    seen = confusion.sum(axis=0) + confusion.sum(axis=1) > 0
    keys = ("precision", "recall", "f1", "support")
    return {
        "accuracy": float((gold == predicted).mean()),
        "macro_f1": float(scores[2][seen].mean()),
        "loss": float(-log_probabilities[np.arange(len(gold)), gold].mean()),
        "ece": expected_calibration_error(reliability_bins(np.exp(log_probabilities.max(axis=1)), gold == predicted)),
        "mistakes": int((gold != predicted).sum()),
        "per_class": {
            label: dict(zip(keys, row, strict=True))
            for label, row in zip(labels, zip(*(column.tolist() for column in scores), strict=True), strict=True)
        },
        "confusion": confusion.tolist(),
    }
