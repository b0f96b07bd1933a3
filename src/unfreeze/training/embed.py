"""Sentence embeddings of a pretrained encoder that nothing was trained of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from unfreeze.strategies import make_strategy
from unfreeze.training.batching import Inputs, evaluation_batches, tokenize
from unfreeze.training.device import Compute
from unfreeze.training.encoder import build_classifier, load_tokenizer
from unfreeze.training.lean import make_lean
from unfreeze.training.prefix import EVALUATION_TOKENS


def embed(name: str, texts: Sequence[str], max_length: int, compute: Compute) -> np.ndarray:
    """Mean of the last layer's states over each text's tokens, float32 of shape (texts, hidden).

    Args:
        name: the encoder: hub id, folder or ``minilm``.
        texts: each encoded alone.
        max_length: tokens above which a text is truncated.
        compute: where, and in what arithmetic.

    Raises:
        EncoderError: the encoder cannot be had.
    """
    table = pa.table({"premise": pa.array(texts, pa.string()), "hypothesis": pa.nulls(len(texts), pa.string())})
    # The head is left out again; two labels are the fewest that a classifier is built with.
    frozen = make_strategy("head-only", {})
    anatomy = build_classifier(name, ("no", "yes"), frozen, seed=0)
    make_lean(anatomy, compute, every_token=True)
    encoder = anatomy.base.to(compute.device).eval()
    return mean_states(encoder, tokenize(table, load_tokenizer(name), max_length), compute)


@torch.inference_mode()
def mean_states(encoder: Any, inputs: Inputs, compute: Compute) -> np.ndarray:
    """Mean of an encoder's last states over the tokens that the attention mask keeps, in the order of ``inputs``."""
    order, means = [], []
    for indices in evaluation_batches(inputs.lengths, EVALUATION_TOKENS[compute.device.type]):
        batch = {name: value.to(compute.device) for name, value in inputs.batch(indices).items()}
        with compute.autocast():
            states = encoder(**batch).last_hidden_state.float()
        mask = batch["attention_mask"].unsqueeze(-1)
        means.append((states * mask).sum(dim=1) / mask.sum(dim=1))
        order.append(indices)
    found = torch.cat(means).cpu().numpy()
    result = np.empty_like(found)
    result[np.concatenate(order)] = found
    return result
