"""unfreeze's own steps, runs, grids and predictions, timed."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.work import GRID, MAX_LENGTH, RATES, Data, Work
from unfreeze.grid.estimate import matmul_flops_per_second
from unfreeze.grid.prepare import build_shared_prefix, tokens_of
from unfreeze.grid.run import Setting, run_one
from unfreeze.grid.runner import run_study
from unfreeze.study import Recipe, RunSpec, Study
from unfreeze.studydir import RunDir, StudyDir, read_json
from unfreeze.training import loop
from unfreeze.training.batching import Inputs
from unfreeze.training.checkpoint import kept_parameters
from unfreeze.training.device import Compute, keep_freed_memory
from unfreeze.training.encoder import build_classifier
from unfreeze.training.lean import make_lean
from unfreeze.training.predict import predict
from unfreeze.training.prefix import build_prefix, open_prefix, release_prefix, tail


def measure(work: Work, data: Data, compute: Compute, seed: int) -> dict[str, Any]:
    """As :func:`benchmarks.peer.measure`; ``useful`` is the share of the matrix-product peak that steps reach."""
    keep_freed_memory()  # as the processes do that a grid runs in
    with tempfile.TemporaryDirectory() as folder:
        return {"steps": steps, "run": run, "predict": answer}[work.mode](work, data, compute, seed, Path(folder))


def steps(work: Work, data: Data, compute: Compute, seed: int, folder: Path) -> dict[str, Any]:
    """One epoch of optimiser steps; a prefix lies there before."""
    anatomy = build_classifier(work.encoder, data.dataset.labels, work.made, seed=seed, head_dropout=0.1)
    make_lean(anatomy, compute)
    depth, model = anatomy.prefix_depth(), anatomy.classifier
    inputs: dict[str, Inputs] = {split: data.tokens[split] for split in ("train", "validation")}
    if depth:
        lengths = {split: tokens.lengths for split, tokens in data.tokens.items()}
        build_prefix(folder, anatomy, (depth,), inputs, compute)
        model = tail(anatomy, depth)
        release_prefix(anatomy, depth)
        inputs = {s: open_prefix(folder, anatomy, depth, s, lengths[s], compute.dtype) for s in inputs}
    trainer = loop.Trainer(
        model=model.to(compute.device),
        anatomy=anatomy,
        depth=depth,
        inputs=inputs,
        lengths=data.tokens["train"].lengths,
        gold=data.gold,
        recipe=Recipe(epochs=1, batch_size=work.batch, learning_rate=RATES[work.strategy]),
        seed=seed,
        compute=compute,
        run=RunDir(folder / "run"),
        kept=kept_parameters(anatomy, work.made),
    )
    progress = trainer.train()
    peak = matmul_flops_per_second(compute.device.type, "auto")
    assert progress.flops
    useful = progress.flops * progress.tokens / progress.seconds / peak * progress.tokens / progress.padded_tokens
    return {"seconds": progress.seconds, "accuracy": None, "useful": useful}


def run(work: Work, data: Data, compute: Compute, seed: int, folder: Path) -> dict[str, Any]:
    """A whole run as the grid does it: prefix, three epochs, evaluation, predictions and all that is written."""
    study_dir, spec = StudyDir(folder), spec_of(work, data, seed)
    study_dir.write_dataset(data.dataset)
    tokens_of(study_dir, data.dataset, spec.encoder, spec.max_length)
    depth = build_classifier(work.encoder, data.dataset.labels, work.made, seed=0).prefix_depth()
    started = time.perf_counter()
    if depth:
        build_shared_prefix(study_dir, spec, (depth,), device=compute.device.type, report=lambda _: None)
    run_one(study_dir, spec, Setting(compute.device.type, own_process=True), lambda _: None)
    seconds = time.perf_counter() - started
    result = read_json(study_dir.run(spec.run_id).result)
    return {"seconds": seconds, "accuracy": result["metrics"]["test"]["accuracy"], "useful": None}


def spec_of(work: Work, data: Data, seed: int) -> RunSpec:
    """The run's spec."""
    return RunSpec(
        dataset=data.dataset.name,
        data_fingerprint=data.dataset.fingerprint,
        labels=data.dataset.labels,
        is_pair=True,
        max_length=MAX_LENGTH,
        encoder=work.encoder,
        strategy={"kind": work.kind, **work.made.model_dump(mode="json")},
        strategy_slug=work.strategy,
        recipe=Recipe(epochs=work.epochs, batch_size=work.batch, learning_rate=RATES[work.strategy]),
        seed=seed,
    )


def answer(work: Work, data: Data, compute: Compute, seed: int, folder: Path) -> dict[str, Any]:
    """Logits of the test split from the whole classifier."""
    del folder
    anatomy = build_classifier(work.encoder, data.dataset.labels, work.made, seed=seed)
    make_lean(anatomy, compute)
    started = time.perf_counter()
    predict(anatomy.classifier, data.tokens["test"], compute)
    return {"seconds": time.perf_counter() - started, "accuracy": None, "useful": None}


def grid(work: Work, data: Data, folder: Path) -> float:
    """Seconds of all its runs through the grid's own executor, from the first job's start to the last's end.

    Importing torch is left out on either side, and so is the report.
    """
    paths = {split: folder / f"{split}.jsonl" for split in data.dataset.splits}
    for split, table in data.dataset.splits.items():
        rows = table.select(["premise", "hypothesis", "gold"]).to_pandas()
        rows["gold"] = [data.dataset.labels[gold] for gold in rows["gold"]]
        rows.to_json(paths[split], orient="records", lines=True)
    columns = {"premise": "premise", "hypothesis": "hypothesis", "label": "gold"}
    study = Study.model_validate(
        {
            "data": {"dataset": "files", "path": {s: str(p) for s, p in paths.items()}, "columns": columns},
            "strategies": [
                {"kind": kind, "options": options, "recipe": {"learning_rate": 3e-4}} for kind, options in GRID
            ],
            "recipe": {"epochs": work.epochs, "batch_size": work.batch},
            "seeds": list(range(work.seeds)),
            "baselines": False,
        }
    )
    moments: list[float] = []

    def watch(row: dict[str, Any]) -> None:
        if row["kind"] in ("started", "finished"):
            moments.append(time.perf_counter())

    result = run_study(study, folder / "study", watch=watch)
    assert {row["status"] for row in result.rows} == {"finished"}
    return moments[-1] - moments[0]
