"""What a classifier says of the examples of a split, and the states it says it from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from unfreeze.strategies.anatomy import Anatomy
from unfreeze.training.batching import Inputs, evaluation_batches
from unfreeze.training.device import Compute
from unfreeze.training.lean import cast_matrices
from unfreeze.training.prefix import EVALUATION_TOKENS


def predict(model: Any, inputs: Inputs, compute: Compute) -> np.ndarray:
    """Float32 logits of shape (examples, labels), in the order of ``inputs``; the model is left in eval mode."""
    return _of_each(model, inputs, np.arange(len(inputs.lengths)), compute, lambda output: output.logits)


def head_states(model: Any, anatomy: Anatomy, inputs: Inputs, compute: Compute, indices: np.ndarray) -> np.ndarray:
    """What the head reads of some examples: the state of [CLS], or the mean over tokens where it pools that.

    Args:
        model: the classifier, or its tail with the ``inputs`` that go with it; it is left in eval mode.
        anatomy: of the classifier; the tail shares its head.
        inputs: the split.
        compute: where and in what arithmetic.
        indices: which examples of the split.

    Returns:
        Float32 states of shape (indices, hidden).
    """
    if not len(indices):
        return np.empty((0, anatomy.classifier.config.hidden_size), np.float32)
    given: list[torch.Tensor] = []

    def catch(_head: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        # Some families pool before the head; in the others the head takes every token and reads the first.
        given.append(arguments[0] if arguments[0].ndim == 2 else arguments[0][:, 0])

    with next(anatomy.modules(anatomy.head_names)).register_forward_pre_hook(catch):
        return _of_each(model, inputs, indices, compute, lambda _: given.pop())


@torch.inference_mode()
def _of_each(
    model: Any, inputs: Inputs, indices: np.ndarray, compute: Compute, value: Callable[[Any], torch.Tensor]
) -> np.ndarray:
    """One float32 row for each of ``indices``: what ``value`` takes from the model's output on a batch of them."""
    model.eval()
    order, rows = [], []
    batches = evaluation_batches(inputs.lengths[indices], EVALUATION_TOKENS[compute.device.type])
    with compute.autocast(), cast_matrices(model, compute.dtype):
        for batch_order in batches:
            batch = {name: tensor.to(compute.device) for name, tensor in inputs.batch(indices[batch_order]).items()}
            rows.append(value(model(**batch)).float())
            order.append(batch_order)
    # One transfer at the end: a copy per batch would make a GPU wait.
    found = torch.cat(rows).cpu().numpy()
    result = np.empty_like(found)
    result[np.concatenate(order)] = found
    return result
