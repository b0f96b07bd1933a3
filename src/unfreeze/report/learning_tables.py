"""Tables of training examples: what is likely mislabelled, and what is learned when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from unfreeze.analysis.dynamics import Cartography, earlier, learned_apart, likely_label_errors, mean_of
from unfreeze.report.figures.figure import join
from unfreeze.report.formats import count
from unfreeze.report.tables import Table, text_columns, texts

LABEL_ERRORS, APART = 200, 100


def label_errors(runs: Sequence[Cartography], examples: pa.Table, labels: Sequence[str]) -> Table | None:
    """Training examples that are likely mislabelled, least confident first; None where there is none.

    Args:
        runs: of every strategy and seed.
        examples: the training split.
        labels: class names.
    """
    mean = mean_of(runs)
    chosen = likely_label_errors(mean, LABEL_ERRORS)
    never = np.sum([np.isinf(run.learned) for run in runs], axis=0)
    rows = [
        [*example, gold, float(mean.confidence[index]), float(mean.variability[index]), int(never[index])]
        for index, example, gold in zip(chosen, texts(examples, chosen), _gold(examples, chosen, labels), strict=True)
    ]
    columns = [
        *_text_columns(examples),
        ("Mean confidence", "percent"),
        ("Variability", "percent"),
        (f"Not learned by (of {len(runs)} runs)", "count"),
    ]
    total = int((mean.region == 2).sum())
    note = (
        f"{count(total)} of {count(len(examples))} training examples are hard to learn: over epochs and runs, the "
        "probability of the gold label stays below one half by more than its standard deviation. Wrong labels gather "
        f"here, beside examples that are merely difficult. The {count(len(chosen))} least confident:"
    )
    return Table("label-errors", "Likely label errors in training", columns, rows, note) if rows else None


def learning_times(strategies: Mapping[str, Cartography], examples: pa.Table, labels: Sequence[str]) -> Table | None:
    """Training examples that one strategy learns early and another late or never; None where there is none.

    Args:
        strategies: the mean over seeds by name, the best first.
        examples: the training split.
        labels: class names.
    """
    chosen = learned_apart(list(strategies.values()), APART)
    times = np.stack([one.learned[chosen] for one in strategies.values()], axis=1).tolist()
    rows = [
        [*example, gold, *(int(epoch) if np.isfinite(epoch) else None for epoch in epochs)]
        for example, gold, epochs in zip(texts(examples, chosen), _gold(examples, chosen, labels), times, strict=True)
    ]
    columns = [*_text_columns(examples), *((name, "count") for name in strategies)]
    first, *others = strategies
    compared = [
        f"{count(earlier(strategies[first], strategies[other]))} earlier than {other} "
        f"({count(earlier(strategies[other], strategies[first]))} later)"
        for other in others
    ]
    note = (
        "The epoch from which every seed of a strategy stays right; a dash where one never does. Of "
        f"{count(len(examples))} training examples, {first} learns {join(compared, 3)}."
    )
    return Table("learning-times", "Learned early by one, late by another", columns, rows, note) if rows else None


def _text_columns(examples: pa.Table) -> list[tuple[str, str]]:
    return [*((column.capitalize(), "text") for column in text_columns(examples)), ("Gold", "choice")]


def _gold(examples: pa.Table, indices: np.ndarray, labels: Sequence[str]) -> list[str]:
    return [labels[label] for label in examples["gold"].to_numpy()[indices]]
