"""What training cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa

from unfreeze.report.figures.figure import Figure, blank, chooser, colour_of, plain, visible
from unfreeze.report.formats import short

Row = dict[str, Any]

# Key of `cost`, label with its unit, and the axis format.
COSTS = (
    ("train_seconds", "Train time (s)", ""),
    ("prefix_seconds", "Frozen prefix, shared (s)", ""),
    ("evaluate_seconds", "Evaluation (s)", ""),
    ("tuning_seconds", "Tuning (s)", ""),
    ("pairs_per_second", "Pairs per second", ""),
    ("tokens_per_second", "Tokens per second", ""),
    ("peak_memory_bytes", "Peak memory (bytes)", ".3s"),
    ("checkpoint_bytes", "Checkpoint (bytes)", ".3s"),
    ("flops", "Floating-point operations of training", ".3s"),
    ("energy_joules", "Energy (J)", ""),
    ("padding_share", "Padding among tokens", ".1%"),
)


def costs(leaderboard: Sequence[Row]) -> Figure:
    """Every measured cost of every strategy, one at a time; means over seeds.

    Args:
        leaderboard: rows with ``encoder``, ``strategy``, ``params`` and ``cost``.
    """
    several = len({row["encoder"] for row in leaderboard}) > 1
    names = [f"{row['strategy']} on {row['encoder']}" if several else row["strategy"] for row in leaderboard]
    measured = [cost for cost in COSTS if any(row["cost"].get(cost[0]) is not None for row in leaderboard)]
    colours = colour_of(row["strategy"] for row in leaderboard)
    plot = blank(
        110 + 30 * len(names),
        xaxis={"rangemode": "tozero", "title": measured[0][1] if measured else ""},
        yaxis={"autorange": "reversed", "automargin": True, "type": "category"},
    )
    for number, (key, _, shape) in enumerate(measured):
        values = [row["cost"].get(key) for row in leaderboard]
        bar = go.Bar(
            x=values,
            y=[plain(name) for name in names],
            orientation="h",
            visible=number == 0,
            marker_color=[colours[row["strategy"]] for row in leaderboard],
            texttemplate=f"%{{x:{shape or '.3s'}}}",
            hovertemplate=f"%{{x:{shape or '.4s'}}}<extra></extra>",
        )
        plot.add_trace(bar)
    axes = [{"xaxis.title.text": label, "xaxis.tickformat": shape} for _, label, shape in measured]
    chooser(plot, ((measured[i][1], visible(i, len(measured), 1), axis) for i, axis in enumerate(axes)))
    table = pa.table(
        {"strategy": names, **{key: [row["cost"].get(key) for row in leaderboard] for key, _, _ in measured}}
    )
    return Figure("costs", "What it cost", plot, table, _why(leaderboard, names))


def _why(leaderboard: Sequence[Row], names: Sequence[str]) -> str:
    """Set the fastest strategy beside the one that trains the fewest parameters for its time."""
    speeds = [row["cost"].get("pairs_per_second") for row in leaderboard]
    if len(leaderboard) < 2 or not all(speeds):
        return "Costs that could not be measured here are left out."
    fast, slow = int(np.argmax(speeds)), int(np.argmin(speeds))
    trained = [row["params"]["trainable"] for row in leaderboard]
    reading = (
        f"{names[fast]} is fastest, {short(speeds[fast])} pairs/s; {names[slow]} slowest, {short(speeds[slow])} pairs/s"
    )
    if trained[slow] < trained[fast]:
        reading += f", although it trains {trained[fast] / trained[slow]:.1f} times fewer parameters"
    flops = [row["cost"].get("flops") for row in leaderboard]
    if flops[fast] and flops[slow]:
        reading += f": it does {flops[slow] / flops[fast]:.1f} times the arithmetic"
    return reading + "."
