"""One run, from its spec to its result; and every other job that a process of its own may have."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unfreeze.analysis.metrics import calibrated, evaluate
from unfreeze.errors import RunError
from unfreeze.grid.baselines import make_baselines
from unfreeze.grid.environment import environment
from unfreeze.grid.evaluation import evaluate_run
from unfreeze.grid.executors import write_failure
from unfreeze.grid.measure import measure
from unfreeze.grid.plan import strategy_of
from unfreeze.grid.prepare import build_shared_prefix, classifier_of, prepare
from unfreeze.records import SPLITS, Dataset, dynamics_table, mistakes_table, predictions_table
from unfreeze.strategies.anatomy import Anatomy
from unfreeze.study import RunSpec
from unfreeze.studydir import RunDir, StudyDir, read_table, write_json, write_table
from unfreeze.training.batching import Inputs
from unfreeze.training.checkpoint import TRAINED, Progress, kept_parameters, load_trained
from unfreeze.training.cost import peak_memory_bytes, reset_peak_memory
from unfreeze.training.device import Compute, choose_compute
from unfreeze.training.predict import head_states, predict

Report = Callable[[dict[str, Any]], None]

# Test mistakes of a run that the map places: more than can be told apart in a plot, and clustered in a second.
MAPPED_MISTAKES = 4000


@dataclass(frozen=True)
class Setting:
    """How a run is carried out.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        own_process: whether this process does nothing else, so that its peak memory is the run's.
        workers: how many such processes share the machine, for the records.
        trial: look at validation only, write nothing of the test split and keep no checkpoint.
        until: the epoch after which to pause; a later call goes on.
    """

    device: str
    own_process: bool
    workers: int = 1
    trial: bool = False
    until: int | None = None


def run_one(study_dir: StudyDir, spec: RunSpec, setting: Setting, report: Report) -> None:
    """Train, evaluate and write one run; a failure is written beside it instead of raised.

    Args:
        study_dir: where the split data lie and the run's folder goes.
        spec: what to run.
        setting: where, and how far.
        report: called with every row of the run's history.
    """
    run = study_dir.trial(spec.run_id) if setting.trial else study_dir.run(spec.run_id)
    write_json(run.spec, spec.model_dump(mode="json"))
    last: dict[str, Any] = {}

    def watch(row: dict[str, Any]) -> None:
        last.update(row)
        report({**row, "run_id": spec.run_id})

    try:
        compute = choose_compute(setting.device, spec.recipe.precision)
        result = _train_and_evaluate(study_dir, run, spec, compute, setting, watch)
    except Exception as error:
        write_failure(run, error, step=last.get("step"))
        return
    run.failure.unlink(missing_ok=True)
    if result is None:
        return
    write_json(run.result, result)
    run.resume.unlink(missing_ok=True)
    if setting.trial:
        shutil.rmtree(run.checkpoint)


def _train_and_evaluate(
    study_dir: StudyDir, run: RunDir, spec: RunSpec, compute: Compute, setting: Setting, report: Report
) -> dict[str, Any] | None:
    """The content of ``result.json``; None for a run that was paused."""
    splits = SPLITS[:2] if setting.trial else SPLITS
    dataset = study_dir.read_dataset()
    trainer, shared_seconds = prepare(study_dir, dataset, run, spec, compute, splits, report)
    model, anatomy, inputs, lengths = trainer.model, trainer.anatomy, trainer.inputs, trainer.lengths
    reset_peak_memory(compute)
    progress = trainer.train(setting.until)
    if progress.epoch == setting.until and progress.epoch < trainer.epochs:
        return None
    started = time.perf_counter()
    metrics = _evaluate(run, spec, dataset, model, inputs, compute)
    evaluate_seconds = progress.evaluate_seconds + time.perf_counter() - started
    if not setting.trial:
        # An epoch that max_steps cut short has not seen every example.
        train, whole = dataset.splits["train"], progress.step // trainer.steps_per_epoch
        seen = (values[:whole].cpu().numpy() for values in (trainer.gold_probability, trainer.correct))
        if whole:
            write_table(run.dynamics, dynamics_table(train["guid"], train["gold"], *seen))
        _keep_mistakes(run, spec, model, anatomy, inputs["test"], compute)
    return {
        "run_id": spec.run_id,
        "encoder": spec.encoder,
        "strategy": spec.strategy_slug,
        "seed": spec.seed,
        "status": "finished",
        "params": {
            "total": sum(p.numel() for p in anatomy.classifier.parameters()),
            "trainable": sum(p.numel() for p in anatomy.trainable().values()),
        },
        "recipe": spec.recipe.model_dump(mode="json"),
        "metrics": metrics,
        "best_epoch": progress.best["epoch"] if progress.best else None,
        "epochs": progress.epoch,
        "steps": progress.step,
        "cost": {
            "prefix_seconds": shared_seconds,
            "evaluate_seconds": evaluate_seconds,
            "tokens_per_second": progress.pairs * float(lengths.mean()) / progress.seconds,
            "peak_memory_bytes": peak_memory_bytes(compute, setting.own_process),
            "checkpoint_bytes": (run.checkpoint / TRAINED).stat().st_size,
            # Runs side by side cannot tell their shares of the CPU's energy apart.
            "energy_joules": progress.joules if setting.own_process and setting.workers == 1 else None,
            **_training_cost(progress),
            **trainer.memory(progress),
        },
        "environment": {
            **environment(),
            "device": str(compute.device),
            "precision": compute.precision,
            "precision_reason": compute.reason,
            "threads": torch.get_num_threads(),
            "workers": setting.workers,
            "attention": anatomy.classifier.config._attn_implementation,
            "prefix_depth": trainer.depth,
            "prefix_cached": shared_seconds is not None,
        },
    }


def _evaluate(
    run: RunDir, spec: RunSpec, dataset: Dataset, model: Any, inputs: Mapping[str, Inputs], compute: Compute
) -> dict[str, Any]:
    """Predict validation and (but for a trial) test, keep the predictions, and score them."""
    tables = {}
    for split in SPLITS[1 : len(inputs)]:
        examples = dataset.splits[split]
        tables[split] = predictions_table(examples["guid"], examples["gold"], predict(model, inputs[split], compute))
        write_table(run.predictions(split), tables[split])
    metrics = {split: evaluate(table, spec.labels) for split, table in tables.items()}
    if "test" in tables:
        metrics["test"] |= {"calibrated": calibrated(**tables)}
    return metrics


def _keep_mistakes(run: RunDir, spec: RunSpec, model: Any, anatomy: Anatomy, test: Inputs, compute: Compute) -> None:
    """Keep what the head read of the test mistakes, or of a sample of them: the report's map is drawn from it."""
    said = read_table(run.predictions("test"))
    wrong = np.flatnonzero(said["gold"].to_numpy() != said["predicted"].to_numpy())
    if len(wrong) > MAPPED_MISTAKES:
        wrong = np.sort(np.random.default_rng(spec.seed).choice(wrong, MAPPED_MISTAKES, replace=False))
    states = head_states(model, anatomy, test, compute, wrong)
    write_table(run.mistakes, mistakes_table(said["guid"].take(wrong), states))


def _training_cost(progress: Progress) -> dict[str, float | None]:
    return {
        "train_seconds": progress.seconds,
        "pairs_per_second": progress.pairs / progress.seconds,
        "flops": progress.flops * progress.tokens if progress.flops else None,
        "padding_share": 1 - progress.tokens / progress.padded_tokens,
        **{f"{phase}_seconds": progress.phases[phase] for phase in ("forward", "backward", "optimizer")},
    }


def load_classifier(run: RunDir, spec: RunSpec, compute: Compute) -> Any:
    """The trained classifier of a finished run, in eval mode.

    Raises:
        RunError: its checkpoint cannot be read.
        EncoderError: its encoder cannot be had.
    """
    anatomy = classifier_of(spec)
    load_trained(run.checkpoint, kept_parameters(anatomy, strategy_of(spec)))
    return anatomy.classifier.to(compute.device).eval()


def run_job(folder: str | os.PathLike[str], job: Mapping[str, Any], report: Report, *, own_process: bool) -> None:
    """Do one job: ``{"kind": …, "spec": …, "device": …}``; kinds are runs, trials and what stands here."""
    study_dir, spec = StudyDir(Path(folder)), RunSpec.model_validate(job["spec"])
    if job["kind"] == "prefix":
        try:
            build_shared_prefix(study_dir, spec, tuple(job["depths"]), device=job["device"], report=report)
        except Exception as error:  # runs do without it, and one that fails for the same reason says so itself
            report({"kind": "note", "message": f"frozen prefix not kept: {error}"})
    elif job["kind"] == "evaluate":
        evaluate_run(study_dir, spec, job["sets"], device=job["device"], report=report)
    elif job["kind"] == "baselines":
        make_baselines(study_dir, spec, job["missing"], device=job["device"], report=report)
    elif job["kind"] == "measure":
        measure(study_dir, spec, job, report)
    elif job["refused"]:
        run = study_dir.trial(spec.run_id) if job["kind"] == "trial" else study_dir.run(spec.run_id)
        write_failure(run, RunError(job["refused"]), step=None)
    else:
        how = (job.get("workers", 1), job["kind"] == "trial", job.get("until"))
        run_one(study_dir, spec, Setting(job["device"], own_process, *how), report)
