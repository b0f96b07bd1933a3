"""What accuracy costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import pyarrow as pa

from unfreeze.analysis.compare import pareto_front
from unfreeze.report.figures.figure import SYMBOLS, Figure, blank, chooser, colour_of, join, plain
from unfreeze.report.formats import seconds, short, size

Row = dict[str, Any]

STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
LEGEND = 14  # strategies above which a legend would hide the plot; pointing at one names it


@dataclass(frozen=True)
class Axis:
    """One cost: what it is called, its key, its number for every strategy, and how such a number is written."""

    title: str
    key: str
    values: list[Any]
    written: Callable[[float | None], str]


def _axes(leaderboard: Sequence[Row]) -> list[Axis]:
    costs, params = [row["cost"] for row in leaderboard], [row["params"] for row in leaderboard]
    axes = (
        Axis("Train time with frozen prefix", "alone_seconds", [row["alone_seconds"] for row in leaderboard], seconds),
        Axis("Peak memory", "peak_memory_bytes", [cost["peak_memory_bytes"] for cost in costs], size),
        Axis("Trainable parameters", "trainable", [count["trainable"] for count in params], short),
        Axis("Checkpoint size", "checkpoint_bytes", [cost["checkpoint_bytes"] for cost in costs], size),
    )
    return [axis for axis in axes if None not in axis.values]


def trade_off(leaderboard: Sequence[Row]) -> Figure:
    """Accuracy against what it costs; the line joins strategies that nothing beats in both (the Pareto front).

    Args:
        leaderboard: rows with ``encoder``, ``strategy``, ``rank`` (None draws it hollow and never on the front),
            ``accuracy`` (mean, min, max), ``alone_seconds``, ``params`` and ``cost``.
    """
    axes, names = _axes(leaderboard), _names(leaderboard)
    accuracy = [row["accuracy"]["mean"] for row in leaderboard]
    ranked = [index for index, row in enumerate(leaderboard) if row["rank"] is not None]
    fronts, options = [], []
    for axis in axes:
        front = pareto_front([axis.values[index] for index in ranked], [accuracy[index] for index in ranked])
        fronts.append([ranked[index] for index in front])
        x = [[value] for value in axis.values] + [[axis.values[index] for index in fronts[-1]]]
        y = [[value] for value in accuracy] + [[accuracy[index] for index in fronts[-1]]]
        options.append((axis.title, {"x": x, "y": y}, _ticks(axis)))

    plot = blank(460, yaxis={"title": "Test accuracy", "tickformat": ".0%"}, xaxis={"type": "log"})
    line = {"color": "#999999", "dash": "dot"}
    plot.add_traces(_points(leaderboard, names))
    plot.add_trace(go.Scatter(mode="lines", line=line, name="nothing beats these", hoverinfo="skip"))
    plot.update_layout(options[0][2], showlegend=len(leaderboard) <= LEGEND)
    for trace, x, y in zip(plot.data, options[0][1]["x"], options[0][1]["y"], strict=True):
        trace.update(x=x, y=y)
    chooser(plot, options)
    columns = {"encoder": [row["encoder"] for row in leaderboard], "strategy": [row["strategy"] for row in leaderboard]}
    costs = {axis.key: axis.values for axis in axes}
    unbeaten = {
        f"unbeaten_{axis.key}": [index in front for index in range(len(names))]
        for axis, front in zip(axes, fronts, strict=True)
    }
    reading = "Hollow points did not learn."
    if ranked:
        best = join(names[index] for index in fronts[0])
        reading = f"Nothing here is both more accurate and lower in {axes[0].title.lower()} than {best}."
    table = pa.table({**columns, "accuracy": accuracy, **costs, **unbeaten})
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
        symbol = SYMBOLS[encoders.index(row["encoder"]) % len(SYMBOLS)] + ("-open" if row["rank"] is None else "")
        marker = {"size": 12, "color": colours[row["strategy"]], "symbol": symbol}
        spread = {
            "type": "data",
            "symmetric": False,
            "array": [accuracy["max"] - accuracy["mean"]],
            "arrayminus": [accuracy["mean"] - accuracy["min"]],
        }
        hover = "%{y:.2%} at %{x:.4s}<extra>" + plain(name) + "</extra>"
        points.append(go.Scatter(mode="markers", marker=marker, error_y=spread, name=plain(name), hovertemplate=hover))
    return points


def _ticks(axis: Axis) -> Row:
    """Round ticks in the unit they are read in (minutes, MiB); plotly's own have none."""
    steps = (1, 2, 3, 5, 10, 15, 20, 30) if axis.written is seconds else STEPS
    base = {"alone_seconds": 60, "trainable": 1000}.get(axis.key, 1024)
    powers = range(math.floor(math.log(min(axis.values), base)), math.ceil(math.log(max(axis.values), base)) + 1)
    ticks = [step * base**power for power in powers for step in steps]
    written = [axis.written(tick) for tick in ticks]
    return {"xaxis.title.text": axis.title, "xaxis.tickvals": ticks, "xaxis.ticktext": written}
