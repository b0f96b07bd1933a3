"""What costs next to nothing, and what every trained strategy is to be held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from unfreeze.analysis.compare import compare

Row = dict[str, Any]

MAJORITY = "majority class"
FROZEN = "frozen embeddings"
HYPOTHESIS_ONLY = "hypothesis-only, frozen embeddings"

# Inverse strengths of regularisation, on standardised features. On 18,000 SNLI pairs of MiniLM 0.001 is best (71.7 %;
# 71.1 % at the ends), and each step up takes more than the one before: 1.5, 1.6, 4.3 and 6.9 s.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
ROWS_AT_ONCE = 8192  # features of a large test split need not fit in memory all together
LOG_FLOOR = -50.0  # in place of log 0: e^-50 is no probability to speak of, and JSON holds no infinite loss

Features = Callable[[slice], np.ndarray]


def majority_logits(train_gold: np.ndarray, labels: int, rows: int) -> np.ndarray:
    """Always the shares of the classes in training: float32 log-probabilities of shape (rows, labels)."""
    share = np.bincount(train_gold, minlength=labels) / len(train_gold)
    return np.tile(np.log(np.maximum(share, np.exp(LOG_FLOOR))).astype(np.float32), (rows, 1))


def pair_features(premise: np.ndarray, hypothesis: np.ndarray) -> np.ndarray:
    """Both embeddings, the size of their difference and their product (InferSent, Conneau et al. 2017).

    Args:
        premise: shape (pairs, hidden).
        hypothesis: shape (pairs, hidden).

    Returns:
        Shape (pairs, 4 × hidden).
    """
    return np.hstack([premise, hypothesis, np.abs(premise - hypothesis), premise * hypothesis])


def fit_logistic_regression(
    train: np.ndarray, train_gold: np.ndarray, validation: np.ndarray, validation_gold: np.ndarray
) -> tuple[Pipeline, float]:
    """Multinomial logistic regression on standardised features.

    Args:
        train: shape (train examples, features).
        train_gold: label indices.
        validation: shape (validation examples, features); decides the regularisation by accuracy.
        validation_gold: label indices.

    Returns:
        The model and its C; the stronger regularisation among equals.
    """
    fitted: list[tuple[float, float, Pipeline]] = []
    for strength in STRENGTHS:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300))
        model.fit(train, train_gold)
        fitted.append((float(model.score(validation, validation_gold)), strength, model))
    _, strength, model = max(fitted, key=lambda found: found[0])
    return model, strength


def model_logits(model: Pipeline, features: Features, rows: int, labels: int) -> np.ndarray:
    """Float32 log-probabilities of shape (rows, labels).

    Args:
        model: what :func:`fit_logistic_regression` returns.
        features: of a slice of the examples.
        rows: how many examples there are.
        labels: how many classes; one that the model never saw gets :data:`LOG_FLOOR`.
    """
    logits = np.full((rows, labels), LOG_FLOOR, np.float32)
    for start in range(0, rows, ROWS_AT_ONCE):
        part = slice(start, min(start + ROWS_AT_ONCE, rows))
        logits[part, model.classes_] = np.maximum(model.predict_log_proba(features(part)), LOG_FLOOR)
    return logits


def against_baselines(
    results: Sequence[Row], baselines: Sequence[Row], predictions: Callable[[str], pa.Table], groups: np.ndarray
) -> list[Row]:
    """Hold every strategy against each baseline that reads all of the text.

    Args:
        results: rows of ``results.json`` that finished.
        baselines: rows of ``baselines.json``.
        predictions: the test predictions of a run or baseline id.
        groups: shape (examples,), as :func:`unfreeze.analysis.compare.compare` takes them.

    Returns:
        One row for each pair: ``encoder`` and ``strategy``, ``baseline`` and ``baseline_encoder``, ``accuracy`` of
        the baseline, ``difference`` (strategy less baseline) and ``interval`` (95 %, null where there is none).
    """
    whole = [row for row in baselines if row["name"] == FROZEN and row["status"] == "finished"]
    if not whole or not results:
        return []
    unmeasured = dict.fromkeys(results[0]["cost"])
    entries = [
        {**results[0], "run_id": row["baseline_id"], "encoder": row["encoder"], "strategy": row["name"], "seed": None}
        | {"metrics": row["metrics"], "cost": unmeasured}
        for row in whole
    ]
    found = compare([*results, *entries], predictions, groups)
    strategies, first = found["strategies"], len(found["strategies"]) - len(entries)
    return [
        {
            "encoder": strategies[pair["a"]]["encoder"],
            "strategy": strategies[pair["a"]]["strategy"],
            "baseline": strategies[pair["b"]]["strategy"],
            "baseline_encoder": strategies[pair["b"]]["encoder"],
            "accuracy": strategies[pair["b"]]["accuracy"]["mean"],
            "difference": pair["difference"],
            "interval": pair["interval"],
        }
        for pair in found["pairs"]
        if pair["a"] < first <= pair["b"] and strategies[pair["a"]]["encoder"] == strategies[pair["b"]]["encoder"]
    ]


def baseline_cautions(pairs: Sequence[Row]) -> list[str]:
    """Name the strategies that are not surely better than logistic regression on the same encoder, frozen.

    Args:
        pairs: what :func:`against_baselines` returns.
    """
    encoders = list(dict.fromkeys(pair["encoder"] for pair in pairs))
    sentences = []
    for encoder in encoders:
        level = [pair for pair in pairs if pair["encoder"] == encoder and not _surely_better(pair)]
        if level:
            on = f" of {encoder}" if len(encoders) > 1 else ""
            names = ", ".join(f"{pair['strategy']} ({100 * pair['difference']:+.1f} points)" for pair in level)
            sentences.append(
                f"Not better, beyond noise, than logistic regression on {FROZEN}{on} "
                f"({100 * level[0]['accuracy']:.1f} %): {names}."
            )
    return sentences


def _surely_better(pair: Row) -> bool:
    return bool(pair["interval"] and pair["interval"][0] > 0)
