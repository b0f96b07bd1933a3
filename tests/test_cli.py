import json
import subprocess
import sys

import pyarrow.csv
import pytest

from study_factory import Run, write_study
from unfreeze import cli
from unfreeze.grid.runner import run_study


@pytest.fixture
def unfreeze(monkeypatch, capsys):
    """Run the command line in this process; gives exit code, standard output and standard error."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["unfreeze", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    monkeypatch.setattr(cli, "console", cli.Console(width=200))
    return call


@pytest.fixture
def study(study_file):
    data = {"dataset": "captions", "pairs": 120, "max_length": 48}
    return study_file(strategies=["head-only", "lora"], data=data)


@pytest.fixture
def done(study, tmp_path):
    run_study(study, tmp_path / "out", executor="inline")
    return tmp_path / "out"


def test_run_shows_progress_leaderboard_and_report(unfreeze, study, tmp_path):
    code, out, _ = unfreeze("run", study, "-o", tmp_path / "out")
    assert code == 0
    for text in (
        "2 runs",
        "[1/2]",
        "head-only seed 0",
        "epoch 1: validation loss",
        "Leaderboard",
        "macro-",
        "pairs/s",
    ):
        assert text in out
    assert f"Report: {tmp_path}/out/report.html" in out.replace("\n", "")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert all(row["cost"]["peak_memory_bytes"] > 10**8 for row in results)


def test_a_failed_run_ends_with_1_and_a_user_s_fault_with_2(unfreeze, study, tmp_path):
    diverge = ("--set", "recipe.learning_rate=1e30", "--set", "recipe.max_grad_norm=null", "--set", "strategies=[full]")
    code, out, _ = unfreeze("run", study, "-o", tmp_path / "out", *diverge)
    assert code == 1
    assert "diverged" in out
    code, _, err = unfreeze("run", study, "-o", tmp_path / "out", "--set", "recipe.epoch=1")
    assert code == 2
    assert err == f"unfreeze: {study}: unknown key 'recipe.epoch'; did you mean 'epochs'?\n"


def test_plan(unfreeze, study):
    code, out, _ = unfreeze("plan", study, "--set", "strategies=[head-only, {partial: {layers: 1}}, full]")
    assert code == 0
    for text in (
        "3 runs",
        "partial-1",
        "3/3",
        "2/3",
        "0/3",
        "padding",
        "start from frozen states at depth 2, 3",
        "All together",
    ):
        assert text in out


def test_plan_and_status_of_a_tuned_study(unfreeze, study, tmp_path):
    tuned = ("--set", "recipe.learning_rate=tune", "--set", "baselines=false")
    code, out, _ = unfreeze("plan", study, *tuned)
    assert code == 0
    text = " ".join(out.split())
    assert "2 runs, 1 seed" in text
    assert "tuning: up to 6 trials for 2 strategies in about" in text
    assert "up to 4 more where the best learning rate is at an end" in text
    code, out, _ = unfreeze("run", study, "-o", tmp_path / "out", *tuned)
    assert code == 0
    assert "Trial of tiny-bert head-only, learning rate 0.001: validation accuracy" in out
    assert "Tuning, before these runs and not in their times:" in out
    code, out, _ = unfreeze("status", tmp_path / "out")
    assert code == 0
    assert out.count("chosen") == 2
    assert "tiny-bert head-only, learning rate 0.001" in out
    code, _, err = unfreeze("plan", study, *tuned, "--set", "tuning.seed=0")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "tuning.seed: 0 is one of the study's seeds" in err


def test_plan_and_status_say_at_what_strategies_are_compared(unfreeze, study, tmp_path):
    code, out, _ = unfreeze("plan", study, "--set", "compare_at=flops")
    assert code == 0
    text = " ".join(out.split())
    assert "Compared at equal FLOPs: " in text
    assert "head-only stops after 50 epochs" in text
    assert "(≈: what decides is measured first.)" in text
    assert "Would not run: lora" in unfreeze("plan", study, "--set", "compare_at={memory: 200 KiB}")[1]
    assert "Compared at" not in unfreeze("plan", study)[1]
    for at in ("flops", "{seconds: 3}", "memory"):
        code, _, err = unfreeze("plan", study, "--set", f"compare_at={at}", "--set", "recipe.epochs={tune: [1, 2]}")
        if at == "memory":
            assert code == 0
        else:
            assert (code, len(err.splitlines())) == (2, 2), "one line for each strategy"
    assert unfreeze("run", study, "-o", tmp_path / "out", "--set", "compare_at={steps: 3}")[0] == 0
    assert "Compared at equal optimiser steps: 3 for every run." in unfreeze("status", tmp_path / "out")[1]


def test_plan_lists_what_is_wrong(unfreeze, study):
    strategies = "strategies=[{partial: {layers: 9}}, {lora: {targets: [querry]}}]"
    code, _, err = unfreeze("plan", study, "--set", strategies)
    assert code == 2
    assert len(err.splitlines()) == 2
    assert "partial-9: layers: 9 asked for" in err
    assert "'querry' matches no linear map" in err


def test_plan_of_a_column_that_is_not_there(unfreeze, study, tmp_path):
    (tmp_path / "d.csv").write_text("text,stars\na b,1\nc d,2\n")
    data = f"data={{dataset: files, path: {tmp_path}/d.csv, columns: {{text: text, label: star}}}}"
    code, _, err = unfreeze("plan", study, "--set", data)
    assert code == 2
    assert "star" in err
    assert "did you mean 'stars'" in err
    assert len(err.splitlines()) == 1


def test_explore(unfreeze, study):
    code, out, _ = unfreeze("explore", study)
    assert code == 0
    for text in ("captions: examples", "entailment", "premise", "words", "whose premise stands in train too"):
        assert text in out


def test_status_and_report(unfreeze, done, tmp_path):
    code, out, _ = unfreeze("status", done)
    assert code == 0
    assert out.count("finished") == 2
    (done / "report.html").unlink()
    assert unfreeze("report", done)[0] == 0
    assert (done / "report.html").is_file()
    code, _, err = unfreeze("report", done, "--figures", tmp_path / "figures")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "install" in err
    code, _, err = unfreeze("status", done / "runs")
    assert code == 2
    assert "not a study folder" in err


def test_predict(unfreeze, done, tmp_path):
    run_dir = next((done / "runs").iterdir())
    code, out, _ = unfreeze("predict", run_dir, "--premise", "A man sleeps.", "--hypothesis", "A man is awake.")
    assert code == 0
    assert all(label in out for label in ("entailment", "neutral", "contradiction", "%"))
    (tmp_path / "pairs.csv").write_text("sentence1,sentence2,note\na man,a dog,x\n,empty,y\n")
    code, _, _ = unfreeze("predict", run_dir, "--file", tmp_path / "pairs.csv", "-o", tmp_path / "p.csv")
    assert code == 0
    table = pyarrow.csv.read_csv(tmp_path / "p.csv")
    assert table.column_names == [
        "sentence1",
        "sentence2",
        "note",
        "predicted",
        "p_entailment",
        "p_neutral",
        "p_contradiction",
    ]
    assert table["predicted"][0].as_py() in ("entailment", "neutral", "contradiction")
    assert sum(table[name][0].as_py() for name in table.column_names[4:]) == pytest.approx(1)
    assert table["p_neutral"][1].as_py() is None
    for wrong in (
        [],
        ["--text", "a"],
        ["--premise", "a"],
        ["--file", tmp_path / "none.csv"],
        ["--file", "x", "--text", "a"],
    ):
        code, _, err = unfreeze("predict", run_dir, *wrong)
        assert code == 2
        assert len(err.splitlines()) == 1


def test_init_writes_a_study_that_can_be_planned(unfreeze, tmp_path):
    path = tmp_path / "mine.yaml"
    assert unfreeze("init", path)[0] == 0
    assert unfreeze("plan", path, "--set", "data.pairs=120")[0] == 0
    code, _, err = unfreeze("init", path)
    assert code == 2
    assert "exists already" in err


def test_presets(unfreeze):
    code, out, _ = unfreeze("presets")
    assert code == 0
    assert "demo" in out
    assert "snli-classic" in out


def test_no_traceback_reaches_the_user(tmp_path):
    command = [sys.executable, "-m", "unfreeze", "run", str(tmp_path / "none.yaml")]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr == f"unfreeze: {tmp_path}/none.yaml: no such file\n"


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (OSError(28, "No space left on device", "out/results.json"), 2, "out/results.json: No space left on device"),
        (PermissionError(13, "Permission denied", "out"), 2, "out: Permission denied"),
        (OSError("no route to the hub"), 2, "no route to the hub"),
        (KeyboardInterrupt(), 130, "stopped; the same command goes on from the last whole epoch"),
    ],
)
def test_what_the_machine_or_the_user_ends_is_one_line(unfreeze, monkeypatch, raised, code, said):
    def end():
        raise raised

    monkeypatch.setattr("unfreeze.study.preset_names", end)
    found, _, err = unfreeze("presets")
    assert (found, err) == (code, f"unfreeze: {said}\n")


def test_status_writes_nothing(unfreeze, tmp_path):
    study_dir = write_study(tmp_path / "made", [Run("full", 0, range(9))])
    before = {path: path.stat().st_mtime_ns for path in (study_dir.path, *study_dir.path.rglob("*"))}
    code, out, _ = unfreeze("status", study_dir.path)
    assert code == 0
    assert "full" in out
    assert {path: path.stat().st_mtime_ns for path in (study_dir.path, *study_dir.path.rglob("*"))} == before
