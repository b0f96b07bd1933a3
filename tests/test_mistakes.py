import numpy as np
import pyarrow as pa
import pytest
from scipy import stats
from sklearn.metrics import jaccard_score

from study_factory import Run, dataset, predictions
from unfreeze.analysis.mistakes import (
    Answers,
    answers,
    confident_mistakes,
    flips,
    gap_quantiles,
    intersections,
    jaccard,
    mistake_counts,
)
from unfreeze.analysis.slices import error_rates, slices, words
from unfreeze.analysis.words import count_words, read_words, word_lifts
from unfreeze.records import EXAMPLES


@pytest.fixture
def run() -> Answers:
    data = dataset(rows=30)
    return answers(predictions(data.splits["test"], data.labels, Run("full", 0, (0, 3, 4))))


def test_known_mistakes_are_counted_by_gold_and_predicted_label(run):
    gold, predicted = mistake_counts(run, 3)
    assert (gold.tolist(), predicted.tolist()) == ([2, 1, 0], [0, 2, 1])


def test_gaps_are_predicted_minus_gold_probability(run):
    # Each answer has 0.9 and leaves 0.05 to the others.
    assert gap_quantiles(run, 0) == pytest.approx([0.85] * 5)
    assert gap_quantiles(run, 2) is None
    assert run.gap[1] == 0


def test_confident_mistakes_come_surest_first():
    run = Answers(np.zeros(4, int), np.array([1, 0, 1, 1]), np.array([0.6, 0.99, 0.9, 0.7]), np.zeros(4))
    assert confident_mistakes(run, most=2).tolist() == [2, 3]


def test_overlap_agrees_with_scikit_learn():
    wrong = np.random.default_rng(0).random((3, 200)) < [[0.2], [0.5], [0.3]]
    found = jaccard(wrong)
    assert found[0, 1] == pytest.approx(jaccard_score(wrong[0], wrong[1]))
    assert found.diagonal().tolist() == [1, 1, 1]
    assert np.isnan(jaccard(np.zeros((2, 5), bool))).all()


def test_every_mistake_is_in_one_combination():
    wrong = np.array([[1, 1, 1, 0, 0], [1, 1, 0, 0, 1]], bool)
    assert intersections(wrong) == [((0, 1), 2), ((0,), 1), ((1,), 1)]
    assert intersections(np.zeros((2, 5), bool)) == []


def test_flips_add_up_to_all_examples():
    gold = np.array([0, 0, 0, 0, 0])
    a = Answers(gold, np.array([0, 0, 1, 1, 1]), gold, gold)
    b = Answers(gold, np.array([0, 1, 0, 1, 2]), gold, gold)
    assert flips(a, b) == {"both_right": 1, "only_a": 1, "only_b": 1, "same_mistake": 1, "other_mistake": 1}


def examples(premise: list[str], hypothesis: list[str | None]) -> pa.Table:
    rows = len(premise)
    columns = {"guid": [str(i) for i in range(rows)], "premise": premise, "hypothesis": hypothesis}
    return pa.table({**columns, "gold": [0] * rows, "group": list(range(rows))}, schema=EXAMPLES)


def test_slices_by_overlap_and_negation():
    pairs = examples(["A dog runs.", "A dog runs.", "A dog runs."], ["a dog", "It isn't so", "nothing moves"])
    found = slices(pairs)
    assert [(label, mask.tolist()) for label, mask in found["negation"]] == [
        ("without", [True, False, False]),
        ("with", [False, True, True]),
    ]
    assert {label: mask.tolist() for label, mask in found["word overlap"]}["80–100 %"] == [True, False, False]


def test_slices_of_single_texts_have_no_overlap_and_hold_every_example_once():
    texts = examples(["word " * n for n in (1, 2, 2, 3, 9, 4, 7)], [None] * 7)
    found = slices(texts)
    assert list(found) == ["length", "negation"]
    assert np.sum([mask for _, mask in found["length"]], axis=0).tolist() == [1] * 7


def test_error_rates_have_wilson_intervals():
    # Newcombe (1998), table I: 81 of 263 gives 0.2553 to 0.3662.
    wrong = np.arange(263) < 81
    (row,) = error_rates(wrong, [("all", np.ones(263, bool))])
    assert (row["error_rate"], row["low"], row["high"]) == pytest.approx((81 / 263, 0.2553, 0.3662), abs=1e-4)


def test_words_keep_their_apostrophes_and_scripts():
    assert words("She isn’t “שלום” 🙂 o'clock") == ["she", "isn’t", "שלום", "o'clock"]
    assert words(None) == []


def test_a_frequent_word_is_no_finding_and_a_lifted_one_is():
    # "man" stands everywhere; "red" in half of the mistakes and in few other examples.
    texts = ["a man in red" if i < 15 or 100 <= i < 105 else "a man" for i in range(400)]
    wrong = np.zeros((1, 400), bool)
    wrong[0, :30] = True
    counts = count_words(read_words(examples(texts, [None] * 400)), wrong)
    found = {row["word"]: row for row in word_lifts(counts, 0).to_pylist()}
    assert (found["man"]["examples"], found["man"]["mistakes"], found["man"]["lift"]) == (400, 30, 1)
    assert found["man"]["q"] == 1
    assert found["red"]["lift"] == pytest.approx((15 / 20) / (30 / 400))
    assert found["red"]["p"] == pytest.approx(
        2 * stats.fisher_exact([[15, 5], [15, 365]], alternative="greater").pvalue
    )
    tested = [row["p"] for row in found.values()]
    assert [row["q"] for row in found.values()] == pytest.approx(stats.false_discovery_control(tested).tolist())


def test_rare_words_and_no_mistakes():
    assert read_words(examples(["one", "two"], [None] * 2)) is None
    counts = count_words(read_words(examples(["one"] * 9, [None] * 9)), np.zeros((1, 9), bool))
    assert word_lifts(counts, 0)["lift"].to_pylist() == [None]
