"""Logits of a classifier for every example of a split."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from unfreeze.training.batching import Inputs, evaluation_batches
from unfreeze.training.device import Compute
from unfreeze.training.prefix import EVALUATION_TOKENS


@torch.inference_mode()
def predict(model: Any, inputs: Inputs, compute: Compute) -> np.ndarray:
    """Float32 logits of shape (examples, labels), in the order of ``inputs``; the model is left in eval mode."""
    model.eval()
    order, logits = [], []
    for indices in evaluation_batches(inputs.lengths, EVALUATION_TOKENS[compute.device.type]):
        batch = {name: value.to(compute.device) for name, value in inputs.batch(indices).items()}
        with compute.autocast():
            logits.append(model(**batch).logits.float())
        order.append(indices)
    # One transfer at the end: a copy per batch would make a GPU wait.
    found = torch.cat(logits).cpu().numpy()
    result = np.empty_like(found)
    result[np.concatenate(order)] = found
    return result
