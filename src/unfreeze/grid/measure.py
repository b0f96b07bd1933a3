"""What a step of one strategy costs, measured in a process of its own before tuning and grid."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from unfreeze.grid.budget import largest_within
from unfreeze.grid.prepare import prepare
from unfreeze.study import RunSpec
from unfreeze.studydir import StudyDir
from unfreeze.training.batching import epoch_batches
from unfreeze.training.checkpoint import Progress
from unfreeze.training.device import choose_compute
from unfreeze.training.loop import Trainer

# Steps that are timed, of batches evenly spaced by length, each after one of the same shape that is not.
TIMED = 12


def measure(
    study_dir: StudyDir, spec: RunSpec, job: Mapping[str, Any], report: Callable[[dict[str, Any]], None]
) -> None:
    """Measure what a job asks for and report it; a failure is reported, not raised.

    Args:
        study_dir: the study's folder.
        spec: any run of the strategy: its seed and the recipe's length do not matter.
        job: with ``device``, and ``measure``: ``flops``, ``seconds`` or ``memory``, of the largest batch size within
            ``fit`` bytes where that is not None, of the recipe's own otherwise.
        report: called once, with ``found`` or ``failure``.
    """
    try:
        compute = choose_compute(job["device"], spec.recipe.precision)
        splits, run = ("train",), study_dir.run(spec.run_id)
        trainer, _ = prepare(study_dir, study_dir.read_dataset(), run, spec, compute, splits, report)
        if job["measure"] == "memory":
            found = _memory(trainer, job["fit"])
        else:
            found = _seconds(trainer) if job["measure"] == "seconds" else _flops(trainer)
    except Exception as error:
        message = " ".join(str(error).split()) or type(error).__name__
        report({"kind": "measured", "job": job["id"], "failure": message})
        return
    report({"kind": "measured", "job": job["id"], "found": found})


def _flops(trainer: Trainer) -> dict[str, Any]:
    trainer.rehearse()
    return {"flops": trainer.flops.coefficients}


def _seconds(trainer: Trainer) -> dict[str, Any]:
    """The mean step of an epoch, once every shape has been met."""
    lengths = trainer.inputs["train"].lengths
    batches = epoch_batches(trainer.lengths, trainer.recipe.batch_size, trainer.seed, 0)
    batches.sort(key=lambda batch: int(lengths[batch].max()))
    chosen = np.linspace(0, len(batches) - 1, min(TIMED, len(batches))).astype(int)
    trainer.rehearse()
    seconds = 0.0
    for batch in [batches[index] for index in reversed(chosen)]:
        trainer.step(batch, epoch=0)
        seconds -= _now(trainer)
        trainer.step(batch, epoch=0)
        seconds += _now(trainer)
    return {"seconds": seconds / len(chosen)}


def _now(trainer: Trainer) -> float:
    if trainer.compute.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _memory(trainer: Trainer, fit: int | None) -> dict[str, Any]:
    trainer.step(np.argsort(trainer.lengths, kind="stable")[:1], epoch=0)  # it makes the optimiser's state
    needed = _Needed(trainer)
    if fit is None:
        return {"batch_size": trainer.recipe.batch_size, "bytes": needed(trainer.recipe.batch_size)}
    batch_size = largest_within(fit, needed, len(trainer.lengths))
    return {"batch_size": batch_size, "bytes": needed(max(1, batch_size))}


class _Needed:
    """Bytes that training takes at a batch size: as :meth:`Trainer.memory` says, were the longest examples one batch.

    They need not be in any one epoch, but no batch of any seed takes more.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.known = trainer, dict[int, int]()
        self.longest_first = np.argsort(-trainer.inputs["train"].lengths, kind="stable")
        self.kept = sum(value or 0 for value in trainer.memory(Progress()).values())

    def __call__(self, batch_size: int) -> int:
        rows = -(-min(batch_size, len(self.longest_first)) // self.trainer.recipe.gradient_accumulation)
        if rows not in self.known:
            self.known[rows] = self.kept + self.trainer.saved_bytes(self.longest_first[:rows])
        return self.known[rows]
