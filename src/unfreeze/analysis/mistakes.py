"""What runs get wrong, how surely, and whether they get the same things wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy.special import softmax

from unfreeze.records import logits_array


@dataclass(frozen=True)
class Answers:
    """A run's predictions as arrays of shape (examples,).

    Attributes:
        gold: label indices.
        predicted: label indices.
        confidence: probability of the predicted label.
        gold_probability: probability of the gold label.
    """

    gold: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    gold_probability: np.ndarray

    @property
    def wrong(self) -> np.ndarray:
        """Which examples are mistakes."""
        return np.asarray(self.gold != self.predicted)

    @property
    def gap(self) -> np.ndarray:
        """Predicted minus gold probability: 0 where right, up to 1 for a mistake made without doubt."""
        return np.asarray(self.confidence - self.gold_probability)


def answers(predictions: pa.Table) -> Answers:
    """Read a :data:`~unfreeze.records.PREDICTIONS` table."""
    gold, predicted = predictions["gold"].to_numpy(), predictions["predicted"].to_numpy()
    probabilities = softmax(logits_array(predictions), axis=1)
    rows = np.arange(len(gold))
    return Answers(gold, predicted, probabilities[rows, predicted], probabilities[rows, gold])


def mistake_counts(run: Answers, labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Gold and predicted labels among the mistakes, each a count of shape (labels,)."""
    wrong = run.wrong
    return (
        np.bincount(run.gold[wrong], minlength=labels),
        np.bincount(run.predicted[wrong], minlength=labels),
    )


def gap_quantiles(run: Answers, label: int | None = None) -> list[float] | None:
    """How wrong its mistakes are: the 5, 25, 50, 75 and 95 % quantiles of :attr:`Answers.gap` among them.

    Args:
        run: its answers.
        label: only mistakes on this gold label; None takes all.

    Returns:
        None where there is no mistake.
    """
    chosen = run.wrong if label is None else run.wrong & (run.gold == label)
    return np.quantile(run.gap[chosen], (0.05, 0.25, 0.5, 0.75, 0.95)).tolist() if chosen.any() else None


def confident_mistakes(run: Answers, most: int) -> np.ndarray:
    """Indices of the mistakes with the largest :attr:`Answers.confidence`, surest first."""
    wrong = run.wrong.nonzero()[0]
    return np.asarray(wrong[np.argsort(-run.confidence[wrong], kind="stable")[:most]])


def jaccard(wrong: np.ndarray) -> np.ndarray:
    """Share of the mistakes of either of two runs that both make (Jaccard 1901).

    Args:
        wrong: shape (runs, examples), booleans.

    Returns:
        Shape (runs, runs); NaN where neither makes a mistake.
    """
    # float32 counts exactly up to 16 million and lets BLAS do the work.
    both = wrong.astype(np.float32) @ wrong.T.astype(np.float32)
    either = both.diagonal()[:, None] + both.diagonal() - both
    return np.asarray(np.divide(both, either, out=np.full_like(both, np.nan), where=either > 0), np.float64)


def intersections(wrong: np.ndarray) -> list[tuple[tuple[int, ...], int]]:
    """How many examples exactly these runs get wrong and the others right, most frequent first.

    Args:
        wrong: shape (sets, examples), booleans.

    Returns:
        Members and count of each combination that occurs, without that of no mistake.
    """
    patterns, counts = np.unique(wrong, axis=1, return_counts=True)
    found = [(tuple(np.flatnonzero(p).tolist()), int(n)) for p, n in zip(patterns.T, counts, strict=True) if p.any()]
    return sorted(found, key=lambda item: (-item[1], item[0]))


def flips(a: Answers, b: Answers) -> dict[str, int]:
    """What changes from one run to another, as counts of examples.

    Returns:
        ``both_right``, ``only_a`` and ``only_b`` (right in one alone), ``same_mistake`` and ``other_mistake``.
    """
    both_wrong = a.wrong & b.wrong
    same = a.predicted == b.predicted
    return {
        "both_right": int((~a.wrong & ~b.wrong).sum()),
        "only_a": int((~a.wrong & b.wrong).sum()),
        "only_b": int((a.wrong & ~b.wrong).sum()),
        "same_mistake": int((both_wrong & same).sum()),
        "other_mistake": int((both_wrong & ~same).sum()),
    }
