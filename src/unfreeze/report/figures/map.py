"""Where mistakes stand by what the encoder makes of them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa

from unfreeze.analysis.clusters import MistakeMap, Projection, main_confusion
from unfreeze.analysis.mistakes import Answers
from unfreeze.report.figures.figure import COLOURS, SYMBOLS, Figure, blank, chooser, plain, run_labels
from unfreeze.report.formats import count, percent

Row = dict[str, Any]

POINTS, POINTS_OF_A_RUN = 6_000, 1_500  # drawn; with the texts they show, 6,000 take 2 MB of the page, 4 at most
LEGEND = 12  # clusters of a run with an entry; pointing at one names any
LINE, CHARACTERS = 42, 200  # of each text that a point shows: what fits a telephone
*CLUSTER_COLOURS, GREY = COLOURS


def mistake_map(
    runs: Sequence[Row],
    maps: Mapping[str, MistakeMap],
    answers: Mapping[str, Answers],
    examples: pa.Table,
    labels: Sequence[str],
    projection: Projection = "pca",
) -> Figure:
    """Mistakes of one run at a time, near each other where its head reads nearly the same, coloured by cluster.

    Args:
        runs: rows with ``run_id``, ``encoder``, ``strategy`` and ``seed``.
        maps: what :func:`unfreeze.analysis.clusters.map_mistakes` found, by run id.
        answers: test answers by run id.
        examples: the test split.
        labels: class names.
        projection: what the maps were made with.
    """
    axes = [{"title": f"{projection.upper()} {axis}", "showticklabels": False, "zeroline": False} for axis in (1, 2)]
    plot = blank(560, xaxis=axes[0], yaxis=axes[1], hoverlabel={"align": "left"})
    names, most = run_labels(runs), min(POINTS_OF_A_RUN, POINTS // len(runs))
    owners: list[str] = []
    tables = []
    for row, name in zip(runs, names, strict=True):
        found = maps[row["run_id"]]
        # A random sample, so that clusters keep their shares; names and reading count every mistake.
        drawn = np.random.default_rng(0).permutation(len(found.examples))[:most]
        points = _points(found, drawn, answers[row["run_id"]], examples.take(found.examples[drawn]), labels)
        traces = _traces(found, points)
        plot.add_traces([trace.update(visible=name == names[0]) for trace in traces])
        owners += [name] * len(traces)
        tables.append(points.append_column("run", pa.array([name] * len(points), pa.string())))
    chooser(plot, ((name, {"visible": [owner == name for owner in owners]}, {}) for name in names))
    table = pa.concat_tables(tables).select(["run", "guid", "cluster", "x", "y", "gold", "predicted"])
    first = runs[0]["run_id"]
    reading = _reading(names[0], maps[first], answers[first], labels, len(tables[0]))
    return Figure("mistake-map", "Mistakes the encoder sees alike", plot, table, reading)


def _titles(found: MistakeMap) -> list[str]:
    """Numbered: two clusters may be called the same."""
    return [f"{number}. {name}" for number, name in enumerate(found.names, start=1)]


def _points(found: MistakeMap, drawn: np.ndarray, run: Answers, texts: pa.Table, labels: Sequence[str]) -> pa.Table:
    """Some mistakes of a map and their texts; ``cluster`` is null where a mistake is in none."""
    titles, label, rows = np.array([*_titles(found), None], object), np.array(labels), found.examples[drawn]
    x, y = found.position[drawn].T
    columns = {
        "cluster": pa.array(titles[found.cluster[drawn]], pa.string()),
        "x": np.round(x, 2),
        "y": np.round(y, 2),
        "gold": label[run.gold[rows]],
        "predicted": label[run.predicted[rows]],
    }
    return pa.table({**{name: texts[name] for name in ("guid", "premise", "hypothesis")}, **columns})


def _traces(found: MistakeMap, points: pa.Table) -> list[go.Scatter]:
    """Mistakes in no cluster, under the clusters, each with a colour and a symbol of its own."""
    cluster = np.array(points["cluster"].to_pylist(), object)
    shown = np.array([_shown(row) for row in points.to_pylist()], object)
    x, y = points["x"].to_numpy(), points["y"].to_numpy()
    grey = {"color": GREY, "size": 5, "opacity": 0.45}
    looks: list[tuple[str | None, str, Row]] = [(None, "in no cluster", grey)]
    for number, title in enumerate(_titles(found)):
        colour, symbol = CLUSTER_COLOURS[number % len(CLUSTER_COLOURS)], SYMBOLS[number % len(SYMBOLS)]
        looks.append((title, title, {"color": colour, "symbol": symbol, "size": 8}))
    return [
        go.Scatter(
            x=x[cluster == key],
            y=y[cluster == key],
            mode="markers",
            marker=marker,
            name=plain(title),
            showlegend=number <= LEGEND,
            text=shown[cluster == key],
            hovertemplate="%{text}<br>" + plain(title) + "<extra></extra>",
        )
        for number, (key, title, marker) in enumerate(looks)
    ]


def _shown(mistake: Row) -> str:
    """A mistake as plotly's markup: its texts, broken into lines, then gold and predicted."""
    texts = [text for text in (mistake["premise"], mistake["hypothesis"]) if text]
    cut = [text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]} …" for text in texts]
    answer = f"gold {mistake['gold']}, predicted {mistake['predicted']}"
    return "<br>".join(plain(line) for text in (*cut, answer) for line in textwrap.wrap(text, LINE))


def _reading(name: str, found: MistakeMap, run: Answers, labels: Sequence[str], drawn: int) -> str:
    mistakes, total = len(found.examples), int(run.wrong.sum())
    of = f"{count(total)} mistakes" if mistakes == total else f"{count(mistakes)} of {count(total)} mistakes"
    part = f" A random {count(drawn)} of them are drawn." if drawn < mistakes else ""
    if not found.names:
        return f"{name}: among {of}, no group is denser than the rest.{part}"
    inside, largest = float((found.cluster >= 0).mean()), found.examples[found.cluster == 0]
    gold, predicted, times = main_confusion(run, largest)
    groups = "1 cluster holds" if len(found.names) == 1 else f"{len(found.names)} clusters hold"
    return (
        f"{name}: {groups} {percent(inside, 0)} of {of}, {percent(1 - inside, 0)} are in none. The largest, "
        f"“{found.names[0]}” ({count(len(largest))}), mostly answers {labels[predicted]} where gold is {labels[gold]} "
        f"({percent(times / len(largest), 0)}).{part}"
    )
