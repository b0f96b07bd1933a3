"""What every run had of an equal budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unfreeze.report.figures.compute import MEMORY
from unfreeze.report.figures.figure import run_labels
from unfreeze.report.tables import Table

Row = dict[str, Any]

NOTES = {
    "steps": "Batches and epochs are each recipe's.",
    "seconds": (
        "Time is that of training; evaluation, and a frozen prefix that runs share, are nobody's. What a step takes "
        "was measured before the first run, and no clock stops one, so what was taken differs from what was given."
    ),
    "memory": (
        "Memory is that of weights, gradients, optimiser state and what the largest batch saves for its backward pass, "
        "not what an allocator holds. Batch sizes hold the longest examples, which need not meet in one batch."
    ),
    "flops": (
        "FLOPs are those of training, forward and backward; evaluation, and a frozen prefix that runs share, are "
        "nobody's. The last epoch may be cut short and is evaluated at its end."
    ),
}


def budget_report(compared_at: Row, runs: Sequence[Row]) -> Table:
    """Batch size, steps and what they took of the budget, for every run.

    Args:
        compared_at: ``kind``, ``limits`` by encoder and ``sentences``.
        runs: rows of ``results.json`` that finished.
    """
    kind = compared_at["kind"]
    rows = []
    for row, name in zip(runs, run_labels(runs), strict=True):
        limit, spent = compared_at["limits"].get(row["encoder"]), _spent(kind, row)
        share = spent / limit if limit and spent is not None else None
        rows.append([name, row["recipe"]["batch_size"], row["steps"], row["epochs"], spent, share])
    columns = [
        ("Run", "choice"),
        ("Batch size", "count"),
        ("Steps", "count"),
        ("Epochs", "count"),
        ({"steps": "Steps taken", "seconds": "Seconds", "memory": "Bytes", "flops": "FLOPs"}[kind], "count"),
        ("Of the budget", "percent"),
    ]
    note = " ".join([*compared_at["sentences"], NOTES[kind]])
    return Table("budget", f"Equal {compared_at['name']}", columns, rows, note)


def _spent(kind: str, row: Mapping[str, Any]) -> float | None:
    cost = row["cost"]
    if kind == "memory":
        parts = [cost.get(key) for key, _ in MEMORY]
        return None if None in parts else float(sum(parts))
    spent: float | None = {"steps": row["steps"], "seconds": cost["train_seconds"], "flops": cost["flops"]}[kind]
    return spent
