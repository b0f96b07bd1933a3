"""What a grid will take, before anything is spent: steps, tokens, padding, and rough memory and time."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import psutil

from unfreeze.grid.budget import Budget, largest_within, step_key
from unfreeze.grid.plan import PlannedRun, Shape
from unfreeze.records import SPLITS, Dataset
from unfreeze.study import Study

# Token lengths come from at most this many examples of a split: 20,000 give padding to a tenth of a percent.
SAMPLE = 20_000
# Share of the matrix-product peak that training steps of MiniLM on SNLI would reach on a 2-core CPU if they did all the
# formula counts, the whole last layer too: 0.57 under full fine-tuning, 0.67 under LoRA, 0.79 from a cached prefix.
EFFICIENCY = 0.6
# What the same runs took for activations, allocator and kernels' workspaces, over the formula: 2.9 to 3.9 times.
ACTIVATION_SCALE = 4
# Resident memory of a process that has imported torch, transformers and PEFT and read SNLI's sample (Linux).
PROCESS_BYTES = 530e6


@dataclass(frozen=True)
class Estimate:
    """What one run is expected to take.

    Attributes:
        tokens: text tokens over all epochs.
        padding_share: of the tokens computed in training.
        memory_bytes: peak, on the device the run trains on.
        train_flops: of the training steps.
        train_seconds: likewise.
        longest: tokens of the longest training example.
        seconds: training and evaluation, without the shared prefix.
        prefix_seconds: of one pass of the frozen layers over the data.
    """

    steps: int
    tokens: int
    padding_share: float
    memory_bytes: float
    train_flops: float
    train_seconds: float
    longest: int
    seconds: float
    prefix_seconds: float


def token_lengths(dataset: Dataset, encoder: str, max_length: int) -> dict[str, np.ndarray]:
    """Tokens of (a sample of) each split's examples, scaled to nothing: one length for each sampled example."""
    from unfreeze.training.batching import tokenize
    from unfreeze.training.encoder import load_tokenizer

    lengths = {}
    for split in SPLITS:
        examples = dataset.splits[split]
        sample = examples.take(np.linspace(0, len(examples) - 1, min(SAMPLE, len(examples))).astype(int))
        lengths[split] = tokenize(sample, load_tokenizer(encoder), max_length).lengths
    return lengths


def matmul_flops_per_second(device: str, precision: str) -> float:
    """Peak of this machine's matrix products at an encoder's sizes, from a fraction of a second of them."""
    import torch

    from unfreeze.training.device import choose_compute

    compute = choose_compute(device, precision)
    a = torch.randn(1024, 768, device=compute.device, dtype=compute.dtype)
    b = torch.randn(768, 3072, device=compute.device, dtype=compute.dtype)
    float((a @ b).sum())
    started, products = time.perf_counter(), 0
    while time.perf_counter() - started < 0.2:
        c = a @ b
        products += 1
    float(c.sum())  # waits for a GPU
    return products * 2 * 1024 * 768 * 3072 / (time.perf_counter() - started)


def estimate(run: PlannedRun, shape: Shape, dataset: Dataset, lengths: dict[str, np.ndarray], peak: float) -> Estimate:
    """Estimate one run.

    Args:
        run: the run.
        shape: its classifier's shape.
        dataset: its data.
        lengths: of :func:`token_lengths`.
        peak: of :func:`matmul_flops_per_second`.
    """
    from unfreeze.training.batching import epoch_batches, padded_tokens

    recipe, train = run.spec.recipe, lengths["train"]
    batches = epoch_batches(train, recipe.batch_size, run.spec.seed, 0)
    padded = padded_tokens(train, batches)
    tokens = {split: float(lengths[split].mean()) * len(dataset.splits[split]) for split in SPLITS}
    per_epoch = math.ceil(len(dataset.splits["train"]) / recipe.batch_size)
    steps = min(per_epoch * recipe.epochs, recipe.max_steps or sys.maxsize)
    seen = tokens["train"] * steps / per_epoch

    above = shape.layers - shape.depth
    forward = 2 * shape.layer_weights * above
    # Backward: gradients of the states through every layer above the prefix, and of the weights that train.
    training = 2 * forward + 2 * min(shape.trainable, shape.layer_weights * above)
    train_flops = seen * training
    if not above:  # all that trains is the head, once for each example
        train_flops = 6.0 * shape.trainable * len(dataset.splits["train"]) * steps / per_epoch
    work = train_flops + (tokens["validation"] * (recipe.epochs + 1) + tokens["test"]) * forward
    prefix_work = sum(tokens.values()) * 2 * shape.layer_weights * shape.depth
    return Estimate(
        steps=steps,
        tokens=round(seen),
        padding_share=1 - float(train.sum()) / padded,
        memory_bytes=_memory(run, shape, max(int(train[batch].max()) for batch in batches)),
        train_flops=train_flops,
        train_seconds=train_flops / (peak * EFFICIENCY),
        longest=int(train.max()),
        seconds=work / (peak * EFFICIENCY),
        prefix_seconds=prefix_work / (peak * EFFICIENCY),
    )


def _memory(run: PlannedRun, shape: Shape, longest: int) -> float:
    """Process, and what training takes."""
    recipe = run.spec.recipe
    return PROCESS_BYTES + _training_bytes(recipe.batch_size, recipe.gradient_accumulation, shape, longest)


def _training_bytes(batch_size: int, accumulation: int, shape: Shape, longest: int) -> float:
    """Weights, gradients, Adam's two moments, and activations of the largest batch.

    Activations of a layer: s·b·h·(34 + 5·a·s/h) bytes in 16 bits (Korthikanti et al., 2022, arXiv:2205.05198, eq. 1).
    """
    rows = math.ceil(batch_size / accumulation)
    per_layer = ACTIVATION_SCALE * longest * rows * shape.hidden * (34 + 5 * shape.heads * longest / shape.hidden)
    return 4 * shape.total + 12 * shape.trainable + per_layer * (shape.layers - shape.depth)


def crew(
    runs: Sequence[PlannedRun], shapes: dict[str, Shape], longest: int, device: str, workers: int | None
) -> tuple[int, int]:
    """How many runs of a grid go side by side, and how many threads each has.

    On a CPU as many as there are cores and memory: two runs of one thread each got through a grid 1.3 to 1.4 times as
    fast as one of two threads (MiniLM, SNLI). All runs count, finished ones too: resuming changes no run's threads.

    Args:
        runs: the grid.
        shapes: of :func:`~unfreeze.grid.plan.shapes`.
        longest: tokens of the longest example.
        device: as a study names it.
        workers: taken as it is where it is given.
    """
    from unfreeze.training.device import choose_compute

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = min(cores, psutil.cpu_count(logical=False) or cores)
    if workers is None and choose_compute(device, "auto").device.type == "cpu":
        needed = max(_memory(run, shapes[run.run_id], longest) for run in runs)
        workers = min(cores, len(runs), int(psutil.virtual_memory().available // needed))
    workers = max(1, workers or 1)
    return workers, max(1, cores // workers)


def estimate_all(
    runs: Sequence[PlannedRun], shapes: dict[str, Shape], dataset: Dataset, device: str
) -> dict[str, Estimate]:
    """Estimates by run id.

    Raises:
        StudyError: the device is not on this machine.
    """
    peaks = {p: matmul_flops_per_second(device, p) for p in {run.spec.recipe.precision for run in runs}}
    lengths = {e: token_lengths(dataset, e, runs[0].spec.max_length) for e in {run.spec.encoder for run in runs}}
    return {
        run.run_id: estimate(
            run, shapes[run.run_id], dataset, lengths[run.spec.encoder], peaks[run.spec.recipe.precision]
        )
        for run in runs
    }


def estimated_budget(
    study: Study,
    runs: Sequence[PlannedRun],
    shapes: dict[str, Shape],
    estimates: dict[str, Estimate],
    dataset: Dataset,
) -> Budget:
    """What runs may spend where nothing has been measured yet.

    Args:
        study: says at what strategies are compared.
        runs: every strategy and all that it may try, as written.
        shapes: of the runs.
        estimates: of the runs.
        dataset: its data.
    """
    examples, found, kind = len(dataset.splits["train"]), dict[str, Any](), study.compare_at.kind
    # An estimate counts every example alike, so that nobody asks for lengths.
    budget = Budget(study, runs, examples, lambda _: np.zeros(examples, np.int64), found, {})

    def needed(run: PlannedRun, batch_size: int) -> float:
        accumulation, about = run.spec.recipe.gradient_accumulation, estimates[run.run_id]
        return _training_bytes(batch_size, accumulation, shapes[run.run_id], about.longest)

    for run in runs:
        about, batch_size = estimates[run.run_id], run.spec.recipe.batch_size
        seen = about.steps * batch_size
        found[step_key(kind, run.spec)] = {
            "flops": [about.train_flops / seen],
            "seconds": about.train_seconds / about.steps,
            "batch_size": batch_size,
            "bytes": needed(run, batch_size),
        }
    for run in runs if kind == "memory" else ():
        limit = budget.limit(run.spec.encoder, run.spec.seed) or 0.0
        size = largest_within(limit, partial(needed, run), examples)
        found[budget.fit_key(run.spec) or ""] = {"batch_size": size, "bytes": needed(run, max(1, size))}
    return budget
