"""Error rates of parts of the test split: by length, by word overlap of a pair, by negation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
from scipy import stats

WORD = re.compile(r"\w+(?:['’]\w+)*")
NEGATION = re.compile(r"\b(?:no|not|never|none|nobody|nothing|nowhere|neither|nor|without|cannot)\b|n['’]t\b")


def words(text: str | None) -> list[str]:
    """The words of a text, in lower case; none for no text."""
    return WORD.findall(text.lower()) if text else []


def slices(examples: pa.Table) -> dict[str, list[tuple[str, np.ndarray]]]:
    """Cut a split into parts that may be harder than others.

    Args:
        examples: schema :data:`~unfreeze.records.EXAMPLES`.

    Returns:
        For each way to cut (``length``; ``word overlap`` for pairs; ``negation``), labels and boolean masks of shape
        (examples,). Parts without an example are left out.
    """
    premise = [words(text) for text in examples["premise"].to_pylist()]
    hypothesis = [words(text) for text in examples["hypothesis"].to_pylist()]
    length = np.array([len(a) + len(b) for a, b in zip(premise, hypothesis, strict=True)])
    found = {"length": _quarters(length)}
    last = examples["premise"].to_pylist()
    if examples["hypothesis"].null_count < len(examples):
        overlap = [len(set(a) & set(b)) / max(len(set(b)), 1) for a, b in zip(premise, hypothesis, strict=True)]
        found["word overlap"] = _fifths(np.array(overlap))
        last = examples["hypothesis"].to_pylist()
    negated = np.array([bool(NEGATION.search((text or "").lower())) for text in last])
    found["negation"] = [("without", ~negated), ("with", negated)]
    return {name: [(label, mask) for label, mask in parts if mask.any()] for name, parts in found.items()}


def _quarters(length: np.ndarray) -> list[tuple[str, np.ndarray]]:
    edges = np.unique(np.quantile(length, (0, 0.25, 0.5, 0.75, 1), method="lower"))
    if len(edges) == 1:
        return [(f"{edges[0]} words", length == edges[0])]
    parts = []
    for low, high in pairwise(edges.tolist()):
        last = high == edges[-1]
        shown = f"{low}–{high if last else high - 1} words" if last or high - 1 > low else f"{low} words"
        parts.append((shown, (length >= low) & ((length <= high) if last else (length < high))))
    return parts


def _fifths(share: np.ndarray) -> list[tuple[str, np.ndarray]]:
    which = np.minimum((share * 5).astype(int), 4)
    return [(f"{20 * part}–{20 * part + 20} %", which == part) for part in range(5)]


def error_rates(wrong: np.ndarray, parts: Sequence[tuple[str, np.ndarray]]) -> list[dict[str, float | int | str]]:
    """Share of mistakes in each part, with a 95 % interval (Wilson 1927).

    Args:
        wrong: shape (examples,).
        parts: labels and masks of :func:`slices`.
    """
    rows: list[dict[str, float | int | str]] = []
    for label, mask in parts:
        mistakes, count = int(wrong[mask].sum()), int(mask.sum())
        interval = stats.binomtest(mistakes, count).proportion_ci(method="wilson")
        rows.append(
            {
                "part": label,
                "examples": count,
                "mistakes": mistakes,
                "error_rate": mistakes / count,
                "low": float(interval.low),
                "high": float(interval.high),
            }
        )
    return rows
