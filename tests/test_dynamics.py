import numpy as np
import pyarrow as pa
import pytest

from unfreeze.analysis.dynamics import REGIONS, cartography, earlier, learned_apart, likely_label_errors, mean_of
from unfreeze.records import DYNAMICS, dynamics_arrays, dynamics_table


def guids(examples):
    return pa.chunked_array([[f"train-{i}" for i in range(examples)]])


def table(probability, correct=None):
    probability = np.asarray(probability, np.float32)
    correct = probability > 0.5 if correct is None else np.asarray(correct, bool)
    gold = pa.chunked_array([pa.array(range(probability.shape[1]), pa.int32())])
    return dynamics_table(guids(probability.shape[1]), gold, probability, correct)


def read(probability, correct=None):
    probability = np.asarray(probability)
    return cartography(table(probability, correct), guids(probability.shape[1]))


def test_a_table_gives_its_arrays_back():
    probability = np.random.default_rng(0).random((3, 7)).astype(np.float32)
    made = table(probability)
    assert made.schema == DYNAMICS
    assert made["gold_probability"][2].as_py() == probability[:, 2].tolist()
    kept, correct = dynamics_arrays(made)
    np.testing.assert_array_equal(kept, probability)
    np.testing.assert_array_equal(correct, probability > 0.5)
    # A table in several chunks, or a slice of one, is read as it stands.
    np.testing.assert_array_equal(dynamics_arrays(pa.concat_tables([made[:3], made[3:]]))[0], probability)
    np.testing.assert_array_equal(dynamics_arrays(made[2:4])[0], probability[:, 2:4])


def test_statistics_and_regions_of_examples_worked_by_hand():
    found = read([[0.9, 0.1, 0.2, 0.6], [0.9, 0.2, 0.8, 0.4], [0.9, 0.0, 0.8, 0.7]])
    assert found.confidence == pytest.approx([0.9, 0.1, 0.6, 1.7 / 3])
    assert found.variability == pytest.approx([0, np.sqrt(0.02 / 3), np.sqrt(0.08), np.std([0.6, 0.4, 0.7])], abs=1e-6)
    assert found.correctness == pytest.approx([1, 0, 2 / 3, 2 / 3])
    assert found.learned.tolist() == [1, np.inf, 2, 3]
    assert [REGIONS[index] for index in found.region] == [REGIONS[0], REGIONS[2], REGIONS[1], REGIONS[1]]


def test_examples_are_matched_by_guid():
    made = table([[0.9, 0.1, 0.6]])
    assert cartography(made.take([2, 0, 1]), guids(3)).confidence == pytest.approx([0.9, 0.1, 0.6])


def test_runs_are_averaged_and_learned_when_all_have():
    mean = mean_of([read([[0.2, 0.9, 0.9], [0.8, 0.9, 0.9]]), read([[0.8, 0.9, 0.1], [0.8, 0.9, 0.1]])])
    assert mean.confidence == pytest.approx([0.65, 0.9, 0.5])
    assert mean.learned.tolist() == [2, 1, np.inf]


def test_planted_label_errors_come_first():
    """Of 2,000 examples, 40 have a wrong label: runs stay sure of another one, and sometimes memorise it at the end."""
    rng = np.random.default_rng(1)
    wrong = rng.choice(2000, 40, replace=False)
    runs = []
    for _ in range(4):
        sure = np.clip(np.array([[0.7], [0.85], [0.9]]) + 0.15 * rng.normal(size=(3, 2000)), 0.01, 0.99)
        sure[:, wrong] = np.clip(np.array([[0.05], [0.1], [0.2]]) + 0.1 * rng.normal(size=(3, 40)), 0.01, 0.99)
        difficult = rng.choice(2000, 200, replace=False)
        sure[0, difficult] = 0.1
        runs.append(read(sure))
    found = likely_label_errors(mean_of(runs), 40)
    assert len(set(found) & set(wrong)) >= 38
    assert len(likely_label_errors(mean_of(runs), 5)) == 5


def test_strategies_that_learn_at_different_times():
    early = read([[0.9, 0.9, 0.9, 0.1], [0.9, 0.9, 0.9, 0.1], [0.9, 0.9, 0.9, 0.1]])
    late = read([[0.9, 0.1, 0.1, 0.1], [0.9, 0.9, 0.1, 0.1], [0.9, 0.9, 0.1, 0.1]])
    assert learned_apart([early, late], 10).tolist() == [2, 1]
    assert learned_apart([early, late], 1).tolist() == [2]
    assert (earlier(early, late), earlier(late, early)) == (2, 0)
    never = read(np.full((2, 3), 0.1))
    assert learned_apart([never, never], 10).tolist() == []
