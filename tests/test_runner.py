import csv
import json
import os
import signal

import numpy as np
import pytest

from conftest import run_and_kill
from unfreeze.errors import DataError, StudyDirError, StudyError
from unfreeze.grid import prepare as grid_prepare
from unfreeze.grid import run as grid_run
from unfreeze.grid.predictor import Predictor
from unfreeze.grid.runner import check_folder, collect, conclude, run_study
from unfreeze.records import logits_array, states_array
from unfreeze.study import load_study
from unfreeze.studydir import StudyDir, read_table


@pytest.fixture
def study(study_file):
    """A study file: three strategies, two seeds, on a small generated corpus."""
    return study_file(strategies=["head-only", {"partial": {"layers": 1}}, {"lora": {"rank": 2}}], seeds=[0, 1])


def run(study, out, *overrides, executor="inline", watch=lambda row: None):
    return run_study(study, out, overrides, executor=executor, watch=watch)


def test_the_folder_is_what_the_design_says(study, tmp_path):
    result = run(study, tmp_path / "out")
    out = tmp_path / "out"
    assert [row["status"] for row in result.rows] == ["finished"] * 6
    for name in ("study.yaml", "resolved.json", "results.json", "results.csv", "comparison.json", "report.html"):
        assert (out / name).stat().st_size > 0
    assert len(list((out / "runs").iterdir())) == 6
    for row in result.rows:
        folder = out / "runs" / row["run_id"]
        for name in ("spec.json", "history.jsonl", "result.json", "checkpoint/trained.safetensors"):
            assert (folder / name).is_file()
        assert not (folder / "checkpoint" / "resume.pt").exists()
        assert set(row["cost"]) >= {"train_seconds", "prefix_seconds", "evaluate_seconds", "peak_memory_bytes", "flops"}
        assert row["cost"]["energy_joules"] is None
        assert row["environment"]["versions"]["torch"].startswith("2.")
        assert row["environment"]["device"] == "cpu"
        test = read_table(folder / "predictions" / "test.arrow")
        gold = StudyDir(out).read_dataset().splits["test"]["gold"]
        assert test["gold"].equals(gold)
        accuracy = np.mean(logits_array(test).argmax(axis=1) == gold.to_numpy())
        assert row["metrics"]["test"]["accuracy"] == accuracy
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [r["run_id"] for r in rows] == [r["run_id"] for r in result.rows]
    assert float(rows[0]["metrics.test.accuracy"]) == result.rows[0]["metrics"]["test"]["accuracy"]
    assert load_study(out / "study.yaml") == load_study(study)


def test_a_run_keeps_what_its_head_read_of_its_mistakes(study, tmp_path, monkeypatch):
    whole = run(study, tmp_path / "whole", "seeds=[0]")
    monkeypatch.setattr(grid_run, "MAPPED_MISTAKES", 3)
    part = run(study, tmp_path / "part", "seeds=[0]")
    for row, sampled in zip(whole.rows, part.rows, strict=True):
        folder = StudyDir(tmp_path / "whole").run(row["run_id"])
        test = read_table(folder.predictions("test"))
        kept = read_table(folder.mistakes)
        wrong = test["gold"].to_numpy() != test["predicted"].to_numpy()
        assert kept["guid"].to_pylist() == test["guid"].filter(wrong).to_pylist()
        assert states_array(kept).shape == (wrong.sum(), 16)
        some = read_table(StudyDir(tmp_path / "part").run(sampled["run_id"]).mistakes)
        assert len(some) == 3
        places = [kept["guid"].to_pylist().index(guid) for guid in some["guid"].to_pylist()]
        assert places == sorted(places)
        np.testing.assert_allclose(states_array(some), states_array(kept)[places], atol=0.01)


def test_seeds_come_outermost_and_the_prefix_first(study, tmp_path):
    rows, notes = [], []
    run(study, tmp_path / "out", watch=lambda row: (notes if row["kind"] == "note" else rows).append(row))
    order = [row["run_id"] for row in rows if row["kind"] == "finished"]
    assert [run_id.split("--")[2] for run_id in order] == ["s0"] * 3 + ["s1"] * 3
    notes = [row for row in notes if row["message"].startswith("frozen prefix")]
    assert len(notes) == 1, "one pass serves head-only and partial, both seeds"
    assert "depth 2, 3" in notes[0]["message"]
    finished = {row["strategy"]: row for row in rows if row["kind"] == "finished"}
    assert finished["head-only"]["cost"]["prefix_seconds"] > 0
    assert finished["head-only"]["environment"]["prefix_cached"]
    assert finished["lora-r2-query-value"]["cost"]["prefix_seconds"] is None


def test_a_second_run_trains_nothing(study, tmp_path):
    run(study, tmp_path / "out")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "runs").rglob("*") if p.is_file()}
    rows = []
    run(study, tmp_path / "out", watch=rows.append)
    assert [row["kind"] for row in rows] == ["grid"]
    assert rows[0]["pending"] == []
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "runs").rglob("*") if p.is_file()}


def test_a_grown_grid_keeps_what_it_has(study, tmp_path):
    run(study, tmp_path / "out", "seeds=[0]")
    rows = []
    result = run(study, tmp_path / "out", watch=rows.append)
    assert len(rows[0]["pending"]) == 3
    assert len(result.rows) == 6


def test_a_run_that_fails_leaves_the_others_and_shows(study, tmp_path, monkeypatch):
    train = grid_prepare.Trainer.train

    def fail(self, until):
        if self.anatomy.prefix_depth() == 0 and self.seed == 0:
            raise MemoryError("no room\nfor activations")
        return train(self, until)

    monkeypatch.setattr(grid_prepare.Trainer, "train", fail)
    result = run(study, tmp_path / "out")
    assert sorted(row["status"] for row in result.rows) == ["failed"] + ["finished"] * 5
    failed = next(row for row in result.rows if row["status"] == "failed")
    assert failed["failure"] == {"type": "MemoryError", "message": "no room for activations", "step": None}
    assert "no room for activations" in (tmp_path / "out" / "report.html").read_text()
    assert failed["run_id"] in (tmp_path / "out" / "results.csv").read_text()
    assert result.comparison["failed"] == [failed["run_id"]]
    monkeypatch.undo()
    again = run(study, tmp_path / "out")
    assert [row["status"] for row in again.rows] == ["finished"] * 6, "a failed run is tried again"


def test_a_run_that_diverges(study, tmp_path):
    result = run(study, tmp_path / "out", "strategies=[full]", "recipe.learning_rate=1e30", "recipe.max_grad_norm=null")
    assert [row["status"] for row in result.rows] == ["diverged"] * 2
    assert "lower the learning rate" in result.rows[0]["failure"]["message"]
    assert result.rows[0]["failure"]["type"] == "Diverged"
    assert (tmp_path / "out" / "report.html").is_file()


def test_the_prefix_changes_nothing_but_time(study, tmp_path, monkeypatch):
    cached = run(study, tmp_path / "cached", "strategies=[head-only, {partial: {layers: 1}}]", "recipe.head_dropout=0")
    monkeypatch.setattr("unfreeze.grid.prepare.prefix_bytes", lambda *_: 10**18)
    notes = []
    live = run(
        study,
        tmp_path / "live",
        "strategies=[head-only, {partial: {layers: 1}}]",
        "recipe.head_dropout=0",
        watch=lambda row: notes.append(row["message"]) if row["kind"] == "note" else None,
    )
    assert any("frozen prefix not kept: 1000000000.0 GB needed" in note for note in notes)
    assert not (tmp_path / "live" / "cache" / "prefix").exists()
    for with_cache, without in zip(cached.rows, live.rows, strict=True):
        assert with_cache["run_id"] == without["run_id"]
        assert without["cost"]["prefix_seconds"] is None
        if "head-only" in with_cache["run_id"]:  # no dropout above the prefix: the very same steps
            assert with_cache["metrics"]["test"]["loss"] == pytest.approx(without["metrics"]["test"]["loss"], abs=1e-5)


def test_a_folder_of_another_study(study, tmp_path):
    run(study, tmp_path / "out", "strategies=[head-only]", "seeds=[0]")
    with pytest.raises(StudyDirError, match="belongs to the study 'trial', not 'other'"):
        run(study, tmp_path / "out", "name=other")
    with pytest.raises(StudyDirError, match="trained on other data"):
        run(study, tmp_path / "out", "data.seed=5")


def test_a_start_that_is_interrupted_can_be_made_again(study, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    for place in ("studydir.write_table", "grid.prepare.write_tokens", "grid.runner.explore"):
        with monkeypatch.context() as patched:
            patched.setattr(f"unfreeze.{place}", interrupt)
            with pytest.raises(KeyboardInterrupt):
                run(study, tmp_path / "out", "seeds=[0]")
    assert [row["status"] for row in run(study, tmp_path / "out", "seeds=[0]").rows] == ["finished"] * 3


def test_a_folder_that_is_something_else(study, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    killed = tmp_path / "killed"
    killed.mkdir()
    for left in (".lock", ".resolved.json.x7f2"):
        (killed / left).touch()
    check_folder(StudyDir(killed), load_study(study))
    with pytest.raises(StudyDirError, match="is not empty and not a study folder"):
        run(study, tmp_path / "photos")
    with pytest.raises(StudyDirError, match="not a study folder"):
        StudyDir.existing(tmp_path / "photos")


def test_everything_wrong_is_said_at_once(study, tmp_path):
    strategies = "strategies=[{partial: {layers: 9}}, {lora: {targets: [querry]}}]"
    with pytest.raises(StudyError) as caught:
        run(study, tmp_path / "out", strategies, "data.max_length=500")
    assert caught.value.problems == (next(p for p in caught.value.problems if "data.max_length: 500" in p),)
    with pytest.raises(StudyError) as caught:
        run(study, tmp_path / "out", strategies)
    assert ["9 asked for" in caught.value.problems[0], "querry" in caught.value.problems[1]] == [True, True]
    assert not (tmp_path / "out").exists()


def test_bad_data_ends_before_the_folder_is_made(study, tmp_path):
    with pytest.raises(DataError, match=r"nowhere.csv"):
        run(study, tmp_path / "out", "data={dataset: files, path: nowhere.csv}")
    assert not (tmp_path / "out").exists()


def test_predictions_of_a_saved_run(study, tmp_path):
    result = run(study, tmp_path / "out", "seeds=[0]")
    test = StudyDir(tmp_path / "out").read_dataset().splits["test"]
    for row in result.rows:
        folder = tmp_path / "out" / "runs" / row["run_id"]
        found = Predictor(folder).logits(test["premise"].to_pylist(), test["hypothesis"].to_pylist())
        kept = logits_array(read_table(folder / "predictions" / "test.arrow"))
        assert np.abs(found - kept).max() < 1e-5
        with pytest.raises(StudyError, match="classifies pairs"):
            Predictor(folder).logits(["a man sleeps"])
        with pytest.raises(StudyError, match="row 2: an empty text"):
            Predictor(folder).logits(["a", " "], ["b", "c"])
    with pytest.raises(StudyDirError, match="not a finished run"):
        Predictor(tmp_path / "out")


def test_two_entries_of_one_strategy_are_told_apart(study, tmp_path):
    strategies = "strategies=[{full: {}, recipe: {learning_rate: 1e-4}}, {full: {}, recipe: {learning_rate: 1e-3}}]"
    result = run(study, tmp_path / "out", strategies, "seeds=[0]")
    assert [row["strategy"] for row in result.rows] == ["full (learning_rate 0.0001)", "full (learning_rate 0.001)"]


def test_fresh_processes_and_a_kill_in_the_middle(study_file, tmp_path, monkeypatch):
    """The whole program is killed as it trains; the same command goes on, and the results are those of a quiet run."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as in this process: sums in another order round otherwise
    study = study_file(strategies=["head-only", "full"], recipe={"epochs": 30})
    out = tmp_path / "killed"
    run_and_kill(study, out, "runs/*--full--*/checkpoint/resume.pt")
    rows = {row["run_id"]: row for row in collect(StudyDir(out))}
    assert {row["status"] for row in rows.values()} == {"finished", "pending"}

    watched = []
    resumed = run(study, out, executor="local", watch=watched.append)
    quiet = run(study, tmp_path / "quiet")
    assert [row["status"] for row in resumed.rows] == ["finished"] * 2
    first_epoch = next(row["epoch"] for row in watched if row["kind"] == "evaluation")
    assert first_epoch > 1, "whole epochs are not run again"
    for a, b in zip(resumed.rows, quiet.rows, strict=True):
        assert a["metrics"] == b["metrics"]
        assert a["cost"]["peak_memory_bytes"] > 10**8
        assert b["cost"]["peak_memory_bytes"] is None


def test_a_run_whose_process_is_killed_is_a_failed_run(study, tmp_path):
    pids = []

    def kill(row):
        if row["kind"] == "started" and "--full--" in row["job"]:
            pids.append(row["pid"])
        if row["kind"] == "step" and "--full--" in row["run_id"]:
            os.kill(pids[0], signal.SIGKILL)

    strategies = "strategies=[{full: {}, recipe: {epochs: 500}}, head-only]"
    result = run(study, tmp_path / "out", strategies, "seeds=[0]", executor="local", watch=kill)
    assert [row["status"] for row in result.rows] == ["failed", "finished"]
    assert "killed by the system" in result.rows[0]["failure"]["message"]


def test_runs_side_by_side_start_after_their_prefix_and_give_the_same(study, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    watched = []
    strategies = "strategies=[head-only, {partial: {layers: 1}}, full]"
    together = run_study(
        study, tmp_path / "a", [strategies, "seeds=[0]", "baselines=false"], workers=3, watch=watched.append
    )
    order = [(row["kind"], row.get("job") or row.get("run_id")) for row in watched]
    prefix, head, partial, full = ("prefix of", "--head-only--", "--partial-1--", "--full--")
    started = [name for kind, name in order if kind == "started"]
    assert {next(key for key in (prefix, full) if key in name) for name in started[:2]} == {prefix, full}
    assert {next(key for key in (head, partial) if key in name) for name in started[2:]} == {head, partial}
    ended = next(name for kind, name in order if kind == "finished")
    assert order.index(("started", started[1])) < order.index(("finished", ended)), "two jobs go at once"
    assert [row["environment"]["workers"] for row in together.rows] == [3, 3, 3]
    alone = run(study, tmp_path / "b", strategies, "seeds=[0]")
    assert [row["metrics"] for row in together.rows] == [row["metrics"] for row in alone.rows]


def test_one_process_at_a_time(study, tmp_path):
    with StudyDir(tmp_path / "out").lock(), pytest.raises(StudyDirError, match="another unfreeze is running here"):
        run(study, tmp_path / "out")


def test_a_report_can_be_written_again(study, tmp_path):
    run(study, tmp_path / "out", "seeds=[0]")
    (tmp_path / "out" / "report.html").unlink()
    (tmp_path / "out" / "results.json").unlink()
    again = conclude(StudyDir.existing(tmp_path / "out"))
    assert again.report.is_file()
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())) == 3
    assert again.comparison["equivalence"] == 0.005
    yaml = tmp_path / "out" / "study.yaml"
    yaml.write_text(yaml.read_text() + "equivalence: 0.02\n")
    assert conclude(StudyDir.existing(tmp_path / "out")).comparison["equivalence"] == 0.02
