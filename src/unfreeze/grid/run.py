"""One run, from its spec to its result; and one shared prefix. Both write what they made and return nothing."""

from __future__ import annotations

import hashlib
import json
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
from unfreeze.grid.baselines import make_baselines
from unfreeze.grid.environment import environment
from unfreeze.grid.evaluation import evaluate_run
from unfreeze.grid.executors import write_failure
from unfreeze.grid.plan import strategy_of
from unfreeze.records import SPLITS, Dataset, dynamics_table, mistakes_table, predictions_table
from unfreeze.strategies.anatomy import Anatomy
from unfreeze.study import RunSpec, slug
from unfreeze.studydir import RunDir, StudyDir, read_table, write_json, write_table
from unfreeze.training.batching import Inputs, TokenizedSplit, read_tokens, tokenize, write_tokens
from unfreeze.training.checkpoint import TRAINED, Progress, kept_parameters, load_trained
from unfreeze.training.cost import peak_memory_bytes, reset_peak_memory
from unfreeze.training.device import Compute, choose_compute
from unfreeze.training.encoder import build_classifier, load_tokenizer
from unfreeze.training.lean import make_lean
from unfreeze.training.loop import Trainer
from unfreeze.training.predict import head_states, predict
from unfreeze.training.prefix import build_prefix, open_prefix, prefix_bytes, prefix_seconds, release_prefix, tail
from unfreeze.training.resident import to_device

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
    tokens = tokens_of(study_dir, dataset, spec.encoder, spec.max_length)
    anatomy, strategy = _classifier(spec), strategy_of(spec)
    make_lean(anatomy, compute, keep=strategy.rewritten(anatomy))
    depth = anatomy.prefix_depth()
    prefix = prefix_folder(study_dir, spec.data_fingerprint, spec.encoder, spec.max_length, compute)
    shared_seconds = prefix_seconds(prefix, depth) if depth else None
    if shared_seconds is None:
        model: Any = anatomy.classifier.to(compute.device)
        inputs: Mapping[str, Inputs] = {split: tokens[split] for split in splits}
    else:
        model = tail(anatomy, depth).to(compute.device)
        release_prefix(anatomy, depth)
        inputs = {s: open_prefix(prefix, anatomy, depth, s, tokens[s].lengths, compute.dtype) for s in splits}
    inputs = {split: to_device(values, compute) for split, values in inputs.items()}
    kept = kept_parameters(anatomy, strategy)  # only now: moving to a device replaces the tensors
    gold = {split: dataset.splits[split]["gold"].to_numpy().astype(np.int64) for split in splits}
    lengths = tokens["train"].lengths
    reset_peak_memory(compute)
    trainer = Trainer(model, anatomy, depth, inputs, lengths, gold, spec.recipe, spec.seed, compute, run, kept, report)
    progress = trainer.train(setting.until)
    if progress.epoch == setting.until and progress.epoch < spec.recipe.epochs:
        return None
    started = time.perf_counter()
    metrics = _evaluate(run, spec, dataset, model, inputs, compute)
    evaluate_seconds = progress.evaluate_seconds + time.perf_counter() - started
    if not setting.trial:
        train, done = dataset.splits["train"], slice(progress.epoch)
        seen = (values[done].cpu().numpy() for values in (trainer.gold_probability, trainer.correct))
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
            "tokens_per_second": progress.epoch * int(lengths.sum()) / progress.seconds,
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
            "prefix_depth": depth,
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


def _classifier(spec: RunSpec) -> Anatomy:
    return build_classifier(
        spec.encoder,
        spec.labels,
        strategy_of(spec),
        seed=spec.seed,
        head_dropout=spec.recipe.head_dropout,
    )


def load_classifier(run: RunDir, spec: RunSpec, compute: Compute) -> Any:
    """The trained classifier of a finished run, in eval mode.

    Raises:
        RunError: its checkpoint cannot be read.
        EncoderError: its encoder cannot be had.
    """
    anatomy = _classifier(spec)
    load_trained(run.checkpoint, kept_parameters(anatomy, strategy_of(spec)))
    return anatomy.classifier.to(compute.device).eval()


def tokens_of(study_dir: StudyDir, dataset: Dataset, encoder: str, max_length: int) -> dict[str, TokenizedSplit]:
    """Tokenised splits, from the cache where they are there."""
    folder = study_dir.cache / "tokens" / _key(encoder, dataset.fingerprint, max_length)
    found = {}
    for split in SPLITS:
        path = folder / f"{split}.arrow"
        if not path.is_file():
            write_tokens(path, tokenize(dataset.splits[split], load_tokenizer(encoder), max_length))
        found[split] = read_tokens(path)
    return found


def prefix_folder(study_dir: StudyDir, fingerprint: str, encoder: str, max_length: int, compute: Compute) -> Path:
    """Where the frozen states of this encoder over these data lie, in this precision."""
    return study_dir.cache / "prefix" / _key(encoder, fingerprint, max_length, compute.precision)


def _key(encoder: str, *parts: Any) -> str:
    digest = hashlib.sha256(json.dumps([encoder, *parts]).encode()).hexdigest()
    return f"{slug(encoder)}-{digest[:8]}"


def build_shared_prefix(
    study_dir: StudyDir, spec: RunSpec, depths: tuple[int, ...], *, device: str, report: Report
) -> None:
    """Compute the frozen states that a group of runs starts from, unless they are there or too large to keep.

    Args:
        study_dir: the study's folder.
        spec: any run of the group: its encoder and data are what counts.
        depths: layers below which something is frozen.
        device: as in :func:`run_one`.
        report: told what is done and why.
    """
    compute = choose_compute(device, spec.recipe.precision)
    folder = prefix_folder(study_dir, spec.data_fingerprint, spec.encoder, spec.max_length, compute)
    missing = [depth for depth in depths if prefix_seconds(folder, depth) is None]
    if not missing:
        return
    tokens = tokens_of(study_dir, study_dir.read_dataset(), spec.encoder, spec.max_length)
    anatomy = _classifier(spec)
    make_lean(anatomy, compute)
    needed = prefix_bytes(anatomy, missing, {split: tokens[split].lengths for split in SPLITS}, compute.dtype)
    free = shutil.disk_usage(study_dir.path).free
    # Half of what is free: checkpoints and other people's files need room too.
    if needed > free // 2:
        report(
            {
                "kind": "note",
                "message": f"frozen prefix not kept: {needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free",
            }
        )
        return
    build_prefix(folder, anatomy, missing, tokens, compute)
    report({"kind": "note", "message": f"frozen prefix at depth {', '.join(map(str, missing))}: {needed / 1e6:.0f} MB"})


def run_job(folder: str | os.PathLike[str], job: Mapping[str, Any], report: Report, *, own_process: bool) -> None:
    """Do one job: ``{"kind": "run" | "trial" | "prefix" | "baselines" | "evaluate", "spec": …, "device": …}``."""
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
    else:
        how = (job.get("workers", 1), job["kind"] == "trial", job.get("until"))
        run_one(study_dir, spec, Setting(job["device"], own_process, *how), report)
