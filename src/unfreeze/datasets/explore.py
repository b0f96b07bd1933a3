"""What the data look like before anything is trained: sizes, balance, lengths, duplicates, leakage, dropped rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unfreeze.records import SPLITS, Dataset

QUANTILES = {"min": 0, "p05": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99, "max": 1}
BINS = 40  # of the histogram of tokens, about
TOP = 0.995  # quantile of the longest split from which one last bin holds all: few long texts would flatten the rest
SAMPLES = 3  # examples shown of each class
LISTED = 10  # dropped rows shown of each reason


def explore(
    dataset: Dataset, token_lengths: Mapping[str, np.ndarray] | None = None, max_length: int | None = None
) -> dict[str, Any]:
    """Describe a dataset in plain JSON values.

    Args:
        dataset: split examples.
        token_lengths: for each split the untruncated tokens of every example, shape (examples,).
        max_length: tokens above which an example is truncated; its share is then told.

    Returns:
        ``name``, ``labels``, ``is_pair``, ``notes``; by split ``sizes``, ``label_counts``, ``lengths`` and ``tokens``;
        ``samples`` by label; ``duplicates``, ``overlap`` with train, and ``dropped``. The ``histogram`` of a split's
        tokens has ``edges``, the same in every split, and ``counts``, one fewer; the last bin has no upper end.
    """
    splits = {split: dataset.splits[split] for split in SPLITS}
    return {
        "name": dataset.name,
        "labels": list(dataset.labels),
        "is_pair": dataset.is_pair,
        "notes": list(dataset.notes),
        "sizes": {split: len(table) for split, table in splits.items()},
        "label_counts": {split: _label_counts(table, dataset.labels) for split, table in splits.items()},
        "samples": {label: _sample(splits["train"], gold) for gold, label in enumerate(dataset.labels)},
        "lengths": {split: _text_lengths(table, dataset.is_pair) for split, table in splits.items()},
        "tokens": _token_lengths(token_lengths or {}, max_length),
        "duplicates": _duplicates(splits),
        "overlap": {split: _overlap(splits["train"], splits[split]) for split in SPLITS[1:]},
        "dropped": _dropped(dataset.dropped),
    }


def _label_counts(table: pa.Table, labels: tuple[str, ...]) -> dict[str, int]:
    counts = np.bincount(table["gold"].to_numpy(), minlength=len(labels))
    return dict(zip(labels, counts.tolist(), strict=True))


def _sample(table: pa.Table, gold: int) -> list[dict[str, Any]]:
    """A few examples of one class, evenly spread over the split."""
    there = table.filter(pc.equal(table["gold"], gold)).select(["guid", "premise", "hypothesis"])
    places = np.linspace(0, len(there) - 1, min(SAMPLES, len(there))).astype(int)
    rows: list[dict[str, Any]] = there.take(pa.array(places)).to_pylist()
    return rows


def _text_lengths(table: pa.Table, is_pair: bool) -> dict[str, dict[str, dict[str, float]]]:
    columns = ("premise", "hypothesis") if is_pair else ("premise",)
    return {
        column: {
            "characters": _quantiles(pc.utf8_length(table[column]).to_numpy()),
            "words": _quantiles(pc.count_substring_regex(table[column], r"\S+").to_numpy()),
        }
        for column in columns
    }


def _token_lengths(by_split: Mapping[str, np.ndarray], max_length: int | None) -> dict[str, dict[str, Any]]:
    top = max((int(np.quantile(lengths, TOP)) for lengths in by_split.values()), default=0)
    edges = np.arange(0, top + 2, max(1, round(top / BINS)))
    found: dict[str, dict[str, Any]] = {}
    for split, lengths in by_split.items():
        counts = np.histogram(np.minimum(lengths, edges[-1]), edges)[0]
        found[split] = {**_quantiles(lengths), "histogram": {"edges": edges.tolist(), "counts": counts.tolist()}}
        if max_length is not None:
            share = float((lengths > max_length).mean())
            found[split] |= {"max_length": max_length, "truncated_share": share}
    return found


def _quantiles(lengths: np.ndarray) -> dict[str, float]:
    values = np.quantile(lengths, list(QUANTILES.values())).tolist()
    return {"mean": float(lengths.mean())} | dict(zip(QUANTILES, values, strict=True))


def _duplicates(splits: Mapping[str, pa.Table]) -> dict[str, dict[str, int]]:
    """By split: examples whose whole text stood there before, and texts that stand there with different labels."""
    found = {}
    for split, table in splits.items():
        texts = table.group_by(["premise", "hypothesis"]).aggregate([("gold", "count"), ("gold", "count_distinct")])
        conflicting = pc.sum(pc.greater(texts["gold_count_distinct"], 1)).as_py()
        found[split] = {"repeated": len(table) - len(texts), "conflicting": conflicting or 0}
    return found


def _overlap(train: pa.Table, other: pa.Table) -> dict[str, dict[str, float]]:
    """Number and share of a split's examples whose premise, group or whole text also stands in train."""
    pairs = {
        "premise": (other["premise"], train["premise"]),
        "group": (other["group"], train["group"]),
        "text": (_whole(other), _whole(train)),
    }
    known = {what: pc.sum(pc.is_in(here, there.unique())).as_py() or 0 for what, (here, there) in pairs.items()}
    return {what: {"count": count, "share": count / max(len(other), 1)} for what, count in known.items()}


def _whole(table: pa.Table) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(table["premise"], pc.fill_null(table["hypothesis"], ""), "\x1f")


def _dropped(dropped: pa.Table) -> list[dict[str, Any]]:
    """Reasons with their number of rows, the most frequent first, and where the first of them stood."""
    counts = sorted(dropped["reason"].value_counts().to_pylist(), key=lambda entry: -entry["counts"])
    return [
        {"reason": entry["values"], "count": entry["counts"], "first": _first(dropped, entry["values"])}
        for entry in counts
    ]


def _first(dropped: pa.Table, reason: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (
        dropped.filter(pc.equal(dropped["reason"], reason)).select(["source", "row"]).slice(0, LISTED).to_pylist()
    )
    return rows
