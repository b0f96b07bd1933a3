"""What the data look like."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa
import pyarrow.compute as pc
from plotly.subplots import make_subplots

from unfreeze.report.figures.figure import COLOURS, Figure, blank, chooser, join, plain
from unfreeze.report.formats import count, percent

BINS = 40
FAR = 3  # times the longest tokens shown: a cut beyond that is only told, as its line would squeeze the histogram
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


@dataclass(frozen=True)
class Lengths:
    """How long a split's examples are, in one unit.

    Attributes:
        edges: of the histogram, ascending; the last bin holds whatever is above it too.
        counts: examples in each bin, one fewer than edges.
        five: 5 %, 25 %, 50 %, 75 % and 95 % quantiles.
    """

    edges: np.ndarray
    counts: np.ndarray
    five: tuple[float, ...]


def text_lengths(splits: Mapping[str, pa.Table], tokens: Mapping[str, Mapping[str, Any]] | None = None) -> Figure:
    """Histogram of text lengths, with the middle half and 90 % of each split as a box above it.

    Args:
        splits: tables with schema :data:`~unfreeze.records.EXAMPLES`; both texts of a pair count together.
        tokens: by split what ``explore.json`` says of tokens; left out where it has no histogram of them.
    """
    plot = make_subplots(2, 1, row_heights=[0.3, 0.7], vertical_spacing=0.03)
    plot.update_layout(blank(420).layout)
    units = {unit: _of_texts(splits, unit) for unit in ("Words", "Characters")}
    known = {split: found for split, found in (tokens or {}).items() if "histogram" in found}
    limit = next((found.get("max_length") for found in known.values()), None)
    if known:
        units["Tokens"] = {split: _of_tokens(found) for split, found in known.items()}
    shown: list[str] = []  # the unit of each trace
    for unit, lengths in units.items():
        for (split, found), colour in zip(lengths.items(), COLOURS, strict=False):
            plot.add_trace(_box(found, split, colour, unit == "Words"), 1, 1)
            plot.add_trace(_outline(found, split, colour, unit == "Words"), 2, 1)
            shown += [unit, unit]
    if limit is not None and limit <= FAR * max(found.edges[-1] for found in units["Tokens"].values()):
        plot.add_trace(_truncation(limit, units["Tokens"].values()), 2, 1)
        shown.append("Tokens")
    options = [
        (unit, {"visible": [unit == of for of in shown]}, {"xaxis2.title.text": f"{unit} of an example"})
        for unit in units
    ]
    chooser(plot, options)
    plot.update_xaxes(type="linear")
    plot.update_xaxes(matches="x2", showticklabels=False, row=1, col=1)
    plot.update_xaxes(title="Words of an example", row=2, col=1)
    plot.update_yaxes(title="Share of the split", tickformat=".0%", row=2, col=1)
    plot.update_yaxes(showticklabels=False, type="category", row=1, col=1)
    medians = [f"{count(found.five[2])} in {split}" for split, found in units["Words"].items()]
    reading = f"Median words of an example: {', '.join(medians)}."
    if limit is not None:
        cut = {split: found["truncated_share"] for split, found in known.items() if found["truncated_share"]}
        shares = join(f"{percent(share, 2)} of {split}" for split, share in cut.items())
        reading += f" Longer than {limit} tokens, and cut there: {shares}." if cut else f" None exceeds {limit} tokens."
    return Figure("text-lengths", "Text lengths", plot, _bins(units), reading)


def _bins(units: Mapping[str, Mapping[str, Lengths]]) -> pa.Table:
    rows = [
        {"unit": unit, "split": split, "from": low, "to": high, "examples": examples}
        for unit, lengths in units.items()
        for split, found in lengths.items()
        for low, high, examples in zip(
            found.edges[:-1].tolist(), found.edges[1:].tolist(), found.counts.tolist(), strict=True
        )
    ]
    return pa.Table.from_pylist(rows)


def _of_texts(splits: Mapping[str, pa.Table], unit: str) -> dict[str, Lengths]:
    lengths = {split: _lengths(table, unit) for split, table in splits.items()}
    # The longest texts would flatten everything else: the last bin holds whatever is above the 99.5 % quantile.
    top = max(float(np.quantile(values, 0.995)) for values in lengths.values())
    edges = np.arange(0, top + 2, max(1, round(top / BINS)))
    return {
        split: Lengths(
            edges,
            np.histogram(np.minimum(values, edges[-1]), edges)[0],
            tuple(np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95)).tolist()),
        )
        for split, values in lengths.items()
    }


def _of_tokens(found: Mapping[str, Any]) -> Lengths:
    bins = found["histogram"]
    five = tuple(found[key] for key in ("p05", "p25", "median", "p75", "p95"))
    return Lengths(np.array(bins["edges"]), np.array(bins["counts"]), five)


def _truncation(limit: int, lengths: Iterable[Lengths]) -> go.Scatter:
    """A line where examples are cut, as a trace so that it comes and goes with the tokens."""
    highest = max(float((found.counts / max(found.counts.sum(), 1)).max()) for found in lengths)
    line = {"color": "#999999", "dash": "dash"}
    name = f"cut at {limit} tokens"
    return go.Scatter(
        x=[limit, limit], y=[0, highest], mode="lines", line=line, name=name, cliponaxis=False, visible=False
    )


def _lengths(table: pa.Table, unit: str) -> np.ndarray:
    columns = [pc.fill_null(table[name], "") for name in ("premise", "hypothesis")]
    if unit == "Words":
        return np.asarray(sum(pc.count_substring_regex(column, r"\S+").to_numpy() for column in columns))
    return np.asarray(sum(pc.utf8_length(column).to_numpy() for column in columns))


def _box(found: Lengths, split: str, colour: str, shown: bool) -> go.Box:
    keys = ("lowerfence", "q1", "median", "q3", "upperfence")
    five = {key: [value] for key, value in zip(keys, found.five, strict=True)}
    look = {"orientation": "h", "line_color": colour, "legendgroup": split, "showlegend": False, "hoverinfo": "x"}
    return go.Box(five, y=[split], name=split, visible=shown, **look)


def _outline(found: Lengths, split: str, colour: str, shown: bool) -> go.Scatter:
    low, high = found.edges[:-1], found.edges[1:] - 1
    ranges = [f"{a} to {b}" for a, b in zip(low[:-1].tolist(), high[:-1].tolist(), strict=True)]
    return go.Scatter(
        x=(low + high) / 2,
        y=found.counts / max(found.counts.sum(), 1),
        mode="lines",
        line={"shape": "hvh", "color": colour, "width": 2},
        name=split,
        legendgroup=split,
        visible=shown,
        text=[*ranges, f"{low[-1]} or more"],
        customdata=found.counts,
        hovertemplate="%{text}: %{customdata} examples",
    )
