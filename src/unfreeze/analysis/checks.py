"""Coded warnings about a study, each described in docs/checks.md and muted with ``mute: [UNF008]`` in the study."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unfreeze.analysis.baselines import HYPOTHESIS_ONLY
from unfreeze.analysis.compare import learned

Row = dict[str, Any]

LOSS_MARGIN = 0.02  # of ln K: a loss this close has told the classes apart no better than a uniform guess
BRIER_MARGIN = 0.05  # of 1 - 1/K, the Brier score of a uniform guess: a loss within 2 % moves it by less
LEAK = 0.01  # of test: fewer examples than this change no accuracy that the page shows

TRUNCATED = 0.01  # of a split
HALF_WAY = 0.5  # from the most frequent class to the best strategy: more than that needs no premise
NEAR_BEST = 0.05  # of accuracy

RATES = 3  # of two rates one always is the best, and at an end
RATE = re.compile(r"learning_rate [^,)]+")  # in the names of entries that differ in it


@dataclass(frozen=True)
class Finding:
    """One warning: its code and what was found, in one sentence."""

    code: str
    sentence: str


@dataclass(frozen=True)
class Evidence:
    """What the checks look at.

    Attributes:
        results: rows of ``results.json``.
        comparison: the content of ``comparison.json``.
        labels: how many classes there are.
        train_groups: shape (train examples,).
        test_groups: shape (test examples,).
        truncated_share: of the split with most truncated examples; None where tokens were not counted.
        baselines: rows of ``baselines.json``.
        searches: of ``tuning.json``.
    """

    results: Sequence[Row]
    comparison: Row
    labels: int
    train_groups: np.ndarray
    test_groups: np.ndarray
    truncated_share: float | None = None
    baselines: Sequence[Row] = ()
    searches: Sequence[Row] = ()

    @property
    def finished(self) -> list[Row]:
        """The rows of runs that finished."""
        return [row for row in self.results if row["status"] == "finished"]


def near_chance(evidence: Evidence) -> str | None:
    """UNF001: a run does no better than always answering the most frequent class."""
    stuck = {run for strategy in evidence.comparison["strategies"] for run in strategy["not_learned"]}
    runs = [_name(row) for row in evidence.finished if row["run_id"] in stuck]
    return f"No better than always answering the most frequent class: {_some(runs)}." if runs else None


def uniform_loss(evidence: Evidence) -> str | None:
    """UNF002: a run's test loss is about ln K, that of a uniform guess."""
    uniform, flat = math.log(evidence.labels), 1 - 1 / evidence.labels
    scores = [(_name(row), row["metrics"]["test"]) for row in evidence.finished]
    # A good classifier that is far too sure of its mistakes can have that loss as well, but not that Brier score.
    runs = [
        name
        for name, test in scores
        if abs(test["loss"] - uniform) < LOSS_MARGIN * uniform and abs(test.get("brier", flat) - flat) < BRIER_MARGIN
    ]
    return f"Test loss is about ln {evidence.labels} = {uniform:.3f}, a uniform guess: {_some(runs)}." if runs else None


def rate_at_edge(evidence: Evidence) -> str | None:
    """UNF003: the best learning rate of a strategy, by validation, is the lowest or the highest of those tried."""
    tried: dict[tuple[str, str], dict[float, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in evidence.results:
        name, found = RATE.subn("learning_rate …", row["strategy"])
        if found and row["status"] != "pending":
            name = name.removesuffix(" (learning_rate …)")
            tried[name, row["encoder"]][row["recipe"]["learning_rate"]].append(row)
    tuned = _tuned_ends(evidence.searches)
    edges = [f"{name} ({end})" for name, key, end in tuned if key == "learning_rate"]
    for (name, encoder), by_rate in tried.items():
        # A rate whose runs failed was tried too: where the next higher one diverges, the best is no end.
        scores = {rate: _validation_accuracy(rows) for rate, rows in by_rate.items()}
        best = max(scores, key=scores.__getitem__)
        if len(scores) >= RATES and scores[best] > -math.inf and best in (min(scores), max(scores)):
            end = "lowest" if best == min(scores) else "highest"
            edges.append(f"{name} on {encoder} ({best:g}, the {end} of {len(scores)})")
    others = [f"{name} ({key} {end})" for name, key, end in tuned if key != "learning_rate"]
    sentences = []
    if edges:
        beyond = "The best learning rate is an end of those tried, so a better one may lie beyond"
        sentences.append(f"{beyond}: {_some(edges)}.")
    if others:
        sentences.append(f"Tuning chose an end of the values that were named: {_some(others)}.")
    return " ".join(sentences) or None


def _tuned_ends(searches: Sequence[Row]) -> list[tuple[str, str, str]]:
    """Strategy, key and end, as in ``8, the highest of 3``, of each number that tuning chose at an end of its range."""
    return [
        (f"{row['strategy']} on {row['encoder']}", at["key"], f"{at['value']:g}, the {at['end']} of {at['tried']}")
        for row in searches
        for at in row["at_edge"]
    ]


def _validation_accuracy(rows: Sequence[Row]) -> float:
    """The mean over finished runs; the lowest of all numbers where none finished."""
    scores = [row["metrics"]["validation"]["accuracy"] for row in rows if row["status"] == "finished"]
    return sum(scores) / len(scores) if scores else -math.inf


def still_improving(evidence: Evidence) -> str | None:
    """UNF004: a run's best epoch is the last it was given."""
    runs = [row["run_id"] for row in evidence.finished if row["best_epoch"] == row["recipe"]["epochs"] > 1]
    if not runs:
        return None
    return f"Best at the last epoch, so more epochs may help: {len(runs)} of {len(evidence.finished)} runs."


def premise_leakage(evidence: Evidence) -> str | None:
    """UNF005: test examples share their premise (or group) with training."""
    share = float(np.isin(evidence.test_groups, evidence.train_groups).mean())
    if share < LEAK:
        return None
    return (
        f"{100 * share:.1f} % of the test examples share a premise or group with training; accuracy on them may not "
        "hold for new ones. A grouped split keeps them apart."
    )


def truncation(evidence: Evidence) -> str | None:
    """UNF006: more than 1 % of a split's examples lose tokens."""
    share = evidence.truncated_share
    if share is None or share <= TRUNCATED:
        return None
    return f"{100 * share:.1f} % of the examples of a split are longer than max_length and lose their end."


def within_noise(evidence: Evidence) -> str | None:
    """UNF007: others are undecided against the best strategy."""
    ranking = evidence.comparison["ranking"]
    among = [(pair, {pair["a"], pair["b"]}) for pair in evidence.comparison["pairs"]]
    pairs = [pair for pair, both in among if both & set(ranking[:1]) and both <= set(ranking)]
    undecided = [pair for pair in pairs if pair["decision"] == "undecided"]
    if not undecided:
        return None
    return f"{len(undecided)} of {len(pairs)} other strategies are undecided against the best."


def one_seed(evidence: Evidence) -> str | None:
    """UNF008: a strategy ran with one seed."""
    strategies = [row for row in evidence.comparison["strategies"] if len(row["seeds"]) == 1]
    names = [f"{row['strategy']} on {row['encoder']}" for row in strategies]
    return f"One seed only, so the luck of training is not accounted for: {_some(names)}." if names else None


def hypothesis_only(evidence: Evidence) -> str | None:
    """UNF009: the hypothesis alone comes close to the best strategy."""
    comparison = evidence.comparison
    found = [row for row in evidence.baselines if row["name"] == HYPOTHESIS_ONLY and row["status"] == "finished"]
    if not found or not comparison["ranking"]:
        return None
    row = max(found, key=lambda row: row["metrics"]["test"]["accuracy"])
    test, best = row["metrics"]["test"], comparison["strategies"][comparison["ranking"][0]]["accuracy"]["mean"]
    rows, majority = comparison["test"]["rows"], comparison["test"]["majority_share"]
    way = (test["accuracy"] - majority) / (best - majority)
    close = way > HALF_WAY or best - test["accuracy"] <= NEAR_BEST
    # Where one class is nearly all there is, everything is close to the best; only what has learned something counts.
    if not close or not learned(np.arange(rows) >= test["mistakes"], majority):
        return None
    return (
        f"The hypothesis alone reaches {100 * test['accuracy']:.1f} % (logistic regression on its embedding by "
        f"{row['encoder']}, frozen), "
        f"{100 * way:.0f} % of the way from the most frequent class to the best strategy: much of the accuracy here "
        "may come from how hypotheses are worded, not from what follows from a premise."
    )


def different_machines(evidence: Evidence) -> str | None:
    """UNF010: runs whose cost is compared were measured on different devices, threads or precisions."""
    differing = [
        key
        for key in ("device", "cpu", "gpu", "precision", "threads")
        if len({str(row["environment"].get(key)) for row in evidence.finished}) > 1
    ]
    return f"Runs differ in {', '.join(differing)}: their times and memory do not compare." if differing else None


CHECKS: tuple[Callable[[Evidence], str | None], ...] = (
    near_chance,
    uniform_loss,
    rate_at_edge,
    still_improving,
    premise_leakage,
    truncation,
    within_noise,
    one_seed,
    hypothesis_only,
    different_machines,
)


def code(check: Callable[[Evidence], str | None]) -> str:
    """A check's code, which its docstring begins with."""
    return (check.__doc__ or "").partition(":")[0]


def run_checks(evidence: Evidence, mute: Sequence[str] = ()) -> list[Finding]:
    """Every warning that applies and is not muted, in order of its code."""
    sentences = [(code(check), check(evidence)) for check in CHECKS if code(check) not in mute]
    return [Finding(found, sentence) for found, sentence in sentences if sentence]


def _name(row: Row) -> str:
    return f"{row['strategy']} on {row['encoder']} (seed {row['seed']})"


def _some(names: Sequence[str], most: int = 3) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
