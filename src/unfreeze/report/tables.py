"""Tables that the page searches, filters and sorts: too many rows to stand in it as markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from unfreeze.analysis.mistakes import Answers, confident_mistakes, flips
from unfreeze.analysis.verdict import turned
from unfreeze.report.figures.figure import run_labels
from unfreeze.study import EQUIVALENCE

Row = dict[str, Any]

MISTAKES_PER_RUN = 60
EXAMPLES_PER_PAIR = 12


@dataclass(frozen=True)
class Table:
    """Rows for the page.

    Attributes:
        name: short and unique in a page; also its file name.
        title: what is listed.
        columns: heading and kind: ``text``, ``choice`` (text to filter by), ``count``, ``percent``, ``points`` (a
            difference of shares) or ``decimal``.
        rows: one list a row, in the order of the columns.
        note: what the reader must know about them.
    """

    name: str
    title: str
    columns: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[Any]]
    note: str = ""

    @property
    def payload(self) -> Row:
        """What the page's script is given."""
        columns = [{"label": label, "kind": kind} for label, kind in self.columns]
        return {"name": self.name, "columns": columns, "rows": self.rows}


def text_columns(examples: pa.Table) -> list[str]:
    """Headings of the texts: premise and hypothesis, or text alone."""
    return ["premise", "hypothesis"] if examples["hypothesis"].null_count < len(examples) else ["text"]


def texts(examples: pa.Table, indices: Sequence[int] | np.ndarray) -> list[list[str]]:
    """The texts of some examples, one list each."""
    chosen = examples.take(pa.array(indices, pa.int64()))
    columns = [chosen["premise"].to_pylist()]
    if len(text_columns(examples)) == 2:
        columns.append([text or "" for text in chosen["hypothesis"].to_pylist()])
    return [list(row) for row in zip(*columns, strict=True)]


def pair_decisions(comparison: Row) -> Table | None:
    """Every pair of strategies: its difference, what was decided, and what would settle it; None where there is none.

    Args:
        comparison: the content of ``comparison.json``.
    """
    strategies = comparison["strategies"]
    several = len({strategy["encoder"] for strategy in strategies}) > 1
    names = [f"{row['strategy']} on {row['encoder']}" if several else row["strategy"] for row in strategies]
    pairs = [pair if pair["difference"] >= 0 else turned(pair) for pair in comparison["pairs"]]
    pairs.sort(key=lambda pair: [-strategies[pair[side]]["accuracy"]["mean"] for side in ("a", "b")])
    rows = [
        [
            names[pair["a"]],
            pair["decision"],
            names[pair["b"]],
            pair["difference"],
            *(pair["interval"] or (None, None)),
            pair["p_holm"],
            pair.get("detectable"),
            *((pair.get("to_settle") or {}).get(key) for key in ("seeds", "test_examples")),
        ]
        for pair in pairs
    ]
    columns = [
        ("Strategy", "choice"),
        ("Decision", "choice"),
        ("Beside", "choice"),
        ("Difference", "points"),
        ("95 % from", "points"),
        ("to", "points"),
        ("p (Holm)", "decimal"),
        ("Could find", "points"),
        ("Seeds to settle", "count"),
        ("Examples to settle", "count"),
    ]
    margin = 100 * comparison.get("equivalence", EQUIVALENCE)
    note = (
        f"Differences in points of accuracy. Equivalent means within ±{margin:g} (two one-sided tests). What this "
        "study could find is the difference it had an 80 % chance of finding. Undecided pairs say how many seeds of "
        "each strategy, or how many test examples, would settle a difference of the size seen; a dash there means that "
        "more of it alone would not."
    )
    return Table("pairs", "Every pair of strategies", columns, rows, note) if rows else None


def class_report(runs: Sequence[Row]) -> Table:
    """Precision, recall, F1 and support of every class in every run.

    Args:
        runs: rows of ``results.json`` that finished.
    """
    keys = ("precision", "recall", "f1", "support")
    rows = [
        [name, label, *(scores[key] for key in keys)]
        for row, name in zip(runs, run_labels(runs), strict=True)
        for label, scores in row["metrics"]["test"]["per_class"].items()
    ]
    kinds = ("choice", "choice", "percent", "percent", "percent", "count")
    headings = ("Run", "Class", "Precision", "Recall", "F1", "Support")
    return Table("classes", "Every class", list(zip(headings, kinds, strict=True)), rows)


def calibration_report(runs: Sequence[Row]) -> Table:
    """Calibration of every run on test, as trained and with a temperature fitted on validation.

    Args:
        runs: rows of ``results.json`` that finished; what older ones did not measure is a dash.
    """
    rows = []
    for row, name in zip(runs, run_labels(runs), strict=True):
        before, after = row["metrics"]["test"], row["metrics"]["test"].get("calibrated", {})
        scores = [side.get(key) for key in ("ece", "ece_mass", "brier", "loss") for side in (before, after)]
        rows.append([name, after.get("temperature"), *scores])
    names = (("ECE", "percent"), ("ECE, equal mass", "percent"), ("Brier", "decimal"), ("Loss", "decimal"))
    scores = [column for name, kind in names for column in ((name, kind), ("scaled", kind))]
    note = (
        "“Scaled”: after dividing the logits by a temperature fitted on validation, which changes no answer. Above 1, "
        "the classifier was too sure. Expected calibration error (ECE) is over 15 bins, of equal width or equal mass."
    )
    columns = [("Run", "choice"), ("Temperature", "decimal"), *scores]
    return Table("calibration-scores", "Calibration before and after temperature scaling", columns, rows, note)


def sure_mistakes(
    runs: Sequence[Row], answers: Mapping[str, Answers], examples: pa.Table, labels: Sequence[str]
) -> Table:
    """The most confident mistakes of every run, with how many of the runs get the example wrong.

    Args:
        runs: rows with ``run_id``, ``encoder``, ``strategy`` and ``seed``.
        answers: test answers by run id.
        examples: the test split.
        labels: class names.
    """
    wrong_in = np.sum([answers[row["run_id"]].wrong for row in runs], axis=0)
    rows = []
    for row, name in zip(runs, run_labels(runs), strict=True):
        run = answers[row["run_id"]]
        chosen = confident_mistakes(run, MISTAKES_PER_RUN)
        for index, example in zip(chosen, texts(examples, chosen), strict=True):
            gold, predicted = labels[run.gold[index]], labels[run.predicted[index]]
            rows.append([name, *example, gold, predicted, round(float(run.confidence[index]), 4), int(wrong_in[index])])
    headings = ["Run", *(column.capitalize() for column in text_columns(examples)), "Gold", "Predicted"]
    kinds = ["choice", *("text" for _ in text_columns(examples)), "choice", "choice"]
    columns = [
        *zip(headings, kinds, strict=True),
        ("Confidence", "percent"),
        (f"Wrong in (of {len(runs)} runs)", "count"),
    ]
    note = f"The {MISTAKES_PER_RUN} surest mistakes of each run."
    return Table("sure-mistakes", "The most confident mistakes", columns, rows, note)


def flip_payload(
    runs: Sequence[Row], answers: Mapping[str, Answers], examples: pa.Table, labels: Sequence[str]
) -> Row | None:
    """What changes between any two runs: counts over the whole split, and some of the examples.

    Args:
        runs: rows with ``run_id``, ``encoder``, ``strategy`` and ``seed``; one for each strategy.
        answers: test answers by run id.
        examples: the test split.
        labels: class names.

    Returns:
        What the page's script is given; None where there are no two runs.
    """
    if len(runs) < 2:
        return None
    chosen: list[int] = []
    counts = {}
    for a, b in combinations(range(len(runs)), 2):
        first, second = answers[runs[a]["run_id"]], answers[runs[b]["run_id"]]
        counts[f"{a}-{b}"] = flips(first, second)
        # Examples that one is surest of and the other gets wrong say most about the difference.
        for right, wrong in ((first, second), (second, first)):
            differs = (~right.wrong & wrong.wrong).nonzero()[0]
            chosen += differs[np.argsort(-wrong.confidence[differs], kind="stable")[: EXAMPLES_PER_PAIR // 2]].tolist()
    indices = sorted(set(chosen))
    gold = answers[runs[0]["run_id"]].gold
    predicted = np.stack([answers[row["run_id"]].predicted for row in runs])
    shown = [
        {"texts": example, "gold": int(gold[index]), "predicted": predicted[:, index].tolist()}
        for index, example in zip(indices, texts(examples, indices), strict=True)
    ]
    headings = [column.capitalize() for column in text_columns(examples)]
    return {"runs": run_labels(runs), "labels": list(labels), "headings": headings, "counts": counts, "examples": shown}
