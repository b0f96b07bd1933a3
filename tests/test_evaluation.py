import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.special import softmax

from unfreeze.grid.evaluation import merge_labels
from unfreeze.grid.predictor import Predictor
from unfreeze.grid.runner import run_study
from unfreeze.records import logits_array
from unfreeze.studydir import StudyDir, read_json, read_table

TWO = {"entailment": "entailment", "other": ["neutral", "contradiction"]}


def test_merged_probabilities_are_summed():
    logits = np.array([[2.0, 1.0, 0.0], [0.0, 1.2, 1.1]], np.float32)
    found = softmax(merge_labels(logits, [(0,), (1, 2)]), axis=1)
    whole = softmax(logits, axis=1)
    assert found == pytest.approx(np.stack([whole[:, 0], whole[:, 1] + whole[:, 2]], axis=1), abs=1e-6)
    assert softmax(merge_labels(logits, [(2,), (0,), (1,)]), axis=1) == pytest.approx(whole[:, [2, 0, 1]], abs=1e-6)


@pytest.fixture
def study(study_file):
    return study_file(strategies=["head-only", {"lora": {"rank": 2}}], baselines=False)


def test_a_new_set_trains_nothing_again(study, tmp_path):
    out = tmp_path / "out"
    plain = run_study(study, out, executor="inline")
    test = StudyDir(out).read_dataset().splits["test"]
    labels = StudyDir(out).read_dataset().labels
    names = {label: "entailment" if label == "entailment" else "other" for label in labels}
    rows = [
        json.dumps({"premise": r["premise"], "hypothesis": r["hypothesis"], "label": names[labels[r["gold"]]]})
        for r in test.to_pylist()
    ]
    (tmp_path / "two.jsonl").write_text("\n".join(rows))
    content = yaml.safe_load(study.read_text())
    content["evaluate_on"] = {"two": {"path": str(tmp_path / "two.jsonl"), "labels": TWO}}
    study.write_text(yaml.safe_dump(content))

    trained = {p: p.stat().st_mtime_ns for p in out.glob("runs/*/*") if p.is_file()}
    watched = []
    again = run_study(study, out, executor="inline", watch=watched.append)
    assert watched[0]["pending"] == []
    assert {row["kind"] for row in watched} <= {"grid", "started"}
    assert trained == {p: p.stat().st_mtime_ns for p in trained}
    assert [row["run_id"] for row in again.rows] == [row["run_id"] for row in plain.rows]
    for row in again.rows:
        folder = out / "runs" / row["run_id"]
        found = Predictor(folder).probabilities(test["premise"].to_pylist(), test["hypothesis"].to_pylist())
        first = labels.index("entailment")
        kept = softmax(logits_array(read_table(folder / "predictions" / "two.arrow")), axis=1)
        assert kept[:, 0] == pytest.approx(found[:, first], abs=1e-5)
        metrics = row["metrics"]["evaluate_on"]["two"]
        right = (found[:, first] > 0.5) == (test["gold"].to_numpy() == first)
        assert metrics["accuracy"] == pytest.approx(right.mean())
        assert metrics["loss"] is None
    assert [pair["a"] for pair in again.comparison["evaluate_on"]["two"]["pairs"]] == [0]
    assert "On other sets" in (out / "report.html").read_text(encoding="utf-8")
    readme = (out / "README.md").read_text(encoding="utf-8")
    assert "| Strategy | Encoder | test | two |\n|---|---|--:|--:|\n| " in readme

    answered = {p: p.stat().st_mtime_ns for p in out.glob("runs/*/predictions/two.arrow")}
    run_study(study, out, executor="inline")
    assert answered == {p: p.stat().st_mtime_ns for p in out.glob("runs/*/predictions/two.arrow")}


def test_a_set_that_changes_is_answered_anew_and_same_labels_have_a_loss(study, tmp_path):
    three = tmp_path / "three.csv"
    three.write_text("premise,hypothesis,label\na man,a dog,neutral\na man,a cat,contradiction\n")
    setting = f"evaluate_on={{three: {{path: {three}}}}}"
    first = run_study(study, tmp_path / "out", [setting], executor="inline")
    assert all(row["metrics"]["evaluate_on"]["three"]["loss"] > 0 for row in first.rows)
    assert first.comparison["evaluate_on"]["three"]["test"]["rows"] == 2
    with three.open("a") as file:
        file.write("a man,a bird,neutral\n")
    second = run_study(study, tmp_path / "out", [setting], executor="inline")
    assert second.comparison["evaluate_on"]["three"]["test"]["rows"] == 3


def test_a_failure_is_noted_and_tried_again(study, tmp_path, monkeypatch):
    path = tmp_path / "three.csv"
    path.write_text("premise,hypothesis,label\na man,a dog,neutral\n")
    setting, notes = f"evaluate_on={{three: {{path: {path}}}}}", []
    with monkeypatch.context() as patched:
        patched.setattr("unfreeze.grid.run.load_classifier", lambda *_: 1 / 0)
        watch = lambda row: notes.append(row.get("message", ""))  # noqa: E731
        found = run_study(study, tmp_path / "out", [setting], executor="inline", watch=watch)
    assert [row["metrics"]["evaluate_on"] for row in found.rows] == [{}, {}]
    assert found.comparison["evaluate_on"] == {}
    assert sum("on three: failed: division by zero" in note for note in notes) == 2
    assert Path(found.report).is_file()
    again = run_study(study, tmp_path / "out", [setting], executor="inline")
    assert all("three" in row["metrics"]["evaluate_on"] for row in again.rows)
    assert read_json(StudyDir(tmp_path / "out").resolved)["evaluate_on"]["three"]["examples"] == 1
