"""What was trained, as safetensors, and what an interrupted run needs to go on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from unfreeze.errors import RunError
from unfreeze.strategies import Strategy
from unfreeze.strategies.anatomy import Anatomy
from unfreeze.studydir import atomic_path

TRAINED = "trained.safetensors"


def kept_parameters(anatomy: Anatomy, strategy: Strategy) -> dict[str, torch.Tensor]:
    """Every tensor that is not the published encoder's: what trains, and what the strategy rewrote at the start."""
    parameters = dict(anatomy.classifier.named_parameters())
    rewritten = {name: parameters[name].detach() for name in strategy.rewritten(anatomy)}
    return {name: p.detach() for name, p in anatomy.trainable().items()} | rewritten


def save_trained(folder: Path, kept: Mapping[str, torch.Tensor]) -> None:
    """Write ``trained.safetensors`` atomically."""
    with atomic_path(folder / TRAINED) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in kept.items()}, temporary)


def load_trained(folder: Path, kept: Mapping[str, torch.Tensor]) -> None:
    """Put what :func:`save_trained` wrote into the tensors of a classifier built for the same strategy.

    Raises:
        RunError: the file is missing, damaged or of another strategy.
    """
    path = folder / TRAINED
    try:
        saved = load_file(path)
    except Exception as error:  # safetensors raises its own untyped exception for a damaged file
        raise RunError(
            f"{path}: the checkpoint cannot be read ({error}); delete {folder.parent} and run the study again"
        ) from None
    if saved.keys() != kept.keys():
        raise RunError(f"{path}: holds {len(saved)} tensors, not the {len(kept)} that this run's strategy trains")
    copy_into(kept, saved)


def copy_into(kept: Mapping[str, torch.Tensor], saved: Mapping[str, torch.Tensor]) -> None:
    """Copy values by name, in place."""
    with torch.no_grad():
        for name, tensor in kept.items():
            tensor.copy_(saved[name])


@dataclass
class Progress:
    """Where a run stands after an epoch: all that the next one depends on besides the seed.

    Attributes:
        epoch: epochs done.
        seconds: spent in optimiser steps so far; ``phases`` splits them into forward, backward and optimizer.
        flops: floating-point operations for each token of training, on average over these epochs.
        joules: used by the device in these steps; None where it was not measured all the time.
        activation_bytes: what autograd saves of the largest training batch.
        best: number, accuracy and loss of the best epoch so far, whose weights are in ``trained.safetensors``.
        stale: evaluations since the best.
        history: lines of history.jsonl that belong to these epochs.
    """

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    evaluate_seconds: float = 0.0
    pairs: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    joules: float | None = 0.0
    flops: float | None = None
    activation_bytes: int | None = None
    phases: dict[str, float] = field(default_factory=dict)
    best: dict[str, Any] | None = None
    stale: int = 0
    history: int = 0


def save_progress(path: Path, progress: Progress, state: Mapping[str, Any]) -> None:
    """Write an interrupted run's state (optimiser, schedule, random state, trained tensors) atomically."""
    with atomic_path(path) as temporary:
        torch.save({"progress": asdict(progress), **state}, temporary)


def load_progress(path: Path) -> tuple[Progress, dict[str, Any]] | None:
    """Read what :func:`save_progress` wrote, or None where there is none to go on from."""
    if not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return Progress(**state.pop("progress")), state
