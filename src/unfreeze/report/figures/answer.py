"""What accuracy costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa

from unfreeze.analysis.compare import pareto_front
from unfreeze.report.figures.figure import SYMBOLS, Figure, blank, chooser, colour_of, join, plain
from unfreeze.report.figures.sweeps import Series, series_of
from unfreeze.report.formats import percent, seconds, short, size

Row = dict[str, Any]

FEWEST_TICKS = 3
STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
LEGEND = 14  # entries above which a legend would hide the plot; pointing at one names it


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
    """Accuracy against what it costs; the dotted line joins strategies that nothing beats in both (the Pareto front).

    Strategies that differ in depth alone, or in LoRA's rank alone, are joined by a line of their own.

    Args:
        leaderboard: rows with ``encoder``, ``strategy``, ``options`` (of the strategy, with its ``kind``), ``seeds``,
            ``rank`` (None draws it hollow and never on the front), ``accuracy`` (mean, interval), ``alone_seconds``,
            ``params`` and ``cost``.
    """
    axes, names, drawn = _axes(leaderboard), _names(leaderboard), series_of(leaderboard)
    accuracy = [row["accuracy"]["mean"] for row in leaderboard]
    ranked = [index for index, row in enumerate(leaderboard) if row["rank"] is not None]
    fronts, options = [], []
    for axis in axes:
        front = pareto_front([axis.values[index] for index in ranked], [accuracy[index] for index in ranked])
        fronts.append([ranked[index] for index in front])
        traces = [*(series.members for series in drawn), fronts[-1]]
        x, y = ([[values[index] for index in trace] for trace in traces] for values in (axis.values, accuracy))
        options.append((axis.title, {"x": x, "y": y}, _ticks(axis)))

    plot = blank(460, yaxis={"title": "Test accuracy", "tickformat": ".0%"}, xaxis={"type": "log"})
    line = {"color": "#999999", "dash": "dot"}
    plot.add_traces(_traces(leaderboard, names, drawn))
    plot.add_trace(go.Scatter(mode="lines", line=line, name="nothing beats these", hoverinfo="skip"))
    plot.update_layout(options[0][2], showlegend=len(drawn) <= LEGEND)
    for trace, x, y in zip(plot.data, options[0][1]["x"], options[0][1]["y"], strict=True):
        trace.update(x=x, y=y)
    chooser(plot, options)
    columns = {"encoder": [row["encoder"] for row in leaderboard], "strategy": [row["strategy"] for row in leaderboard]}
    ends = [row["accuracy"]["interval"] or (None, None) for row in leaderboard]
    columns |= {
        "accuracy": accuracy,
        "accuracy_low": [low for low, _ in ends],
        "accuracy_high": [high for _, high in ends],
    }
    costs = {axis.key: axis.values for axis in axes}
    unbeaten = {
        f"unbeaten_{axis.key}": [index in front for index in range(len(names))]
        for axis, front in zip(axes, fronts, strict=True)
    }
    reading = ["Hollow points did not learn."]
    if ranked:
        best = join(names[index] for index in fronts[0])
        reading = [f"Nothing here is both more accurate and lower in {axes[0].title.lower()} than {best}."]
    reading += _bars(leaderboard, names)
    if any(series.steps for series in drawn):
        reading.append("Numbers at points are the layers that train (0: head-only) or LoRA's rank.")
    table = pa.table({**columns, **costs, **unbeaten})
    return Figure("trade-off", "What accuracy costs", plot, table, " ".join(reading))


def _names(leaderboard: Sequence[Row]) -> list[str]:
    several = len({row["encoder"] for row in leaderboard}) > 1
    return [f"{row['strategy']} on {row['encoder']}" if several else row["strategy"] for row in leaderboard]


def _traces(leaderboard: Sequence[Row], names: Sequence[str], drawn: Sequence[Series]) -> list[go.Scatter]:
    colours = colour_of(series.name for series in drawn)
    encoders = list(dict.fromkeys(row["encoder"] for row in leaderboard))
    traces = []
    for series in drawn:
        rows = [leaderboard[index] for index in series.members]
        symbol = SYMBOLS[encoders.index(rows[0]["encoder"]) % len(SYMBOLS)]
        on = f" on {rows[0]['encoder']}" if len(encoders) > 1 else ""
        means, intervals = [row["accuracy"]["mean"] for row in rows], [row["accuracy"]["interval"] for row in rows]
        spread = {
            "type": "data",
            "symmetric": False,
            "array": [ends and ends[1] - mean for mean, ends in zip(means, intervals, strict=True)],
            "arrayminus": [ends and mean - ends[0] for mean, ends in zip(means, intervals, strict=True)],
            "thickness": 1,
        }
        written = [f" ({percent(ends[0])} to {percent(ends[1])})" if ends else "" for ends in intervals]
        traces.append(
            go.Scatter(
                mode="lines+markers+text" if series.steps else "markers",
                name=plain(series.name + on),
                marker={
                    "size": 12,
                    "color": colours[series.name],
                    "symbol": [symbol + ("-open" if row["rank"] is None else "") for row in rows],
                },
                line={"width": 1, "color": colours[series.name]},
                text=series.steps or None,
                textposition="top left",
                error_y=spread,
                customdata=[[plain(names[i]), text] for i, text in zip(series.members, written, strict=True)],
                hovertemplate="%{y:.2%}%{customdata[1]} at %{x:.4s}<extra>%{customdata[0]}</extra>",
            )
        )
    return traces


def _bars(leaderboard: Sequence[Row], names: Sequence[str]) -> list[str]:
    """What the intervals cover: one run of a strategy says nothing about the next seed's."""
    if all(row["accuracy"]["interval"] is None for row in leaderboard):
        return []
    single = [name for row, name in zip(leaderboard, names, strict=True) if len(row["seeds"]) == 1]
    if len(single) == len(names):
        return ["Bars are 95 % intervals over test items alone: there is one seed."]
    but = f"; over test items alone for {join(single)}, with one seed" if single else ""
    return [f"Bars are 95 % intervals over test items and training seeds{but}."]


def _ticks(axis: Axis) -> Row:
    """Round ticks in the unit they are read in (minutes, MiB); plotly's own have none. Exact ones where few fit."""
    steps = (1, 2, 3, 5, 10, 15, 20, 30) if axis.written is seconds else STEPS
    base = {"alone_seconds": 60, "trainable": 1000}.get(axis.key, 1024)
    low, high = min(axis.values), max(axis.values)
    powers = range(math.floor(math.log(low, base)), math.ceil(math.log(high, base)) + 1)
    ticks = [step * base**power for power in powers for step in steps]
    if sum(low <= tick <= high for tick in ticks) < FEWEST_TICKS:
        ticks = np.geomspace(low, high, 4 if low < high else 1).tolist()
    written = [axis.written(tick) for tick in ticks]
    return {"xaxis.title.text": axis.title, "xaxis.tickvals": ticks, "xaxis.ticktext": written}
