"""What each strategy of a study may try on each encoder, and the study that follows from what was chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from unfreeze.errors import StudyError
from unfreeze.grid.plan import PlannedRun, expand
from unfreeze.recipe import TRIALS, StudyRecipe, candidates, is_tuned
from unfreeze.records import Dataset
from unfreeze.strategies import make_strategy
from unfreeze.study import StrategyEntry, Study

Choice = dict[str, Any]

STEP = math.sqrt(10)  # two learning rates a decade: 1, 3.2, 10 …
WIDEST = 7  # three decades around a strategy's default: beyond, every one of them diverges or stands still
FEWEST = 3  # of two values one always is the best, and at an end


@dataclass(frozen=True)
class Space:
    """What one strategy of a study may try on one encoder.

    Attributes:
        index: the strategy's place in the study.
        entry: the strategy with the whole recipe, what is left to validation taken out of both.
        options: keys of ``axes`` that are options of the strategy; the others are its recipe's.
        axes: the values to try, by key.
        around: the learning rate in the middle of a range that the study leaves to us; None where it names the values.
    """

    encoder: str
    index: int
    entry: StrategyEntry
    options: tuple[str, ...]
    axes: Mapping[str, tuple[Any, ...]]
    around: float | None

    @property
    def size(self) -> int:
        """How many candidates there are."""
        return math.prod(map(len, self.axes.values()))

    @property
    def grid(self) -> list[Choice]:
        """Every candidate, those in the middle first: where time runs out, the likely ones were tried."""
        places = product(*(range(len(values)) for values in self.axes.values()))
        middle = [len(values) // 2 for values in self.axes.values()]
        ordered = sorted(places, key=lambda at: sum(abs(a - b) for a, b in zip(at, middle, strict=True)))
        return [self.at(place) for place in ordered]

    def at(self, places: Sequence[int]) -> Choice:
        """The candidate with these places on the axes."""
        return {key: values[place] for (key, values), place in zip(self.axes.items(), places, strict=True)}

    def decided(self, choice: Choice) -> StrategyEntry:
        """The strategy as a study would name it that had made this choice itself."""
        options = {key: value for key, value in choice.items() if key in self.options}
        recipe = {key: value for key, value in choice.items() if key not in self.options}
        changed = StudyRecipe.model_validate(self.entry.recipe.model_dump(exclude_unset=True) | recipe)
        update = {"options": self.entry.options | options, "recipe": changed, "encoders": (self.encoder,)}
        return self.entry.model_copy(update=update)

    def trial(self, study: Study, dataset: Dataset, choice: Choice) -> PlannedRun:
        """The run that tries a candidate."""
        # The decided strategy brings its whole recipe.
        alone = {"strategies": (self.decided(choice),), "encoders": (self.encoder,), "recipe": StudyRecipe()}
        return expand(study.model_copy(update={**alone, "seeds": (study.tuning.seed,)}), dataset)[0]

    def widened(self, trials: int) -> Space:
        """With as many learning rates as the budget allows, where the range is left to us."""
        if self.around is None:
            return self
        many = min(WIDEST, trials * len(self.axes["learning_rate"]) // self.size)
        return replace(self, axes={**self.axes, "learning_rate": _rates(self.around, max(1, (many - 1) // 2))})


def find_spaces(study: Study) -> list[Space]:
    """One for each encoder of every strategy that leaves something to validation.

    Raises:
        StudyError: with one line for each value that cannot be tried, or for a seed of the trials that is the study's.
    """
    spaces: list[Space] = []
    problems: list[str] = []
    for index, entry in enumerate(study.strategies):
        written = study.recipe.model_dump(exclude_unset=True) | entry.recipe.model_dump(exclude_unset=True)
        recipe = StudyRecipe.model_validate(written)
        at = study.compare_at
        problems += [
            f"strategies: {entry.kind}: {key} cannot be tuned: it follows from compare_at: {at.kind}"
            for key in recipe.tuned
            if key in at.decides
        ]
        fixed = {key: value for key, value in entry.options.items() if not is_tuned(value)}
        options = tuple(key for key in entry.options if key not in fixed)
        try:
            rate = make_strategy(entry.kind, dict(fixed)).default_learning_rate
            axes = _option_axes(entry, fixed) | _recipe_axes(recipe, rate)
        except StudyError as error:
            problems += error.problems
            continue
        plain = StudyRecipe.model_validate({key: value for key, value in written.items() if key not in recipe.tuned})
        whole = entry.model_copy(update={"options": fixed, "recipe": plain})
        encoders = entry.encoders or study.encoders
        around = rate if recipe.tuned.get("learning_rate") == "tune" else None
        spaces += [Space(encoder, index, whole, options, axes, around) for encoder in encoders if axes]
    for number, space in enumerate(spaces):
        if any(space == replace(other, index=space.index) for other in spaces[:number]):
            problems.append(f"strategies: {space.entry.kind}: the same is tuned twice")
    if spaces and study.tuning.seed in study.seeds:
        problems.append(f"tuning.seed: {study.tuning.seed} is one of the study's seeds; winners run on fresh ones")
    if not spaces and not problems and "tuning" in study.model_fields_set:
        problems.append("tuning: nothing is left to validation; write learning_rate: tune in a recipe")
    if problems:
        raise StudyError(*dict.fromkeys(problems))
    trials = (budget(study, spaces) or TRIALS) if spaces else 0
    return [space.widened(trials) for space in spaces]


def _option_axes(entry: StrategyEntry, fixed: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    axes = {}
    for key in entry.options.keys() - fixed.keys():
        try:
            axes[key] = candidates(key, entry.options[key])
        except ValueError as error:
            raise StudyError(f"strategies: {entry.kind}: {error}") from None
        for value in axes[key]:
            make_strategy(entry.kind, {**fixed, key: value})
    return {key: axes[key] for key in entry.options if key in axes}


def _recipe_axes(recipe: StudyRecipe, rate: float) -> dict[str, tuple[Any, ...]]:
    return {k: _rates(rate, 1) if value == "tune" else candidates(k, value) for k, value in recipe.tuned.items()}


def _rates(middle: float, steps: int) -> tuple[float, ...]:
    """Learning rates around the middle one, so many steps to either side."""
    return tuple(_two_digits(middle * STEP**step) for step in range(-steps, steps + 1))


def budget(study: Study, spaces: Sequence[Space]) -> int | None:
    """Trials for each strategy and encoder; None where they are given seconds instead."""
    if study.tuning.seconds:
        return None
    return study.tuning.trials or min(TRIALS, max(space.size for space in spaces))


def settle(study: Study, spaces: Sequence[Space], chosen: Mapping[tuple[str, int], Choice]) -> Study:
    """The study with its choices made, by encoder and index; strategies without one are left out."""
    entries: list[StrategyEntry] = []
    for index, entry in enumerate(study.strategies):
        mine = [space for space in spaces if space.index == index]
        entries += [space.decided(chosen[space.encoder, index]) for space in mine if (space.encoder, index) in chosen]
        entries += [] if mine else [entry]
    written = study.recipe.model_dump(exclude_unset=True)
    plain = {key: value for key, value in written.items() if key not in study.recipe.tuned}
    return study.model_copy(update={"strategies": tuple(entries), "recipe": StudyRecipe.model_validate(plain)})


def provisional(study: Study, spaces: Sequence[Space]) -> Study:
    """The study as if the middle of each range had been chosen."""
    return settle(study, spaces, {(space.encoder, space.index): space.grid[0] for space in spaces})


def beyond(axes: Mapping[str, tuple[Any, ...]], choice: Choice) -> float | None:
    """The learning rate one step past the end of its range; None where the chosen one is not at an end."""
    rates = sorted(axes.get("learning_rate", ()))
    if len(rates) < 2 or choice["learning_rate"] not in (rates[0], rates[-1]):
        return None
    end, neighbour = (rates[0], rates[1]) if choice["learning_rate"] == rates[0] else (rates[-1], rates[-2])
    return _two_digits(end * end / neighbour)


def edges(axes: Mapping[str, tuple[Any, ...]], choice: Choice) -> list[dict[str, Any]]:
    """Keys whose chosen number is the lowest or the highest of three or more."""
    found = []
    for key, values in axes.items():
        numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
        if len(numbers) == len(values) >= FEWEST and choice[key] in (min(values), max(values)):
            end = "lowest" if choice[key] == min(values) else "highest"
            found.append({"key": key, "value": choice[key], "end": end, "tried": len(values)})
    return found


def _two_digits(rate: float) -> float:
    return float(f"{rate:.1e}")
