"""What the report knows: a study folder, read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from unfreeze.analysis.baselines import HYPOTHESIS_ONLY
from unfreeze.analysis.verdict import turned
from unfreeze.records import Dataset
from unfreeze.studydir import StudyDir, read_json, read_table

Row = dict[str, Any]


@dataclass(frozen=True)
class Content:
    """A study folder's files, each read when it is first asked for."""

    study_dir: StudyDir

    @cached_property
    def resolved(self) -> Row:
        """Every run's spec, versions, machine and the data's fingerprint."""
        return dict(read_json(self.study_dir.resolved))

    @cached_property
    def results(self) -> list[Row]:
        """One row a run, in grid order."""
        return list(read_json(self.study_dir.results_json))

    @cached_property
    def comparison(self) -> Row:
        """What :func:`unfreeze.analysis.compare.compare` found."""
        return dict(read_json(self.study_dir.comparison))

    @property
    def compared_at(self) -> Row:
        """What all runs had in common; nothing in a folder from before that was told."""
        return dict(self.comparison.get("compared_at") or {"name": None, "sentences": []})

    @cached_property
    def baselines(self) -> list[Row]:
        """One row for each baseline that was tried; none in a folder from before there were any."""
        return list(read_json(self.study_dir.baselines_json)) if self.study_dir.baselines_json.is_file() else []

    @property
    def hypothesis_only(self) -> Row | None:
        """The hypothesis-only baseline that is best on validation."""
        found = [row for row in self.baselines if row["name"] == HYPOTHESIS_ONLY and row["status"] == "finished"]
        return max(found, key=lambda row: row["metrics"]["validation"]["accuracy"], default=None)

    @cached_property
    def explore(self) -> Row | None:
        """What ``unfreeze explore`` shows of the data, or None where it was not written."""
        return dict(read_json(self.study_dir.explore)) if self.study_dir.explore.is_file() else None

    @cached_property
    def tuning(self) -> Row | None:
        """What was tried before the grid, or None where nothing was left to validation."""
        return dict(read_json(self.study_dir.tuning)) if self.study_dir.tuning.is_file() else None

    @cached_property
    def study_yaml(self) -> str:
        """The study as it was last run here."""
        return self.study_dir.study_yaml.read_text(encoding="utf-8")

    @cached_property
    def dataset(self) -> Dataset:
        """The split data."""
        return self.study_dir.read_dataset()

    @property
    def finished(self) -> list[Row]:
        """The rows of runs that finished."""
        return [row for row in self.results if row["status"] == "finished"]

    @property
    def failed(self) -> list[Row]:
        """The rows of runs that failed or diverged."""
        return [row for row in self.results if row["status"] in ("failed", "diverged")]

    @property
    def pending(self) -> list[Row]:
        """The rows of runs that have not been run yet."""
        return [row for row in self.results if row["status"] == "pending"]

    @cached_property
    def published(self) -> dict[str, Row]:
        """Figures somebody else published, by run id."""
        return {run["run_id"]: run["published"] for run in self.resolved["runs"] if run.get("published")}

    @cached_property
    def options(self) -> dict[str, Row]:
        """Each run's strategy as its spec has it, by run id: ``kind`` (``lora``, ``partial``) and every option."""
        return {run["run_id"]: run["spec"]["strategy"] for run in self.resolved["runs"]}

    @cached_property
    def elsewhere(self) -> list[Row]:
        """One row for each strategy with a cell for the test split and each further set; none without such sets."""
        sets = {"test": self.comparison} | self.comparison.get("evaluate_on", {})
        cells = {name: _cells(comparison) for name, comparison in sets.items()}
        shown = [{**row, "cells": {name: cells[name].get(_key(row)) for name in sets}} for row in self.leaderboard]
        return shown if len(sets) > 1 else []

    def history(self, run_id: str) -> list[Row]:
        """A run's lines of steps and evaluations."""
        return [
            json.loads(line) for line in self.study_dir.run(run_id).history.read_text(encoding="utf-8").splitlines()
        ]

    def predictions(self, run_id: str, split: str = "test") -> pa.Table:
        """A run's :data:`~unfreeze.records.PREDICTIONS`."""
        return read_table(self.study_dir.run(run_id).predictions(split))

    def dynamics(self, run_id: str) -> pa.Table | None:
        """A run's :data:`~unfreeze.records.DYNAMICS`, or None where it recorded none."""
        path = self.study_dir.run(run_id).dynamics
        return read_table(path) if path.is_file() else None

    def mistakes(self, run_id: str) -> pa.Table | None:
        """A run's test mistakes with their states, or None where a run has not kept them."""
        path = self.study_dir.run(run_id).mistakes
        return read_table(path) if path.is_file() else None

    def baseline_predictions(self, baseline_id: str) -> pa.Table:
        """A baseline's test :data:`~unfreeze.records.PREDICTIONS`."""
        return read_table(self.study_dir.baseline(baseline_id).predictions("test"))

    @cached_property
    def leaderboard(self) -> list[Row]:
        """One row for each strategy: ranked ones first, then those that did not learn, then those that failed."""
        strategies, best = self.comparison["strategies"], self.comparison["ranking"][:1]
        pairs = [side for pair in self.comparison["pairs"] for side in (pair, turned(pair))]
        decisions = {pair["a"]: pair["decision"] for pair in pairs if pair["b"] in best}
        rows: list[Row] = []
        for index in [*self.comparison["ranking"], *self.comparison["unranked"]]:
            runs = [row for row in self.finished if row["run_id"] in strategies[index]["run_ids"]]
            rows.append(
                {
                    **strategies[index],
                    "rank": len(rows) + 1 if index in self.comparison["ranking"] else None,
                    "against_best": decisions.get(index),
                    "params": runs[0]["params"],
                    "options": self.options[runs[0]["run_id"]],
                    "prefix_depth": runs[0]["environment"].get("prefix_depth"),
                    "cost": _means([row["cost"] for row in runs]),
                    "published": next(
                        (self.published[r["run_id"]] for r in runs if r["run_id"] in self.published), None
                    ),
                }
            )
        return rows


def _means(costs: list[Row]) -> Row:
    """The mean of what was measured of each cost; None where nothing was."""
    means: Row = {}
    for key in dict.fromkeys(key for cost in costs for key in cost):
        values = [cost[key] for cost in costs if cost.get(key) is not None]
        means[key] = sum(values) / len(values) if values else None
    return means


def _key(row: Row) -> tuple[str, str]:
    return row["encoder"], row["strategy"]


def _cells(comparison: Row) -> dict[tuple[str, str], Row]:
    """For each encoder and strategy its accuracy and, but for the best, the difference from the best."""
    strategies = comparison["strategies"]
    if not strategies:
        return {}
    best = max(range(len(strategies)), key=lambda index: strategies[index]["accuracy"]["mean"])
    nothing = {"difference": None, "interval": None}
    cells = {_key(strategy): {**strategy["accuracy"], **nothing} for strategy in strategies}
    for pair in comparison["pairs"]:
        if best in (pair["a"], pair["b"]):
            sign, other = (1, pair["a"]) if pair["b"] == best else (-1, pair["b"])
            bounds = sorted(sign * bound for bound in pair["interval"]) if pair["interval"] else None
            cells[_key(strategies[other])] |= {"difference": sign * pair["difference"], "interval": bounds}
    return cells
