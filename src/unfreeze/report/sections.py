"""Which figures and tables each section of the page shows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from unfreeze.analysis.audit import accuracy_in, audit_parts, human_divergence
from unfreeze.analysis.calibration import reliability_bins
from unfreeze.analysis.checks import Evidence, Finding, run_checks
from unfreeze.analysis.clusters import FEWEST, Projection, map_mistakes
from unfreeze.analysis.dynamics import Cartography, cartography, mean_of
from unfreeze.analysis.mistakes import Answers, answers
from unfreeze.analysis.slices import slices
from unfreeze.analysis.words import Vocabulary, count_words, read_words
from unfreeze.report import figures
from unfreeze.report.budget_table import budget_report
from unfreeze.report.content import Content
from unfreeze.report.figures import Figure
from unfreeze.report.figures.compute import Written, cost_tables, lora_against_partial
from unfreeze.report.learning_tables import label_errors, learning_times
from unfreeze.report.tables import Table, calibration_report, class_report, flip_payload, pair_decisions, sure_mistakes
from unfreeze.report.tuning_table import tuning_report
from unfreeze.study import load_study

Row = dict[str, Any]

SHOWN = 24  # runs in the detailed figures: more can neither be told apart nor fit in the page
CONFUSION_CELLS = 150_000  # over all confusion matrices of a page
CLASS_ROWS = 2_000  # of the table of classes
MAPS = 12  # 0.8 s each at 4,000 mistakes; of more, too few points of each would fit in the page


@dataclass(frozen=True)
class Sections:
    """The figures and tables of a page, drawn from a study folder when they are asked for."""

    content: Content
    projection: Projection = "pca"

    @cached_property
    def runs(self) -> list[Row]:
        """The finished runs that detailed figures show: the best strategies first, seeds one after another."""
        by_id = {row["run_id"]: row for row in self.content.finished}
        ordered = [by_id[run_id] for strategy in self.content.leaderboard for run_id in strategy["run_ids"]]
        if len(ordered) > SHOWN:
            ordered = [by_id[strategy["run_ids"][0]] for strategy in self.content.leaderboard]
        return ordered[:SHOWN]

    @cached_property
    def answers(self) -> dict[str, Answers]:
        """Test answers by run id."""
        return {row["run_id"]: answers(self.content.predictions(row["run_id"])) for row in self.runs}

    @cached_property
    def one_each(self) -> list[Row]:
        """The first shown run of each strategy."""
        return list({(row["encoder"], row["strategy"]): row for row in reversed(self.runs)}.values())[::-1]

    @cached_property
    def answer(self) -> list[Figure]:
        """What accuracy costs."""
        return [figures.trade_off(self.content.leaderboard)] if self.content.leaderboard else []

    @cached_property
    def pairs(self) -> Table | None:
        """What was decided of every pair of strategies."""
        return pair_decisions(self.content.comparison)

    @cached_property
    def data(self) -> list[Figure]:
        """Balance and lengths."""
        splits, labels = self.content.dataset.splits, self.content.dataset.labels
        counts = {
            split: np.bincount(table["gold"].to_numpy(), minlength=len(labels)) for split, table in splits.items()
        }
        balance = {split: dict(zip(labels, count.tolist(), strict=True)) for split, count in counts.items()}
        return [
            figures.label_balance(balance),
            figures.text_lengths(splits, (self.content.explore or {}).get("tokens")),
        ]

    @cached_property
    def each_run(self) -> list[Figure]:
        """How each run learned, and what it answers."""
        if not self.runs:
            return []
        labels = self.content.dataset.labels
        histories = {row["run_id"]: self.content.history(row["run_id"]) for row in self.runs}
        bins = {run_id: reliability_bins(run.confidence, ~run.wrong) for run_id, run in self.answers.items()}
        return [
            figures.parameters(self.content.leaderboard),
            figures.learning_curves(self.runs, histories),
            figures.confusion(self.runs[: max(1, CONFUSION_CELLS // len(labels) ** 2)], labels),
            figures.calibration(self.runs, bins),
        ]

    @cached_property
    def calibration(self) -> Table | None:
        """Calibration with and without a temperature."""
        return calibration_report(self.runs) if self.runs else None

    @cached_property
    def classes(self) -> Table | None:
        """Precision, recall, F1 and support."""
        return class_report(self.runs[: max(1, CLASS_ROWS // len(self.content.dataset.labels))]) if self.runs else None

    @cached_property
    def mistakes(self) -> list[Figure]:
        """What runs get wrong, and whether they get the same wrong."""
        if not self.runs:
            return []
        labels, test = self.content.dataset.labels, self.content.dataset.splits["test"]
        return [
            figures.mistake_labels(self.runs, self.answers, labels),
            figures.probability_gaps(self.runs, self.answers, labels),
            figures.mistake_sets(self.one_each, self._wrong(self.one_each)),
            figures.mistake_overlap(self.runs, self._wrong(self.runs)),
            figures.slice_errors(self.one_each, self._wrong(self.one_each), slices(test)),
        ]

    @cached_property
    def sure_mistakes(self) -> Table | None:
        """The most confident mistakes."""
        dataset = self.content.dataset
        return sure_mistakes(self.runs, self.answers, dataset.splits["test"], dataset.labels) if self.runs else None

    @cached_property
    def flips(self) -> Row | None:
        """What changes between any two strategies."""
        dataset = self.content.dataset
        return flip_payload(self.one_each, self.answers, dataset.splits["test"], dataset.labels)

    @cached_property
    def audit(self) -> Row | None:
        """Accuracy of every strategy in parts of the test split that may be easy, and its distance from annotators."""
        splits, alone = self.content.dataset.splits, self.content.hypothesis_only
        wrong = answers(self.content.baseline_predictions(alone["baseline_id"])).wrong if alone else None
        cuts = audit_parts(splits["train"], splits["test"], wrong)
        rows = []
        for strategy in self.content.leaderboard:
            tables = [self.content.predictions(run_id) for run_id in strategy["run_ids"]]
            correct = np.stack([~answers(table).wrong for table in tables])
            human = [found for table in tables if (found := human_divergence(table, splits["test"]))]
            distance = {key: float(np.mean([found[key] for found in human])) for key in ("kl", "js")} if human else None
            cells = [cell for parts in cuts.values() for cell in accuracy_in(correct, parts)]
            rows.append({**strategy, "cells": cells, "human": distance})
        if not rows or not (cuts or rows[0]["human"]):
            return None
        sizes = {cut: [(label, int(mask.sum())) for label, mask in parts] for cut, parts in cuts.items()}
        return {"cuts": sizes, "rows": rows, "encoder": alone["encoder"] if alone else None}

    @cached_property
    def words(self) -> list[Figure]:
        """Words in mistakes."""
        if not self.runs or not self.vocabulary:
            return []
        return [figures.words_in_mistakes(self.one_each, count_words(self.vocabulary, self._wrong(self.one_each)))]

    @cached_property
    def vocabulary(self) -> Vocabulary | None:
        """The words of the test split."""
        return read_words(self.content.dataset.splits["test"])

    @cached_property
    def map(self) -> list[Figure]:
        """Mistakes by what the encoder makes of them."""
        kept = {row["run_id"]: self.content.mistakes(row["run_id"]) for row in self.one_each[:MAPS]}
        mistakes = {run_id: table for run_id, table in kept.items() if table is not None and len(table) >= FEWEST}
        runs = [row for row in self.one_each if row["run_id"] in mistakes]
        if not runs:
            return []
        labels, test = self.content.dataset.labels, self.content.dataset.splits["test"]
        maps = map_mistakes(mistakes, self.answers, test["guid"], labels, self.vocabulary, self.projection)
        return [figures.mistake_map(runs, maps, self.answers, test, labels, self.projection)]

    @cached_property
    def learned(self) -> dict[str, Cartography]:
        """How the training examples were learned, by run id; empty where no run recorded it."""
        guid = self.content.dataset.splits["train"]["guid"]
        tables = {row["run_id"]: self.content.dynamics(row["run_id"]) for row in self.runs}
        return {run_id: cartography(table, guid) for run_id, table in tables.items() if table is not None}

    @cached_property
    def learned_by(self) -> dict[str, Cartography]:
        """The mean over seeds, by the name of each strategy."""
        several = len({row["encoder"] for row in self.runs}) > 1
        runs: dict[str, list[Cartography]] = {}
        for row in self.runs:
            name = f"{row['strategy']} on {row['encoder']}" if several else row["strategy"]
            if row["run_id"] in self.learned:
                runs.setdefault(name, []).append(self.learned[row["run_id"]])
        return {name: mean_of(seeds) for name, seeds in runs.items()}

    @cached_property
    def dynamics(self) -> list[Figure]:
        """Where training examples lie on a data map."""
        return [figures.data_maps(self.learned_by)] if self.learned else []

    @cached_property
    def dynamics_tables(self) -> list[Table]:
        """Likely label errors, and what strategies learn at different times."""
        train, labels = self.content.dataset.splits["train"], self.content.dataset.labels
        tables = (
            label_errors(list(self.learned.values()), train, labels) if self.learned else None,
            learning_times(self.learned_by, train, labels) if len(self.learned_by) > 1 else None,
        )
        return [table for table in tables if table is not None]

    @cached_property
    def compute(self) -> list[Figure]:
        """What it cost, and what that cost is made of where it was measured."""
        leaderboard = self.content.leaderboard
        if not leaderboard:
            return []
        parts = (figures.memory_parts(leaderboard), figures.time_parts(leaderboard))
        return [figures.costs(leaderboard), *(figure for figure in parts if figure)]

    @property
    def figures(self) -> list[Figure]:
        """Every figure, in the order of the page."""
        about_mistakes = [*self.mistakes, *self.words, *self.dynamics, *self.map]
        return [*self.answer, *self.data, *self.each_run, *about_mistakes, *self.compute]

    @cached_property
    def lora_against_partial(self) -> str | None:
        """Whether LoRA is cheaper than partial fine-tuning here, and why; not asked where both were given the same."""
        return None if self.content.compared_at["name"] else lora_against_partial(self.content.leaderboard)

    @cached_property
    def cost_tables(self) -> list[list[tuple[str, str, Written]]]:
        """The columns of each table of costs."""
        return cost_tables(self.content.leaderboard)

    @cached_property
    def tuning(self) -> Table | None:
        """What was tried before the grid."""
        return tuning_report(self.content.tuning) if self.content.tuning else None

    @cached_property
    def budget(self) -> Table | None:
        """What every run had of an equal budget."""
        at = self.content.compared_at
        return budget_report(at, self.content.finished) if at["name"] and self.content.finished else None

    @cached_property
    def findings(self) -> list[Finding]:
        """Warnings that the study does not mute."""
        splits = self.content.dataset.splits
        tokens = (self.content.explore or {}).get("tokens", {})
        truncated = [split["truncated_share"] for split in tokens.values() if "truncated_share" in split]
        evidence = Evidence(
            results=self.content.results,
            comparison=self.content.comparison,
            labels=len(self.content.dataset.labels),
            train_groups=splits["train"]["group"].to_numpy(),
            test_groups=splits["test"]["group"].to_numpy(),
            truncated_share=max(truncated, default=None),
            searches=self.content.tuning["searches"] if self.content.tuning else (),
            baselines=self.content.baselines,
        )
        return run_checks(evidence, load_study(self.content.study_dir.study_yaml).mute)

    def _wrong(self, runs: list[Row]) -> np.ndarray:
        return np.stack([self.answers[row["run_id"]].wrong for row in runs])
