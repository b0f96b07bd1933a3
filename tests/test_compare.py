import json

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from study_factory import Run, dataset, predictions, result
from unfreeze.analysis.compare import (
    accuracy_covariance,
    compare,
    holm,
    learned,
    mcnemar,
    pooled_seed_variance,
    variance_of,
)
from unfreeze.analysis.decisions import estimate
from unfreeze.analysis.verdict import write_verdict
from unfreeze.records import Dataset


def comparison(runs: list[Run], data: Dataset | None = None) -> dict:
    data = data or dataset(rows=300)
    tables = {run.run_id: predictions(data.splits["test"], data.labels, run) for run in runs}
    rows = [result(run, data, {"test": tables[run.run_id]}) for run in runs]
    found = compare(rows, tables.__getitem__, data.splits["test"]["group"].to_numpy())
    json.dumps(found, allow_nan=False)
    return found


def test_a_clear_difference_is_decided_and_a_small_one_is_not():
    found = comparison(
        [Run("full", s, range(s, 30 + s)) for s in (0, 1)]
        + [Run("lora", s, range(100 + s, 132 + s)) for s in (0, 1)]
        + [Run("head-only", s, range(s, 140 + s)) for s in (0, 1)]
    )
    decisions = {(pair["a"], pair["b"]): pair["decision"] for pair in found["pairs"]}
    assert decisions == {(0, 1): "undecided", (0, 2): "better", (1, 2): "better"}
    assert found["ranking"] == [0, 1, 2]
    full, _, head = found["strategies"]
    low, high = full["accuracy"]["interval"]
    assert 0.83 < low < 0.9 < high < 0.95
    assert full["accuracy"]["mean"] == pytest.approx(0.9)
    assert head["accuracy"]["mean"] == pytest.approx(160 / 300)
    assert "full has the highest test accuracy: 90.0 %" in found["verdict"][0]
    assert any("head-only gives up 36.7 points" in line for line in found["verdict"])
    assert any(line.startswith("Undecided whether lora is any worse (-0.7 points, 95 %") for line in found["verdict"])


def test_two_seeds_are_enough_for_a_gulf():
    """With Welch's degrees of freedom alone, Holm's correction left 40 points undecided."""
    close = [Run(name, seed, range(20 + 6 * seed)) for name in ("a", "b", "c") for seed in (0, 1)]
    found = comparison(close + [Run("head-only", seed, range(120 + 30 * seed)) for seed in (0, 1)])
    assert [pair["decision"] for pair in found["pairs"] if pair["b"] == 3] == ["better"] * 3


def test_seed_variance_is_pooled_by_degrees_of_freedom():
    accuracy = np.array([0.1, 0.3, 0.5, 0.6, 0.7, 0.9])
    variance, df = pooled_seed_variance(accuracy, [np.array([0, 1]), np.array([2, 3, 4]), np.array([5])])
    assert (variance, df) == (pytest.approx((0.02 + 2 * 0.01) / 3), 3)
    assert pooled_seed_variance(accuracy, [np.array([5])]) == (0, 0)


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [(121, 59, 4e-6), (70, 59, 0.378688), (80, 59, 0.089452), (30, 60, 0.00206), (10, 30, 0.002221), (10, 10, 1.0)],
)
def test_mcnemar_on_the_tables_that_statsmodels_is_tested_on(only_a, only_b, p):
    """Exact p-values from Vassar College's calculator: test_mcnemar_exact in statsmodels/stats/tests."""
    counts = [101, only_a, only_b, 33]
    a, b = np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)
    assert mcnemar(a, b) == {"only_a": only_a, "only_b": only_b, "p": pytest.approx(p, abs=6e-7)}


def test_mcnemar_agrees_with_an_exact_binomial_test():
    a = np.array([True] * 59 + [False] * 10 + [True] * 31)
    b = np.array([False] * 59 + [True] * 10 + [True] * 31)
    found = mcnemar(a, b)
    assert (found["only_a"], found["only_b"]) == (59, 10)
    assert found["p"] == pytest.approx(stats.binomtest(10, 69).pvalue)
    assert mcnemar(a, a) == {"only_a": 0, "only_b": 0, "p": 1.0}


def test_holm_on_the_example_of_pingouin():
    """https://pingouin-stats.org, pingouin.multicomp with ``method="holm"``."""
    assert holm([0.50, 0.003, 0.32, 0.054, 0.0003]) == pytest.approx([0.64, 0.012, 0.64, 0.162, 0.0015])


def test_holm_on_the_trial_of_benjamini_and_hochberg():
    """Their 15 p-values (1995), as SciPy's help of false_discovery_control repeats them.

    The adjusted ones are worked by hand: no page we found prints Holm's for these.
    """
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344]
    p += [0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    adjusted = holm(p)
    assert adjusted[:4] == pytest.approx([0.0001 * 15, 0.0004 * 14, 0.0019 * 13, 0.0095 * 12])
    assert sum(value < 0.05 for value in adjusted) == 3


def test_holm_leaves_out_what_was_not_tested_and_ends_at_one():
    assert holm([None, 0.04]) == [None, 0.04]
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_the_item_variance_is_what_a_bootstrap_over_groups_finds():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(200), 3)
    base = np.repeat(rng.random(200), 3)
    correct = np.stack([base + 0.4 * rng.random(600) > 0.5, base + 0.5 * rng.random(600) > 0.6])
    draws = rng.integers(0, 200, (4000, 200))
    hits = correct.reshape(2, 200, 3).mean(axis=2)
    bootstrap = np.cov(hits[:, draws].mean(axis=2))
    np.testing.assert_allclose(accuracy_covariance(correct, clusters), bootstrap, rtol=0.15)


def test_the_item_variance_leaves_out_one_cluster_after_another():
    """Where one of eleven clusters holds half of the examples, dividing by all of them covered 84 %, this 91 %."""
    rng = np.random.default_rng(3)
    clusters = np.repeat(np.arange(11), [100] + [10] * 10)
    correct = rng.random((2, 200)) < 0.3 + 0.5 * rng.random(11)[clusters]
    without = np.stack([correct[:, clusters != one].mean(axis=1) for one in range(11)]) - correct.mean(axis=1)
    np.testing.assert_allclose(accuracy_covariance(correct, clusters), without.T @ without * 10 / 11)


def test_without_groups_and_seeds_the_interval_is_the_paired_t_interval():
    rng = np.random.default_rng(1)
    correct = rng.random((2, 400)) < [[0.8], [0.7]]
    covariance = accuracy_covariance(correct, np.arange(400))
    variance = variance_of(correct.mean(1), covariance, [np.array([0]), np.array([1])], groups=400, pooled=(0, 0))
    found = estimate(correct[0].mean() - correct[1].mean(), variance, margin=0.005)
    test = stats.ttest_rel(correct[0].astype(float), correct[1].astype(float))
    assert found["p"] == pytest.approx(test.pvalue)
    assert found["interval"] == pytest.approx(list(test.confidence_interval()))
    assert found["interval_90"] == pytest.approx(list(test.confidence_interval(0.9)))
    assert not variance.covers_seeds


@pytest.mark.parametrize(("seeds", "seed_sd"), [(2, 0.1), (4, 0.0)])
def test_intervals_cover_a_true_difference_of_nothing(seeds, seed_sd):
    """Two equal strategies: each run draws its own skill, each item its own difficulty."""
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(300):
        skill = 0.8 + seed_sd * rng.normal(size=(2 * seeds, 1))
        correct = skill + rng.normal(size=400) + 0.4 * rng.normal(size=(2 * seeds, 400)) > 0
        covariance = accuracy_covariance(correct, np.arange(400))
        a, b = np.arange(seeds), np.arange(seeds, 2 * seeds)
        pooled = pooled_seed_variance(correct.mean(1), [a, b])
        accuracy = correct.mean(1)
        variance = variance_of(accuracy, covariance, [a, b], 400, pooled)
        low, high = estimate(accuracy[a].mean() - accuracy[b].mean(), variance, 0.005)["interval"]
        covered += low <= 0 <= high
    # Nominal is 285; 270 is four standard errors below it. Counting items alone would give far less for (2, 0.1).
    assert covered >= 270


def test_a_run_at_the_majority_share_has_not_learned():
    assert learned(np.arange(300) < 150, majority=1 / 3)
    assert not learned(np.arange(300) < 105, majority=1 / 3)
    found = comparison([Run("full", 0, range(30)), Run("stuck", 0, range(200))])
    assert (found["ranking"], found["unranked"]) == ([0], [1])
    assert found["strategies"][1]["not_learned"] == [Run("stuck").run_id]
    assert any(line.startswith("Not ranked: stuck") for line in found["verdict"])


def test_the_fastest_within_noise_is_named_with_its_prefix_counted():
    cost = {"train_seconds": 10.0, "prefix_seconds": 40.0}
    found = comparison(
        [Run("full", 0, range(30), cost={"train_seconds": 100.0}), Run("head-only", 0, range(33), cost=cost)]
    )
    assert found["strategies"][1]["alone_seconds"] == 50
    assert any("head-only trains fastest, in 50 % of the time" in line for line in found["verdict"])


def test_what_less_time_buys():
    times = {"full": (10, 100.0), "lora": (90, 120.0), "partial": (60, 40.0), "head-only": (150, 4.0)}
    found = comparison([Run(name, 0, range(wrong), cost={"train_seconds": s}) for name, (wrong, s) in times.items()])
    expected = "With less of its training time: partial reaches 80.0 % in 40 % and head-only reaches 50.0 % in 4 %."
    assert expected in found["verdict"]


def test_failed_runs_stand_apart():
    found = comparison([Run("full", 0, range(30)), Run("lora", 0, status="diverged")])
    assert [strategy["strategy"] for strategy in found["strategies"]] == ["full"]
    assert found["failed"] == [Run("lora").run_id]
    assert found["verdict"][-1] == "1 run failed and is not compared."


def test_no_run_finished():
    found = compare([result(Run("full", status="failed"), dataset(), {})], {}.__getitem__, np.arange(3))
    assert found["strategies"] == found["pairs"] == []
    assert found["verdict"][0].startswith("No run finished")


def test_identical_runs_and_one_group_only():
    found = comparison([Run("full", 0, range(9)), Run("lora", 0, range(9))])
    # 150 groups answered alike: one in 50 others may not be (rule of three), which is not yet within half a point.
    assert (found["pairs"][0]["p"], found["pairs"][0]["interval"]) == (1.0, [-0.02, 0.02])
    assert found["pairs"][0]["decision"] == "undecided"
    data = dataset(rows=30)
    one_group = data.splits["test"].set_column(4, "group", pa.array([5] * 30, pa.int32()))
    data = Dataset(data.name, data.labels, {**data.splits, "test": one_group})
    pair = comparison([Run("full"), Run("lora", 0, range(9))], data)["pairs"][0]
    assert (pair["interval"], pair["p_holm"], pair["decision"]) == (None, None, "undecided")
    assert comparison([Run("full")], data)["strategies"][0]["accuracy"]["interval"] is None


def test_the_margin_is_the_study_s():
    runs = [Run("full", 0, range(30)), Run("lora", 0, range(1, 32))]
    data = dataset(rows=300)
    tables = {run.run_id: predictions(data.splits["test"], data.labels, run) for run in runs}
    rows = [result(run, data, {"test": tables[run.run_id]}) for run in runs]
    groups = data.splits["test"]["group"].to_numpy()
    decisions = [compare(rows, tables.__getitem__, groups, margin)["pairs"][0]["decision"] for margin in (0.01, 0.05)]
    assert decisions == ["undecided", "equivalent"]


def verdict_with(**changes) -> str:
    runs = [Run(name, seed, range(start, 30 + start)) for name, start in (("full", 0), ("lora", 99)) for seed in (0, 1)]
    found = comparison(runs)
    found["pairs"][0].update(changes)
    return write_verdict(found)[1]


def test_an_open_pair_says_what_would_settle_it():
    def said(seeds, examples):
        return verdict_with(to_settle={"seeds": seeds, "test_examples": examples})

    assert said(12, 40_000).endswith("; 12 seeds or 40,000 test examples would settle it.")
    assert said(12, None).endswith("12 seeds would settle it, more test examples alone would not.")
    assert said(None, 40_000).endswith("40,000 test examples would settle it, more seeds alone would not.")
    assert said(None, None).endswith("neither more seeds nor more test examples alone would settle it.")
    one_seed = verdict_with(to_settle={"seeds": None, "test_examples": 9000}, covers_seeds=False)
    assert one_seed.endswith("9,000 test examples would settle it for these runs.")
    assert verdict_with(interval=None).endswith("one group of test examples says nothing about others.")


def test_strategies_that_answer_alike_while_their_seeds_differ():
    """No variance over items, some between seeds: degrees of freedom of zero once made the interval NaN."""
    runs = [Run(name, seed, range(30 * seed, 30 * seed + 20 + seed)) for name in ("a", "b") for seed in (0, 1)]
    (pair,) = comparison(runs)["pairs"]
    assert (pair["difference"], pair["interval"], pair["p"], pair["decision"]) == (0, [-0.02, 0.02], 1, "undecided")


def test_encoders_are_named_where_there_are_several():
    found = comparison([Run("full", 0, range(9), "bert"), Run("full", 0, range(99), "minilm")])
    assert len(found["pairs"]) == 1
    assert found["verdict"][0].startswith("full on bert")


def test_identical_runs_of_three_seeds_leave_no_rounding_behind():
    """Thirds do not add up exactly: an interval of 1e-10 claimed to find differences of 0.0 points."""
    (pair,) = comparison([Run(name, seed, range(20 * seed, 20 * seed + 30)) for name in "ab" for seed in range(3)])[
        "pairs"
    ]
    assert (pair["interval"], pair["detectable"], pair["p"]) == ([-0.02, 0.02], None, 1)


def test_clusters_that_do_not_deviate_have_no_variance():
    correct = np.tile(np.arange(10) < 9, (3, 7))
    assert accuracy_covariance(correct, np.repeat(np.arange(7), 10)).tolist() == [[0.0] * 3] * 3


def test_intervals_end_where_differences_do():
    """Two seeds that differ by 67 points once gave an interval of ± 204 points and differences of 254 to be found."""
    (pair,) = comparison([Run(name, seed, range((20, 220)[seed])) for name in "ab" for seed in (0, 1)])["pairs"]
    assert (pair["interval"], pair["interval_90"], pair["detectable"]) == ([-1, 1], [-1, 1], None)


def test_the_highest_accuracy_is_claimed_among_those_that_learned():
    runs = [Run("full", seed, range(100 + seed)) for seed in (0, 1)]
    runs += [Run("lora", 0, range(5)), Run("lora", 1, range(6)), Run("lora", 2, range(200))]
    assert comparison(runs)["verdict"][0].startswith("Of the strategies whose every run learned, full has the highest")


def test_a_pair_that_only_the_correction_leaves_open_says_so():
    found = comparison([Run(name, 0, range(40 * place, 40 * place + 30)) for place, name in enumerate("abc")])
    found["pairs"][0].update(interval=[0.001, 0.029], difference=0.015)
    said = write_verdict(found)
    assert "(-1.5 points, 95 % interval -2.9 to -0.1, not enough among 3 comparisons): " in said[1]
    assert "among" not in said[2]


def test_what_a_study_finds_is_what_its_correction_lets_it_find():
    runs = [Run(name, 0, range(30 * place, 30 * place + 30)) for place, name in enumerate("abcd")]
    (alone,) = comparison(runs[:2])["pairs"]
    among_six = comparison(runs)["pairs"][0]
    assert alone["interval"] == among_six["interval"]
    t = stats.t(149)
    ratio = (t.ppf(1 - 0.05 / 12) + t.ppf(0.8)) / (t.ppf(0.975) + t.ppf(0.8))
    assert among_six["detectable"] / alone["detectable"] == pytest.approx(ratio)
