import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from study_factory import Run, dataset, predictions
from unfreeze.analysis.audit import accuracy_in, audit_parts, human_divergence
from unfreeze.records import EXAMPLES, VOTES, predictions_table


def examples(premises, groups, gold=None, votes=None, hypothesis="h"):
    rows = len(premises)
    columns = {
        "guid": [str(i) for i in range(rows)],
        "premise": premises,
        "hypothesis": [hypothesis] * rows,
        "gold": gold or [0] * rows,
        "group": groups,
    }
    table = pa.table(columns, schema=EXAMPLES)
    return table if votes is None else table.append_column(VOTES, pa.array(votes, VOTES.type))


def shown(cuts):
    return {name: [(label, mask.nonzero()[0].tolist()) for label, mask in parts] for name, parts in cuts.items()}


def test_known_premises_and_groups():
    train = examples(["a", "b"], [0, 1])
    assert shown(audit_parts(train, examples([" a", "c", "d"], [0, 2, 3]))) == {
        "premise in training": [("new", [1, 2]), ("seen", [0])]
    }
    assert shown(audit_parts(train, examples(["x", "c", "d"], [5, 0, 3]))) == {
        "group in training": [("new", [0, 2]), ("seen", [1])]
    }
    assert audit_parts(train, examples(["c", "d"], [2, 3])) == {}, "a cut with one part says nothing"
    texts = audit_parts(train, examples(["a", "d"], [0, 3], hypothesis=None))
    assert list(texts) == ["text in training"]


def test_hard_examples_and_agreement():
    votes = [[5, 0, 0], [1, 3, 1], [0, 0, 1], None, [4, 1, 0], [0, 3, 2]]
    test = examples(list("uvwxyz"), range(10, 16), gold=[0, 1, 2, 0, 0, 1], votes=votes)
    wrong = np.array([True, False, False, True, False, False])
    assert shown(audit_parts(examples(["a"], [0]), test, wrong)) == {
        "hypothesis alone": [("right", [1, 2, 4, 5]), ("wrong (hard)", [0, 3])],
        "annotators for gold": [("5 of 5", [0]), ("4 of 5", [4]), ("3 of 5", [1, 5])],
    }


def test_seeds_do_not_narrow_an_interval():
    """Wilson (1927) for 8 of 10 is 49.0 to 94.3 %, however many seeds answer them."""
    one = np.arange(10) < 8
    part = [("all", np.ones(10, bool)), ("first", np.arange(10) < 2)]
    for seeds in (1, 5):
        everything, first = accuracy_in(np.stack([one] * seeds), part)
        assert everything["accuracy"] == pytest.approx(0.8)
        assert [everything["low"], everything["high"]] == pytest.approx([0.4902, 0.9433], abs=1e-4)
        exact = stats.binomtest(2, 2).proportion_ci(method="wilson")
        assert [first["low"], first["high"]] == pytest.approx([exact.low, exact.high])
        assert (first["examples"], first["accuracy"]) == (2, 1.0)


def test_distance_from_annotators_by_hand():
    test = examples(["a", "b", "c"], [0, 1, 2], votes=[[2, 2, 0], [0, 0, 1], None])
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.9, 0.05, 0.05], [0.9, 0.05, 0.05]], np.float32))
    found = human_divergence(predictions_table(test["guid"], test["gold"], logits), test)
    assert found["examples"] == 1
    assert found["kl"] == pytest.approx(0.5 * np.log(0.5 / 0.5) + 0.5 * np.log(0.5 / 0.25), abs=1e-6)
    middle = np.array([0.5, 0.375, 0.125])
    js = (0.5 * np.log(0.5 / middle[1]) + 0.25 * np.log(0.25 / middle[1]) + 0.25 * np.log(0.25 / middle[2])) / 2
    assert found["js"] == pytest.approx(js, abs=1e-6)


def test_nothing_to_say_without_annotators():
    test = dataset().splits["test"]
    assert human_divergence(predictions(test, "abc", Run("full")), test) is None
    nobody = examples(["a", "b"], [0, 1], votes=[None, None])
    assert (
        human_divergence(predictions_table(nobody["guid"], nobody["gold"], np.zeros((2, 3), np.float32)), nobody)
        is None
    )
