"""A hand-made study folder: what `unfreeze run` leaves behind, without training anything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from unfreeze.analysis.compare import compare
from unfreeze.analysis.metrics import calibrated, evaluate
from unfreeze.datasets.explore import explore
from unfreeze.records import EXAMPLES, Dataset, dynamics_table, mistakes_table, predictions_table
from unfreeze.studydir import StudyDir, write_json, write_table, write_text

NLI = ("entailment", "neutral", "contradiction")
FAILURE = {"type": "Diverged", "message": "the loss is not finite", "step": 7}
COST = (
    *("train_seconds", "prefix_seconds", "evaluate_seconds", "pairs_per_second", "tokens_per_second"),
    *("peak_memory_bytes", "checkpoint_bytes", "flops", "energy_joules", "padding_share"),
    *("weight_bytes", "gradient_bytes", "optimizer_bytes", "activation_bytes"),
    *("forward_seconds", "backward_seconds", "optimizer_seconds"),
)


@dataclass
class Run:
    """One run to write; `mistakes` are the indices of the test rows it gets wrong, by answering the next label."""

    strategy: str
    seed: int = 0
    mistakes: Sequence[int] = ()
    encoder: str = "minilm"
    status: str = "finished"
    confidence: float = 0.9
    published: dict[str, Any] | None = None
    cost: dict[str, Any] = field(default_factory=dict)
    dynamics: bool = True
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        return f"{self.encoder}--{self.strategy.replace(' ', '-').lower()}--s{self.seed}--00000000"


def dataset(
    rows: int = 60, labels: tuple[str, ...] = NLI, pairs: bool = True, text: str = "a man sleeps", seed: int = 0
) -> Dataset:
    """Labels in turn, two examples a premise, three splits of ``rows`` rows each."""

    def split(name: str) -> pa.Table:
        columns = {
            "guid": [f"{name}-{i}" for i in range(rows)],
            "premise": [f"{text} {i // 2}" for i in range(rows)],
            "hypothesis": [f"nobody is outside {i}" if i % 3 else f"a man {i}" for i in range(rows)] if pairs else None,
            "gold": [i % len(labels) for i in range(rows)],
            "group": [i // 2 for i in range(rows)],
        }
        columns["hypothesis"] = columns["hypothesis"] or [None] * rows
        return pa.table(columns, schema=EXAMPLES)

    return Dataset("handmade", labels, {name: split(name) for name in ("train", "validation", "test")})


def predictions(examples: pa.Table, labels: Sequence[str], run: Run) -> pa.Table:
    """Confident predictions that are wrong exactly where the run says so."""
    gold = examples["gold"].to_numpy()
    answer = gold.copy()
    answer[list(run.mistakes)] = (gold[list(run.mistakes)] + 1) % len(labels)
    rest = (1 - run.confidence) / (len(labels) - 1)
    probabilities = np.where(np.arange(len(labels)) == answer[:, None], run.confidence, rest)
    return predictions_table(examples["guid"], examples["gold"], np.log(probabilities).astype(np.float32))


def dynamics(examples: pa.Table, run: Run, epochs: int = 3) -> pa.Table:
    """Every tenth training example is never learned, those with the indices of a run's mistakes in the last epoch."""
    probability = np.full((epochs, len(examples)), 0.9, np.float32)
    probability[:-1, list(run.mistakes)] = 0.3
    probability[:, ::10] = 0.05
    return dynamics_table(examples["guid"], examples["gold"], probability, probability > 0.5)


def mistakes(examples: pa.Table, run: Run) -> pa.Table:
    """Its mistakes in blobs, one for each gold label, far from each other."""
    rows = np.sort(np.array(run.mistakes, int))
    random, gold = np.random.default_rng(run.seed), examples["gold"].to_numpy()
    state = random.normal(size=(gold.max() + 1, 16))[gold[rows]] + 0.1 * random.normal(size=(len(rows), 16))
    return mistakes_table(examples["guid"].take(rows), state)


def result(run: Run, data: Dataset, tables: dict[str, pa.Table]) -> dict[str, Any]:
    cost = dict.fromkeys(COST)
    measured = {
        "train_seconds": 12.5,
        "evaluate_seconds": 1.5,
        "pairs_per_second": 480.0,
        "peak_memory_bytes": 3 * 10**8,
    }
    finished = run.status == "finished"
    metrics = {split: evaluate(table, data.labels) for split, table in tables.items()} if finished else None
    if metrics and "validation" in tables:
        metrics["test"]["calibrated"] = calibrated(tables["validation"], tables["test"])
    return {
        "run_id": run.run_id,
        "encoder": run.encoder,
        "strategy": run.strategy,
        "seed": run.seed,
        "status": run.status,
        "failure": FAILURE if run.status in ("failed", "diverged") else None,
        "params": {"total": 22_714_755, "trainable": 149_379} if finished else None,
        "recipe": {"epochs": 2, "batch_size": 32, "learning_rate": 1e-3},
        "metrics": metrics,
        "best_epoch": 2 if finished else None,
        "cost": {**cost, **measured, **run.cost} if finished else None,
        "environment": {"device": "cpu", "precision": "fp32", "threads": 2} if finished else None,
    }


def baseline(name: str, encoder: str | None, data: Dataset, mistakes: Sequence[int]) -> tuple[dict[str, Any], pa.Table]:
    """A row of `baselines.json` and its test predictions; `mistakes` are the test rows it gets wrong."""
    table = predictions(data.splits["test"], data.labels, Run(name, 0, mistakes))
    row = {"baseline_id": f"{name}--{encoder}", "name": name, "encoder": encoder, "status": "finished"}
    scores = evaluate(table, data.labels)
    row |= {"metrics": {"validation": scores, "test": scores}, "seconds": 8.0, "note": "Made by hand.", "failure": None}
    return row, table


def write_baselines(study_dir: StudyDir, found: Sequence[tuple[dict[str, Any], pa.Table]]) -> None:
    for row, table in found:
        write_table(study_dir.baseline(row["baseline_id"]).predictions("test"), table)
    write_json(study_dir.baselines_json, [row for row, _ in found])


def write_study(path: Path, runs: Sequence[Run], data: Dataset | None = None) -> StudyDir:
    """Write a whole study folder and return it."""
    study_dir, data = StudyDir(path), data or dataset()
    study_dir.write_dataset(data)
    tokens = {split: np.arange(len(table)) for split, table in data.splits.items()}
    write_json(study_dir.explore, explore(data, tokens, max_length=128))
    rows, tests = [], {}
    for run in runs:
        tables = {split: predictions(data.splits[split], data.labels, run) for split in ("validation", "test")}
        rows.append(result(run, data, tables))
        if run.status != "finished":
            continue
        tests[run.run_id] = tables["test"]
        for split, table in tables.items():
            write_table(study_dir.run(run.run_id).predictions(split), table)
        if run.dynamics:
            write_table(study_dir.run(run.run_id).dynamics, dynamics(data.splits["train"], run))
        write_table(study_dir.run(run.run_id).mistakes, mistakes(data.splits["test"], run))
        write_text(study_dir.run(run.run_id).history, "".join(json.dumps(line) + "\n" for line in history()))
    write_text(study_dir.study_yaml, "name: handmade\nstrategies: [head-only]\n")
    write_json(study_dir.resolved, resolved(runs, data))
    write_json(study_dir.results_json, rows)
    write_json(
        study_dir.comparison,
        compare(
            [row for row in rows if row["status"] != "pending"],
            tests.__getitem__,
            data.splits["test"]["group"].to_numpy(),
        ),
    )
    return study_dir


def history(epochs: int = 2, steps: int = 10) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for epoch in range(1, epochs + 1):
        for step in range((epoch - 1) * steps + 1, epoch * steps + 1):
            rate = 1e-3 * (1 - step / (epochs * steps + 1))
            common = {"step": step, "epoch": epoch, "seconds": step * 0.5}
            lines.append(
                {"kind": "step", **common, "loss": 1 / step, "learning_rate": rate, "tokens": 640, "pairs": 32}
            )
        evaluation = {"split": "validation", "loss": 1 / (epoch + 1), "accuracy": 0.5 + epoch / 10}
        lines.append({"kind": "evaluation", **common, **evaluation})
    return lines


def resolved(runs: Sequence[Run], data: Dataset) -> dict[str, Any]:
    return {
        "name": "handmade",
        "notes": ["the development split serves as test"],
        "data": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "labels": data.labels,
            "sizes": {split: len(table) for split, table in data.splits.items()},
        },
        "encoders": {"minilm": {"layers": 6, "note": "this encoder was trained on NLI pairs"}},
        "runs": [
            {
                "run_id": run.run_id,
                "encoder": run.encoder,
                "strategy": run.strategy,
                "seed": run.seed,
                "published": run.published,
                "spec": {
                    "dataset": data.name,
                    "max_length": 128,
                    "strategy": {"kind": run.strategy.lower().replace("-", " ").split()[0], **run.options},
                    "seed": run.seed,
                    "recipe": {"learning_rate": 1e-3},
                },
            }
            for run in runs
        ],
        "environment": {
            "python": "3.11.2",
            "platform": "Linux",
            "cpu": "a CPU",
            "cores": 2,
            "memory_bytes": 8 * 2**30,
            "versions": {"torch": "2.6.0"},
            "commit": "0" * 40,
            "date": "2026-01-01T00:00:00+00:00",
        },
    }
