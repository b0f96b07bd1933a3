import json
import re

import numpy as np
import pyarrow as pa
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from study_factory import Run, baseline, dataset, predictions, result
from unfreeze.analysis.baselines import (
    FROZEN,
    HYPOTHESIS_ONLY,
    LOG_FLOOR,
    MAJORITY,
    against_baselines,
    baseline_cautions,
    fit_logistic_regression,
    majority_logits,
    model_logits,
    pair_features,
)
from unfreeze.analysis.metrics import evaluate
from unfreeze.grid import baselines as grid_baselines
from unfreeze.grid.runner import run_study
from unfreeze.records import EXAMPLES, Dataset
from unfreeze.studydir import StudyDir, read_json, read_table


def test_majority_answers_with_the_shares_of_training():
    logits = majority_logits(np.array([2, 2, 0, 2]), 4, 5)
    assert logits.shape == (5, 4)
    assert softmax(logits, axis=1)[3] == pytest.approx([0.25, 0, 0.75, 0], abs=1e-6)
    assert np.isfinite(logits).all()


def test_features_of_a_pair():
    found = pair_features(np.array([[1.0, -2.0]]), np.array([[3.0, 0.5]]))
    assert found.tolist() == [[1, -2, 3, 0.5, 2, 2.5, 3, -1]]


def blobs(seed, rows=300):
    random = np.random.default_rng(seed)
    gold = random.integers(0, 3, rows)
    return random.normal(size=(rows, 4)) + np.eye(3, 4)[gold] * 2, gold


def test_validation_decides_the_regularisation():
    (x, y), (validation, gold) = blobs(0), blobs(1)
    model, strength = fit_logistic_regression(x, y, validation, gold)
    mean, sd = x.mean(axis=0), x.std(axis=0)
    scores = {
        c: LogisticRegression(C=c, max_iter=300).fit((x - mean) / sd, y).score((validation - mean) / sd, gold)
        for c in (1e-4, 1e-3, 1e-2, 1e-1)
    }
    assert len(set(scores.values())) > 1
    assert scores[strength] == max(scores.values()) == model.score(validation, gold)


def test_logits_are_log_probabilities_whatever_was_seen(monkeypatch):
    x, y = blobs(0)
    model, _ = fit_logistic_regression(x, y * 2, x, y * 2)  # labels 0, 2, 4 of six
    monkeypatch.setattr("unfreeze.analysis.baselines.ROWS_AT_ONCE", 7)
    logits = model_logits(model, lambda rows: x[rows], len(x), 6)
    assert logits[:, [1, 3, 5]].tolist() == [[LOG_FLOOR] * 3] * len(x)
    assert softmax(logits, axis=1)[:, ::2] == pytest.approx(model.predict_proba(x), abs=1e-6)
    some = (y > 0).astype(int)
    two, _ = fit_logistic_regression(x, some, x, some)
    assert model_logits(two, lambda rows: x[rows], len(x), 2).argmax(axis=1).tolist() == two.predict(x).tolist()


def test_strategies_that_are_not_surely_better_are_named():
    data = dataset(rows=300)
    runs = [
        *(Run("full", seed, range(20)) for seed in (0, 1)),
        *(Run("lora", seed, range(84 + seed, 4, -1)) for seed in (0, 1)),
        *(Run("head-only", seed, range(150)) for seed in (0, 1)),
    ]
    tables = {run.run_id: predictions(data.splits["test"], data.labels, run) for run in runs}
    rows = [result(run, data, {"test": tables[run.run_id]}) for run in runs]
    made = [baseline(FROZEN, "minilm", data, range(84)), baseline(MAJORITY, None, data, range(200))]
    made.append(baseline(FROZEN, "other", data, range(10)))
    tables |= {row["baseline_id"]: table for row, table in made}
    groups = data.splits["test"]["group"].to_numpy()
    pairs = against_baselines(rows, [row for row, _ in made], tables.__getitem__, groups)
    assert [(pair["strategy"], pair["baseline_encoder"]) for pair in pairs] == [
        ("full", "minilm"),
        ("lora", "minilm"),
        ("head-only", "minilm"),
    ]
    assert pairs[0]["difference"] == pytest.approx(64 / 300)
    assert pairs[0]["interval"][0] > 0
    assert baseline_cautions(pairs) == [
        "Not better, beyond noise, than logistic regression on frozen embeddings (72.0 %): "
        "lora (+1.2 points), head-only (-22.0 points)."
    ]
    assert baseline_cautions(pairs[:1]) == []
    one_group = {**pairs[0], "interval": None}
    assert "full (+21.3 points)" in baseline_cautions([one_group])[0], "nothing is known beyond one group"
    assert against_baselines(rows, [], tables.__getitem__, groups) == []
    assert against_baselines([], [row for row, _ in made], tables.__getitem__, groups) == []


def test_a_strategy_s_seeds_count_against_a_baseline_that_has_none():
    data = dataset(rows=300)
    made = baseline(FROZEN, "minilm", data, range(110))
    groups = data.splits["test"]["group"].to_numpy()

    def against(*wrong):
        runs = [Run("full", seed, range(count)) for seed, count in enumerate(wrong)]
        tables = {run.run_id: predictions(data.splits["test"], data.labels, run) for run in runs}
        rows = [result(run, data, {"test": tables[run.run_id]}) for run in runs]
        tables |= {made[0]["baseline_id"]: made[1]}
        (pair,) = against_baselines(rows, [made[0]], tables.__getitem__, groups)
        return pair

    alike, apart, single = against(85, 85, 85), against(5, 85, 165), against(85)
    assert alike["difference"] == apart["difference"] == pytest.approx(25 / 300)
    assert alike["interval"] == pytest.approx(single["interval"], abs=1e-3), "it would answer the same again"
    assert alike["interval"][0] > 0 > apart["interval"][0]
    assert not baseline_cautions([alike])
    assert baseline_cautions([apart])


@pytest.fixture
def study(study_file):
    return study_file(strategies=["head-only"])


def run(study, out, *overrides, watch=lambda row: None, executor="inline"):
    return run_study(study, out, overrides, executor=executor, watch=watch)


def test_every_figure_can_be_computed_again(study, tmp_path):
    found = run(study, tmp_path / "out").baselines
    assert [row["name"] for row in found] == [MAJORITY, FROZEN, HYPOTHESIS_ONLY]
    study_dir = StudyDir(tmp_path / "out")
    data = study_dir.read_dataset()
    for row in found:
        for split in ("validation", "test"):
            table = read_table(study_dir.baseline(row["baseline_id"]).predictions(split))
            assert table["guid"].equals(data.splits[split]["guid"])
            assert row["metrics"][split] == evaluate(table, data.labels)
    shares = np.bincount(data.splits["test"]["gold"].to_numpy()) / len(data.splits["test"])
    assert found[0]["metrics"]["test"]["accuracy"] in shares
    assert found[0]["seconds"] is None
    assert "of premise and hypothesis, each encoded alone; fitted on all" in found[1]["note"]
    assert "of the hypothesis alone: it sees one text; fitted on all" in found[2]["note"]
    assert found[1]["seconds"] > 0
    assert read_json(study_dir.baselines_json) == found
    assert [pair["strategy"] for pair in read_json(study_dir.comparison)["baselines"]] == ["head-only"]


def test_they_are_made_once_and_can_be_left_out(study, tmp_path, monkeypatch):
    run(study, tmp_path / "out", "strategies=[head-only]")
    made = []
    monkeypatch.setattr("unfreeze.grid.run.make_baselines", lambda *_, **__: made.append(1))
    assert len(run(study, tmp_path / "out", "strategies=[head-only, bitfit]").baselines) == 3
    assert run(study, tmp_path / "out", "baselines=false").baselines == []
    assert run(study, tmp_path / "other", "baselines=false").baselines == []
    assert made == []


def test_a_failure_is_noted_and_tried_again(study, tmp_path, monkeypatch):
    notes = []
    with monkeypatch.context() as patched:
        patched.setattr(grid_baselines, "_embeddings", lambda *_: 1 / 0)
        found = run(study, tmp_path / "out", watch=lambda row: notes.append(row.get("message")))
    assert [row["status"] for row in found.rows] == ["finished"]
    assert [row["status"] for row in found.baselines] == ["finished", "failed", "failed"]
    assert found.baselines[1]["failure"] == {"type": "ZeroDivisionError", "message": "division by zero"}
    assert f"baseline {FROZEN} of tiny-bert: failed: division by zero" in notes
    assert [row["status"] for row in run(study, tmp_path / "out").baselines] == ["finished"] * 3


def test_a_process_that_dies_leaves_its_reason(tmp_path):
    study_dir = StudyDir(tmp_path)
    job = {"missing": [{"baseline_id": "a"}, {"baseline_id": "b"}]}
    grid_baselines.note_death(study_dir, job, 0)
    assert not (tmp_path / "baselines").exists()
    grid_baselines.note_death(study_dir, job, -9)
    assert "ended with code -9" in read_json(study_dir.baseline("b").failure)["message"]


def test_a_folder_from_before_there_were_baselines(study, tmp_path):
    run(study, tmp_path / "out", "baselines=false")
    study_dir = StudyDir(tmp_path / "out")
    resolved = read_json(study_dir.resolved)
    del resolved["baselines"]
    study_dir.resolved.write_text(json.dumps(resolved))
    assert grid_baselines.collect_baselines(study_dir) == []


def test_many_training_rows_are_sampled_with_their_balance(monkeypatch):
    data = dataset(rows=90, labels=("a", "b"))
    assert grid_baselines._sample(data)[0].tolist() == list(range(90))
    monkeypatch.setattr(grid_baselines, "MOST_TRAIN_ROWS", 20)
    chosen, note = grid_baselines._sample(data)
    assert np.bincount(chosen % 2).tolist() == [10, 10]
    assert len(set(chosen)) == 20
    assert note == "a stratified 20 of 90 training examples"


def test_single_texts_have_no_hypothesis(tmp_path, study_file):
    path = tmp_path / "reviews.csv"
    rows = [f"the man sleeps {'outside' if i % 2 else 'inside'} {i},{'good' if i % 2 else 'bad'}" for i in range(120)]
    path.write_text("\n".join(["text,label", *rows]))
    study = study_file(data={"dataset": "files", "path": str(path), "max_length": 16}, strategies=["head-only"])
    found = run(study, tmp_path / "out").baselines
    assert [row["name"] for row in found] == [MAJORITY, FROZEN]
    assert found[1]["metrics"]["test"]["accuracy"] > 0.9, "one word tells the classes apart"
    assert found[1]["note"].startswith("Logistic regression (C = ")
    assert "on the encoder's embeddings, frozen, of the text; fitted on all" in found[1]["note"]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert not re.search("hypothes[ie]s", re.sub("<(script|style).*?</\\1>", "", page, flags=re.DOTALL), re.IGNORECASE)


def test_equal_texts_are_encoded_once(monkeypatch, tiny):
    columns = {"guid": ["a", "b"], "premise": ["x", "x"], "hypothesis": ["x", "y"], "gold": [0, 1], "group": [0, 0]}
    table = pa.table(columns, schema=EXAMPLES)
    data = Dataset("d", ("n", "y"), dict.fromkeys(("train", "validation", "test"), table))
    asked = []

    def embed(_name, texts, _length, _compute):
        asked.extend(texts)
        return np.array([[float(len(text)), ord(text)] for text in texts], np.float32)

    monkeypatch.setattr("unfreeze.training.embed.embed", embed)

    class Spec:
        encoder, max_length = "e", 8

        class recipe:  # noqa: N801
            precision = "fp32"

    found = grid_baselines._embeddings(data, np.array([1, 0]), Spec, "cpu")
    assert sorted(asked) == ["x", "y"]
    assert [part[:, 1].tolist() for part in found["train"]] == [[120, 120], [121, 120]]
    assert [part[:, 1].tolist() for part in found["test"]] == [[120, 120], [120, 121]]
