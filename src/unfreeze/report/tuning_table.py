"""What was tried before the grid."""

from __future__ import annotations

from typing import Any

from unfreeze.report.figures.figure import join
from unfreeze.report.formats import seconds, told
from unfreeze.report.tables import Table

Row = dict[str, Any]


def tuning_report(tuning: Row) -> Table:
    """Every trial of every strategy, the chosen one marked.

    Args:
        tuning: the content of ``tuning.json``.
    """
    searches = tuning["searches"]
    several = len({search["encoder"] for search in searches}) > 1
    names = [f"{row['strategy']} on {row['encoder']}" if several else row["strategy"] for row in searches]
    rows = [
        [
            name,
            told(trial["choice"]),
            "chosen" if trial["choice"] == search["chosen"] else trial["status"],
            *(trial[key] for key in ("accuracy", "loss", "epochs", "seconds")),
        ]
        for name, search in zip(names, searches, strict=True)
        for trial in search["trials"]
    ]
    columns = [
        ("Strategy", "choice"),
        ("Tried", "text"),
        ("Outcome", "choice"),
        ("Validation accuracy", "percent"),
        ("Loss", "decimal"),
        ("Epochs", "count"),
        ("Seconds", "decimal"),
    ]
    return Table("tuning", "Tuning", columns, rows, _note(tuning, names))


def _note(tuning: Row, names: list[str]) -> str:
    searches, trials = tuning["searches"], tuning["trials"]
    given = f"{trials} trials" if trials else f"{seconds(tuning['seconds'])} of training and validation"
    fewer = [name for name, row in zip(names, searches, strict=True) if trials and row["candidates"] < trials]
    note = (
        f"Each strategy had {given} on each encoder with seed {tuning['seed']}, before the runs of this report and on "
        "other seeds than theirs. The highest validation accuracy was chosen, the lower loss among equals; no trial "
        "read the test split. Where the best learning rate stood at an end of its range, up to two more were tried."
    )
    if fewer:
        note += f" {join(fewer)} had fewer candidates than that."
    return f"{note} All together {seconds(sum(row['seconds'] for row in searches))}."
