"""Successive halving, on tiny encoders; how good a trial is, is planted."""

import sys
from types import SimpleNamespace

import pytest

from unfreeze.errors import MissingExtra
from unfreeze.grid import search as grid_search
from unfreeze.grid.halving import halve, rungs
from unfreeze.grid.runner import run_study
from unfreeze.studydir import StudyDir, read_json

pytest.importorskip("optuna")


@pytest.fixture
def study(study_file, monkeypatch):
    """Nine candidates and five trials; the higher the rank, the better."""
    measured = grid_search.outcome

    def outcome(folder, stopped=False):
        found = measured(folder, stopped)
        if found["accuracy"] is None:
            return found
        spec = read_json(folder.spec)
        accuracy = spec["strategy"]["rank"] / 10 + spec["recipe"]["learning_rate"]
        return found | {"accuracy": accuracy, "loss": 1.0}

    monkeypatch.setattr(grid_search, "outcome", outcome)
    return study_file(
        data={"dataset": "captions", "pairs": 120, "max_length": 48},
        strategies=[{"lora": {"rank": {"tune": [1, 2, 4]}}}],
        recipe={"epochs": 3, "learning_rate": "tune"},
        tuning={"trials": 5},
        baselines=False,
    )


def search(out):
    (found,) = read_json(StudyDir(out).tuning)["searches"]
    return found


def run(study, out, *overrides, watch=lambda row: None):
    return run_study(study, out, overrides, executor="inline", watch=watch)


def test_trials_are_looked_at_after_1_3_9_epochs():
    assert [rungs(epochs) for epochs in (1, 2, 3, 4, 10)] == [[], [1], [1], [1, 3], [1, 3, 9]]


def test_only_the_best_so_far_go_on(study, tmp_path):
    run(study, tmp_path / "out", "recipe.learning_rate={tune: [1e-4, 3e-4, 1e-3]}")
    found = search(tmp_path / "out")
    drawn = found["trials"][:5]
    assert len({trial["run_id"] for trial in drawn}) == 5, "each candidate at most once"
    best = 0.0
    for trial in drawn:
        better = trial["accuracy"] > best
        assert (trial["status"], trial["epochs"]) == (("finished", 3) if better else ("stopped", 1))
        best = max(best, trial["accuracy"])
    assert {"finished", "stopped"} == {trial["status"] for trial in drawn}
    assert found["chosen"] == max(found["trials"], key=lambda trial: trial["accuracy"])["choice"]
    assert found["seconds"] == sum(trial["seconds"] for trial in found["trials"]), "what was stopped has cost too"
    assert not list((tmp_path / "out" / "tuning").glob("*/checkpoint"))


def test_an_interrupted_search_goes_on_from_its_journal(study, tmp_path):
    quiet = run(study, tmp_path / "quiet")
    for ends in (1, 2, 4):
        seen = []

        def interrupt(row, ends=ends, seen=seen):
            seen.extend([row["run_id"]] if row["kind"] == "trial" else [])
            if len(seen) == ends:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(study, tmp_path / "out", watch=interrupt)
    resumed = run(study, tmp_path / "out")
    assert search(tmp_path / "out")["chosen"] == search(tmp_path / "quiet")["chosen"]
    told = [
        [(row["run_id"], row["status"], row["epochs"]) for row in search(tmp_path / out)["trials"]]
        for out in ("out", "quiet")
    ]
    assert sorted(told[0]) == sorted(told[1])
    assert [row["metrics"] for row in resumed.rows] == [row["metrics"] for row in quiet.rows]


def test_seconds_end_a_search(study, tmp_path):
    strategies = "strategies=[{lora: {rank: {tune: [1, 2, 4]}, alpha: {tune: [1, 2, 4, 8, 16]}}}]"
    run(study, tmp_path / "out", strategies, "tuning={seconds: 0.001}")
    assert len(search(tmp_path / "out")["trials"]) == 1


class Planted:
    """As much of a search as halving needs; every trial finishes in its one epoch."""

    def __init__(self, folder, candidates):
        self.study_dir, self.key, self.spent = StudyDir(folder), "planted", False
        axes = {"rank": tuple(range(candidates))}
        self.space = SimpleNamespace(axes=axes, size=candidates, at=lambda places: {"rank": places[0]})
        self.study = SimpleNamespace(tuning=SimpleNamespace(seed=1))

    def plan(self, _):
        return SimpleNamespace(spec=SimpleNamespace(recipe=SimpleNamespace(epochs=1)))

    def outcome(self, choice):
        return {"status": "finished", "accuracy": choice["rank"] / 10, "epochs": 1}

    def ranks(self, trials=None):
        return [choice["rank"] for step in halve(self, trials) for choice, _ in step]


def test_seconds_that_suffice_for_every_candidate(tmp_path):
    """Optuna's sampler stops a loop after the last of the grid, and there is none: an error once."""
    assert sorted(Planted(tmp_path, 4).ranks()) == [0, 1, 2, 3]


def test_a_journal_that_was_cut_within_a_line(tmp_path):
    search = Planted(tmp_path, 6)
    first = search.ranks(3)
    journal = search.study_dir.tuning_journal
    journal.write_bytes(journal.read_bytes()[:-9])
    again = search.ranks(5)
    assert again[:3] == first
    assert len(set(search.ranks(6))) == 6


def test_without_optuna_the_extra_is_named_before_anything_is_spent(study, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtra, match=r"unfreeze\[tune\]"):
        run(study, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert run(study, tmp_path / "out", "tuning={trials: 9}").rows, "nine candidates and nine trials need none"
