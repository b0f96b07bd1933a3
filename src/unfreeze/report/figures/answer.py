"""What accuracy costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import plotly.graph_objects as go
import pyarrow as pa

from unfreeze.analysis.compare import pareto_front
from unfreeze.report.figures.figure import SYMBOLS, Figure, blank, chooser, colour_of, join, plain
from unfreeze.report.formats import seconds, short, size

Row = dict[str, Any]

# Axis label, where the number stands in a row of the leaderboard, and how it is written.
COSTS: tuple[tuple[str, str, str, Callable[[float | None], str]], ...] = (
    ("Train time", "cost", "train_seconds", seconds),
    ("Peak memory", "cost", "peak_memory_bytes", size),
    ("Trainable parameters", "params", "trainable", short),
    ("Checkpoint size", "cost", "checkpoint_bytes", size),
)

STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
LEGEND = 14  # strategies above which a legend would hide the plot; pointing at one names it


def trade_off(leaderboard: Sequence[Row]) -> Figure:
    """Accuracy against what it costs; the line joins strategies that nothing beats in both (the Pareto front).

    Args:
        leaderboard: rows with ``encoder``, ``strategy``, ``accuracy`` (mean, min, max), ``params`` and ``cost``.
    """
    axes = [axis for axis in COSTS if all(row[axis[1]].get(axis[2]) is not None for row in leaderboard)]
    names = _names(leaderboard)
    plot = blank(460, yaxis={"title": "Test accuracy", "tickformat": ".0%"}, xaxis={"type": "log"})
    plot.update_layout(showlegend=len(leaderboard) <= LEGEND)
    plot.add_traces(_points(leaderboard, names))
    plot.add_trace(
        go.Scatter(mode="lines", line={"color": "#999999", "dash": "dot"}, name="nothing beats these", hoverinfo="skip")
    )
    accuracy = [row["accuracy"]["mean"] for row in leaderboard]
    options, fronts = [], []
    for title, section, key, written in axes:
        cost = [row[section][key] for row in leaderboard]
        front = pareto_front(cost, accuracy)
        fronts.append(front)
        x = [[value] for value in cost] + [[cost[index] for index in front]]
        y = [[value] for value in accuracy] + [[accuracy[index] for index in front]]
        options.append((title, {"x": x, "y": y}, _ticks(title, cost, written)))
    chooser(plot, options)
    for trace, x, y in zip(plot.data, options[0][1]["x"], options[0][1]["y"], strict=True):
        trace.update(x=x, y=y)
    plot.update_layout(options[0][2])
    table = pa.table(
        {
            "encoder": [row["encoder"] for row in leaderboard],
            "strategy": [row["strategy"] for row in leaderboard],
            "accuracy": accuracy,
            **{axis[2]: [row[axis[1]][axis[2]] for row in leaderboard] for axis in axes},
            **{f"front_{axis[2]}": _mask(front, len(names)) for axis, front in zip(axes, fronts, strict=True)},
        }
    )
    unbeaten = join(names[index] for index in fronts[0])
    reading = f"Nothing here is both more accurate and lower in {axes[0][0].lower()} than {unbeaten}."
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


def _ticks(title: str, cost: Sequence[float], written: Callable[[float | None], str]) -> Row:
    """Round ticks in the unit they are read in (minutes, MiB); plotly's own have none."""
    base, steps = (60, (1, 2, 5, 10, 20, 30)) if written is seconds else (1024 if written is size else 1000, STEPS)
    powers = range(math.floor(math.log(min(cost), base)), math.ceil(math.log(max(cost), base)) + 1)
    ticks = [step * base**power for power in powers for step in steps]
    return {"xaxis.title.text": title, "xaxis.tickvals": ticks, "xaxis.ticktext": [written(tick) for tick in ticks]}


def _mask(indices: Sequence[int], length: int) -> list[bool]:
    return [index in indices for index in range(length)]
