"""Words in mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from unfreeze.analysis.words import LEVEL, WordCounts, word_lifts
from unfreeze.report.figures.figure import Figure, blank, chooser, colour_of, join, plain, run_labels, visible

Row = dict[str, Any]

TOP = 20


def words_in_mistakes(runs: Sequence[Row], counts: WordCounts) -> Figure:
    """The words of most mistakes, and those that stand in mistakes more often than in other examples.

    Raw counts leave out English function words, which fill any text; lifts do not, and show only words whose
    corrected p-value is below 5 % in some run.

    Args:
        runs: rows with ``run_id``, ``encoder``, ``strategy`` and ``seed``.
        counts: over the same runs.
    """
    tables = [word_lifts(counts, run) for run in range(len(runs))]
    lifts = np.stack([table["lift"].to_numpy().astype(float) for table in tables])
    found = np.stack([table["q"].to_numpy() for table in tables]) < LEVEL
    content = np.array([word not in ENGLISH_STOP_WORDS for word in counts.vocabulary])
    frequent = _top(np.where(content, counts.mistakes.sum(axis=0), 0))
    lifted = _top(np.where(found, np.nan_to_num(lifts), 0).max(axis=0, initial=0) * (lifts > 1).any(axis=0))
    plot = blank(140 + 24 * TOP, yaxis={"autorange": "reversed", "automargin": True, "type": "category"})
    plot.update_xaxes(title="Mistakes")
    colours, names = colour_of(row["strategy"] for row in runs), run_labels(runs)
    views = (
        ("Raw counts", "Mistakes", frequent, counts.mistakes),
        ("Lift over the base rate", "Lift (filled: significant after correction)", lifted, lifts),
    )
    for number, (_, _, chosen, values) in enumerate(views):
        for run, (row, name) in enumerate(zip(runs, names, strict=True)):
            sure = ["" if found[run, word] else "-open" for word in chosen]
            plot.add_trace(
                go.Scatter(
                    x=values[run, chosen],
                    y=[plain(word) for word in counts.vocabulary[chosen]],
                    mode="markers",
                    name=plain(name),
                    visible=number == 0,
                    marker={
                        "color": colours[row["strategy"]],
                        "size": 9,
                        "symbol": ["circle" + mark for mark in sure] if number else "circle",
                    },
                )
            )
    axes = [{"xaxis.title.text": axis} for _, axis, _, _ in views]
    chooser(plot, ((views[i][0], visible(i, len(views), len(runs)), axis) for i, axis in enumerate(axes)))
    table = pa.concat_tables(
        table.append_column("run", pa.array([name] * len(table), pa.string()))
        for table, name in zip(tables, names, strict=True)
    ).filter(np.tile(np.isin(np.arange(len(content)), np.union1d(frequent, lifted)), len(runs)))
    return Figure(
        "words-in-mistakes",
        "Frequent words, and over-represented ones",
        plot,
        table,
        _reading(counts, frequent, lifted, lifts),
    )


def _top(score: np.ndarray) -> np.ndarray:
    order = np.argsort(-score, kind="stable")[:TOP]
    return np.asarray(order[score[order] > 0])


def _reading(counts: WordCounts, frequent: np.ndarray, lifted: np.ndarray, lifts: np.ndarray) -> str:
    often = f"Most frequent in mistakes: {join(counts.vocabulary[frequent[:3]])}." if len(frequent) else ""
    if not len(lifted):
        return (
            f"{often} No word stands in mistakes more often than chance explains, of {len(counts.vocabulary)} tested."
        )
    best = [f"{counts.vocabulary[word]} (×{np.nanmax(lifts[:, word]):.1f})" for word in lifted[:3]]
    return f"{often} Over-represented after correction over {len(counts.vocabulary)} words: {join(best)}."
