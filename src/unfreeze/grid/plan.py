"""From a study to its runs, and what they share, before anything is spent."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from unfreeze.errors import StudyError, UnfreezeError, nearest
from unfreeze.grid.executors import Job
from unfreeze.recipe import Recipe
from unfreeze.records import Dataset
from unfreeze.strategies import Strategy, make_strategy
from unfreeze.study import Published, RunSpec, StrategyEntry, Study


@dataclass(frozen=True)
class PlannedRun:
    """A run and what tables call it.

    Attributes:
        strategy: display name, unique among the study's entries for one encoder.
        written: the spec as the study writes it, where ``compare_at`` has changed its recipe.
        refused: why it cannot be run within what ``compare_at`` allows.
    """

    spec: RunSpec
    strategy: str
    published: Published | None
    written: RunSpec | None = None
    refused: str | None = None

    @property
    def run_id(self) -> str:
        """The run's folder name."""
        return self.spec.run_id

    def as_json(self) -> dict[str, Any]:
        """What ``resolved.json`` holds of the run."""
        published = self.published.model_dump() if self.published else None
        about = {"run_id": self.run_id, "encoder": self.spec.encoder, "strategy": self.strategy, "seed": self.spec.seed}
        return {**about, "published": published, "spec": self.spec.model_dump(mode="json")}


@dataclass(frozen=True)
class Sharing:
    """Runs that start from the same frozen states.

    Attributes:
        depths: layers below which everything is frozen, one for each start some run needs, ascending.
        run_ids: the runs, in grid order.
    """

    encoder: str
    max_length: int
    precision: str
    depths: tuple[int, ...]
    run_ids: tuple[str, ...]


def expand(study: Study, dataset: Dataset) -> list[PlannedRun]:
    """Every run of the grid, seed by seed, so that an interrupted grid has compared all strategies on the first seeds.

    Args:
        study: with nothing left to validation (:func:`unfreeze.grid.space.settle`).
        dataset: its data.

    Raises:
        StudyError: with one line for each strategy that is wrong.
    """
    strategies = _strategies(study)
    runs: dict[str, PlannedRun] = {}
    for seed in study.seeds:
        for encoder in study.encoders:
            chosen = [
                (e, s)
                for e, s in zip(study.strategies, strategies, strict=True)
                if encoder in (e.encoders or (encoder,))
            ]
            for (entry, strategy), name in zip(chosen, _display_names(study, chosen), strict=True):
                spec = RunSpec(
                    dataset=dataset.name,
                    data_fingerprint=dataset.fingerprint,
                    labels=dataset.labels,
                    is_pair=dataset.is_pair,
                    max_length=study.data.max_length,
                    encoder=encoder,
                    strategy={"kind": strategy.kind, **strategy.model_dump(mode="json")},
                    strategy_slug=strategy.slug,
                    recipe=_recipe(study, entry, strategy),
                    seed=seed,
                )
                runs.setdefault(spec.run_id, PlannedRun(spec, name, entry.published))
    return list(runs.values())


def _strategies(study: Study) -> list[Strategy]:
    strategies, problems = [], []
    for entry in study.strategies:
        strange = [encoder for encoder in entry.encoders or () if encoder not in study.encoders]
        problems += [f"strategies: {entry.kind}: '{e}' is not in encoders{nearest(e, study.encoders)}" for e in strange]
        try:
            strategies.append(make_strategy(entry.kind, entry.options))
        except StudyError as error:
            problems += error.problems
    if problems:
        raise StudyError(*dict.fromkeys(problems))
    return strategies


def _recipe(study: Study, entry: StrategyEntry, strategy: Strategy) -> Recipe:
    written = study.recipe.model_dump(exclude_unset=True) | entry.recipe.model_dump(exclude_unset=True)
    recipe = Recipe.model_validate(written)
    rate = recipe.learning_rate or strategy.default_learning_rate
    return recipe.model_copy(update={"learning_rate": rate})


def _display_names(study: Study, chosen: Sequence[tuple[StrategyEntry, Strategy]]) -> list[str]:
    """Slugs; entries that share one are told apart by the options and recipe keys in which they differ."""
    full = [{**strategy.model_dump(), **_recipe(study, entry, strategy).model_dump()} for entry, strategy in chosen]
    names = []
    for (_, strategy), mine in zip(chosen, full, strict=True):
        twins = [other for (_, s), other in zip(chosen, full, strict=True) if s.slug == strategy.slug]
        differing = [key for key in mine if any(other.get(key) != mine[key] for other in twins)]
        extra = ", ".join(
            f"{key} {mine[key]:g}" if isinstance(mine[key], float) else f"{key} {mine[key]}" for key in differing
        )
        names.append(f"{strategy.slug} ({extra})" if extra else strategy.slug)
    return names


def strategy_of(spec: RunSpec) -> Strategy:
    """The strategy object of a run."""
    options = dict(spec.strategy)
    return make_strategy(options.pop("kind"), options)


@dataclass(frozen=True)
class Shape:
    """What is known of a run's classifier from names and shapes alone.

    Attributes:
        depth: layers of the frozen prefix; 0 where there is none.
        layers: layers of the encoder.
        layer_weights: parameters of one layer that are matrices.
    """

    total: int
    trainable: int
    depth: int
    layers: int
    hidden: int
    heads: int
    layer_weights: int


def shapes(runs: Sequence[PlannedRun]) -> dict[str, Shape]:
    """The classifier's shape for each run id: encoders are looked up and strategies tried on the meta device.

    Raises:
        StudyError: with one line for each encoder or strategy that cannot be used.
    """
    known: dict[tuple[str, str], Shape | None] = {}
    problems: list[str] = []
    for run in runs:
        spec = run.spec
        key = (spec.encoder, json.dumps(spec.strategy))
        if key in known:
            continue
        known[key] = None
        try:
            known[key] = _shape(*key, spec.labels, spec.max_length)
        except UnfreezeError as error:
            problems.append(str(error))
    if problems:
        raise StudyError(*dict.fromkeys(problems))
    found = {run.run_id: known[(run.spec.encoder, json.dumps(run.spec.strategy))] for run in runs}
    return {run_id: shape for run_id, shape in found.items() if shape is not None}


@cache  # up to a second each, and a study that is tuned asks for every trial
def _shape(encoder: str, strategy: str, labels: tuple[str, ...], max_length: int) -> Shape:
    from unfreeze.training.encoder import load_tokenizer, max_positions, shape_only

    if max_length > max_positions(encoder):
        raise StudyError(
            f"data.max_length: {max_length} is above the {max_positions(encoder)} tokens that encoder '{encoder}' reads"
        )
    load_tokenizer(encoder)
    options = json.loads(strategy)
    anatomy = shape_only(encoder, labels, make_strategy(options.pop("kind"), options))
    return Shape(
        total=sum(p.numel() for p in anatomy.classifier.parameters()),
        trainable=sum(p.numel() for p in anatomy.trainable().values()),
        depth=anatomy.prefix_depth(),
        layers=len(anatomy.layers),
        hidden=int(anatomy.classifier.config.hidden_size),
        heads=int(anatomy.classifier.config.num_attention_heads),
        layer_weights=sum(p.numel() for p in anatomy.layers[-1].parameters() if p.ndim == 2),
    )


def share(runs: Sequence[PlannedRun], shapes: dict[str, Shape]) -> list[Sharing]:
    """Group runs by the frozen states they can start from; one pass over the data serves a whole group."""
    groups: dict[tuple[str, int, str], list[PlannedRun]] = defaultdict(list)
    for run in runs:
        if shapes[run.run_id].depth:
            groups[(run.spec.encoder, run.spec.max_length, run.spec.recipe.precision)].append(run)
    return [
        Sharing(
            encoder,
            max_length,
            precision,
            depths=tuple(sorted({shapes[run.run_id].depth for run in group})),
            run_ids=tuple(run.run_id for run in group),
        )
        for (encoder, max_length, precision), group in groups.items()
    ]


def jobs_of(study: Study, runs: Sequence[PlannedRun], shapes: dict[str, Shape], kind: str = "run") -> list[Job]:
    """Runs in grid order, each group's shared prefix just before the first run that starts from it.

    Args:
        study: names the device.
        runs: what is to be run.
        shapes: of :func:`shapes`.
        kind: ``run``, or ``trial`` where only validation is looked at.
    """
    sharing = {run_id: group for group in share(runs, shapes) for run_id in group.run_ids}
    jobs: dict[str, Job] = {}
    for run in runs:
        common = {"spec": run.spec.model_dump(mode="json"), "device": study.device}
        needs: list[str] = []
        if group := sharing.get(run.run_id):
            needs = [f"prefix of {group.run_ids[0]}"]
            prefix: Job = {"id": needs[0], "kind": "prefix", "needs": [], "depths": group.depths, **common}
            jobs.setdefault(needs[0], prefix)
        jobs[run.run_id] = {"id": run.run_id, "kind": kind, "needs": needs, "refused": run.refused, **common}
    return list(jobs.values())
