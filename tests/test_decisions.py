import numpy as np
import pytest
from scipy import stats

from unfreeze.analysis.compare import accuracy_covariance, holm, pooled_seed_variance, variance_of
from unfreeze.analysis.decisions import Variance, decide, estimate, interval_of, to_settle, wilson
from unfreeze.analysis.verdict import turned

ITEM_SD, GROUP_SD = 1.0, 0.7  # of difficulty, beside a run's own noise of 0.4


def simulate(rng, accuracies, seeds, seed_sd=0.0, groups=150, size=2):
    """Answers of runs, right where skill exceeds difficulty; a strategy's accuracy is its mean over seeds and items."""
    total = np.sqrt(ITEM_SD**2 + GROUP_SD**2 + 0.4**2 + seed_sd**2)
    skill = np.repeat(stats.norm.ppf(accuracies) * total, seeds) + seed_sd * rng.normal(size=len(accuracies) * seeds)
    difficulty = np.repeat(GROUP_SD * rng.normal(size=groups), size) + ITEM_SD * rng.normal(size=groups * size)
    correct = skill[:, None] + 0.4 * rng.normal(size=(len(skill), groups * size)) > difficulty
    return correct, np.repeat(np.arange(groups), size), np.arange(len(skill)).reshape(-1, seeds)


def judge(correct, clusters, members, margin=0.005):
    accuracy, covariance = correct.mean(1), accuracy_covariance(correct, clusters)
    pooled = pooled_seed_variance(accuracy, members)
    found = []
    for a in range(len(members)):
        for b in range(a):
            variance = variance_of(accuracy, covariance, [members[a], members[b]], clusters.max() + 1, pooled)
            delta = accuracy[members[a]].mean() - accuracy[members[b]].mean()
            found.append({"difference": delta, **estimate(delta, variance, margin)})
    return found


def test_tost_on_the_replication_of_lakens():
    """Moery and Calin-Jageman's replication as R's TOSTER tells it (help of TOSTtwo): t(182) = -2.69, p = 0.004.

    https://search.r-project.org/CRAN/refmans/TOSTER/html/TOSTtwo.html; bounds of d = ±0.43, variances not equal.
    """
    sd_1, n_1, sd_2, n_2 = 0.95, 95, 0.83, 89
    margin = 0.43 * np.sqrt((sd_1**2 + sd_2**2) / 2)
    found = estimate(5.25 - 5.22, Variance(183, (1, 1), sd_1**2 / n_1 + sd_2**2 / n_2), margin)
    assert found["p_equivalence"] == pytest.approx(stats.t.sf(2.69, 182), rel=0.02)
    assert round(found["p_equivalence"], 3) == 0.004
    assert -margin < found["interval_90"][0] < found["interval_90"][1] < margin


@pytest.mark.parametrize("difference", [0.0, 0.012, -0.012, 0.0175, 0.03])
def test_equivalence_is_the_90_percent_interval_within_the_margin(difference):
    found = estimate(difference, Variance(500, (1, 1), 0.003**2), margin=0.02)
    inside = found["interval_90"][0] > -0.02 and found["interval_90"][1] < 0.02
    # The variance of a share of 2 % on 500 groups is larger than the one seen.
    assert inside == (found["p_equivalence"] < 0.05) == (abs(difference) < 0.02 - 1.648 * np.sqrt(0.02 * 0.98 / 500))


def test_decisions():
    assert decide(0.03, 0.01, 0.9) == "better"
    assert decide(-0.03, 0.01, 0.9) == "worse"
    assert decide(0.03, 0.06, 0.06) == "undecided"
    assert decide(0.001, 0.4, 0.01) == decide(0.001, 0.01, 0.01) == "equivalent"
    assert decide(0.1, None, None) == "undecided"
    pair = {"a": 0, "b": 1, "difference": 0.1, "interval": [0.0, 0.2], "interval_90": None, "decision": "better"}
    assert turned(pair) == {**pair, "a": 1, "b": 0, "difference": -0.1, "interval": [-0.2, 0], "decision": "worse"}
    assert turned(turned(pair)) == pair


@pytest.mark.parametrize("seed_sd", [0.0, 0.15])
def test_a_family_of_equal_strategies_is_seldom_told_apart(seed_sd):
    """Three strategies, three seeds, items in groups of two: any false difference in at most 5 % of studies."""
    rng = np.random.default_rng(10)
    wrong = covered = 0
    for _ in range(400):
        found = judge(*simulate(rng, [0.8, 0.8, 0.8], 3, seed_sd))
        wrong += min(holm([pair["p"] for pair in found])) < 0.05
        covered += sum(pair["interval"][0] <= 0 <= pair["interval"][1] for pair in found)
    assert wrong <= stats.binom.ppf(0.999, 400, 0.05)
    # Pairs share strategies, so that their 1,200 intervals err together: 92 % is some three standard errors below 95.
    assert 0.92 * 1200 <= covered < 1200


@pytest.mark.parametrize("accuracy", [0.8, 0.98])
@pytest.mark.parametrize(("seeds", "seed_sd"), [(1, 0.0), (2, 0.15), (4, 0.1)])
def test_intervals_cover_a_strategy_s_accuracy(accuracy, seeds, seed_sd):
    """Over other items and other seeds; items alone would cover 83 % where seeds vary most."""
    rng = np.random.default_rng(14)
    covered = 0
    for _ in range(300):
        correct, clusters, members = simulate(rng, [accuracy, 0.8], seeds, seed_sd)
        seen, covariance = correct.mean(1), accuracy_covariance(correct, clusters)
        pooled = pooled_seed_variance(seen, members)
        variance = variance_of(seen, covariance, members[:1], clusters.max() + 1, pooled)
        low, high = interval_of(seen[members[0]].mean(), variance)
        assert 0 <= low < high <= 1
        covered += low <= accuracy <= high
    # Nominal is 285; 270 is four standard errors below it.
    assert covered >= 270


def test_with_one_seed_and_no_groups_the_interval_is_scipy_s_wilson():
    """Up to Student's quantile, and a variance over n - 1: a thousandth of the interval's width here."""
    correct = (np.arange(2000) < 1700)[None]
    variance = variance_of(
        correct.mean(1), accuracy_covariance(correct, np.arange(2000)), [np.array([0])], 2000, (0, 0)
    )
    expected = stats.binomtest(1700, 2000).proportion_ci(method="wilson")
    assert interval_of(0.85, variance) == pytest.approx(list(expected), abs=5e-5)
    assert wilson(0.85, stats.norm.ppf(0.975) ** 2 / 2000) == pytest.approx(tuple(expected))
    assert not variance.covers_seeds


def test_a_strategy_that_is_always_right_may_yet_be_wrong():
    low, high = interval_of(1.0, Variance(150, (1,), 0.0))
    assert high == 1
    assert low == pytest.approx(1 - 3.8 / 150, abs=2e-3)  # the quantile's square, near the rule of three
    assert interval_of(0.9, Variance(1, (1,), float("nan"))) is None


@pytest.mark.parametrize(("seeds", "seed_sd"), [(1, 0.0), (3, 0.1)])
def test_a_difference_of_the_margin_is_seldom_called_equivalent(seeds, seed_sd):
    """At the margin itself, where the rate is largest; and no difference at all is found equivalent in most studies."""
    rng = np.random.default_rng(11)

    def rate(accuracies):
        studies = (simulate(rng, accuracies, seeds, seed_sd, groups=300) for _ in range(300))
        return np.mean([judge(*study, margin=0.07)[0]["p_equivalence"] < 0.05 for study in studies])

    assert rate([0.77, 0.84]) <= stats.binom.ppf(0.999, 300, 0.05) / 300
    assert rate([0.8, 0.8]) > 0.5


def test_runs_that_hardly_differ_need_many_examples_to_be_equivalent():
    """One is wrong in 1 % of 600 cases, the other never: the variance seen alone calls 15 % of them equivalent."""
    rng = np.random.default_rng(12)
    clusters, members = np.arange(600), np.array([[0], [1]])
    studies = [np.stack([np.ones(600, bool), rng.random(600) > 0.01]) for _ in range(300)]
    equivalent = sum(judge(study, clusters, members, 0.01)[0]["p_equivalence"] < 0.05 for study in studies)
    assert equivalent <= stats.binom.ppf(0.999, 300, 0.05)
    same = np.ones((2, 600), bool)
    assert judge(same, clusters, members, 0.005)[0]["p_equivalence"] < 0.05
    assert judge(same[:, :500], clusters[:500], members, 0.005)[0]["p_equivalence"] > 0.05


def test_the_detectable_difference_is_found_four_times_in_five():
    rng = np.random.default_rng(13)
    detectable = np.mean([judge(*simulate(rng, [0.8, 0.8], 1))[0]["detectable"] for _ in range(20)])
    studies = [simulate(rng, [0.8 - detectable / 2, 0.8 + detectable / 2], 1) for _ in range(400)]
    found = sum(judge(*study)[0]["p"] < 0.05 for study in studies)
    assert stats.binom.ppf(0.001, 400, 0.8) <= found <= stats.binom.ppf(0.999, 400, 0.8)


def variance(**changes):
    """Ten thousand groups, two seeds; of 20e-6 over items seeds share 10e-6, and training adds 8e-6 for each run."""
    parts = {
        "items": 20e-6,
        "disagreement": np.full(2, 10e-6),
        "training": np.full(2, 8e-6),
        "of_seed": np.full(2, 18e-6),
        "seed_df": 10**6,
    }
    return Variance(**{"groups": 10_000, "seeds": (2, 2), **parts, **changes})


def test_a_larger_study_varies_less():
    assert variance().at()[0] == pytest.approx(28e-6)
    assert variance().at(seeds=4)[0] == pytest.approx(10e-6 + 5e-6 + 4e-6)
    assert variance().at(groups=40_000)[0] == pytest.approx(5e-6 + 8e-6)
    assert variance(items=0.0, disagreement=np.zeros(2)).at(floor=0.1)[0] == pytest.approx(1e-5 + 8e-6)


def test_what_would_settle_an_open_pair():
    z = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    found = to_settle(0.012, variance(), margin=0.0, pairs=1)
    assert found["seeds"] == np.ceil(36e-6 / ((0.012 / z) ** 2 - 10e-6))
    assert found["groups"] == pytest.approx(10_000 * 20e-6 / ((0.012 / z) ** 2 - 8e-6), rel=1e-3)
    # More comparisons ask for more; each source alone keeps a small enough difference open.
    assert to_settle(0.012, variance(), 0.0, pairs=10)["seeds"] > found["seeds"]
    assert to_settle(0.0085, variance(), 0.0, 1) == {"seeds": None, "groups": pytest.approx(165_000, rel=0.02)}
    assert to_settle(0.012, variance(items=10e-6, training=np.full(2, 20e-6)), 0.0, 1)["groups"] is None
    assert to_settle(0.001, variance(), 0.0, 1) == {"seeds": None, "groups": None}


def test_no_difference_is_settled_as_equivalent():
    z = stats.norm.ppf(0.95) + stats.norm.ppf(0.9)
    found = to_settle(0.0, variance(), margin=0.012, pairs=1)
    assert found["seeds"] == np.ceil(36e-6 / ((0.012 / z) ** 2 - 10e-6))
    assert to_settle(0.0, variance(), margin=0.0, pairs=1) == {"seeds": None, "groups": None}


def test_without_several_seeds_or_groups_nothing_is_foreseen():
    assert to_settle(0.012, Variance(10_000, (1, 2), 20e-6), 0.0, 1)["seeds"] is None
    assert to_settle(0.012, Variance(1, (1, 1), float("nan")), 0.0, 1) == {"seeds": None, "groups": None}
    assert set(estimate(0.1, Variance(1, (1, 1), float("nan")), 0.005).values()) == {None}


def test_a_few_groups_that_differ_alike_prove_nothing():
    """Two groups, one mistake more in each: no variance at all, which once made p zero and the pair decided."""
    correct = np.ones((2, 20), bool)
    correct[1, [0, 10]] = False
    clusters, members = np.repeat([0, 1], 10), np.array([[0], [1]])
    (pair,) = judge(correct, clusters, members)
    assert (pair["difference"], pair["p"]) == (pytest.approx(-0.1), pytest.approx(1.1**-2))
    correct[1] = False
    (pair,) = judge(np.tile(correct, 5), np.arange(100), members)
    assert pair["interval"] == [-1, pytest.approx(-0.97)]
    assert pair["p"] == 2.0**-100
