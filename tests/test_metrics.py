import json
import warnings

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import f1_score, log_loss

from unfreeze.analysis.metrics import calibrated, evaluate
from unfreeze.records import predictions_table

LABELS = ("entailment", "neutral", "contradiction")


def table(gold: list[int], logits: np.ndarray) -> pa.Table:
    guid = pa.chunked_array([[str(i) for i in range(len(gold))]])
    return predictions_table(guid, pa.chunked_array([pa.array(gold, pa.int32())]), logits.astype(np.float32))


def test_every_figure_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    gold, logits = rng.integers(0, 3, 500), rng.normal(size=(500, 3)) * 3
    found = evaluate(table(gold.tolist(), logits), LABELS)
    predicted = logits.argmax(1)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert found["accuracy"] == pytest.approx((gold == predicted).mean())
    assert found["macro_f1"] == pytest.approx(f1_score(gold, predicted, average="macro"))
    assert found["loss"] == pytest.approx(log_loss(gold, probabilities), rel=1e-5)
    assert found["mistakes"] == (gold != predicted).sum()
    assert np.array(found["confusion"]).sum(axis=1).tolist() == np.bincount(gold).tolist()
    assert found["confusion"][0][2] == ((gold == 0) & (predicted == 2)).sum()


def test_known_mistakes_give_the_known_figures():
    # Two of class 0 right, one of class 1 taken for 0, class 2 never gold and never predicted.
    found = evaluate(table([0, 0, 1], np.array([[9.0, 0, 0], [9, 0, 0], [9, 0, 0]])), LABELS)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["per_class"]["entailment"] == pytest.approx({"precision": 2 / 3, "recall": 1, "f1": 0.8, "support": 2})
    assert found["per_class"]["neutral"] == {"precision": 0, "recall": 0, "f1": 0, "support": 1}
    assert found["macro_f1"] == pytest.approx(0.4)
    assert found["mistakes"] == 1


def test_a_perfect_run_and_unseen_classes_warn_of_nothing_and_are_json():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = evaluate(table([0, 0], np.array([[800.0, 0, -800], [800, 0, 0]])), LABELS)
    assert (found["mistakes"], found["loss"], found["macro_f1"]) == (0, 0, 1)
    json.dumps(found, allow_nan=False)


def test_the_temperature_comes_from_validation_alone():
    rng = np.random.default_rng(1)
    gold, noise = rng.integers(0, 3, 600), rng.normal(size=(600, 3))
    logits = 8 * (np.eye(3)[gold] + noise)
    validation = table(gold[:300].tolist(), logits[:300])
    found = calibrated(validation, table(gold[300:].tolist(), logits[300:]))
    assert found["temperature"] > 1.5
    assert calibrated(validation, validation)["temperature"] == found["temperature"]
    before = evaluate(table(gold[300:].tolist(), logits[300:]), LABELS)
    assert set(found) - {"temperature"} < set(before)
    assert found["loss"] < before["loss"]
    json.dumps(found, allow_nan=False)
