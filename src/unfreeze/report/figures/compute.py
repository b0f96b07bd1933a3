"""What training cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import compress, product
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa

from unfreeze.report.figures.figure import COLOURS, Figure, blank, chooser, colour_of, join, plain, visible
from unfreeze.report.formats import count, joules, percent, seconds, short, size

Row = dict[str, Any]
Written = Callable[[float | None], str]

# Key of `cost`, label, and how its numbers are written.
COSTS: tuple[tuple[str, str, Written], ...] = (
    ("train_seconds", "Train time", seconds),
    ("prefix_seconds", "Frozen prefix", seconds),
    ("evaluate_seconds", "Evaluation", seconds),
    ("tuning_seconds", "Tuning", seconds),
    ("pairs_per_second", "Pairs/s", short),
    ("tokens_per_second", "Tokens/s", short),
    ("peak_memory_bytes", "Peak memory", size),
    ("checkpoint_bytes", "Checkpoint", size),
    ("flops", "Training FLOP", short),
    ("energy_joules", "Energy", joules),
    ("padding_share", "Padding", percent),
)
MEMORY = (
    ("weight_bytes", "Weights"),
    ("gradient_bytes", "Gradients"),
    ("optimizer_bytes", "Optimizer state"),
    ("activation_bytes", "Activations"),
)
TIME = (
    ("forward_seconds", "Forward passes"),
    ("backward_seconds", "Backward passes"),
    ("optimizer_seconds", "Optimizer steps"),
)

# The columns of the two tables: what takes time, and what takes the rest.
TABLES = (
    (
        *("train_seconds", "prefix_seconds", "forward_seconds", "backward_seconds", "optimizer_seconds"),
        *("evaluate_seconds", "tuning_seconds", "pairs_per_second", "tokens_per_second", "padding_share"),
    ),
    (
        *("peak_memory_bytes", "weight_bytes", "gradient_bytes", "optimizer_bytes", "activation_bytes"),
        *("checkpoint_bytes", "flops", "energy_joules"),
    ),
)

# An axis counts in the first of these units that its largest value holds twice: 90 s read better than 1.5 min.
UNITS: dict[Written, tuple[tuple[float, str], ...]] = {
    seconds: ((3600, "h"), (60, "min"), (1, "s")),
    size: ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B")),
    joules: ((10**6, "MJ"), (10**3, "kJ"), (1, "J")),
}


def cost_tables(leaderboard: Sequence[Row]) -> list[list[tuple[str, str, Written]]]:
    """Key, heading and way of writing of every column in the two tables of costs; energy and tuning where there is any.

    Args:
        leaderboard: rows with ``cost``.
    """
    parts = [*((key, label, size) for key, label in MEMORY), *((key, label, seconds) for key, label in TIME)]
    columns = {column[0]: column for column in (*COSTS, *parts)}
    for key in ("energy_joules", "tuning_seconds"):
        if all(row["cost"].get(key) is None for row in leaderboard):
            del columns[key]
    return [[columns[key] for key in keys if key in columns] for keys in TABLES]


def costs(leaderboard: Sequence[Row]) -> Figure:
    """Every measured cost of every strategy, one at a time; means over seeds.

    Args:
        leaderboard: rows with ``encoder``, ``strategy``, ``params`` and ``cost``.
    """
    names = _names(leaderboard)
    measured = [cost for cost in COSTS if any(row["cost"].get(cost[0]) is not None for row in leaderboard)]
    colours = colour_of(row["strategy"] for row in leaderboard)
    plot = blank(
        110 + 30 * len(names),
        xaxis={"rangemode": "tozero"},
        yaxis={"autorange": "reversed", "automargin": True, "type": "category"},
    )
    options = []
    for number, (key, label, written) in enumerate(measured):
        values = [row["cost"].get(key) for row in leaderboard]
        scale, unit = _unit(values, written)
        bar = go.Bar(
            x=[None if value is None else value / scale for value in values],
            y=[plain(name) for name in names],
            orientation="h",
            visible=number == 0,
            marker_color=[colours[row["strategy"]] for row in leaderboard],
            text=[written(value) for value in values],
            hovertemplate="%{text}<extra></extra>",
        )
        plot.add_trace(bar)
        title = f"{label} ({unit})" if unit else label
        axis = {"xaxis.title.text": title, "xaxis.tickformat": ".0%" if written is percent else ""}
        options.append((label, visible(number, len(measured), 1), axis))
    if options:
        plot.update_layout(options[0][2])
    chooser(plot, options)
    table = pa.table(
        {"strategy": names, **{key: [row["cost"].get(key) for row in leaderboard] for key, _, _ in measured}}
    )
    return Figure("costs", "What it cost", plot, table, _why(leaderboard, names))


def memory_parts(leaderboard: Sequence[Row]) -> Figure | None:
    """What fills the memory while a strategy trains; means over seeds. None where it was measured for no strategy.

    Args:
        leaderboard: rows with ``encoder``, ``strategy`` and ``cost``.
    """
    return _split("memory", "What fills the memory", "Memory", leaderboard, MEMORY, size)


def time_parts(leaderboard: Sequence[Row]) -> Figure | None:
    """Where the training time of a strategy goes; means over seeds. None where it was measured for no strategy.

    Args:
        leaderboard: rows with ``encoder``, ``strategy`` and ``cost``.
    """
    return _split("time", "Where the training time goes", "Time", leaderboard, TIME, seconds)


def _split(
    name: str, title: str, axis: str, leaderboard: Sequence[Row], parts: Sequence[tuple[str, str]], written: Written
) -> Figure | None:
    """One bar a strategy, stacked from its parts; a strategy with a part that was not measured has none."""
    names = _names(leaderboard)
    measured = [_measured(row, parts) for row in leaderboard]
    rows, shown = list(compress(leaderboard, measured)), list(compress(names, measured))
    if not rows:
        return None
    totals = [_total(row, parts) for row in rows]
    scale, unit = _unit(totals, written)
    plot = blank(
        110 + 30 * len(rows),
        barmode="stack",
        legend_traceorder="normal",
        xaxis={"title": f"{axis} ({unit})", "rangemode": "tozero"},
        yaxis={"autorange": "reversed", "automargin": True, "type": "category"},
    )
    for (key, part), colour in zip(parts, COLOURS, strict=False):
        values = [row["cost"][key] for row in rows]
        bar = go.Bar(
            x=[value / scale for value in values],
            y=[plain(label) for label in shown],
            orientation="h",
            name=part,
            marker_color=colour,
            text=[written(value) for value in values],
            textposition="none",
            hovertemplate=f"%{{text}} {part.lower()}",
        )
        plot.add_trace(bar)
    table = pa.table({"strategy": shown, **{key: [row["cost"][key] for row in rows] for key, _ in parts}})
    missing = [name for name, there in zip(names, measured, strict=True) if not there]
    without = f" Not measured: {join(missing)}." if missing else ""
    return Figure(name, title, plot, table, _least_and_most(rows, shown, parts, written) + without)


def _least_and_most(
    rows: Sequence[Row], names: Sequence[str], parts: Sequence[tuple[str, str]], written: Written
) -> str:
    """The two ends of a split, each with its largest part."""
    totals = [_total(row, parts) for row in rows]
    said = []
    for index, most in ((int(np.argmax(totals)), "most"), (int(np.argmin(totals)), "least")):
        key, part = max(parts, key=lambda part: rows[index]["cost"][part[0]])
        share = rows[index]["cost"][key] / max(totals[index], 1e-9)
        said.append(f"{names[index]} takes {most}, {written(totals[index])}, {percent(share, 0)} of it {part.lower()}")
    if len(rows) == 1:
        return said[0].replace(" most,", "") + "."
    return "; ".join(said) + "."


def lora_against_partial(leaderboard: Sequence[Row]) -> str | None:
    """Why the best LoRA is or is not cheaper than the best partial fine-tuning of the same encoder, as measured here.

    Args:
        leaderboard: rows with ``encoder``, ``strategy``, ``rank``, ``options``, ``prefix_depth``, ``alone_seconds``
            and ``cost``.

    Returns:
        One sentence; None where no encoder has both ranked, with all of their memory and time measured.
    """
    rivals = _rivals(leaderboard)
    if rivals is None:
        return None
    (lora, name), (partial, other) = rivals
    memory = _total(lora, MEMORY), _total(partial, MEMORY)
    time = lora["alone_seconds"], partial["alone_seconds"]
    gradients, activations, backward = (
        (lora["cost"][key], partial["cost"][key]) for key in ("gradient_bytes", "activation_bytes", "backward_seconds")
    )
    verdict = {
        (True, True): "cheaper than {} in memory ({}) and in time ({})",
        (True, False): "cheaper than {} in memory ({}) but not in time ({})",
        (False, True): "no cheaper than {} in memory ({}) but is in time ({})",
        (False, False): "no cheaper than {}, in memory ({}) or in time ({})",
    }[memory[0] < memory[1], time[0] < time[1]]
    joint = "and" if (gradients[0] < gradients[1]) == (activations[0] < activations[1]) else "but"
    sentence = (
        f"{name} is {verdict.format(other, _against(memory, size), _against(time, seconds))}: "
        f"it keeps {_against(gradients, size, ' of gradients')}, {joint} saves "
        f"{_against(activations, size, ' of activations')}; its backward passes take {_against(backward, seconds)}"
    )
    depths = lora["prefix_depth"], partial["prefix_depth"]
    if None not in depths and depths[0] != depths[1]:
        sentence += f", down to layer {depths[0] + 1} instead of {depths[1] + 1}"
    return sentence + "."


def _rivals(leaderboard: Sequence[Row]) -> tuple[tuple[Row, str], tuple[Row, str]] | None:
    """The first LoRA and the first partial fine-tuning of one encoder, each with its name."""
    named = zip(leaderboard, _names(leaderboard), strict=True)
    able = [(row, name) for row, name in named if row["rank"] is not None and _measured(row, (*MEMORY, *TIME))]
    loras, partials = ([pair for pair in able if pair[0]["options"]["kind"] == kind] for kind in ("lora", "partial"))
    return next(((a, b) for a, b in product(loras, partials) if a[0]["encoder"] == b[0]["encoder"]), None)


def _against(values: tuple[float, float], written: Written, of: str = "") -> str:
    return f"{written(values[0])}{of} against {written(values[1])}"


def _names(leaderboard: Sequence[Row]) -> list[str]:
    several = len({row["encoder"] for row in leaderboard}) > 1
    return [f"{row['strategy']} on {row['encoder']}" if several else row["strategy"] for row in leaderboard]


def _measured(row: Row, parts: Sequence[tuple[str, str]]) -> bool:
    return all(row["cost"].get(key) is not None for key, _ in parts)


def _total(row: Row, parts: Sequence[tuple[str, str]]) -> float:
    return float(sum(row["cost"][key] for key, _ in parts))


def _unit(values: Sequence[float | None], written: Written) -> tuple[float, str]:
    """What an axis divides its values by, and the name of that unit."""
    units = UNITS.get(written, ((1, ""),))
    largest = max((value for value in values if value is not None), default=0)
    return next((unit for unit in units if largest >= 2 * unit[0]), units[-1])


def _why(leaderboard: Sequence[Row], names: Sequence[str]) -> str:
    """Set the fastest strategy beside the one that trains the fewest parameters for its time."""
    speeds = [row["cost"].get("pairs_per_second") for row in leaderboard]
    if not all(speeds) or len(set(speeds)) < 2:
        return "Costs that could not be measured here are left out."
    fast, slow = int(np.argmax(speeds)), int(np.argmin(speeds))
    trained = [row["params"]["trainable"] for row in leaderboard]
    reading = (
        f"{names[fast]} is fastest, {short(speeds[fast])} pairs/s; {names[slow]} slowest, {short(speeds[slow])} pairs/s"
    )
    if trained[slow] < trained[fast]:
        reading += f", although it trains {_times(trained[fast] / trained[slow])} fewer parameters"
    flops = [row["cost"].get("flops") for row in leaderboard]
    if flops[fast] and flops[slow]:
        reading += f": it does {_times(flops[slow] / flops[fast])} the arithmetic"
    return reading + "."


def _times(ratio: float) -> str:
    return f"{count(ratio) if ratio >= 10 else f'{ratio:.1f}'} times"
