"""The search of one strategy on one encoder: what to try next, and what is best so far."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from unfreeze.grid.budget import Budget
from unfreeze.grid.halving import halve
from unfreeze.grid.plan import PlannedRun
from unfreeze.grid.space import Choice, Space, beyond
from unfreeze.recipe import TRIALS
from unfreeze.records import Dataset
from unfreeze.study import Study
from unfreeze.studydir import RunDir, StudyDir, read_json

Row = dict[str, Any]
# A candidate, and the epoch after which to stop and look; None trains to the end.
Step = tuple[Choice, int | None]

EXTENSIONS = 2  # of a learning rate's range: two steps are a factor of ten


@dataclass(eq=False)
class Search:
    """The search of one strategy on one encoder.

    Attributes:
        limits: what each trial may spend; None before that is known.
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
    limits: Budget | None = None
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
        entry = self.space.entry.model_dump(mode="json", exclude={"encoders", "published"})
        tuning, length = self.study.tuning.model_dump(), self.study.data.max_length
        about = [self.space.encoder, entry, list(self.space.axes.items()), tuning, length]
        if self.limits and not self.limits.is_default:
            about += [self.limits.kind, self.limits.limit(self.space.encoder, self.study.tuning.seed)]
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:8]

    def plan(self, choice: Choice) -> PlannedRun:
        """The trial of a candidate."""
        run = self.space.trial(self.study, self.dataset, choice)
        return self.limits.bound(run) if self.limits else run

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
