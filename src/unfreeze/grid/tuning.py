"""Before the grid: what is left to validation is tried on runs of their own, the same budget for every strategy.

Trials are runs like any others, in ``tuning/`` beside ``runs/``, but for the test split, which they never see.
``tuning.json`` holds what was tried and chosen; a choice that stands there is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from unfreeze.grid.budget import Budget
from unfreeze.grid.executors import Job, note_killed
from unfreeze.grid.halving import check_optuna
from unfreeze.grid.plan import PlannedRun, expand, jobs_of, shapes
from unfreeze.grid.search import EXTENSIONS, Search, Step
from unfreeze.grid.space import Choice, Space, budget, edges, find_spaces, provisional, settle
from unfreeze.records import Dataset
from unfreeze.study import Study
from unfreeze.studydir import StudyDir, read_json, write_json

Row = dict[str, Any]


class Tuner:
    """Runs the searches of a study that have not been decided yet.

    Args:
        limits: what each run may spend; None before that is known.

    Attributes:
        candidates: every trial there may be, but for ranges that are extended.
        stand_ins: the grid's runs as if the middle of each range had been chosen.
    """

    def __init__(
        self,
        study_dir: StudyDir,
        study: Study,
        dataset: Dataset,
        watch: Callable[[Row], None] = lambda _: None,
        limits: Budget | None = None,
    ) -> None:
        self.study_dir, self.study, self.dataset, self.watch, self.limits = study_dir, study, dataset, watch, limits
        self.spaces = find_spaces(study)
        self.trials = budget(study, self.spaces) if self.spaces else None
        self.searches = [Search(study_dir, study, dataset, space, self.trials, limits) for space in self.spaces]
        if any(search.is_large for search in self.searches):
            check_optuna()
        self.stand_ins = self._bound(expand(provisional(study, self.spaces), dataset))
        for search in self.searches:
            space = search.space
            tuned = f"{space.entry.kind} ({', '.join(space.options)} tuned)" if space.options else None
            search.name = tuned or _called(search, space.grid[0], self.stand_ins)
        self.candidates = [search.plan(choice) for search in self.searches for choice in search.space.grid]
        found = (read_tuning(study_dir) or {"searches": []})["searches"]
        self.kept: dict[str, Row] = {row["key"]: row for row in found if row["chosen"] is not None}
        self.open = [search for search in self.searches if search.key not in self.kept]
        self.steps = {search.key: search.steps() for search in self.open}
        self.current: dict[str, list[Step]] = {search.key: [] for search in self.open}
        self.running: set[str] = set()
        self.failed: set[str] = set()

    def settled(self) -> Study:
        """The study with the choices made so far; strategies whose search goes on are left out."""
        chosen = {}
        for search in self.searches:
            place = search.space.encoder, search.space.index
            if search.key in self.kept:
                chosen[place] = self.kept[search.key]["chosen"] or search.space.grid[0]
        return settle(self.study, self.spaces, chosen)

    def grid(self) -> list[PlannedRun]:
        """The runs of the settled study, each with what it may spend."""
        return self._bound(expand(self.settled(), self.dataset))

    def _bound(self, runs: Sequence[PlannedRun]) -> list[PlannedRun]:
        bound = [self.limits.bound(run) for run in runs] if self.limits else runs
        return list({run.run_id: run for run in reversed(bound)}.values())[::-1]

    def start(self) -> list[Job]:
        """The first jobs."""
        return self._advance()

    def finish(self, job: Job, code: int) -> list[Job]:
        """Take note of a job's end; what follows from it."""
        if job["kind"] != "trial":
            return []
        run_id = job["id"]
        note_killed(self.study_dir.trial(run_id), code)
        self.running.remove(run_id)
        about = next(self._about(search, run_id) for search in self.open if run_id in search.tried)
        if about["status"] in ("failed", "diverged"):
            self.failed.add(run_id)
        self.watch({"kind": "trial", **about})
        return self._advance()

    def _advance(self) -> list[Job]:
        """Take every search as far as it goes without waiting; the jobs that it then waits for and nobody has begun."""
        fresh: dict[str, tuple[PlannedRun, int | None]] = {}
        shown = []
        for search in self.open:
            while search.key not in self.kept and not (left := self._left(search)):
                step = next(self.steps[search.key], None)
                if step is None:
                    self._decide(search)
                else:
                    self.current[search.key] = step
                    search.tried |= {search.plan(choice).run_id: choice for choice, _ in step}
            if search.key in self.kept:
                continue
            new = {run.run_id: (run, until) for run, until in left if run.run_id not in self.running | fresh.keys()}
            shown += [self._about(search, run_id) for run_id in new]
            fresh |= new
        self.write()
        self.running |= fresh.keys()
        self.watch({"kind": "trials", "trials": shown})
        runs = [run for run, _ in fresh.values()]
        jobs = jobs_of(self.study, runs, shapes(runs), kind="trial")
        return [job | {"until": fresh[job["id"]][1]} if job["id"] in fresh else job for job in jobs]

    def _left(self, search: Search) -> list[tuple[PlannedRun, int | None]]:
        """What of a search's current step has neither come as far as it shall nor failed since we began."""
        left = []
        for choice, until in self.current[search.key]:
            run, found = search.plan(choice), search.outcome(choice)
            far = found["status"] == "finished" or (until is not None and found["epochs"] >= until)
            if not far and run.run_id not in self.failed:
                left.append((run, until))
        return left

    def _about(self, search: Search, run_id: str) -> Row:
        about = {"encoder": search.space.encoder, "strategy": search.name}
        return {**about, **search.outcome(search.tried[run_id])}

    def _decide(self, search: Search) -> None:
        best = search.best
        at_edge = edges(search.axes, best) if best else []
        self.kept[search.key] = search.as_json() | {"chosen": best, "at_edge": at_edge}

    def write(self) -> None:
        """Write ``tuning.json``."""
        searches = [self.kept.get(search.key) or search.as_json() for search in self.searches]
        tuning = self.study.tuning
        about = {"seed": tuning.seed, "trials": self.trials, "seconds": tuning.seconds, "searches": searches}
        write_json(self.study_dir.tuning, about)

    def name(self, runs: Sequence[PlannedRun]) -> None:
        """Call every strategy what the grid's runs call it, and write ``tuning.json`` a last time."""
        if not self.searches:
            self.study_dir.tuning.unlink(missing_ok=True)  # of a study that left something to validation before
            return
        for search in self.searches:
            row = self.kept[search.key]
            row["strategy"] = _called(search, row["chosen"] or search.space.grid[0], runs)
        self.write()


def read_tuning(study_dir: StudyDir) -> Row | None:
    """The content of ``tuning.json``; None where nothing was tuned."""
    return dict(read_json(study_dir.tuning)) if study_dir.tuning.is_file() else None


def tuning_seconds(study_dir: StudyDir) -> dict[tuple[str, str], float]:
    """What the trials of each strategy took, by encoder and strategy; nothing where nothing was tuned."""
    searches = (read_tuning(study_dir) or {"searches": []})["searches"]
    return {(row["encoder"], row["strategy"]): row["seconds"] for row in searches}


def expected(study: Study, dataset: Dataset, spaces: Sequence[Space], estimates: Mapping[str, float]) -> Row | None:
    """What tuning will take at most: ``trials``, ``extensions``, ``searches`` and ``seconds``; None without any.

    Args:
        study: the study.
        dataset: its data.
        spaces: of :func:`~unfreeze.grid.space.find_spaces`.
        estimates: seconds of every candidate's trial, by run id.
    """
    if not spaces:
        return None
    trials, given = budget(study, spaces), study.tuning.seconds
    each = [min(space.size, trials or space.size) for space in spaces]
    grids = [[estimates[space.trial(study, dataset, choice).run_id] for choice in space.grid] for space in spaces]
    seconds = [count * sum(grid) / len(grid) for count, grid in zip(each, grids, strict=True)]
    extensions = sum(EXTENSIONS for space in spaces if len(space.axes.get("learning_rate", ())) > 1)
    return {
        "trials": sum(each),
        "searches": len(spaces),
        "extensions": extensions,
        "seconds": sum(min(total, given or total) for total in seconds),
    }


def _called(search: Search, choice: Choice, runs: Sequence[PlannedRun]) -> str:
    """What the grid's runs call a strategy after a choice."""
    trial = search.plan(choice)
    spec = trial.written or trial.spec
    return next(r.strategy for r in runs if (r.written or r.spec) == spec.model_copy(update={"seed": r.spec.seed}))
