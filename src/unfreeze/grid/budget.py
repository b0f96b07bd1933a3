"""What every run may spend where a study compares at equal steps, seconds, FLOPs or memory, and what follows for it.

No clock stops a run: what a step of each strategy costs is measured once, before tuning and grid, kept in the study's
folder, and decides how many steps or how large a batch its recipe has. These stand in the run's spec, so that it
resumes bit for bit. Seconds and FLOPs are those of training: predictions, and a frozen prefix that runs share, count
for nobody.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from unfreeze.errors import RunError
from unfreeze.grid.plan import PlannedRun
from unfreeze.report.formats import count, percent, seconds, short, size
from unfreeze.study import RunSpec, Study, slug

Row = dict[str, Any]

# To spend what full fine-tuning does, a head on cached states would train for thousands of epochs. What each example is
# answered is kept for every epoch: 140 MB for SNLI's 550,000 pairs at 50.
MOST_EPOCHS = 50
# Keys of a recipe that do not change what a step costs.
FREE = ("epochs", "max_steps", "learning_rate", "warmup", "schedule", "weight_decay", "max_grad_norm", "patience")

NAMES = {"steps": "optimiser steps", "seconds": "training time", "memory": "memory", "flops": "FLOPs"}
WRITTEN: dict[str, Callable[[float], str]] = {
    "steps": count,
    "seconds": seconds,
    "memory": size,
    "flops": lambda amount: f"{short(amount)}FLOP",
}


class Budget:
    """What the runs of a study may spend, and what follows for each.

    Args:
        study: says at what strategies are compared.
        runs: every strategy of the study and all that it may try, as written: the dearest decides a bare budget.
        examples: of the training split.
        lengths: gives the tokens of each training example for an encoder.
        found: what was measured, by :func:`step_key` or :meth:`fit_key`: ``flops`` (coefficients of
            :class:`~unfreeze.training.cost.StepFlops`), ``seconds`` (of a step), or ``bytes`` at a ``batch_size``.
        failures: why something could not be measured, by the same keys.
    """

    def __init__(
        self,
        study: Study,
        runs: Sequence[PlannedRun],
        examples: int,
        lengths: Callable[[str], np.ndarray],
        found: Mapping[str, Row],
        failures: Mapping[str, str],
    ) -> None:
        self.kind, self.given = study.compare_at.kind, study.compare_at.amount
        self.seed = study.seeds[0]
        self.specs = {encoder: [r.spec for r in runs if r.spec.encoder == encoder] for encoder in study.encoders}
        self.examples, self.lengths, self.found, self.failures = examples, lengths, found, failures
        self._known: dict[tuple[Any, ...], Any] = {}

    @property
    def is_default(self) -> bool:
        """Whether every run takes the steps of its own recipe."""
        return self.kind == "steps" and self.given is None

    @property
    def measures(self) -> bool:
        """Whether what follows depends on what a step costs."""
        return self.kind != "steps"

    def limit(self, encoder: str, seed: int) -> float | None:
        """What a run may spend; None where nothing decides.

        Left to the study it is what the dearest strategy spends by its recipe, so that none must do with less than its
        recipe asks for; the order of batches, hence the seed, decides how much padding is in it.
        """
        if self.given is not None or self.is_default:
            return self.given
        place = (encoder, seed)
        if place not in self._known:
            able = [spec for spec in self.specs[encoder] if step_key(self.kind, spec) in self.found]
            spent = [self._by_recipe(spec.model_copy(update={"seed": seed})) for spec in able]
            self._known[place] = max(spent, default=None)
        found: float | None = self._known[place]
        return found

    def fit_key(self, spec: RunSpec) -> str | None:
        """The key under which the largest batch size within the limit is found; None where there is no limit yet."""
        limit = self.limit(spec.encoder, spec.seed)
        return None if limit is None else step_key(f"memory within {limit:.0f}", spec, "batch_size")

    def bound(self, run: PlannedRun) -> PlannedRun:
        """The run with what it may spend written in its recipe, or with the reason why it cannot be run."""
        if self.is_default:
            return run
        try:
            changes = self._changes(run.spec)
        except RunError as error:
            return replace(run, written=run.spec, refused=f"{run.strategy} on {slug(run.spec.encoder)}: {error}")
        recipe = run.spec.recipe.model_copy(update=changes)
        return replace(run, spec=run.spec.model_copy(update={"recipe": recipe}), written=run.spec)

    def about(self, runs: Sequence[PlannedRun]) -> Row:
        """At what the study compares: ``kind``, ``name`` (None for each recipe's own steps), ``limits``, ``sentences``.

        Args:
            runs: of the grid, each bound.
        """
        limits = {encoder: self.limit(encoder, self.seed) for encoder in self.specs}
        sentences = [] if self.is_default else [self._amounts(limits), *self._consequences(runs)]
        name = None if self.is_default else NAMES[self.kind]
        return {"kind": self.kind, "name": name, "limits": limits, "sentences": sentences}

    def _changes(self, spec: RunSpec) -> Row:
        """Keys of the recipe that follow from the limit."""
        if self.kind == "memory":
            if self.given is None:
                self._measured(step_key(self.kind, spec))
            row = self._measured(self.fit_key(spec) or "")
            if row["batch_size"]:
                return {"batch_size": row["batch_size"]}
            raise self._too_little(spec, f"a batch of one example needs {size(row['bytes'])}")
        steps = int(self.given or 0)
        if self.measures:
            most = max(MOST_EPOCHS, spec.recipe.epochs)
            steps = self._steps_within(spec, most)
            if not steps:
                raise self._too_little(spec, f"one step takes {WRITTEN[self.kind](self._spent(spec, 1)[0])}")
        epochs, rest = math.ceil(steps / self._per_epoch(spec)), steps % self._per_epoch(spec)
        return {"epochs": epochs, "max_steps": steps if rest else None}

    def _too_little(self, spec: RunSpec, need: str) -> RunError:
        limit = self.limit(spec.encoder, spec.seed)
        assert limit is not None
        return RunError(f"{need}, above the {WRITTEN[self.kind](limit)} that every run may use (compare_at)")

    def _measured(self, key: str) -> Row:
        if key in self.failures:
            raise RunError(f"what it costs could not be measured: {self.failures[key]}")
        return self.found[key]

    def _per_epoch(self, spec: RunSpec) -> int:
        return math.ceil(self.examples / spec.recipe.batch_size)

    def _by_recipe(self, spec: RunSpec) -> float:
        """What a run spends by its own recipe."""
        if self.kind == "memory":
            return float(self._measured(step_key(self.kind, spec))["bytes"])
        spent = self._spent(spec, spec.recipe.epochs)
        return float(spent[: spec.recipe.max_steps][-1])

    def _steps_within(self, spec: RunSpec, most: int) -> int:
        """Steps that a run can take within its limit and so many epochs."""
        limit = self.limit(spec.encoder, spec.seed)
        epoch = self._spent(spec, 1)[-1]
        if limit is None:
            return 0
        # One more, should later epochs hold less padding than the first.
        spent = self._spent(spec, min(most, math.ceil(limit / epoch) + 1))
        # A sum of rounded costs may end a little above the limit that it adds up to.
        return int(np.searchsorted(spent, limit * (1 + 1e-9), side="right"))

    def _spent(self, spec: RunSpec, epochs: int) -> np.ndarray:
        """FLOPs or seconds after each step of so many epochs."""
        place = (step_key(self.kind, spec), spec.seed, epochs)
        if place not in self._known:
            self._known[place] = np.cumsum(np.concatenate([self._costs(spec, epoch) for epoch in range(epochs)]))
        spent: np.ndarray = self._known[place]
        return spent

    def _costs(self, spec: RunSpec, epoch: int) -> np.ndarray:
        """FLOPs or seconds of each step of one epoch."""
        row, steps, batch_size = (
            self._measured(step_key(self.kind, spec)),
            self._per_epoch(spec),
            spec.recipe.batch_size,
        )
        if self.kind == "seconds":
            return np.full(steps, row["seconds"])
        if len(row["flops"]) == 1:  # the same for every example, as it is for a head on cached states
            sizes: np.ndarray = np.diff(np.append(np.arange(steps) * batch_size, self.examples))
            return sizes * float(row["flops"][0])
        from unfreeze.training.batching import epoch_batches
        from unfreeze.training.cost import StepFlops

        lengths = self.lengths(spec.encoder)
        batches = epoch_batches(lengths, batch_size, spec.seed, epoch)
        parts = [np.array_split(batch, min(spec.recipe.gradient_accumulation, len(batch))) for batch in batches]
        flops = StepFlops(tuple(row["flops"])).of([part for batch in parts for part in batch], lengths)
        each_step: np.ndarray = np.add.reduceat(flops, np.cumsum([0, *map(len, parts[:-1])]))
        return each_step

    def _amounts(self, limits: Mapping[str, float | None]) -> str:
        amounts = {encoder: WRITTEN[self.kind](limit) for encoder, limit in limits.items() if limit is not None}
        if not amounts:
            return f"Nothing could be measured to compare at equal {NAMES[self.kind]}."
        one = len(set(amounts.values())) == 1 == len(amounts) / len(limits)
        each = [amount if one else f"{amount} on {slug(encoder)}" for encoder, amount in amounts.items()]
        why = "" if self.given is not None else ", what the dearest strategy takes by its own recipe"
        return f"Compared at equal {NAMES[self.kind]}: {', '.join(dict.fromkeys(each))} for every run{why}."

    def _consequences(self, runs: Sequence[PlannedRun]) -> list[str]:
        """What a reader must know about the recipes that follow."""
        able = [run for run in reversed(runs) if run.refused is None]
        ones = list({(run.spec.encoder, run.strategy): run for run in able}.values())[::-1]
        if self.kind == "memory":
            return [self._batches(ones)] if ones else []
        return list(filter(None, map(self._cap, ones))) if self.measures else []

    def _batches(self, runs: Sequence[PlannedRun]) -> str:
        sizes = ", ".join(f"{self._name(run)} {count(run.spec.recipe.batch_size)}" for run in runs)
        steps = [self._per_epoch(run.spec) * run.spec.recipe.epochs for run in runs]
        differ = f" Epochs are equal, so optimiser steps are not: {count(min(steps))} to {count(max(steps))}."
        whole = any(run.spec.recipe.batch_size == self.examples for run in runs)
        fit = f"as large as fit{', the whole training split at most' if whole else ''}"
        return f"Batches are {fit}: {sizes}.{differ if len(set(steps)) > 1 else ''}"

    def _cap(self, run: PlannedRun) -> str | None:
        """Where the most epochs there may be leave a run's budget unspent."""
        epochs, spec = run.spec.recipe.epochs, run.written or run.spec
        limit, spent = self.limit(spec.encoder, spec.seed), self._spent(spec, run.spec.recipe.epochs)
        if epochs < MOST_EPOCHS or run.spec.recipe.max_steps or not limit or 2 * spent[-1] - spent[-2] > limit:
            return None
        return f"{self._name(run)} stops after {epochs} epochs, at {percent(spent[-1] / limit)} of that."

    def _name(self, run: PlannedRun) -> str:
        return run.strategy if len(self.specs) == 1 else f"{run.strategy} on {slug(run.spec.encoder)}"


def step_key(kind: str, spec: RunSpec, *free: str) -> str:
    """What a measurement of a spec is kept under: its kind and eight hex digits of all that decides a step's cost.

    Args:
        kind: of the measurement.
        spec: of any run of the strategy.
        free: keys of the recipe that do not matter besides :data:`FREE`.
    """
    about = spec.model_dump(mode="json", exclude={"seed": True, "recipe": {*FREE, *free}})
    return f"{kind} {hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:8]}"


def largest_within(limit: float, needed: Callable[[int], float], most: int) -> int:
    """The largest batch size up to ``most`` that needs no more than ``limit``; 0 where one example needs more.

    Where bisection would try the middle, this tries where a line from one example through the last size tried meets the
    limit: what a batch needs grows evenly with its size, and no size is tried that needs much more than there may be.

    Args:
        limit: bytes.
        needed: bytes at a batch size; larger ones never need less.
        most: the largest batch size there can be.
    """
    one = needed(1)
    if one > limit:
        return 0
    fits, too_large, size = 1, most + 1, 2
    while too_large - fits > 1:
        found = needed(size)
        fits, too_large = (size, too_large) if found <= limit else (fits, size)
        guess = 1 + (limit - one) * (size - 1) / (found - one) if found > one else 2 * size
        size = min(max(int(guess), fits + 1), too_large - 1)
    return fits
