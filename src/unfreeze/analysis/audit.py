"""What accuracy on the test split is made of: premises known from training, telltale hypotheses, clear labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import stats
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax

from unfreeze.analysis.decisions import wilson
from unfreeze.records import logits_array

Row = dict[str, Any]
Parts = list[tuple[str, np.ndarray]]

FEWEST_VOTES = 2  # one annotator cannot disagree


def audit_parts(train: pa.Table, test: pa.Table, hypothesis_only_wrong: np.ndarray | None = None) -> dict[str, Parts]:
    """Cut the test split by what may make it easy.

    Args:
        train: schema :data:`~unfreeze.records.EXAMPLES`.
        test: the same, perhaps with :data:`~unfreeze.records.VOTES`.
        hypothesis_only_wrong: shape (test examples,), what a hypothesis-only baseline gets wrong: a "hard" subset as
            Gururangan et al. (2018) cut with fastText; ours are cut with logistic regression on frozen embeddings.

    Returns:
        For each cut that has more than one part, labels and boolean masks of shape (test examples,).
    """
    first = "premise" if test["hypothesis"].null_count < len(test) else "text"
    known = pc.utf8_trim_whitespace(train["premise"]).combine_chunks()
    seen = pc.is_in(pc.utf8_trim_whitespace(test["premise"]), known).to_numpy()
    grouped = np.isin(test["group"].to_numpy(), train["group"].to_numpy())
    cuts: dict[str, Parts] = {f"{first} in training": [("new", ~seen), ("seen", seen)]}
    if (grouped != seen).any():
        cuts["group in training"] = [("new", ~grouped), ("seen", grouped)]
    if hypothesis_only_wrong is not None:
        cuts["hypothesis alone"] = [("right", ~hypothesis_only_wrong), ("wrong (hard)", hypothesis_only_wrong)]
    votes = _votes(test)
    if votes is not None:
        cuts["annotators for gold"] = _agreement(votes, test["gold"].to_numpy())
    filled = {name: [(label, mask) for label, mask in parts if mask.any()] for name, parts in cuts.items()}
    return {name: parts for name, parts in filled.items() if len(parts) > 1}


def _votes(examples: pa.Table) -> np.ndarray | None:
    """Votes of shape (examples, labels), zeros where they are not known or too few; None where no example has any."""
    if "votes" not in examples.column_names or examples["votes"].null_count == len(examples):
        return None
    rows = examples["votes"].to_pylist()
    labels = len(next(row for row in rows if row))
    votes = np.array([row or [0] * labels for row in rows])
    votes[votes.sum(axis=1) < FEWEST_VOTES] = 0
    return votes if votes.any() else None


def _agreement(votes: np.ndarray, gold: np.ndarray) -> Parts:
    total, agreed = votes.sum(axis=1), votes[np.arange(len(gold)), gold]
    found = {(int(a), int(n)) for a, n in zip(agreed, total, strict=True) if n}
    order = sorted(found, key=lambda pair: (-pair[0] / pair[1], -pair[1]))
    return [(f"{a} of {n}", (agreed == a) & (total == n)) for a, n in order]


def accuracy_in(correct: np.ndarray, parts: Sequence[tuple[str, np.ndarray]]) -> list[Row]:
    """Accuracy of one strategy in each part, with a 95 % interval over its examples (Wilson 1927).

    Seeds answer the same examples, so that more of them make the interval no narrower: it is that of their mean.

    Args:
        correct: shape (seeds, examples).
        parts: what :func:`audit_parts` gives for one cut.
    """
    rows = []
    for label, mask in parts:
        accuracy, count = float(correct[:, mask].mean()), int(mask.sum())
        low, high = wilson(accuracy, float(stats.norm.ppf(0.975)) ** 2 / count)
        rows.append({"part": label, "examples": count, "accuracy": accuracy, "low": low, "high": high})
    return rows


def human_divergence(predictions: pa.Table, examples: pa.Table) -> Row | None:
    """How far a run's probabilities are from the shares of annotators' labels, averaged over examples.

    Args:
        predictions: a run's answers to ``examples``.
        examples: with or without :data:`~unfreeze.records.VOTES`.

    Returns:
        ``examples`` (those with two annotators or more), ``kl`` (of the run from the annotators) and ``js``
        (Jensen-Shannon), both in nats; None where no example has them. Nie et al. 2020, *What Can We Learn from
        Collective Human Opinions on Natural Language Inference Data?*
    """
    votes = _votes(examples)
    if votes is None:
        return None
    known = votes.any(axis=1)
    humans = votes[known] / votes[known].sum(axis=1, keepdims=True)
    run = softmax(logits_array(predictions)[known].astype(np.float64), axis=1)
    # Of equal distributions rounding makes the root of less than nothing.
    distance = np.nan_to_num(jensenshannon(humans, run, axis=1))
    return {
        "examples": int(known.sum()),
        "kl": float(stats.entropy(humans, run, axis=1).mean()),
        "js": float((distance**2).mean()),
    }
