"""Studies that compare at equal FLOPs, seconds or memory, run on tiny encoders."""

import numpy as np
import pytest
import yaml

from unfreeze.errors import RunError
from unfreeze.grid import measure
from unfreeze.grid import run as grid_run
from unfreeze.grid.prepare import prepare
from unfreeze.grid.runner import conclude, run_study
from unfreeze.study import RunSpec
from unfreeze.studydir import StudyDir, read_json
from unfreeze.training.device import choose_compute


@pytest.fixture
def study(tmp_path, tiny):
    content = {
        "name": "equal",
        "data": {"dataset": "captions", "pairs": 240, "max_length": 48},
        "encoders": [tiny()],
        "strategies": ["head-only", {"partial": {"layers": 1}}, {"lora": {"rank": 2}}, "full"],
        "recipe": {"epochs": 2, "batch_size": 16, "precision": "fp32"},
        "seeds": [0, 1],
        "baselines": False,
    }
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def run(study, out, *overrides, executor="inline", watch=lambda row: None):
    return run_study(study, out, overrides, executor=executor, watch=watch)


def measured(rows):
    return [row["job"] for row in rows if row["kind"] == "started" and row["job"].split()[0] in NAMES]


NAMES = ("flops", "seconds", "memory")


def trainer_of(out, spec):
    study_dir, compute = StudyDir(out), choose_compute("cpu", "fp32")
    nowhere = study_dir.run("nowhere")
    return prepare(study_dir, study_dir.read_dataset(), nowhere, spec, compute, ("train",), lambda row: None)[0]


def test_strategies_spend_equal_flops_within_a_step(study, tmp_path):
    result = run(study, tmp_path / "out", "compare_at=flops")
    spent = {(row["strategy"], row["seed"]): row["cost"]["flops"] for row in result.rows}
    for row in result.rows:
        limit, key = spent["full", row["seed"]], (row["strategy"], row["seed"])
        spec = RunSpec.model_validate(read_json(StudyDir(tmp_path / "out").run(row["run_id"]).spec))
        trainer = trainer_of(tmp_path / "out", spec)
        trainer.rehearse()
        longest = np.argsort(trainer.inputs["train"].lengths)[-16:]
        (largest_step,) = trainer.flops.of([longest], trainer.inputs["train"].lengths)
        assert row["steps"] == trainer.steps
        if row["strategy"] in ("head-only", "partial-1"):  # so cheap that 50 epochs, the most there are, come first
            assert (row["epochs"], spent[key] < limit - largest_step) == (50, True)
        else:
            assert limit - largest_step < spent[key] <= limit * (1 + 1e-6)
    plain = run(study, tmp_path / "plain")
    full = [[row["run_id"] for row in rows if row["strategy"] == "full"] for rows in (result.rows, plain.rows)]
    assert full[0] == full[1], "the dearest is what it would have been"


def test_everywhere_it_is_said_at_what_was_compared(study, tmp_path):
    out = tmp_path / "out"
    result = run(study, out, "compare_at={flops: 1e8}", "seeds=[0]")
    comparison = read_json(StudyDir(out).comparison)
    assert comparison["compared_at"]["limits"] == {result.rows[0]["encoder"]: 1e8}
    sentence = "Compared at equal FLOPs: 100\u202fMFLOP for every run."
    assert sentence in comparison["verdict"]
    page = (out / "report.html").read_text()
    assert '<h3>Equal FLOPs</h3>\n<p class="reading">' + sentence in page
    assert sentence in (out / "README.md").read_text()
    assert read_json(StudyDir(out).comparison) == conclude(StudyDir.existing(out)).comparison
    run(study, out, "seeds=[0]")
    again = read_json(StudyDir(out).comparison)
    assert again["compared_at"]["sentences"] == ["Compared at equal optimiser steps: 22 for every run."]
    assert sentence not in again["verdict"]


def test_interrupted_while_measuring_nothing_is_measured_twice_and_specs_stay(study, tmp_path):
    out, rows = tmp_path / "out", []

    def interrupt(row):
        rows.append(row)
        if len(measured(rows)) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(study, out, "compare_at=seconds", watch=interrupt)
    kept = read_json(StudyDir(out).budgets)["found"]
    assert len(kept) == 2
    assert conclude(StudyDir.existing(out)).rows == []
    rows = []
    first = run(study, out, "compare_at=seconds", watch=rows.append)
    assert not set(measured(rows)) & kept.keys()
    found = read_json(StudyDir(out).budgets)["found"]
    assert found.items() > kept.items()
    assert len(found) == 4
    rows = []
    again = run(study, out, "compare_at=seconds", watch=rows.append)
    assert [row["kind"] for row in rows] == ["grid"]
    assert [row["run_id"] for row in again.rows] == [row["run_id"] for row in first.rows]
    rows = []
    run(study, out, "compare_at=seconds", "strategies=[head-only, full, bitfit]", watch=rows.append)
    assert len(measured(rows)) == 1


def test_the_batch_size_found_is_the_largest_that_fits(study, tmp_path):
    out, limit = tmp_path / "out", 300 * 1024
    result = run(study, out, "compare_at={memory: 300 KiB}", "seeds=[0]")
    sizes = {row["strategy"]: row["recipe"]["batch_size"] for row in result.rows}
    train = len(StudyDir(out).read_dataset().splits["train"])
    assert sizes["head-only"] == train
    assert train > sizes["partial-1"] > sizes["lora-r2-query-value"] > 0
    for row in result.rows:
        parts = ("weight_bytes", "gradient_bytes", "optimizer_bytes", "activation_bytes")
        assert sum(row["cost"][part] for part in parts) <= limit
        assert row["epochs"] == 2
        if sizes[row["strategy"]] < train:
            spec = RunSpec.model_validate(read_json(StudyDir(out).run(row["run_id"]).spec))
            trainer = trainer_of(out, spec)
            one_more = np.argsort(trainer.inputs["train"].lengths)[-sizes[row["strategy"]] - 1 :]
            others = sum(row["cost"][part] for part in parts[:3])
            assert others + trainer.saved_bytes(one_more) > limit
    steps = sorted(row["steps"] for row in result.rows)
    assert f"optimiser steps are not: {steps[0]} to {steps[-1]}." in " ".join(result.comparison["verdict"])


def test_memory_left_to_the_study_is_what_the_dearest_needs(study, tmp_path):
    rows = []
    result = run(study, tmp_path / "out", "compare_at=memory", "seeds=[0]", watch=rows.append)
    sizes = {row["strategy"]: row["recipe"]["batch_size"] for row in result.rows}
    assert sizes["full"] == 16
    assert min(sizes.values()) == 16
    assert sizes["partial-1"] > sizes["lora-r2-query-value"] > 16
    ids = measured(rows)
    assert len(ids) == 8
    assert [job.startswith("memory within") for job in ids] == [False] * 4 + [True] * 4


def test_a_strategy_that_does_not_fit_fails_and_the_others_go_on(study, tmp_path):
    result = run(study, tmp_path / "out", "compare_at={memory: 200 KiB}")
    statuses = {(row["strategy"], row["status"]) for row in result.rows}
    assert ("full", "failed") in statuses
    assert ("partial-1", "finished") in statuses
    failure = next(row["failure"] for row in result.rows if row["strategy"] == "full")
    assert failure["message"].startswith("full on tiny-bert: a batch of one example needs ")
    assert failure["message"].endswith("above the 200 KiB that every run may use (compare_at)")
    assert len(result.comparison["failed"]) == 2


def test_what_cannot_be_measured_fails_and_is_tried_again(study, tmp_path, monkeypatch):
    whole = measure.prepare

    def fail(*given):
        if given[3].strategy["kind"] == "lora":
            raise RunError("no\nroom")
        return whole(*given)

    monkeypatch.setattr(measure, "prepare", fail)
    result = run(study, tmp_path / "out", "compare_at=flops", "seeds=[0]")
    assert [row["status"] for row in result.rows] == ["finished", "finished", "failed", "finished"]
    assert result.rows[2]["failure"]["message"].endswith("could not be measured: no room")
    monkeypatch.undo()
    again = run(study, tmp_path / "out", "compare_at=flops", "seeds=[0]")
    assert [row["status"] for row in again.rows] == ["finished"] * 4


def test_trials_have_the_same_budget(study, tmp_path):
    out = tmp_path / "out"
    tuned = ("compare_at=flops", "recipe.learning_rate=tune", "seeds=[0]", "strategies=[{lora: {rank: 2}}, full]")
    result = run(study, out, *tuned)
    searches = read_json(StudyDir(out).tuning)["searches"]
    assert [search["strategy"] for search in searches] == ["lora-r2-query-value", "full"]
    specs = {
        search["strategy"]: [
            read_json(StudyDir(out).trial(trial["run_id"]).spec)["recipe"] for trial in search["trials"]
        ]
        for search in searches
    }
    assert {(recipe["epochs"], recipe["max_steps"]) for recipe in specs["full"]} == {(2, None)}
    assert {recipe["epochs"] for recipe in specs["lora-r2-query-value"]} == {3}
    rows = []
    again = run(study, out, *tuned, watch=rows.append)
    assert [row["kind"] for row in rows] == ["grid"]
    assert [row["run_id"] for row in again.rows] == [row["run_id"] for row in result.rows]
    run(study, out, *tuned[1:], watch=rows.append)
    fresh = {row["strategy"] for row in rows if row["kind"] == "trial"}
    assert "lora-r2-query-value" in fresh, "a choice made within another budget does not count"


def test_each_measurement_has_a_process_of_its_own(study, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    rows = []
    overrides = ("compare_at=seconds", "seeds=[0]", "strategies=[head-only, full]")
    result = run(study, tmp_path / "out", *overrides, executor="local", watch=rows.append)
    assert [row["status"] for row in result.rows] == ["finished"] * 2
    pids = [row["pid"] for row in rows if row["kind"] == "started"]
    assert len(measured(rows)) == 2
    assert len(set(pids)) == len(pids)


def test_a_last_epoch_that_was_cut_short_is_in_no_data_map(study, tmp_path):
    cut = run(study, tmp_path / "cut", "recipe.max_steps=15", "strategies=[full]", "seeds=[0]")
    (row,) = cut.rows
    assert (row["steps"], row["epochs"]) == (15, 2)
    table = grid_run.read_table(StudyDir(tmp_path / "cut").run(row["run_id"]).dynamics)
    assert {len(values) for values in table["gold_probability"].to_pylist()} == {1}
    short = run(study, tmp_path / "short", "recipe.max_steps=5", "strategies=[full]", "seeds=[0]")
    assert not StudyDir(tmp_path / "short").run(short.rows[0]["run_id"]).dynamics.exists()
    assert short.report.is_file()
