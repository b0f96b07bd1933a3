"""Before the grid: what is left to validation is tried on runs of their own, the same budget for every strategy.

Trials are runs like any others, in ``tuning/`` beside ``runs/``, but for the test split, which they never see.
``tuning.json`` holds what was tried and chosen; a choice that stands there is kept.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from unfreeze.grid.executors import Job, note_death
from unfreeze.grid.halving import check_optuna, halve
from unfreeze.grid.plan import PlannedRun, expand, jobs_of, shapes
from unfreeze.grid.space import Choice, Space, beyond, budget, edges, find_spaces, provisional, settle
from unfreeze.recipe import TRIALS, StudyRecipe
from unfreeze.records import Dataset
from unfreeze.study import Study
from unfreeze.studydir import RunDir, StudyDir, read_json, write_json

Row = dict[str, Any]
# A candidate, and the epoch after which to stop and look; None trains to the end.
Step = tuple[Choice, int | None]

EXTENSIONS = 2  # of a learning rate's range: two steps are a factor of ten


@dataclass
class Search:
    """The search of one strategy on one encoder.

    Attributes:
        name: what tables call the strategy before its choice is made.
        trials: how many it may run; None where ``seconds`` is the budget.
        tried: the candidates by run id, in order.
        stopped: run ids of those that halving ended.
    """

    study_dir: StudyDir
    study: Study
    dataset: Dataset
    space: Space
    trials: int | None
    name: str = ""
    tried: dict[str, Choice] = field(default_factory=dict)
    stopped: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.axes = dict(self.space.axes)

    @property
    def is_large(self) -> bool:
        """Whether there are more candidates than can all be run to the end."""
        return self.space.size > (self.trials or TRIALS)

    @property
    def key(self) -> str:
        """Eight hex digits of everything that decides what is tried, the data aside."""
        entry, tuning = self.space.entry.model_dump(mode="json", exclude={"encoders"}), self.study.tuning.model_dump()
        about = json.dumps([self.space.encoder, entry, list(self.space.axes.items()), tuning, self.study.data.max_length])
        return hashlib.sha256(about.encode()).hexdigest()[:8]

    def plan(self, choice: Choice) -> PlannedRun:
        """The trial of a candidate."""
        # The decided strategy brings its whole recipe.
        alone = {"strategies": (self.space.decided(choice),), "encoders": (self.space.encoder,)}
        seeds = (self.study.tuning.seed,)
        return expand(self.study.model_copy(update={**alone, "seeds": seeds, "recipe": StudyRecipe()}), self.dataset)[0]

    def stop(self, choice: Choice) -> None:
        """End a candidate's trial early: it costs what it has cost and is not chosen."""
        run_id = self.plan(choice).run_id
        self.tried[run_id] = choice
        self.stopped.add(run_id)
        shutil.rmtree(self.study_dir.trial(run_id).checkpoint, ignore_errors=True)

    def outcome(self, choice: Choice) -> Row:
        """How far a candidate's trial is and how well it does on validation."""
        run_id = self.plan(choice).run_id
        return {"run_id": run_id, "choice": choice, **outcome(self.study_dir.trial(run_id), run_id in self.stopped)}

    @property
    def outcomes(self) -> list[Row]:
        """One for each candidate so far."""
        return [self.outcome(choice) for choice in self.tried.values()]

    @property
    def seconds(self) -> float:
        """Training and validation of all its trials."""
        return float(sum(row["seconds"] or 0.0 for row in self.outcomes))

    @property
    def spent(self) -> bool:
        """Whether the device seconds that were given are used up."""
        return self.study.tuning.seconds is not None and self.seconds >= self.study.tuning.seconds

    @property
    def best(self) -> Choice | None:
        """The finished candidate with the highest validation accuracy, the lower loss among equals."""
        finished = [row for row in self.outcomes if row["status"] == "finished"]
        best = max(finished, key=lambda row: (row["accuracy"], -row["loss"]), default=None)
        return best and best["choice"]

    def steps(self) -> Iterator[list[Step]]:
        """What to run next, until the choice can be made; each list has ended before the next is asked for."""
        if self.is_large:
            yield from halve(self, self.trials)
        elif self.trials:
            yield [(choice, None) for choice in self.space.grid]
        else:
            for choice in self.space.grid:
                if self.tried and self.spent:
                    break
                yield [(choice, None)]
        for _ in range(EXTENSIONS):
            best = self.best
            rate = beyond(self.axes, best) if best and not self.spent else None
            if best is None or rate is None:
                break
            self.axes["learning_rate"] = tuple(sorted([*self.axes["learning_rate"], rate]))
            yield [({**best, "learning_rate": rate}, None)]

    def as_json(self) -> Row:
        """What ``tuning.json`` holds of the search."""
        return {
            "key": self.key,
            "encoder": self.space.encoder,
            "strategy": self.name,
            "candidates": self.space.size,
            "axes": self.axes,
            "trials": self.outcomes,
            "chosen": None,
            "at_edge": [],
            "seconds": self.seconds,
        }


def outcome(run: RunDir, stopped: bool = False) -> Row:
    """A trial's ``status``, best ``accuracy`` and ``loss`` on validation, ``epochs``, and ``seconds`` it took."""
    # What follows the last line's end was cut off by a kill.
    lines = run.history.read_text(encoding="utf-8").split("\n")[:-1] if run.history.is_file() else []
    rows = [json.loads(line) for line in lines]
    evaluations = [row for row in rows if row["kind"] == "evaluation"]
    best = max(evaluations, key=lambda row: (row["accuracy"], -row["loss"]), default={"accuracy": None, "loss": None})
    steps = [row["seconds"] for row in rows if row["kind"] == "step"]
    status = "stopped" if stopped else "pending"
    if run.result.is_file():
        status = "finished"
    elif run.failure.is_file():
        status = read_json(run.failure)["status"]
    return {
        "status": status,
        "accuracy": best["accuracy"],
        "loss": best["loss"],
        "epochs": len(evaluations),
        "seconds": steps[-1] + sum(row["seconds"] for row in evaluations) if steps else None,
    }


class Tuner:
    """Runs the searches of a study that have not been decided yet.

    Attributes:
        candidates: every trial there may be, but for ranges that are extended.
        stand_ins: the grid's runs as if the middle of each range had been chosen.
    """

    def __init__(
        self, study_dir: StudyDir, study: Study, dataset: Dataset, watch: Callable[[Row], None] = lambda _: None
    ) -> None:
        self.study_dir, self.study, self.dataset, self.watch = study_dir, study, dataset, watch
        self.spaces = find_spaces(study)
        self.trials = budget(study, self.spaces) if self.spaces else None
        self.searches = [Search(study_dir, study, dataset, space, self.trials) for space in self.spaces]
        if any(search.is_large for search in self.searches):
            check_optuna()
        self.stand_ins = expand(provisional(study, self.spaces), dataset)
        for search in self.searches:
            space = search.space
            tuned = f"{space.entry.kind} ({', '.join(space.options)} tuned)" if space.options else None
            search.name = tuned or _called(search, space.grid[0], self.stand_ins)
        self.candidates = [search.plan(choice) for search in self.searches for choice in search.space.grid]
        found = read_json(study_dir.tuning)["searches"] if study_dir.tuning.is_file() else []
        self.kept: dict[str, Row] = {row["key"]: row for row in found if row["chosen"] is not None}
        self.open = [search for search in self.searches if search.key not in self.kept]
        self.steps = {search.key: search.steps() for search in self.open}
        self.running: dict[str, Search] = {}

    def settled(self) -> Study:
        """The study with the choices made so far; strategies whose search goes on are left out."""
        chosen = {}
        for search in self.searches:
            place = search.space.encoder, search.space.index
            if search.key in self.kept:
                chosen[place] = self.kept[search.key]["chosen"] or search.space.grid[0]
        return settle(self.study, self.spaces, chosen)

    def start(self) -> list[Job]:
        """The first jobs."""
        return self._advance(self.open)

    def finish(self, job: Job, code: int) -> list[Job]:
        """Take note of a job's end; what follows from it."""
        if job["kind"] != "trial":
            return []
        note_death(self.study_dir.trial(job["id"]), code)
        search = self.running.pop(job["id"])
        self.watch({"kind": "trial", **search.outcome(search.tried[job["id"]])})
        jobs = [] if search in self.running.values() else self._advance([search])
        self.write()
        return jobs

    def _advance(self, searches: Sequence[Search]) -> list[Job]:
        """Jobs of the next step of each search that has one; the others are decided."""
        waiting: list[tuple[PlannedRun, int | None]] = []
        for search in searches:
            for step in self.steps[search.key]:
                planned = [(search.plan(choice), until) for choice, until in step]
                search.tried |= {run.run_id: choice for (run, _), (choice, _) in zip(planned, step, strict=True)}
                left = [(run, until) for run, until in planned if not self._done(search, run, until)]
                self.running |= {run.run_id: search for run, _ in left}
                waiting += left
                if left:
                    break
            else:
                self._decide(search)
        self.write()
        runs, until = [run for run, _ in waiting], {run.run_id: epoch for run, epoch in waiting}
        shown = [{"run_id": run.run_id, "name": self._shown(run)} for run in runs]
        self.watch({"kind": "trials", "trials": shown, "searches": len(self.searches)})
        jobs = jobs_of(self.study, runs, shapes(runs), kind="trial")
        return [job | {"until": until.get(job["id"])} for job in jobs]

    def _done(self, search: Search, run: PlannedRun, until: int | None) -> bool:
        found = search.outcome(search.tried[run.run_id])
        return found["status"] == "finished" or (until is not None and found["epochs"] >= until)

    def _decide(self, search: Search) -> None:
        best = search.best
        at_edge = edges(search.axes, best) if best else []
        self.kept[search.key] = search.as_json() | {"chosen": best, "at_edge": at_edge}

    def _shown(self, run: PlannedRun) -> str:
        search = self.running[run.run_id]
        return f"{search.name}, {told(search.tried[run.run_id])}"

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


def tuning_seconds(study_dir: StudyDir) -> dict[tuple[str, str], float]:
    """What the trials of each strategy took, by encoder and strategy; nothing where nothing was tuned."""
    searches = read_json(study_dir.tuning)["searches"] if study_dir.tuning.is_file() else []
    return {(row["encoder"], row["strategy"]): row["seconds"] for row in searches}


def told(choice: Choice) -> str:
    """``learning rate 0.001, rank 8``."""
    written = {key: f"{value:g}" if isinstance(value, float) else str(value) for key, value in choice.items()}
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in written.items())


def _called(search: Search, choice: Choice, runs: Sequence[PlannedRun]) -> str:
    """What the grid's runs call a strategy after a choice."""
    spec = search.plan(choice).spec
    return next(run.strategy for run in runs if run.spec == spec.model_copy(update={"seed": run.spec.seed}))
