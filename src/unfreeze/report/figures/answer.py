"""What accuracy costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
import pyarrow as pa

from unfreeze.analysis.compare import pareto_front
from unfreeze.report.figures.figure import SYMBOLS, Figure, blank, chooser, colour_of, join, plain

Row = dict[str, Any]

# Axis label, where the number stands in a row of the leaderboard, and what the sentence calls it.
COSTS = (
    ("Train time (s)", "cost", "train_seconds", "training time"),
    ("Peak memory (bytes)", "cost", "peak_memory_bytes", "peak memory"),
    ("Trainable parameters", "params", "trainable", "trainable parameters"),
    ("Checkpoint (bytes)", "cost", "checkpoint_bytes", "checkpoint size"),
)


def trade_off(leaderboard: Sequence[Row]) -> Figure:
    """Accuracy against what it costs; the line joins strategies that nothing beats in both (the Pareto front).

    Args:
        leaderboard: rows with ``encoder``, ``strategy``, ``accuracy`` (mean, min, max), ``params`` and ``cost``.
    """
    axes = [axis for axis in COSTS if all(row[axis[1]].get(axis[2]) is not None for row in leaderboard)]
    names = _names(leaderboard)
    plot = blank(460, yaxis={"title": "Test accuracy", "tickformat": ".0%"}, xaxis={"type": "log"})
    plot.add_traces(_points(leaderboard, names))
    plot.add_trace(
        go.Scatter(mode="lines", line={"color": "#999999", "dash": "dot"}, name="nothing beats these", hoverinfo="skip")
    )
    accuracy = [row["accuracy"]["mean"] for row in leaderboard]
    options, fronts = [], []
    for title, section, key, _ in axes:
        cost = [row[section][key] for row in leaderboard]
        front = pareto_front(cost, accuracy)
        fronts.append(front)
        x = [[value] for value in cost] + [[cost[index] for index in front]]
        y = [[value] for value in accuracy] + [[accuracy[index] for index in front]]
        options.append((title, {"x": x, "y": y}, {"xaxis.title.text": title}))
    chooser(plot, options)
    for trace, x, y in zip(plot.data, options[0][1]["x"], options[0][1]["y"], strict=True):
        trace.update(x=x, y=y)
    plot.update_xaxes(title=axes[0][0])
    table = pa.table(
        {
            "encoder": [row["encoder"] for row in leaderboard],
            "strategy": [row["strategy"] for row in leaderboard],
            "accuracy": accuracy,
            **{axis[2]: [row[axis[1]][axis[2]] for row in leaderboard] for axis in axes},
            **{f"front_{axis[2]}": _mask(front, len(names)) for axis, front in zip(axes, fronts, strict=True)},
        }
    )
    reading = f"Nothing here is both more accurate and lower in {axes[0][3]} than {join(names[i] for i in fronts[0])}."
    return Figure("trade-off", "What accuracy costs", plot, table, reading)


def _names(leaderboard: Sequence[Row]) -> list[str]:
    several = len({row["encoder"] for row in leaderboard}) > 1
    return [f"{row['strategy']} on {row['encoder']}" if several else row["strategy"] for row in leaderboard]


def _points(leaderboard: Sequence[Row], names: Sequence[str]) -> list[go.Scatter]:
    colours = colour_of(row["strategy"] for row in leaderboard)
    encoders = list(dict.fromkeys(row["encoder"] for row in leaderboard))
    points = []
    for row, name in zip(leaderboard, names, strict=True):
        accuracy = row["accuracy"]
        marker = {
            "size": 12,
            "color": colours[row["strategy"]],
            "symbol": SYMBOLS[encoders.index(row["encoder"]) % len(SYMBOLS)],
        }
        spread = {
            "type": "data",
            "symmetric": False,
            "array": [accuracy["max"] - accuracy["mean"]],
            "arrayminus": [accuracy["mean"] - accuracy["min"]],
        }
        hover = "%{y:.2%} at %{x:.4s}<extra>" + plain(name) + "</extra>"
        points.append(go.Scatter(mode="markers", marker=marker, error_y=spread, name=plain(name), hovertemplate=hover))
    return points


def _mask(indices: Sequence[int], length: int) -> list[bool]:
    return [index in indices for index in range(length)]
