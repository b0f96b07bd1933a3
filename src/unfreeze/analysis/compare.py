"""Which differences between strategies are larger than the noise of test items and training seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import stats

from unfreeze.analysis.decisions import ALPHA, Variance, decide, estimate, interval_of, to_settle
from unfreeze.analysis.verdict import write_verdict
from unfreeze.study import EQUIVALENCE

Row = dict[str, Any]

ROUNDING = 1e-12  # of a run's own variance: what is left of a difference between identical runs


def compare(
    results: list[Row], predictions: Callable[[str], pa.Table], groups: np.ndarray, equivalence: float = EQUIVALENCE
) -> dict[str, Any]:
    """Compare the strategies of a study on its test split.

    Args:
        results: rows of ``results.json``; what has no ``seed`` (null) would be the same however often it were made.
        predictions: the test predictions of a run id; every run's rows stand in the same order.
        groups: shape (examples,), the group of each test example; examples of one group are not independent.
        equivalence: a difference in accuracy smaller than this share does not matter.

    Returns:
        What ``comparison.json`` holds: ``equivalence``, ``test`` (rows, groups, majority_share), ``strategies``,
        ``pairs``, ``ranking`` and ``unranked`` (indices into ``strategies``), ``failed`` (run ids) and ``verdict``
        (sentences).
    """
    finished = [row for row in results if row["status"] == "finished"]
    failed = [row["run_id"] for row in results if row["status"] != "finished"]
    if not finished:
        nothing = {"test": None, "strategies": [], "pairs": [], "ranking": [], "unranked": [], "failed": failed}
        return {"equivalence": equivalence, **nothing, "verdict": write_verdict(nothing)}
    tables = [predictions(row["run_id"]) for row in finished]
    gold = tables[0]["gold"].to_numpy()
    correct = np.stack([table["predicted"].to_numpy() == gold for table in tables])
    names, clusters = np.unique(groups, return_inverse=True)
    majority = float(np.bincount(gold).max() / len(gold))

    keys = list(dict.fromkeys((row["encoder"], row["strategy"]) for row in finished))
    members = [np.array([(row["encoder"], row["strategy"]) == key for row in finished]).nonzero()[0] for key in keys]
    accuracy, covariance = correct.mean(axis=1), accuracy_covariance(correct, clusters)
    pooled = pooled_seed_variance(accuracy, members)

    def varies(*sides: np.ndarray, fixed: bool = False) -> Variance:
        return variance_of(accuracy, covariance, sides, len(names), pooled, fixed)

    strategies = [_describe([finished[i] for i in runs], correct[runs], majority, varies(runs)) for runs in members]
    learned = [index for index, strategy in enumerate(strategies) if not strategy["not_learned"]]
    content = {
        "equivalence": equivalence,
        "test": {"rows": len(gold), "groups": len(names), "majority_share": majority},
        "strategies": strategies,
        "pairs": _pairs(finished, members, correct, varies, equivalence),
        "ranking": sorted(learned, key=lambda index: -strategies[index]["accuracy"]["mean"]),
        "unranked": [index for index, strategy in enumerate(strategies) if strategy["not_learned"]],
        "failed": failed,
    }
    return {**content, "verdict": write_verdict(content)}


def _describe(rows: list[Row], correct: np.ndarray, majority: float, variance: Variance) -> Row:
    spreads: Row = {}
    for metric in ("accuracy", "macro_f1", "loss"):
        values = np.array([row["metrics"]["test"][metric] for row in rows])
        sd = float(values.std(ddof=1)) if len(values) > 1 else None
        spreads[metric] = {
            "mean": float(values.mean()),
            "sd": sd,
            "min": float(values.min()),
            "max": float(values.max()),
        }
    spreads["accuracy"]["interval"] = interval_of(spreads["accuracy"]["mean"], variance)
    seconds = [alone for row in rows if (alone := alone_seconds(row["cost"])) is not None]
    return {
        "encoder": rows[0]["encoder"],
        "strategy": rows[0]["strategy"],
        "seeds": [row["seed"] for row in rows],
        "run_ids": [row["run_id"] for row in rows],
        **spreads,
        "alone_seconds": float(np.mean(seconds)) if seconds else None,
        "not_learned": [row["run_id"] for row, hits in zip(rows, correct, strict=True) if not learned(hits, majority)],
    }


def alone_seconds(cost: Row) -> float | None:
    """What training takes where no other run shares the frozen prefix; None where it was not measured."""
    train = cost["train_seconds"]
    return None if train is None else float(train + (cost["prefix_seconds"] or 0))


def learned(correct: np.ndarray, majority: float) -> bool:
    """Whether a run beats always answering the most frequent class (one-sided exact binomial test, 5 %).

    Args:
        correct: shape (examples,), whether each prediction is the gold label.
        majority: share of the most frequent gold label.
    """
    test = stats.binomtest(int(correct.sum()), len(correct), majority, alternative="greater")
    return bool(test.pvalue < ALPHA)


def _pairs(
    rows: list[Row], members: list[np.ndarray], correct: np.ndarray, varies: Callable[..., Variance], margin: float
) -> list[Row]:
    """Every pair of strategies, decided.

    Holm's correction runs over the pairs twice, once for differences and once for equivalences: the chance of any false
    difference in a study is at most 5 %, and so is that of any false equivalence. One family of both would give up
    power for nothing: the two null hypotheses of a pair (no difference; at least the margin) exclude each other, so
    that a pair can only ever be wrong in one of the two ways.
    """
    indices = list(combinations(range(len(members)), 2))
    fixed = [rows[runs[0]]["seed"] is None for runs in members]
    variances = [varies(members[a], members[b], fixed=fixed[b]) for a, b in indices]
    pairs: list[Row] = []
    for (a, b), variance in zip(indices, variances, strict=True):
        delta = float(correct[members[a]].mean() - correct[members[b]].mean())
        tests = {**estimate(delta, variance, margin, len(indices)), "covers_seeds": variance.covers_seeds}
        mcnemars = _mcnemar_by_seed(rows, correct, members[a], members[b])
        pairs.append({"a": a, "b": b, "difference": delta, **tests, "mcnemar": mcnemars})
    for key in ("p", "p_equivalence"):
        for pair, adjusted in zip(pairs, holm([pair[key] for pair in pairs]), strict=True):
            pair[f"{key}_holm"] = adjusted
    for pair, variance in zip(pairs, variances, strict=True):
        pair["decision"] = decide(pair["difference"], pair["p_holm"], pair["p_equivalence_holm"])
        pair["to_settle"] = None
        if pair["decision"] == "undecided":
            needed = to_settle(pair["difference"], variance, margin, len(pairs))
            examples = needed["groups"] and math.ceil(needed["groups"] * correct.shape[1] / variance.groups)
            pair["to_settle"] = {"seeds": needed["seeds"], "test_examples": examples}
    return pairs


def accuracy_covariance(correct: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """How the accuracies of runs vary together over test sets of the same size.

    This is what a bootstrap that draws whole clusters converges to (the accuracy of a draw is linear in its clusters
    up to their size), without its random error: the cluster-robust covariance of Liang and Zeger (1986). It is taken
    from the jackknife over clusters (MacKinnon, Nielsen and Webb 2023), which is the same where all are of a size and
    does not trust a large one among small ones: where one of eleven holds half of the examples, 95 % intervals cover
    91 % and not 84.

    Args:
        correct: shape (runs, examples).
        clusters: shape (examples,), 0 to the number of clusters less one.

    Returns:
        Shape (runs, runs); NaN with a single cluster, from which nothing can be learnt about others.
    """
    count = int(clusters.max()) + 1
    if count < 2:
        return np.full((len(correct), len(correct)), np.nan)
    size, rows = np.bincount(clusters), correct.shape[1]
    # In whole numbers, so that clusters that do not deviate give exactly zero.
    hits = np.stack([np.bincount(clusters, of_run, count).astype(np.int64) for of_run in correct])
    deviations = (rows * hits - size * hits.sum(axis=1, keepdims=True)) / rows
    without = deviations / (rows - size)  # how far accuracy moves where a cluster is left out
    return np.asarray(without @ without.T * (count - 1) / count)


def pooled_seed_variance(accuracy: np.ndarray, members: Sequence[np.ndarray]) -> tuple[float, int]:
    """How much accuracy varies between seeds of one strategy, averaged over strategies, and its degrees of freedom.

    Args:
        accuracy: shape (runs,).
        members: for each strategy the indices of its runs.
    """
    replicated = [runs for runs in members if len(runs) > 1]
    df = sum(len(runs) - 1 for runs in replicated)
    return sum(float(accuracy[runs].var(ddof=1)) * (len(runs) - 1) for runs in replicated) / max(df, 1), df


def variance_of(
    accuracy: np.ndarray,
    covariance: np.ndarray,
    sides: Sequence[np.ndarray],
    groups: int,
    pooled: tuple[float, int],
    fixed: bool = False,
) -> Variance:
    """The variance over test items and training seeds of a strategy's accuracy, or of one's less another's.

    Two variances add up: that of the seed means over test items (:func:`accuracy_covariance`) and that of each
    mean over seeds. Two or three seeds say little about their own spread, so a strategy's is taken to be at least
    that of all strategies together. It also holds the disagreement of seeds on these very test items, which the
    first variance already counts and which is taken off (as in the analysis of readers and cases, Obuchowski and
    Rockette 1995).

    Simulated with two to five seeds, 95 % intervals cover 95 to 98 % where seeds vary about alike, and 93 to 96 %
    where they vary ten times more in one strategy than in another.

    Args:
        accuracy: shape (runs,).
        covariance: shape (runs, runs), over test items.
        sides: indices of the strategy's runs; then, for a difference, those of the other's.
        groups: of test items.
        pooled: what :func:`pooled_seed_variance` says of all strategies.
        fixed: whether the last side has no seed: it would answer the same however often it were made.
    """
    weights = np.zeros(len(accuracy))
    for sign, runs in zip((1, -1), sides, strict=False):
        weights[runs] = sign / len(runs)
    items = float(weights @ covariance @ weights) if groups > 1 else float("nan")
    if items < ROUNDING * covariance.diagonal().max():
        items = 0.0  # runs that answer alike
    varying = sides[:-1] if fixed else sides
    seeds = tuple(len(runs) for runs in varying)
    if fixed:
        seeds += seeds[:1]
    if min(seeds) < 2:
        return Variance(groups, seeds, items)
    of_seed, disagreement = np.zeros((2, len(sides)))
    of_seed[: len(varying)] = [max(accuracy[runs].var(ddof=1), pooled[0]) for runs in varying]
    disagreement[: len(varying)] = [_disagreement(covariance[np.ix_(runs, runs)]) for runs in varying]
    return Variance(groups, seeds, items, disagreement, np.maximum(of_seed - disagreement, 0), of_seed, pooled[1])


def _disagreement(covariance: np.ndarray) -> float:
    """The part of a run's variance over items that other seeds do not share."""
    return float(np.diag(covariance).mean() - covariance[~np.eye(len(covariance), dtype=bool)].mean())


def mcnemar(correct_a: np.ndarray, correct_b: np.ndarray) -> Row:
    """McNemar's exact test (1947): of the examples that one run alone gets right, do both have an equal share?

    Returns:
        ``only_a`` and ``only_b`` (counts of examples that one alone gets right) and the two-sided ``p``.
    """
    only_a, only_b = int((correct_a & ~correct_b).sum()), int((correct_b & ~correct_a).sum())
    # An equal share is symmetric, so twice the smaller side is the exact two-sided test.
    p = 2 * float(stats.binom.cdf(min(only_a, only_b), only_a + only_b, 0.5))
    return {"only_a": only_a, "only_b": only_b, "p": min(p, 1.0)}


def _mcnemar_by_seed(rows: list[Row], correct: np.ndarray, a: np.ndarray, b: np.ndarray) -> list[Row]:
    by_seed = {rows[run]["seed"]: run for run in b}
    shared = [(rows[run]["seed"], run, by_seed[rows[run]["seed"]]) for run in a if rows[run]["seed"] in by_seed]
    return [{"seed": seed, **mcnemar(correct[first], correct[second])} for seed, first, second in shared]


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p-values so that the chance of any false positive among them stays at the level (Holm 1979).

    Args:
        p_values: None where there was no test; it stays None and is not counted.
    """
    tested = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    floor = 0.0
    for rank, (p, index) in enumerate(tested):
        floor = max(floor, min(1.0, p * (len(tested) - rank)))
        adjusted[index] = floor
    return adjusted


def pareto_front(cost: Sequence[float], accuracy: Sequence[float]) -> list[int]:
    """Indices of what nothing beats in both, cheapest first.

    Args:
        cost: smaller is better.
        accuracy: larger is better.
    """
    front: list[int] = []
    for index in sorted(range(len(cost)), key=lambda index: (cost[index], -accuracy[index])):
        if not front or accuracy[index] > accuracy[front[-1]]:
            front.append(index)
    return front
