"""A split that lies whole in a GPU's memory, so that no step waits for the host to hand it its batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from unfreeze.training.batching import Inputs, TokenizedSplit, padded_width
from unfreeze.training.device import Compute
from unfreeze.training.prefix import PrefixSplit


@dataclass(frozen=True)
class ResidentSplit:
    """Ragged values on a device, one example after another.

    Attributes:
        lengths: tokens of each example, int64, shape (examples,), on the host, where batches are cut.
        values: what the model takes, by name; shape (tokens,) or (tokens, hidden).
        fill: what stands in the padding of each.
    """

    lengths: np.ndarray
    values: Mapping[str, torch.Tensor]
    fill: Mapping[str, int]

    @cached_property
    def _starts(self) -> np.ndarray:
        starts: np.ndarray = np.cumsum(self.lengths) - self.lengths
        return starts

    def batch(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        """As the split's own, on the device: starts and lengths are all that travels."""
        device = next(iter(self.values.values())).device
        where = torch.from_numpy(np.stack([self._starts[indices], self.lengths[indices]]))
        where = where.to(device, non_blocking=True)
        positions = torch.arange(padded_width(self.lengths, indices), device=device)
        mask = positions < where[1, :, None]
        flat = (where[0, :, None] + positions).where(mask, 0)
        found = {"attention_mask": mask.long()}
        for name, values in self.values.items():
            rows = values[flat] if values.is_floating_point() else values[flat].long()
            found[name] = rows.masked_fill(~mask.view(*mask.shape, *(1,) * (rows.ndim - 2)), self.fill[name])
        return found


def to_device(inputs: Inputs, compute: Compute) -> Inputs:
    """The split on the GPU where it fits into half of what is free there; on other devices, itself.

    Half, because activations and optimiser state need room too.
    """
    if compute.device.type != "cuda" or size_bytes(inputs) > torch.cuda.mem_get_info(compute.device)[0] // 2:
        return inputs
    return resident(inputs, compute.device)


def size_bytes(inputs: Inputs) -> int:
    """Bytes of a split's values."""
    if isinstance(inputs, PrefixSplit):
        return inputs.nbytes
    assert isinstance(inputs, TokenizedSplit)
    return inputs.ids.nbytes + (0 if inputs.type_ids is None else inputs.type_ids.nbytes)


def resident(inputs: Inputs, device: torch.device) -> ResidentSplit:
    """The split on ``device``."""
    if isinstance(inputs, PrefixSplit):
        return ResidentSplit(inputs.lengths, {"inputs_embeds": inputs.read().to(device)}, {"inputs_embeds": 0})
    assert isinstance(inputs, TokenizedSplit)
    arrays = {"input_ids": inputs.ids} | ({} if inputs.type_ids is None else {"token_type_ids": inputs.type_ids})
    values = {name: torch.tensor(array, device=device) for name, array in arrays.items()}
    return ResidentSplit(inputs.lengths, values, {"input_ids": inputs.pad_id, "token_type_ids": 0})
