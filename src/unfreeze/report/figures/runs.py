"""How each run learned, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa

from unfreeze.report.figures.figure import (
    COLOURS,
    DASHES,
    SEQUENCE,
    Figure,
    blank,
    chooser,
    colour_of,
    plain,
    run_labels,
    visible,
)
from unfreeze.report.formats import count, percent

Row = dict[str, Any]

# What the reader can choose to see over training: label, kind of history line, its key, axis format.
CURVES = (
    ("Validation accuracy", "evaluation", "accuracy", ".0%"),
    ("Validation loss", "evaluation", "loss", ""),
    ("Training loss", "step", "loss", ""),
    ("Learning rate", "step", "learning_rate", ".1e"),
)
CELL_TEXT_LABELS = 10  # confusion matrices of more classes than this have no numbers in their cells, only on hover


def learning_curves(runs: Sequence[Row], histories: Mapping[str, Sequence[Row]]) -> Figure:
    """Loss, accuracy and learning rate over the epochs of every run.

    Args:
        runs: rows with ``run_id``, ``encoder``, ``strategy``, ``seed`` and ``best_epoch``.
        histories: the lines of ``history.jsonl`` by run id.
    """
    plot = blank(
        420,
        xaxis={"title": "Epochs", "dtick": _epoch_tick(histories)},
        yaxis={"title": CURVES[0][0], "tickformat": CURVES[0][3]},
    )
    colours = colour_of(row["strategy"] for row in runs)
    labels = run_labels(runs)
    points: dict[str, list[Any]] = {"run": [], "curve": [], "epochs": [], "value": []}
    for title, kind, key, _ in CURVES:
        for row, label in zip(runs, labels, strict=True):
            lines = [line for line in histories[row["run_id"]] if line["kind"] == kind]
            epochs = np.array([line["step"] for line in lines]) / _steps_per_epoch(histories[row["run_id"]])
            values = np.array([line[key] for line in lines], np.float32)
            plot.add_trace(_curve(row, label, epochs.astype(np.float32), values, colours, title == CURVES[0][0]))
            points["run"] += [label] * len(lines)
            points["curve"] += [title] * len(lines)
            points["epochs"] += epochs.tolist()
            points["value"] += [line[key] for line in lines]
    axes = [{"yaxis.title.text": title, "yaxis.tickformat": tickformat} for title, _, _, tickformat in CURVES]
    chooser(plot, ((CURVES[i][0], visible(i, len(CURVES), len(runs)), axis) for i, axis in enumerate(axes)))
    return Figure("learning-curves", "How each run learned", plot, pa.table(points), _still_rising(runs, histories))


def _curve(
    row: Row, label: str, epochs: np.ndarray, values: np.ndarray, colours: Mapping[str, str], shown: bool
) -> go.Scatter:
    return go.Scatter(
        x=epochs,
        y=values,
        name=plain(label),
        visible=shown,
        mode="lines+markers" if len(values) < 20 else "lines",
        line={"color": colours[row["strategy"]], "dash": DASHES[row["seed"] % len(DASHES)], "width": 1.8},
    )


def _steps_per_epoch(history: Sequence[Row]) -> float:
    return next((line["step"] / line["epoch"] for line in history if line["kind"] == "evaluation"), 1.0)


def _still_rising(runs: Sequence[Row], histories: Mapping[str, Sequence[Row]]) -> str:
    rising = sum(row["best_epoch"] == max(_epochs(histories[row["run_id"]]), default=0) for row in runs)
    return f"{rising} of {len(runs)} runs were best on validation at their last epoch."


def _epochs(history: Sequence[Row]) -> list[int]:
    return [line["epoch"] for line in history if line["kind"] == "evaluation"]


def _epoch_tick(histories: Mapping[str, Sequence[Row]]) -> int:
    """Whole epochs, ten at most."""
    return 1 + max((max(_epochs(history), default=1) for history in histories.values()), default=1) // 10


def confusion(runs: Sequence[Row], labels: Sequence[str]) -> Figure:
    """Confusion matrix of one run at a time: shares of each gold class, and counts.

    Args:
        runs: rows of ``results.json`` that finished.
        labels: class names.
    """
    names = [plain(label) for label in labels]
    side = max(320, min(900, 90 + 22 * len(labels)))
    axis = {"type": "category", "showgrid": False, "automargin": True}
    plot = blank(
        side if len(labels) > CELL_TEXT_LABELS else 420,
        xaxis={**axis, "title": "Predicted"},
        yaxis={**axis, "title": {"text": "Gold", "standoff": 8}, "autorange": "reversed"},
    )
    for index, row in enumerate(runs):
        counts = np.array(row["metrics"]["test"]["confusion"])
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        cells = [[f"{n}<br>{s:.0%}" for n, s in zip(*pair, strict=True)] for pair in zip(counts, shares, strict=True)]
        plot.add_trace(
            go.Heatmap(
                x=names,
                y=names,
                z=shares.astype(np.float32),
                customdata=counts,
                text=cells if len(labels) <= CELL_TEXT_LABELS else None,
                texttemplate="%{text}" if len(labels) <= CELL_TEXT_LABELS else None,
                hovertemplate="gold %{y}, predicted %{x}: %{customdata} (%{z:.1%})<extra></extra>",
                colorscale=SEQUENCE,
                zmin=0,
                zmax=1,
                showscale=False,
                visible=index == 0,
            )
        )
    chooser(plot, ((name, visible(index, len(runs), 1), {}) for index, name in enumerate(run_labels(runs))))
    return Figure("confusion", "Gold against predicted", plot, _cells(runs, labels), _most_confused(runs[0], labels))


def _cells(runs: Sequence[Row], labels: Sequence[str]) -> pa.Table:
    """Every cell that is not zero: with many classes nearly all are."""
    cells = [
        {"run_id": row["run_id"], "gold": gold, "predicted": predicted, "count": count}
        for row in runs
        for gold, line in zip(labels, row["metrics"]["test"]["confusion"], strict=True)
        for predicted, count in zip(labels, line, strict=True)
        if count
    ]
    return pa.Table.from_pylist(cells)


def _most_confused(row: Row, labels: Sequence[str]) -> str:
    counts = np.array(row["metrics"]["test"]["confusion"])
    np.fill_diagonal(counts, 0)
    if not counts.any():
        return f"{run_labels([row])[0]} makes no mistake."
    gold, predicted = divmod(int(counts.argmax()), len(labels))
    share = counts[gold, predicted] / counts.sum()
    return (
        f"The most frequent mistake of {run_labels([row])[0]} is {labels[predicted]} for {labels[gold]}: "
        f"{count(counts[gold, predicted])} of {count(counts.sum())} mistakes ({percent(share, 0)})."
    )


def calibration(runs: Sequence[Row], bins: Mapping[str, pa.Table]) -> Figure:
    """Reliability diagram: how often predictions of each confidence are right.

    Args:
        runs: rows of ``results.json`` that finished.
        bins: :func:`~unfreeze.analysis.calibration.reliability_bins` by run id.
    """
    share = {"range": [0, 1.02], "tickformat": ".0%"}
    plot = blank(440, xaxis={**share, "title": "Confidence"}, yaxis={**share, "title": "Accuracy"})
    plot.add_trace(
        go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": "#999999", "dash": "dot"}, name="calibrated")
    )
    colours = colour_of(row["strategy"] for row in runs)
    tables = []
    for row, label in zip(runs, run_labels(runs), strict=True):
        filled = bins[row["run_id"]].filter(bins[row["run_id"]]["count"].to_numpy() > 0)
        plot.add_trace(
            go.Scatter(
                x=filled["confidence"].to_numpy(),
                y=filled["accuracy"].to_numpy(),
                customdata=filled["count"].to_numpy(),
                mode="lines+markers",
                name=plain(label),
                line={"color": colours[row["strategy"]], "dash": DASHES[row["seed"] % len(DASHES)], "width": 1.5},
                hovertemplate="%{x:.1%} sure, %{y:.1%} right, %{customdata} examples",
            )
        )
        tables.append(filled.append_column("run_id", pa.array([row["run_id"]] * len(filled), pa.string())))
    return Figure("calibration", "Can its confidence be believed?", plot, pa.concat_tables(tables), _believable(runs))


def _believable(runs: Sequence[Row]) -> str:
    """The smallest and the largest calibration error, and what one temperature makes of them."""
    ordered = sorted(zip(runs, run_labels(runs), strict=True), key=lambda run: run[0]["metrics"]["test"]["ece"])
    ends = []
    for row, label in (ordered[0], ordered[-1])[: len(runs)]:
        test = row["metrics"]["test"]
        after = f", {percent(test['calibrated']['ece'])} after temperature scaling" if "calibrated" in test else ""
        ends.append(f"{percent(test['ece'])} for {label}{after}")
    return f"Expected calibration error is {' and '.join(ends)}."


def parameters(leaderboard: Sequence[Row]) -> Figure:
    """How many parameters each strategy trains, of how many.

    Args:
        leaderboard: rows with ``encoder``, ``strategy`` and ``params`` (total, trainable).
    """
    several = len({row["encoder"] for row in leaderboard}) > 1
    names = [f"{row['strategy']} on {row['encoder']}" if several else row["strategy"] for row in leaderboard]
    trainable = [row["params"]["trainable"] for row in leaderboard]
    total = [row["params"]["total"] for row in leaderboard]
    share = [part / whole for part, whole in zip(trainable, total, strict=True)]
    plot = blank(
        90 + 30 * len(names),
        xaxis={"title": "Share of parameters", "tickformat": ".0%", "range": [0, 1.02]},
        yaxis={"autorange": "reversed", "automargin": True, "type": "category"},
    )
    plot.add_trace(
        go.Bar(
            x=share,
            y=[plain(name) for name in names],
            orientation="h",
            marker_color=COLOURS[0],
            text=[percent(value, 2) for value in share],
            customdata=np.array([trainable, total]).T,
            hovertemplate="%{customdata[0]:,} of %{customdata[1]:,}<extra></extra>",
        )
    )
    table = pa.table({"strategy": names, "trainable": trainable, "total": total})
    few, many = int(np.argmin(share)), int(np.argmax(share))
    reading = (
        f"From {count(trainable[few])} ({names[few]}) to {count(trainable[many])} ({names[many]}) parameters train."
    )
    return Figure("parameters", "What trains", plot, table, reading)
