"""How good one run's predictions are, as numbers that JSON can hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from unfreeze.analysis.calibration import calibration_scores, fit_temperature
from unfreeze.records import logits_array


def evaluate(predictions: pa.Table, labels: Sequence[str]) -> dict[str, Any]:
    """Score a :data:`~unfreeze.records.PREDICTIONS` table.

    Args:
        predictions: at least one row.
        labels: class names, indexed by ``gold`` and ``predicted``.

    Returns:
        ``accuracy``, ``macro_f1`` (over the classes that are gold or predicted at least once, as scikit-learn does),
        ``loss``, ``ece``, ``ece_mass`` and ``brier`` (:func:`~unfreeze.analysis.calibration.calibration_scores`),
        ``mistakes`` (a count), ``per_class`` (label → precision, recall, f1, support; 0 where undefined) and
        ``confusion`` (counts, rows gold).
    """
    gold = predictions["gold"].to_numpy()
    predicted = predictions["predicted"].to_numpy()
    confusion = confusion_matrix(gold, predicted, labels=range(len(labels)))
    scores = precision_recall_fscore_support(gold, predicted, labels=range(len(labels)), zero_division=0)
    seen = confusion.sum(axis=0) + confusion.sum(axis=1) > 0
    keys = ("precision", "recall", "f1", "support")
    return {
        "accuracy": float((gold == predicted).mean()),
        "macro_f1": float(scores[2][seen].mean()),
        **calibration_scores(logits_array(predictions).astype(np.float64), gold),
        "mistakes": int((gold != predicted).sum()),
        "per_class": {
            label: dict(zip(keys, row, strict=True))
            for label, row in zip(labels, zip(*(column.tolist() for column in scores), strict=True), strict=True)
        },
        "confusion": confusion.tolist(),
    }


def calibrated(validation: pa.Table, test: pa.Table) -> dict[str, float]:
    """Score the test probabilities after temperature scaling fitted on validation; the answers stay what they were.

    Args:
        validation: a :data:`~unfreeze.records.PREDICTIONS` table.
        test: another, of the same run.

    Returns:
        ``temperature`` and what :func:`~unfreeze.analysis.calibration.calibration_scores` gives with it.
    """
    known, unseen = (logits_array(split).astype(np.float64) for split in (validation, test))
    temperature = fit_temperature(known, validation["gold"].to_numpy())
    return {"temperature": temperature, **calibration_scores(unseen / temperature, test["gold"].to_numpy())}
