"""Trials before the grid, on tiny encoders; where an optimum is planted, only what a trial reports is."""

import csv
import json
import shutil

import pytest

from conftest import run_and_kill
from unfreeze.errors import StudyError
from unfreeze.grid import run as grid_run
from unfreeze.grid import search as grid_search
from unfreeze.grid.runner import conclude, run_study
from unfreeze.study import load_study
from unfreeze.studydir import StudyDir, read_json


@pytest.fixture
def study(study_file):
    """Two strategies with three learning rates each."""
    strategies = ["head-only", {"partial": {"layers": 1}}]
    return study_file(strategies=strategies, recipe={"learning_rate": "tune"}, seeds=[0, 1], baselines=False)


def run(study, out, *overrides, executor="inline", watch=lambda row: None, **more):
    return run_study(study, out, overrides, executor=executor, watch=watch, **more)


@pytest.fixture
def plant(monkeypatch):
    """Let validation accuracy fall with the distance from a learning rate."""

    def plant(best):
        measured = grid_search.outcome

        def outcome(folder, stopped=False):
            found = measured(folder, stopped)
            if found["accuracy"] is None:
                return found
            rate = read_json(folder.spec)["recipe"]["learning_rate"]
            return found | {"accuracy": 1 / (1 + abs(rate - best) / best), "loss": 1.0}

        monkeypatch.setattr(grid_search, "outcome", outcome)

    return plant


def searches(out):
    return {row["strategy"]: row for row in read_json(StudyDir(out).tuning)["searches"]}


def rates(search):
    return [trial["choice"]["learning_rate"] for trial in search["trials"]]


def test_winners_run_on_fresh_seeds_and_their_search_is_part_of_their_cost(study, tmp_path, plant):
    plant(1.1e-4)  # the middle of partial, and below all that head-only may try
    result = run(study, tmp_path / "out", "strategies=[{partial: {layers: 1}}]")
    (search,) = searches(tmp_path / "out").values()
    assert rates(search) == [1e-4, 3.2e-5, 3.2e-4], "the middle first"
    assert search["chosen"] == {"learning_rate": 1e-4}
    assert search["at_edge"] == []
    assert [row["seed"] for row in result.rows] == [0, 1]
    assert {row["recipe"]["learning_rate"] for row in result.rows} == {1e-4}
    spent = sum(trial["seconds"] for trial in search["trials"])
    assert spent > 0
    assert {row["cost"]["tuning_seconds"] for row in result.rows} == {search["seconds"]} == {spent}
    assert all(row["cost"]["train_seconds"] < spent for row in result.rows), "shown apart"
    with (tmp_path / "out" / "results.csv").open() as file:
        assert float(next(csv.DictReader(file))["cost.tuning_seconds"]) == spent
    resolved = read_json(StudyDir(tmp_path / "out").resolved)
    assert [row["seed"] for row in resolved["runs"]] == [0, 1]
    page = (tmp_path / "out" / "report.html").read_text()
    assert '<th class="number">Tuning</th>' in page
    assert "no trial read the test split" in page
    assert "| Tuning |" in (tmp_path / "out" / "README.md").read_text()
    assert load_study(tmp_path / "out" / "study.yaml").recipe.tuned == {"learning_rate": "tune"}


def test_the_test_split_is_neither_predicted_nor_scored_in_trials(study, tmp_path, monkeypatch):
    sizes, phase = {"tuning": set(), "grid": set()}, ["tuning"]
    predict = grid_run.predict

    def spy(model, inputs, compute):
        sizes[phase[0]].add(len(inputs.lengths))
        return predict(model, inputs, compute)

    monkeypatch.setattr(grid_run, "predict", spy)
    monkeypatch.setattr("unfreeze.training.loop.predict", spy)
    out = tmp_path / "out"
    run(study, out, watch=lambda row: phase.__setitem__(0, "grid") if row["kind"] == "grid" else None)
    data = StudyDir(out).read_dataset().splits
    validation, test = len(data["validation"]), len(data["test"])
    assert validation != test
    assert sizes == {"tuning": {validation}, "grid": {validation, test}}
    trials = [path for path in (out / "tuning").iterdir() if path.is_dir()]
    for trial in trials:
        found = {str(path.relative_to(trial)) for path in trial.rglob("*") if path.is_file()}
        assert found == {"spec.json", "history.jsonl", "result.json", "predictions/validation.arrow"}
        assert read_json(trial / "result.json")["metrics"].keys() == {"validation"}
    assert len(trials) == sum(len(row["trials"]) for row in searches(out).values())


def test_every_strategy_has_the_same_number_of_trials(study, tmp_path, plant):
    plant(5e-4)
    strategies = "strategies=[head-only, {lora: {rank: {tune: [1, 2]}}}, {partial: {layers: 1}}]"
    run(study, tmp_path / "out", strategies, "seeds=[0]")
    content = read_json(StudyDir(tmp_path / "out").tuning)
    assert content["trials"] == 6
    counts = {row["strategy"]: (row["candidates"], len(row["trials"])) for row in content["searches"]}
    assert counts == {"head-only": (5, 5), "lora-r2-query-value": (6, 6), "partial-1": (5, 5)}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "head-only and partial-1 had fewer candidates than that." in page


def test_a_choice_that_was_made_is_kept_and_trains_nothing_again(study, tmp_path, plant):
    out = tmp_path / "out"
    plant(1e-3)
    first = run(study, out)
    shutil.rmtree(out / "tuning")
    rows = []
    again = run(study, out, watch=rows.append)
    assert [row["kind"] for row in rows] == ["grid"]
    assert rows[0]["pending"] == []
    assert [row["run_id"] for row in again.rows] == [row["run_id"] for row in first.rows]
    assert [row["cost"] for row in again.rows] == [row["cost"] for row in first.rows]
    grown = run(study, out, "strategies=[head-only, {partial: {layers: 1}}, bitfit]", watch=rows.append)
    trials = [row for row in rows if row["kind"] == "trial"]
    assert {row["strategy"] for row in trials} == {"bitfit"}
    assert len(grown.rows) == 6
    fixed = run(study, out, "recipe.learning_rate=0.001")
    assert {row["cost"]["tuning_seconds"] for row in fixed.rows} == {None}
    assert "Tuning</th>" not in (out / "report.html").read_text()


def test_interrupted_while_tuning_the_folder_is_a_study_and_goes_on(study, tmp_path):
    out, ended = tmp_path / "out", []

    def interrupt(row):
        if row["kind"] == "trial":
            ended.append(row["run_id"])
        if len(ended) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(study, out, watch=interrupt)
    assert conclude(StudyDir.existing(out)).rows == []
    statuses = [trial["status"] for row in searches(out).values() for trial in row["trials"]]
    assert sorted(statuses) == ["finished"] + ["pending"] * 5, "written as trials end, the last end was cut off"
    rows = []
    resumed = run(study, out, watch=rows.append)
    assert not {row["run_id"] for row in rows if row["kind"] == "trial"} & set(ended), "never run twice"
    quiet = run(study, tmp_path / "quiet")
    assert [row["metrics"] for row in resumed.rows] == [row["metrics"] for row in quiet.rows]
    chosen = [[row["chosen"] for row in searches(folder).values()] for folder in (out, tmp_path / "quiet")]
    assert chosen[0] == chosen[1]


def test_an_optimum_at_an_end_extends_the_range_twice_and_is_then_flagged(study, tmp_path, plant):
    plant(1.0)
    run(study, tmp_path / "far", "strategies=[head-only]", "seeds=[0]")
    (search,) = searches(tmp_path / "far").values()
    assert rates(search) == [1e-3, 3.2e-4, 3.2e-3, 0.01, 0.031]
    assert search["chosen"] == {"learning_rate": 0.031}
    assert search["at_edge"] == [{"key": "learning_rate", "value": 0.031, "end": "highest", "tried": 5}]
    readme = (tmp_path / "far" / "README.md").read_text()
    assert "`UNF003`" in readme
    assert "(0.031, the highest of 5)" in readme


def test_an_optimum_that_an_extension_finds_is_not_flagged(study, tmp_path, plant):
    plant(1e-4)
    run(study, tmp_path / "out", "strategies=[head-only]", "seeds=[0]")
    (search,) = searches(tmp_path / "out").values()
    assert rates(search)[3:] == [1e-4, 3.1e-5]
    assert search["chosen"] == {"learning_rate": 1e-4}
    assert search["at_edge"] == []
    assert "UNF003" not in (tmp_path / "out" / "README.md").read_text()


def test_rates_far_too_low_extend_upwards(study, tmp_path):
    """Nothing is planted: at such rates the loss falls with every step up."""
    run(
        study,
        tmp_path / "out",
        "strategies=[head-only]",
        "seeds=[0]",
        "recipe.learning_rate={tune: [1e-7, 1e-6, 1e-5]}",
    )
    (search,) = searches(tmp_path / "out").values()
    assert rates(search) == [1e-6, 1e-7, 1e-5, 1e-4, 1e-3]
    assert search["chosen"]["learning_rate"] > 1e-5


def test_a_rate_that_diverges_is_no_choice_and_no_end(study, tmp_path):
    overrides = ("strategies=[full]", "seeds=[0]", "recipe.max_grad_norm=null")
    result = run(study, tmp_path / "out", *overrides, "recipe.learning_rate={tune: [1e-5, 1e-4, 1e30]}")
    (search,) = searches(tmp_path / "out").values()
    statuses = {trial["choice"]["learning_rate"]: trial["status"] for trial in search["trials"]}
    assert statuses[1e30] == "diverged"
    assert result.rows[0]["recipe"]["learning_rate"] < 1e30
    nothing = run(study, tmp_path / "nothing", *overrides, "recipe.learning_rate={tune: [1e29, 1e30]}")
    assert [row["status"] for row in nothing.rows] == ["diverged"], (
        "a strategy none of whose trials finished still shows"
    )
    assert searches(tmp_path / "nothing")["full"]["chosen"] is None


def test_seconds_as_a_budget(study, tmp_path):
    run(study, tmp_path / "out", "tuning={seconds: 0.001}", "seeds=[0]")
    content = read_json(StudyDir(tmp_path / "out").tuning)
    assert (content["trials"], content["seconds"]) == (None, 0.001)
    assert [len(row["trials"]) for row in content["searches"]] == [1, 1], "what was begun is finished, no more is begun"
    run(study, tmp_path / "more", "tuning={seconds: 1000}", "seeds=[0]", "strategies=[head-only]")
    assert len(searches(tmp_path / "more")["head-only"]["trials"]) >= 7


def test_strategies_whose_candidates_overlap_share_the_trial(study, tmp_path, plant):
    plant(5e-4)
    strategies = "strategies=[{lora: {rank: {tune: [1, 2]}}}, {lora: {rank: 2}, recipe: {epochs: {tune: [1]}}}]"
    rows = []
    run(study, tmp_path / "out", strategies, "seeds=[0]", "tuning={trials: 6}", watch=rows.append)
    ended = [row["run_id"] for row in rows if row["kind"] == "trial"]
    assert len(ended) == len(set(ended)) == 8, "six, and two rates of the wider range"
    found = read_json(StudyDir(tmp_path / "out").tuning)["searches"]
    assert [len(row["trials"]) for row in found] == [6, 5]


def test_a_seed_of_the_study_is_no_seed_for_trials(study, tmp_path):
    with pytest.raises(StudyError, match=r"tuning.seed: 1 is one of the study's seeds"):
        run(study, tmp_path / "out", "tuning={seed: 1}")
    assert not (tmp_path / "out").exists()


def test_killed_in_a_process_of_its_own_and_resumed_side_by_side(study_file, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    recipe = {"epochs": 6, "learning_rate": "tune"}
    study, out = study_file(strategies=["full"], recipe=recipe, baselines=False), tmp_path / "killed"
    run_and_kill(study, out, "tuning/*/result.json", "tuning/*/checkpoint/resume.pt")
    (begun,) = (path.parent.parent.name for path in out.glob("tuning/*/checkpoint/resume.pt"))
    assert conclude(StudyDir.existing(out)).rows == []
    finished = {path.parent.name for path in out.glob("tuning/*/result.json")}
    assert len(finished) == 1

    rows = []
    resumed = run(study, out, executor="local", workers=2, watch=rows.append)
    trials = [row for row in rows if row["kind"] == "trial"]
    assert not {row["run_id"] for row in trials} & finished
    first = next(row["epoch"] for row in rows if row["kind"] == "evaluation" and row["run_id"] == begun)
    assert first > 1, "whole epochs are not run again"
    quiet = run(study, tmp_path / "quiet")
    assert [row["metrics"] for row in resumed.rows] == [row["metrics"] for row in quiet.rows]
    assert json.dumps([row["chosen"] for row in searches(out).values()]) == json.dumps(
        [row["chosen"] for row in searches(tmp_path / "quiet").values()]
    )
