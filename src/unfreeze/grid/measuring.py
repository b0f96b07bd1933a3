"""Before tuning and grid: what a step of each strategy costs is measured, each in a process of its own, and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from unfreeze.grid.budget import Budget, step_key
from unfreeze.grid.executors import Job
from unfreeze.grid.plan import PlannedRun, jobs_of, shapes
from unfreeze.records import Dataset
from unfreeze.study import RunSpec, Study
from unfreeze.studydir import StudyDir, read_json, write_json

Row = dict[str, Any]


class Measuring:
    """Measures what a study's budget needs and was not measured in its folder before.

    What was found is never measured again, so that a study that goes on has the same specs; what failed is tried again.

    Attributes:
        budget: whole when all jobs have ended.
    """

    def __init__(
        self,
        study_dir: StudyDir,
        study: Study,
        dataset: Dataset,
        runs: Sequence[PlannedRun],
        watch: Callable[[Row], None] = lambda _: None,
    ) -> None:
        self.study_dir, self.study, self.runs, self.watch = study_dir, study, runs, watch
        kept = read_json(study_dir.budgets) if study_dir.budgets.is_file() else {"found": {}}
        self.found: dict[str, Row] = kept["found"]
        self.failures: dict[str, str] = {}
        self.asked: set[str] = set()

        def lengths(encoder: str) -> np.ndarray:
            from unfreeze.grid.prepare import tokens_of

            return tokens_of(study_dir, dataset, encoder, study.data.max_length)["train"].lengths

        self.budget = Budget(study, runs, len(dataset.splits["train"]), lengths, self.found, self.failures)

    def start(self) -> list[Job]:
        """The first jobs, and the prefixes they start from."""
        fresh = self._fresh()
        if fresh:
            what = {"flops": "FLOPs", "seconds": "seconds", "memory": "memory"}[self.budget.kind]
            self.watch({"kind": "note", "message": f"measuring the {what} of {len(fresh)} kinds of training step"})
        return [job | fresh.get(job["id"], {}) for job in jobs_of(self.study, *self._needing(fresh), kind="measure")]

    def hear(self, row: Row) -> None:
        """Keep what a job has measured; whatever else it reports is watched."""
        if row["kind"] != "measured":
            self.watch(row)
        elif "failure" in row:
            self.failures[row["job"]] = row["failure"]
            self.watch({"kind": "note", "message": f"{row['job']} could not be measured: {row['failure']}"})
        else:
            self.found[row["job"]] = row["found"]
            self._write({})

    def finish(self, job: Job, code: int) -> list[Job]:
        """Take note of a job's end; where the study leaves the memory open, the search for what fits comes last."""
        if job["kind"] == "measure" and job["id"] not in self.found | self.failures:
            self.failures[job["id"]] = f"its process ended with code {code}"
        fresh = self._fresh()
        jobs = jobs_of(self.study, *self._needing(fresh), kind="measure")
        # Prefixes are there by now, or could not be kept.
        return [job | fresh[job["id"]] | {"needs": []} for job in jobs if job["id"] in fresh]

    def conclude(self, runs: Sequence[PlannedRun]) -> None:
        """Write ``budgets.json`` a last time, with what follows for the runs of the grid; none for a plain study."""
        if self.found or not self.budget.is_default:
            self._write(self.budget.about(runs))

    def _write(self, about: Row) -> None:
        write_json(self.study_dir.budgets, {**about, "found": self.found})

    def _needing(self, fresh: dict[str, Row]) -> tuple[list[PlannedRun], dict[str, Any]]:
        runs = [run for run in self.runs if run.run_id in fresh]
        return runs, shapes(runs)

    def _fresh(self) -> dict[str, Row]:
        """What is to be measured now and nobody has begun, by the id of one run of the strategy."""
        asks = {}
        for run in self.runs:
            ask = self._next(run.spec)
            if ask and ask["id"] not in self.found | self.failures and ask["id"] not in self.asked:
                self.asked.add(ask["id"])
                asks[run.run_id] = ask
        return asks

    def _next(self, spec: RunSpec) -> Row | None:
        kind, given = self.budget.kind, self.budget.given
        if not self.budget.measures:
            return None
        keys = {step_key(kind, other) for other in self.budget.specs[spec.encoder]}
        if kind != "memory" or (given is None and not keys <= self.found.keys() | self.failures.keys()):
            return {"id": step_key(kind, spec), "measure": kind, "fit": None}
        if given is None and step_key(kind, spec) in self.failures:
            return None
        return {"id": self.budget.fit_key(spec), "measure": kind, "fit": self.budget.limit(spec.encoder, spec.seed)}
