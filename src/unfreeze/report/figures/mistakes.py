"""What runs get wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa
from plotly.subplots import make_subplots

from unfreeze.analysis.mistakes import Answers, gap_quantiles, intersections, jaccard, mistake_counts
from unfreeze.analysis.slices import error_rates
from unfreeze.report.figures.figure import (
    COLOURS,
    SEQUENCE,
    Figure,
    blank,
    chooser,
    colour_of,
    join,
    narrow,
    plain,
    run_labels,
    visible,
)
from unfreeze.report.formats import count, percent

Row = dict[str, Any]
Parts = Sequence[tuple[str, np.ndarray]]

NAMED_LABELS = len(COLOURS) - 1  # further classes are drawn as one, in the last colour
GAP_LABELS = 12  # classes, those with most mistakes, whose gaps can be looked at one by one
SETS, COMBINATIONS = 8, 24  # what fits an overlap plot on one screen
NARROW_COMBINATIONS = 12  # and on a telephone's


def mistake_labels(runs: Sequence[Row], answers: Mapping[str, Answers], labels: Sequence[str]) -> Figure:
    """Gold and predicted labels among the mistakes of every run, as shares.

    Args:
        runs: rows with ``run_id``, ``encoder``, ``strategy`` and ``seed``.
        answers: test answers by run id.
        labels: class names.
    """
    names = run_labels(runs)
    counts = np.array([mistake_counts(answers[row["run_id"]], len(labels)) for row in runs])  # runs, side, labels
    order = np.argsort(-counts.sum(axis=(0, 1)), kind="stable")
    named = np.sort(order[:NAMED_LABELS] if len(labels) > len(COLOURS) else order)
    rest = np.setdiff1d(order, named)
    bars = [(labels[index], counts[:, :, index]) for index in named]
    if len(rest):
        bars.append((f"{len(rest)} other classes", counts[:, :, rest].sum(axis=2)))
    totals = np.maximum(counts.sum(axis=2), 1)
    plot = make_subplots(1, 2, shared_yaxes=True, subplot_titles=("Gold", "Predicted"), horizontal_spacing=0.04)
    plot.update_layout(blank(110 + 26 * len(runs), barmode="stack").layout)
    for index, (label, values) in enumerate(bars):
        for side in (0, 1):
            bar = go.Bar(
                x=values[:, side] / totals[:, side],
                y=[plain(name) for name in names],
                customdata=values[:, side],
                orientation="h",
                name=plain(label),
                legendgroup=label,
                showlegend=side == 0,
                marker_color=COLOURS[index],
                hovertemplate="%{x:.1%} (%{customdata})",
            )
            plot.add_trace(bar, 1, side + 1)
    plot.update_xaxes(tickformat=".0%", range=[0, 1], tickvals=[0, 0.5], tickangle=0)
    plot.update_yaxes(autorange="reversed", type="category", automargin=True)
    plot.update_layout(legend={"y": -30 / plot.layout.height, "yanchor": "top"}, margin={"t": 30, "b": 80})
    table = pa.table(
        {
            "run_id": [row["run_id"] for row in runs for _ in labels],
            "label": [label for _ in runs for label in labels],
            "gold_among_mistakes": counts[:, 0].ravel(),
            "predicted_among_mistakes": counts[:, 1].ravel(),
        }
    )
    gold, predicted = counts[0, 0], counts[0, 1]
    reading = f"{names[0]} makes {count(gold.sum())} mistakes"
    for counted, how in ((gold, "on"), (predicted, "by answering")) if gold.any() else ():
        share = percent(counted.max() / counted.sum(), 0)
        reading += f", most often {how} {labels[counted.argmax()]} ({share})"
    return Figure("mistake-labels", "Labels among the mistakes", plot, table, reading + ".")


def probability_gaps(runs: Sequence[Row], answers: Mapping[str, Answers], labels: Sequence[str]) -> Figure:
    """How wrong the mistakes are: predicted minus gold probability, a box for every run, by gold class.

    Boxes hold half of the mistakes, whiskers 90 %.

    Args:
        runs: rows with ``run_id``, ``encoder``, ``strategy`` and ``seed``.
        answers: test answers by run id.
        labels: class names.
    """
    names, colours = run_labels(runs), colour_of(row["strategy"] for row in runs)
    plot = blank(
        90 + 30 * len(runs),
        xaxis={"type": "linear", "title": "Probability gap", "range": [-0.02, 1.02]},
        yaxis={"autorange": "reversed", "automargin": True, "type": "category"},
        showlegend=False,
    )
    choices: list[tuple[str, int | None]] = [("Every gold class", None)]
    missed = np.sum([mistake_counts(answers[row["run_id"]], len(labels))[0] for row in runs], axis=0)
    offered = np.sort(np.argsort(-missed, kind="stable")[:GAP_LABELS])
    choices += [(f"Gold: {labels[index]}", int(index)) for index in offered]
    found: list[Row] = []
    for title, label in choices:
        for row, name in zip(runs, names, strict=True):
            quantiles = gap_quantiles(answers[row["run_id"]], label)
            low, q1, median, q3, high = quantiles or (None,) * 5
            found.append({"run": name, "gold": title, "q05": low, "q25": q1, "median": median, "q75": q3, "q95": high})
            box = {"lowerfence": low, "q1": q1, "median": median, "q3": q3, "upperfence": high} if quantiles else {}
            plot.add_trace(
                go.Box(
                    {key: [value] for key, value in box.items()},
                    y=[plain(name)],
                    orientation="h",
                    name=plain(name),
                    visible=label is None,
                    line_color=colours[row["strategy"]],
                    hoverinfo="x",
                )
            )
    chooser(plot, ((title, visible(i, len(choices), len(runs)), {}) for i, (title, _) in enumerate(choices)))
    medians = sorted((row["median"], row["run"]) for row in found[: len(runs)] if row["median"] is not None)
    reading = "No run makes a mistake."
    if medians:
        (low, least), (high, most) = medians[0], medians[-1]
        reading = f"The median mistake puts {percent(high, 0)} more on the wrong label than on gold in {most}"
        reading += f", {percent(low, 0)} in {least}." if len(medians) > 1 else "."
    return Figure("probability-gaps", "How sure the mistakes are", plot, pa.Table.from_pylist(found), reading)


def mistake_overlap(runs: Sequence[Row], wrong: np.ndarray) -> Figure:
    """Share of mistakes that each two runs have in common, the same strategy under another seed among them.

    Args:
        runs: rows with ``run_id``, ``encoder``, ``strategy`` and ``seed``.
        wrong: shape (runs, examples), booleans.
    """
    names, shares = run_labels(runs), jaccard(wrong)
    side = [plain(name) for name in names]
    plot = blank(
        140 + 28 * len(runs),
        xaxis={"type": "category", "automargin": True, "tickangle": 45},
        yaxis={"autorange": "reversed", "type": "category", "automargin": True},
    )
    plot.add_trace(
        go.Heatmap(
            x=side,
            y=side,
            z=shares.astype(np.float32),
            colorscale=SEQUENCE,
            zmin=0,
            zmax=1,
            showscale=False,
            texttemplate="%{z:.2f}" if len(runs) <= 12 else None,
            hovertemplate="%{y}<br>%{x}<br>%{z:.1%} of their mistakes in common<extra></extra>",
        )
    )
    narrow(plot, xaxis__showticklabels=False)  # the columns are the rows again
    table = pa.table({"run": names, **{name: shares[:, index] for index, name in enumerate(names)}})
    reading = _in_common([f"{row['encoder']} {row['strategy']}" for row in runs], wrong, shares)
    return Figure("mistake-overlap", "Mistakes in common", plot, table, reading)


def _in_common(strategies: Sequence[str], wrong: np.ndarray, shares: np.ndarray) -> str:
    strategy = np.array(strategies)
    same = strategy[:, None] == strategy
    pairs = np.triu(np.ones_like(same), 1) & np.isfinite(shares)
    parts = [f"{count(wrong.all(axis=0).sum())} of {count(wrong.shape[1])} examples are wrong in every run"]
    if len(strategies) > 1:
        parts.append(f"{count((wrong.sum(axis=0) == 1).sum())} in exactly one")
    for who, chosen in (("two seeds of a strategy", pairs & same), ("two strategies", pairs & ~same)):
        if chosen.any():
            parts.append(f"{who} share {percent(shares[chosen].mean(), 0)} of their mistakes on average")
    return f"{', '.join(parts)}."


def mistake_sets(runs: Sequence[Row], wrong: np.ndarray) -> Figure:
    """Which runs get the same examples wrong, and only they (an UpSet plot, Lex et al. 2014).

    Args:
        runs: rows with ``run_id``, ``encoder``, ``strategy`` and ``seed``; the first :data:`SETS` are drawn.
        wrong: shape (runs, examples), booleans.
    """
    runs, wrong = runs[:SETS], wrong[:SETS]
    names = [plain(name) for name in run_labels(runs)]
    found = intersections(wrong)
    shown = found[:COMBINATIONS]
    plot = make_subplots(2, 1, shared_xaxes=True, row_heights=[0.55, 0.45], vertical_spacing=0.03)
    plot.update_layout(blank(300 + 24 * len(runs), showlegend=False).layout)
    plot.add_trace(
        go.Bar(y=[n for _, n in shown], marker_color=COLOURS[0], hovertemplate="%{y} examples<extra></extra>"), 1, 1
    )
    x = [column for column, (members, _) in enumerate(shown) for _ in members]
    y = [names[member] for members, _ in shown for member in members]
    plot.add_trace(
        go.Scatter(x=x, y=y, mode="markers", marker={"size": 9, "color": COLOURS[0]}, hoverinfo="skip"), 2, 1
    )
    plot.update_xaxes(showticklabels=False, showgrid=False, zeroline=False)
    order = {"categoryorder": "array", "categoryarray": names[::-1], "type": "category", "automargin": True}
    plot.update_yaxes(title="Examples", row=1, col=1)
    plot.update_yaxes(**order, range=[-0.5, len(names) - 0.5], row=2, col=1)
    some = [-0.6, min(len(shown), NARROW_COMBINATIONS) - 0.4]
    narrow(plot, xaxis__range=some, xaxis2__range=some)
    labels = run_labels(runs)
    members = ["; ".join(labels[member] for member in combination) for combination, _ in found]
    table = pa.table(
        {"wrong_in": pa.array(members, pa.string()), "examples": pa.array([n for _, n in found], pa.int64())}
    )
    reading = "No run makes a mistake."
    if found:
        combination, size = found[0]
        who = "all of them" if len(combination) == len(runs) > 1 else join(labels[member] for member in combination)
        reading = f"The largest group, {count(size)} examples, is wrong in {who} and nowhere else."
        if len(combination) == len(runs) > 1:
            reading = f"The largest group, {count(size)} examples, is wrong in all of them."
    return Figure("mistake-sets", "Which runs are wrong together", plot, table, reading)


def slice_errors(runs: Sequence[Row], wrong: np.ndarray, parts: Mapping[str, Parts]) -> Figure:
    """Error rate by length, by word overlap and by negation, with 95 % intervals.

    Args:
        runs: rows with ``run_id``, ``encoder``, ``strategy`` and ``seed``.
        wrong: shape (runs, examples), booleans.
        parts: what :func:`unfreeze.analysis.slices.slices` found.
    """
    plot = blank(
        420, yaxis={"title": "Error rate", "tickformat": ".0%", "rangemode": "tozero"}, xaxis={"type": "category"}
    )
    colours, names = colour_of(row["strategy"] for row in runs), run_labels(runs)
    rows: list[Row] = []
    for number, (cut, masks) in enumerate(parts.items()):
        for row, name, mistakes in zip(runs, names, wrong, strict=True):
            rates = error_rates(mistakes, masks)
            rows += [{"slice": cut, "run": name, **rate} for rate in rates]
            rate = np.array([part["error_rate"] for part in rates], float)
            spread = {
                "type": "data",
                "symmetric": False,
                "array": np.array([part["high"] for part in rates], float) - rate,
                "arrayminus": rate - np.array([part["low"] for part in rates], float),
                "thickness": 1,
            }
            plot.add_trace(
                go.Scatter(
                    x=[str(part["part"]).replace(" words", "<br>words") for part in rates],
                    y=rate,
                    error_y=spread,
                    mode="lines+markers",
                    name=plain(name),
                    visible=number == 0,
                    line={"color": colours[row["strategy"]], "width": 1.5},
                    customdata=[part["examples"] for part in rates],
                    hovertemplate="%{y:.1%} of %{customdata}",
                )
            )
    chooser(plot, ((f"By {cut}", visible(i, len(parts), len(runs)), {}) for i, cut in enumerate(parts)))
    return Figure(
        "slice-errors", "Where mistakes are frequent", plot, pa.Table.from_pylist(rows), _hardest(rows, names[0])
    )


def _hardest(rows: Sequence[Row], name: str) -> str:
    """The part of each cut with the highest error rate, for the first run."""
    hardest: dict[str, Row] = {}
    for row in rows:
        if row["run"] == name and row["error_rate"] >= hardest.get(row["slice"], row)["error_rate"]:
            hardest[row["slice"]] = row
    places = [f"{percent(row['error_rate'], 0)} ({cut}: {row['part']})" for cut, row in hardest.items()]
    return f"{name} errs most at {join(places)}."
