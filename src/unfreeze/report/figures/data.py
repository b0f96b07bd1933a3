"""What the data look like."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa
import pyarrow.compute as pc
from plotly.subplots import make_subplots

from unfreeze.report.figures.figure import COLOURS, Figure, blank, chooser, plain, visible
from unfreeze.report.formats import count, percent

BINS = 40
UPRIGHT_LABELS = 12  # more classes than this are listed from top to bottom


def label_balance(label_counts: Mapping[str, Mapping[str, int]]) -> Figure:
    """Share of each class in each split.

    Args:
        label_counts: examples by split and label.
    """
    labels = list(next(iter(label_counts.values())))
    upright = len(labels) <= UPRIGHT_LABELS
    plot = blank(340 if upright else 120 + 26 * len(labels), barmode="group")
    for split, counts in label_counts.items():
        total = max(sum(counts.values()), 1)
        share = [counts[label] / total for label in labels]
        names = [plain(label) for label in labels]
        hover = "%{y}: " if not upright else "%{x}: "
        plot.add_trace(
            go.Bar(
                x=names if upright else share,
                y=share if upright else names,
                orientation="v" if upright else "h",
                name=split,
                customdata=list(counts.values()),
                hovertemplate=hover + "%{customdata} examples",
            )
        )
    shares, classes = (plot.update_yaxes, plot.update_xaxes) if upright else (plot.update_xaxes, plot.update_yaxes)
    shares(title="Share of the split", tickformat=".0%")
    classes(type="category", automargin=True, **({} if upright else {"autorange": "reversed"}))
    table = pa.table({"label": labels, **{split: list(counts.values()) for split, counts in label_counts.items()}})
    first = next(iter(label_counts))
    train = label_counts[first]
    most, least = max(train, key=train.__getitem__), min(train, key=train.__getitem__)
    reading = f"In {first}, {most} is the most frequent class ({percent(train[most] / sum(train.values()))}) "
    reading += f"and {least} the rarest ({percent(train[least] / sum(train.values()))})."
    return Figure("label-balance", "Label balance", plot, table, reading)


def text_lengths(splits: Mapping[str, pa.Table]) -> Figure:
    """Histogram of text lengths, with the middle half and 90 % of each split as a box above it.

    Args:
        splits: tables with schema :data:`~unfreeze.records.EXAMPLES`; both texts of a pair count together.
    """
    plot = make_subplots(2, 1, row_heights=[0.3, 0.7], vertical_spacing=0.03)
    plot.update_layout(blank(420).layout)
    bins: dict[str, list[object]] = {"unit": [], "split": [], "from": [], "to": [], "examples": []}
    medians = []
    units = ("Words", "Characters")
    for number, unit in enumerate(units):
        lengths = {split: _lengths(table, unit) for split, table in splits.items()}
        # The longest texts would flatten everything else: the last bin holds whatever is above the 99.5 % quantile.
        top = max(float(np.quantile(values, 0.995)) for values in lengths.values())
        edges = np.arange(0, top + 2, max(1, round(top / BINS)))
        for (split, values), colour in zip(lengths.items(), COLOURS, strict=False):
            counts = np.histogram(np.minimum(values, edges[-1]), edges)[0]
            plot.add_trace(_box(values, split, colour, number == 0), 1, 1)
            plot.add_trace(_outline(counts, edges, split, colour, number == 0), 2, 1)
            bins["unit"] += [unit] * len(counts)
            bins["split"] += [split] * len(counts)
            bins["from"] += edges[:-1].tolist()
            bins["to"] += edges[1:].tolist()
            bins["examples"] += counts.tolist()
            medians.append(f"{count(float(np.median(values)))} in {split}")
    axes = [{"xaxis2.title.text": f"{unit} of an example"} for unit in units]
    chooser(plot, ((units[i], visible(i, len(units), 2 * len(splits)), axis) for i, axis in enumerate(axes)))
    plot.update_xaxes(type="linear")
    plot.update_xaxes(matches="x2", showticklabels=False, row=1, col=1)
    plot.update_xaxes(title=f"{units[0]} of an example", row=2, col=1)
    plot.update_yaxes(title="Share of the split", tickformat=".0%", row=2, col=1)
    plot.update_yaxes(showticklabels=False, type="category", row=1, col=1)
    reading = f"Median words of an example: {', '.join(medians[: len(splits)])}."
    return Figure("text-lengths", "Text lengths", plot, pa.table(bins), reading)


def _lengths(table: pa.Table, unit: str) -> np.ndarray:
    columns = [pc.fill_null(table[name], "") for name in ("premise", "hypothesis")]
    if unit == "Words":
        return np.asarray(sum(pc.count_substring_regex(column, r"\S+").to_numpy() for column in columns))
    return np.asarray(sum(pc.utf8_length(column).to_numpy() for column in columns))


def _box(values: np.ndarray, split: str, colour: str, shown: bool) -> go.Box:
    low, q1, median, q3, high = np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95)).tolist()
    five = {"lowerfence": [low], "q1": [q1], "median": [median], "q3": [q3], "upperfence": [high]}
    look = {"orientation": "h", "line_color": colour, "legendgroup": split, "showlegend": False, "hoverinfo": "x"}
    return go.Box(five, y=[split], name=split, visible=shown, **look)


def _outline(counts: np.ndarray, edges: np.ndarray, split: str, colour: str, shown: bool) -> go.Scatter:
    return go.Scatter(
        x=(edges[:-1] + edges[1:] - 1) / 2,
        y=counts / counts.sum(),
        mode="lines",
        line={"shape": "hvh", "color": colour, "width": 2},
        name=split,
        legendgroup=split,
        visible=shown,
        customdata=np.stack([edges[:-1], edges[1:] - 1, counts], axis=1),
        hovertemplate="%{customdata[0]} to %{customdata[1]}: %{customdata[2]} examples",
    )
