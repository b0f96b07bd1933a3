"""``run_study``: train what is missing of a grid, then compare and report."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from unfreeze.analysis.baselines import against_baselines, baseline_cautions
from unfreeze.analysis.clusters import Projection
from unfreeze.analysis.compare import compare
from unfreeze.analysis.verdict import write_verdict
from unfreeze.datasets import load_dataset, load_evaluation_sets
from unfreeze.datasets.explore import explore
from unfreeze.errors import StudyDirError
from unfreeze.grid.baselines import baseline_jobs, collect_baselines, note_death, plan_baselines
from unfreeze.grid.environment import environment
from unfreeze.grid.estimate import crew
from unfreeze.grid.evaluation import compare_elsewhere, evaluation_jobs, evaluations
from unfreeze.grid.executors import Finish, Job, inline, local, note_killed
from unfreeze.grid.measuring import Measuring
from unfreeze.grid.plan import PlannedRun, jobs_of, shapes
from unfreeze.grid.tuning import Tuner, tuning_seconds
from unfreeze.records import Dataset, EvaluationSet
from unfreeze.report import write_report
from unfreeze.study import Study, dump_study, load_study
from unfreeze.studydir import StudyDir, read_json, read_table, write_json, write_text

Row = dict[str, Any]
Watch = Callable[[Row], None]

OURS = (".lock", ".resolved.json.")


@dataclass(frozen=True)
class StudyResult:
    """What a study left.

    Attributes:
        path: the study's folder.
        rows: ``results.json``: one row a run, in grid order.
        baselines: ``baselines.json``: one row for each that was tried.
        comparison: ``comparison.json``.
        report: path of the page.
    """

    path: Path
    rows: list[Row]
    baselines: list[Row]
    comparison: dict[str, Any]
    report: Path


def run_study(
    study: Study | str | Path,
    out: str | Path,
    overrides: Sequence[str] = (),
    *,
    executor: Literal["local", "inline"] = "local",
    workers: int | None = None,
    watch: Watch = lambda _: None,
) -> StudyResult:
    """Run what is missing of a study and write its folder; runs that finished before are never run again.

    Args:
        study: a study, or the YAML file or preset to read it from.
        out: the folder; made if it does not exist.
        overrides: ``key=value`` changes to the file, as in ``recipe.epochs=1``.
        executor: ``local`` gives each run a fresh process; ``inline`` runs all in this one.
        workers: processes at a time; left out, as many as the machine has cores and memory for, and one on a GPU.
        watch: called with every row of progress.

    Raises:
        UnfreezeError: the study, its data, an encoder or the folder cannot be used. A run that fails raises nothing:
            its row has ``status`` ``failed`` or ``diverged``.
    """
    study = study if isinstance(study, Study) else load_study(study, overrides)
    study_dir = StudyDir(Path(out))
    check_folder(study_dir, study)
    dataset = load_dataset(study.data)
    check_data(study_dir, study, dataset)
    sets = load_evaluation_sets(study, dataset)
    tuner = Tuner(study_dir, study, dataset, watch)
    written = [*tuner.candidates, *tuner.stand_ins]
    shapes(written)  # every fault is found before anything is spent

    def launch(
        runs: Sequence[PlannedRun], jobs: Sequence[Job], finish: Finish, hear: Watch = watch, most: int | None = workers
    ) -> None:
        """Do jobs where the caller wants them done; ``runs`` are all there may be, ``most`` how many go at a time."""
        if executor == "inline":
            inline(study_dir.path, jobs, hear, finish)
        elif jobs:
            longest = min(study.data.max_length, int(read_json(study_dir.explore)["tokens"]["train"]["max"]))
            together, threads = crew(runs, shapes(runs), longest, study.device, most)
            local(study_dir.path, jobs, hear, finish, workers=together, threads=threads)

    with study_dir.lock():
        measuring = Measuring(study_dir, study, dataset, written, watch)
        if jobs := measuring.start():
            _write_inputs(study_dir, study, dataset, sets, [])
            # Each may fill all the memory there is; times are taken side by side, as those of runs will be.
            alone = 1 if study.compare_at.kind == "memory" else workers
            launch(written, jobs, measuring.finish, measuring.hear, alone)
        tuner = Tuner(study_dir, study, dataset, watch, measuring.budget)
        if tuner.open:
            _write_inputs(study_dir, study, dataset, sets, tuner.grid())
            launch(tuner.candidates, tuner.start(), tuner.finish)
        runs = tuner.grid()
        measuring.conclude(runs)
        known = shapes(runs)
        tuner.name(runs)
        _write_inputs(study_dir, study, dataset, sets, runs)
        pending = [run for run in runs if not study_dir.run(run.run_id).result.is_file()]
        watch({"kind": "grid", "runs": [run.as_json() for run in runs], "pending": [run.run_id for run in pending]})

        def finish(job: Row, code: int) -> None:
            if job["kind"] == "run":
                note_killed(study_dir.run(job["id"]), code)
                row = next(row for row in collect(study_dir) if row["run_id"] == job["id"])
                watch({"kind": "finished", **row})
            elif job["kind"] == "baselines":
                note_death(study_dir, job, code)
            elif job["kind"] == "evaluate" and code:
                watch({"kind": "note", "message": f"a process ended with code {code} as it answered further sets"})

        jobs = [
            *baseline_jobs(study, study_dir, runs),
            *jobs_of(study, pending, known),
            *evaluation_jobs(study, study_dir, runs, sets),
        ]
        launch(runs, jobs, finish)
        return conclude(study_dir)


def check_folder(study_dir: StudyDir, study: Study) -> None:
    """Raise StudyDirError where the folder is something else, or another study's."""
    if study_dir.resolved.is_file():
        owner = read_json(study_dir.resolved)["name"]
        if owner != study.name:
            raise StudyDirError(
                f"{study_dir.path}: belongs to the study '{owner}', not '{study.name}'; choose another folder"
            )
    # A start that was killed before its first file was whole leaves a lock and a part of that file.
    elif study_dir.path.is_dir() and any(not entry.name.startswith(OURS) for entry in study_dir.path.iterdir()):
        raise StudyDirError(f"{study_dir.path}: is not empty and not a study folder; choose another one")


def check_data(study_dir: StudyDir, study: Study, dataset: Dataset) -> None:
    """Raise StudyDirError where the folder's runs were trained on other data."""
    if study_dir.resolved.is_file() and study_dir.data_fingerprint() not in (None, dataset.fingerprint):
        raise StudyDirError(
            f"{study_dir.path}: its runs were trained on other data than '{study.name}' names now "
            f"(the source, the split or the sample has changed); choose another folder"
        )


def _write_inputs(
    study_dir: StudyDir, study: Study, dataset: Dataset, sets: Sequence[EvaluationSet], runs: Sequence[PlannedRun]
) -> None:
    from unfreeze.grid.prepare import tokens_of
    from unfreeze.training.encoder import encoder_note

    notes = {encoder: note for encoder in study.encoders if (note := encoder_note(encoder))}
    resolved = {
        "name": study.name,
        "notes": [*dataset.notes, *notes.values()],
        "data": {
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "labels": dataset.labels,
            "sizes": {split: len(rows) for split, rows in dataset.splits.items()},
        },
        "encoders": {encoder: {"note": notes.get(encoder)} for encoder in study.encoders},
        "runs": [run.as_json() for run in runs],
        "baselines": plan_baselines(study, runs),
        "evaluate_on": {found.name: _about(found) for found in sets},
        "environment": environment(),
    }
    # First of all: it marks the folder as this study's, so that a start that is interrupted can be made again.
    write_json(study_dir.resolved, resolved)
    write_text(study_dir.study_yaml, dump_study(study))
    if study_dir.data_fingerprint() != dataset.fingerprint:
        study_dir.write_dataset(dataset)
    for further in sets:
        study_dir.write_evaluation_set(further)
    tokens = tokens_of(study_dir, dataset, study.encoders[0], study.data.max_length)
    lengths = {split: rows.full_lengths for split, rows in tokens.items()}
    found = explore(dataset, lengths, study.data.max_length)
    write_json(study_dir.explore, found | {"tokenizer": study.encoders[0]})


def _about(found: EvaluationSet) -> Row:
    sizes = {"examples": len(found.examples), "dropped": len(found.dropped)}
    return {"fingerprint": found.fingerprint, "labels": found.labels, **sizes}


def collect(study_dir: StudyDir) -> list[Row]:
    """Read every run of the grid and write ``results.json`` and ``results.csv``; returns one row for each run."""
    rows = read_rows(study_dir)
    write_json(study_dir.results_json, rows)
    write_text(study_dir.results_csv, _as_csv(rows))
    return rows


def read_rows(study_dir: StudyDir) -> list[Row]:
    """One row for each run of the grid; writes nothing, so that anybody may look."""
    resolved = read_json(study_dir.resolved)
    tuned = tuning_seconds(study_dir)
    rows = []
    for planned in resolved["runs"]:
        run = study_dir.run(planned["run_id"])
        row = {key: planned[key] for key in ("run_id", "encoder", "strategy", "seed", "published")}
        row |= {"status": "pending", "failure": None, "params": None, "recipe": planned["spec"]["recipe"]}
        row |= {"metrics": None, "best_epoch": None, "epochs": None, "steps": None, "cost": None, "environment": None}
        if run.result.is_file():
            result = read_json(run.result)
            row |= {key: value for key, value in result.items() if key not in ("encoder", "strategy")}
            row["cost"] |= {"tuning_seconds": tuned.get((row["encoder"], row["strategy"]))}
            if sets := resolved.get("evaluate_on"):
                row["metrics"] |= {"evaluate_on": evaluations(run, sets)}
        elif run.failure.is_file():
            failure = read_json(run.failure)
            row |= {"status": failure["status"], "failure": {key: failure[key] for key in ("type", "message", "step")}}
        rows.append(row)
    return rows


def conclude(study_dir: StudyDir, projection: Projection = "pca", figures: Path | None = None) -> StudyResult:
    """Compare the runs that are there and write results, comparison and report; trains nothing.

    Args:
        study_dir: a study's folder.
        projection: of the map of mistakes; see :func:`unfreeze.report.write_report`.
        figures: a folder for every figure of the report.
    """
    rows = collect(study_dir)
    groups = study_dir.read_dataset().splits["test"]["group"].to_numpy()
    done = [row for row in rows if row["status"] != "pending"]
    equivalence = load_study(study_dir.study_yaml).equivalence
    comparison = compare(
        done, lambda run_id: read_table(study_dir.run(run_id).predictions("test")), groups, equivalence
    )
    comparison["compared_at"] = compared_at(study_dir, rows)
    comparison["verdict"] = write_verdict(comparison)
    baselines = collect_baselines(study_dir)
    comparison["baselines"] = _against(study_dir, rows, baselines, groups)
    comparison["verdict"] += baseline_cautions(comparison["baselines"])
    comparison["evaluate_on"] = compare_elsewhere(study_dir, rows, equivalence)
    write_json(study_dir.comparison, comparison)
    return StudyResult(study_dir.path, rows, baselines, comparison, write_report(study_dir, projection, figures))


def compared_at(study_dir: StudyDir, rows: Sequence[Row]) -> Row:
    """What runs had in common: ``kind``, ``name`` (None for the steps of each recipe), ``limits`` and ``sentences``."""
    found = read_json(study_dir.budgets) if study_dir.budgets.is_file() else {}
    if found.get("name"):
        return {key: found[key] for key in ("kind", "name", "limits", "sentences")}
    steps = sorted({row["steps"] for row in rows if row["steps"]})
    sentence = f"Compared at equal optimiser steps: {steps[0]:,} for every run." if steps else None
    if len(steps) > 1:
        sentence = f"Every run took the optimiser steps of its own recipe: {steps[0]:,} to {steps[-1]:,}."
    return {"kind": "steps", "name": None, "limits": {}, "sentences": [sentence] if sentence else []}


def _against(study_dir: StudyDir, rows: list[Row], baselines: list[Row], groups: np.ndarray) -> list[Row]:
    finished = [row for row in rows if row["status"] == "finished"]
    folders = {row["run_id"]: study_dir.run(row["run_id"]) for row in finished}
    folders |= {row["baseline_id"]: study_dir.baseline(row["baseline_id"]) for row in baselines}
    return against_baselines(finished, baselines, lambda key: read_table(folders[key].predictions("test")), groups)


def _as_csv(rows: Sequence[Row]) -> str:
    """Rows flattened to dotted columns, without what is a table of its own (per class, confusion)."""

    def flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
        for key, inner in value.items():
            if isinstance(inner, dict) and key != "per_class":
                yield from flat(inner, f"{prefix}{key}.")
            elif not isinstance(inner, (dict, list)):
                yield prefix + key, inner

    table = [dict(flat(row)) for row in rows]
    # A failed run's row has nulls where others have sections; those nulls need no column of their own.
    nested = {column.split(".")[0] for row in table for column in row if "." in column}
    columns = [c for c in dict.fromkeys(column for row in table for column in row) if c not in nested]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()
