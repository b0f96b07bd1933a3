"""What the command line shows: tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from unfreeze.report.formats import MISSING, count, decimal, percent, seconds, short, size, told
from unfreeze.study import slug

Row = dict[str, Any]


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=index == 0)
    return table


def run_name(run: Row) -> str:
    """What a line calls a run."""
    return f"{slug(run['encoder'])} {run['strategy']} seed {run['seed']}"


def trial_name(trial: Row) -> str:
    """What a line calls a trial."""
    return f"{slug(trial['encoder'])} {trial['strategy']}, {told(trial['choice'])}"


def show_leaderboard(
    console: Console, rows: Sequence[Row], notes: Sequence[str], baselines: Sequence[Row] = ()
) -> None:
    """One line for each strategy of each encoder, best first, means over seeds; then what has no place in it."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["status"] == "finished":
            groups.setdefault((row["encoder"], row["strategy"]), []).append(row)
    heads = ("accuracy\n%", "macro-\nF1", "trainable\nparams", "train\nseconds", "peak\nmemory", "pairs/s")
    most = max(map(len, groups.values()), default=0)
    table = _table(
        f"Leaderboard (test{f', mean of {most} seeds ± sd' if most > 1 else ', one seed'})", "strategy", *heads
    )
    encoders = {encoder for encoder, _ in groups}

    def accuracy(group: Sequence[Row]) -> np.ndarray:
        return np.array([row["metrics"]["test"]["accuracy"] for row in group])

    for (encoder, strategy), group in sorted(groups.items(), key=lambda item: -accuracy(item[1]).mean()):
        name = strategy if len(encoders) == 1 else f"{slug(encoder)} {strategy}"
        train = _mean(group, "cost", "train_seconds")
        spread = f" ± {100 * accuracy(group).std(ddof=1):.1f}" if len(group) > 1 else ""
        table.add_row(
            name if len(group) == most else f"{name} ({len(group)} of {most} seeds)",
            f"{100 * accuracy(group).mean():.1f}{spread}",
            decimal(_mean(group, "metrics", "test", "macro_f1")),
            short(group[0]["params"]["trainable"]),
            decimal(train, 0 if train and train >= 10 else 1),
            size(_mean(group, "cost", "peak_memory_bytes")),
            count(_mean(group, "cost", "pairs_per_second")),
        )
    console.print(table)
    prefix = {row["cost"]["prefix_seconds"] for row in rows if row["cost"] and row["cost"]["prefix_seconds"]}
    if prefix:
        console.print(
            f"Frozen prefix, computed once for the runs that share it: {seconds(sum(prefix))}.", highlight=False
        )
    tuning = {(row["encoder"], row["strategy"]): row["cost"].get("tuning_seconds") for row in rows if row["cost"]}
    if any(tuning.values()):
        spent = seconds(sum(filter(None, tuning.values())))
        console.print(f"Tuning, before these runs and not in their times: {spent}.", highlight=False)
    for row in baselines:
        on = f" of {slug(row['encoder'])}" if row["encoder"] else ""
        outcome = row["failure"]["message"] if row["failure"] else percent(row["metrics"]["test"]["accuracy"])
        console.print(f"Baseline {row['name']}{on}: {outcome}", highlight=False)
    for row in rows:
        if row["status"] != "finished":
            why = row["failure"]["message"] if row["failure"] else "not run yet"
            console.print(f"[red]{row['status']}[/] {run_name(row)}: {why}", highlight=False)
    for note in notes:
        console.print(f"Note: {note}", highlight=False)


def _mean(group: Sequence[Row], *keys: str) -> float | None:
    """Mean of a nested value over rows, None where a row has none."""
    values = []
    for row in group:
        value: Any = row
        for key in keys:
            value = value[key]
        values.append(value)
    return None if None in values else float(np.mean(values))


def show_explore(console: Console, found: Row) -> None:
    """Size, sample, label balance, lengths, duplicates, overlap and dropped rows of a dataset."""
    sizes = found["sizes"]
    table = _table(f"{found['name']}: examples", "label", *sizes)
    for label in found["labels"]:
        counts = [found["label_counts"][split][label] for split in sizes]
        shares = [f"{count(n)} ({percent(n / sizes[split])})" for n, split in zip(counts, sizes, strict=True)]
        table.add_row(escape(label), *shares)
    table.add_row("all", *(count(rows) for rows in sizes.values()))
    console.print(table)

    table = _table("Length", "split", "text", "unit", "mean", "median", "95 %", "99 %", "max")
    for split, texts in found["lengths"].items():
        for text, units in texts.items():
            for unit, at in units.items():
                shown = (decimal(at["mean"], 1), *(count(at[key]) for key in ("median", "p95", "p99", "max")))
                table.add_row(split, text if found["is_pair"] else "text", unit, *shown)
    console.print(table)

    for label, rows in found["samples"].items():
        console.print(f"[bold]{escape(label)}[/]", highlight=False)
        for row in rows:
            parts = [row["premise"], row["hypothesis"]] if found["is_pair"] else [row["premise"]]
            console.print("  " + escape("  →  ".join(parts)), highlight=False)
    for split, repeated in found["duplicates"].items():
        if repeated["repeated"]:
            again = f"{count(repeated['repeated'])}, {count(repeated['conflicting'])} of them with another label"
            console.print(f"Duplicates in {split}: {again}.", highlight=False)
    for split, overlap in found["overlap"].items():
        share = f"{count(overlap['premise']['count'])} ({percent(overlap['premise']['share'], 2)})"
        what = "premise" if found["is_pair"] else "text"
        console.print(f"Examples of {split} whose {what} stands in train too: {share}.", highlight=False)
    for reason in found["dropped"]:
        places = [f"{row['source']} row {row['row']}" for row in reason["first"]]
        more = ", …" if reason["count"] > len(places) else ""
        text = f"Dropped {count(reason['count'])}: {reason['reason']} ({', '.join(places)}{more})."
        console.print(text, highlight=False, markup=False)
    for note in found["notes"]:
        console.print(f"Note: {note}", highlight=False)


def show_plan(
    console: Console,
    rows: Sequence[Row],
    sharing: Sequence[Row],
    notes: Sequence[str],
    tuning: Row | None = None,
    compared_at: Sequence[str] = (),
) -> None:
    """The runs of a grid with what each will take, and what they share.

    Args:
        console: where to.
        rows: ``run`` (a planned run), ``shape`` and ``estimate``.
        sharing: ``encoder``, ``depths``, ``runs`` (a count) and ``seconds``.
        notes: of the data and the encoders.
        tuning: ``trials``, ``searches``, ``extensions`` (counts at most) and ``seconds``, where something is tuned.
        compared_at: what the runs have in common, as estimated.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["run"].spec.encoder, row["run"].strategy), []).append(row)
    heads = ("trainable", "total", "frozen\nlayers", "steps", "tokens", "padding", "memory\n≈", "time\n≈")
    seeds = len({row["run"].spec.seed for row in rows})
    table = _table(f"{len(rows)} runs, {seeds} seed{'s' * (seeds > 1)}; figures are each run's", "strategy", *heads)
    encoders = {encoder for encoder, _ in groups}
    for (encoder, strategy), group in groups.items():
        shape, estimate = group[0]["shape"], group[0]["estimate"]
        table.add_row(
            strategy if len(encoders) == 1 else f"{slug(encoder)} {strategy}",
            count(shape.trainable),
            short(shape.total),
            f"{shape.depth}/{shape.layers}",
            count(estimate.steps),
            short(estimate.tokens),
            percent(estimate.padding_share),
            size(estimate.memory_bytes),
            seconds(estimate.seconds),
        )
    console.print(table)
    if compared_at:
        console.print(*compared_at, highlight=False)
    for refused in dict.fromkeys(row["run"].refused for row in rows if row["run"].refused):
        console.print(f"Would not run: {refused}.", highlight=False)
    for shared in sharing:
        depths = ", ".join(map(str, shared["depths"]))
        console.print(
            f"Shared: {shared['runs']} runs of {shared['encoder']} start from frozen states at depth {depths}, "
            f"computed once in about {seconds(shared['seconds'])}.",
            highlight=False,
        )
    total = sum(row["estimate"].seconds for row in rows) + sum(shared["seconds"] for shared in sharing)
    if tuning:
        total += tuning["seconds"]
        console.print(
            f"Before them, tuning: up to {tuning['trials']} trials for {tuning['searches']} strategies in about "
            f"{seconds(tuning['seconds'])}, and up to {tuning['extensions']} more where the best learning rate is at "
            "an end of its range. Figures above are for the middle of each range.",
            highlight=False,
        )
    console.print(f"All together about {seconds(total)}. Memory and time are estimates (≈).", highlight=False)
    for note in notes:
        console.print(f"Note: {note}", highlight=False)


def show_trials(console: Console, tuning: Row) -> None:
    """How far each trial is, and what was chosen."""
    table = _table("Tuning", "trial", "status", "validation accuracy", "epochs", "time")
    for search in tuning["searches"]:
        for trial in search["trials"]:
            status = "chosen" if trial["choice"] == search["chosen"] else trial["status"]
            shown = (status, percent(trial["accuracy"], 2), str(trial["epochs"]), seconds(trial["seconds"]))
            table.add_row(escape(trial_name({**search, **trial})), *shown)
    console.print(table)


def show_status(console: Console, rows: Sequence[Row], path: Path, compared_at: Sequence[str] = ()) -> None:
    """How far each run of a study is, and what its runs have in common."""
    table = _table(str(path), "run", "status", "test accuracy", "epochs")
    colours = {"finished": "green", "failed": "red", "diverged": "red"}
    for row in rows:
        metrics = row["metrics"] and row["metrics"]["test"]["accuracy"]
        status = f"[{colours.get(row['status'], 'dim')}]{row['status']}[/]"
        table.add_row(run_name(row), status, percent(metrics, 2), str(row["epochs"] or MISSING))
    console.print(table)
    if compared_at:
        console.print(*compared_at, highlight=False)
    for row in rows:
        if row["failure"]:
            console.print(f"{row['run_id']}: {row['failure']['message']}", highlight=False, markup=False)


def show_probabilities(console: Console, labels: Sequence[str], probabilities: Mapping[str, float]) -> None:
    """One example's probability for each label, most likely first."""
    table = _table("", "label", "probability")
    for label in sorted(labels, key=lambda name: -probabilities[name]):
        table.add_row(label, percent(probabilities[label]))
    console.print(table)
