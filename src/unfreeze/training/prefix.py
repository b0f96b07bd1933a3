"""The frozen prefix: everything below the lowest layer that trains is a constant of the input, computed once.

Frozen layers run without dropout, as constants should. :func:`build_prefix` runs them over every split and keeps the
hidden states at each depth some run of the grid starts from; :func:`tail` is the rest of the classifier, sharing every
parameter, so that training it trains the classifier.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from unfreeze.strategies.anatomy import Anatomy
from unfreeze.studydir import read_json, write_json
from unfreeze.training.batching import Inputs, evaluation_batches, padded_width
from unfreeze.training.device import Compute

# bf16 has no numpy type; the bits travel as uint16.
_STORED: dict[torch.dtype, np.dtype[Any]] = {torch.bfloat16: np.dtype(np.uint16), torch.float32: np.dtype(np.float32)}
# Padded tokens of an evaluation batch. On one thread of a CPU 1,024 predict 265 pairs/s, 2,048 274 and 4,096 241; with
# 1,024 texts of 17 to 32 tokens come by 32, as they do in most training, and oneDNN has prepared their shapes.
EVALUATION_TOKENS = {"cpu": 1024, "mps": 8192, "cuda": 65536}


class _Given(nn.Module):
    """Stands in for the embeddings: hands on the states it is given."""

    def forward(self, *given: Any, **named: Any) -> torch.Tensor:
        # DistilBERT passes them by position, after the token ids that are None here.
        states: torch.Tensor = named["inputs_embeds"] if named else next(value for value in given if value is not None)
        return states


class _Same(nn.Module):
    """Stands in for a stack without layers: DeBERTa's loop needs one to name its output."""

    def forward(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, None]:
        return hidden_states, None


def tail(anatomy: Anatomy, depth: int) -> Any:
    """The classifier from layer ``depth`` on, fed by ``inputs_embeds`` of shape (batch, tokens, hidden).

    It shares every module and parameter with the classifier; only the path down to the layers is copied.
    """
    classifier, stack = _shared_stack(anatomy, anatomy.layers[depth:])
    if depth == len(anatomy.layers) and anatomy.classifier.config.model_type == "deberta-v2":
        stack.append(_Same())
    base = getattr(classifier, anatomy.base_prefix)
    base._modules["embeddings"] = _Given()
    if "embeddings_project" in base._modules:  # ELECTRA's small sizes widen their embeddings
        base._modules["embeddings_project"] = nn.Identity()
    return classifier


def release_prefix(anatomy: Anatomy, depth: int) -> None:
    """Free the weights that cached states stand for (283 of BERT-base's 438 MB below its two top layers)."""
    for module in (anatomy.base.embeddings, *anatomy.layers[:depth]):
        module.to("meta")


def _shared_stack(anatomy: Anatomy, layers: Any) -> tuple[Any, nn.ModuleList]:
    """A classifier that shares all but its list of layers."""
    *path, last = anatomy.layers_name.split(".")
    classifier = node = _twin(anatomy.classifier)
    for part in path:
        node._modules[part] = _twin(node._modules[part])
        node = node._modules[part]
    node._modules[last] = nn.ModuleList(layers)
    return classifier, node._modules[last]


def _twin(module: Any) -> Any:
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    return twin


def set_train_mode(model: nn.Module, anatomy: Anatomy, depth: int) -> None:
    """Dropout on above the frozen prefix, off in it."""
    model.train()
    if depth:
        anatomy.base.embeddings.eval()
        nn.ModuleList(anatomy.layers[:depth]).eval()


class PrefixSplit:
    """Hidden states of a split at one depth, ragged on disk.

    They are read with pread, not mapped, so that a run's peak memory is its own and not the page cache's.
    """

    def __init__(self, path: Path, lengths: np.ndarray, hidden: int, dtype: torch.dtype) -> None:
        self.lengths = lengths
        self._offsets = np.concatenate([[0], np.cumsum(lengths)])
        self._hidden, self._dtype = hidden, dtype
        self._file = path.open("rb", buffering=0)

    @property
    def nbytes(self) -> int:
        """Of all states."""
        return int(self._offsets[-1]) * self._hidden * _STORED[self._dtype].itemsize

    def read(self) -> torch.Tensor:
        """All states, shape (tokens, hidden)."""
        self._file.seek(0)
        states = np.fromfile(self._file, _STORED[self._dtype])
        return torch.from_numpy(states).view(self._dtype).view(-1, self._hidden)

    def batch(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        """``inputs_embeds`` of shape (batch, tokens, hidden) and ``attention_mask``."""
        lengths = self.lengths[indices]
        stored = _STORED[self._dtype]
        states = np.zeros((len(indices), padded_width(self.lengths, indices), self._hidden), stored)
        width = self._hidden * stored.itemsize
        for row, (start, length) in enumerate(zip(self._offsets[indices], lengths, strict=True)):
            raw = os.pread(self._file.fileno(), int(length) * width, int(start) * width)
            states[row, :length] = np.frombuffer(raw, stored).reshape(length, self._hidden)
        mask = np.arange(states.shape[1]) < lengths[:, None]
        # A view as bfloat16 where the bits are uint16, no conversion in either case.
        embeds = torch.from_numpy(states).view(self._dtype)
        return {"inputs_embeds": embeds, "attention_mask": torch.from_numpy(mask.astype(np.int64))}


def stored_lengths(anatomy: Anatomy, depth: int, lengths: np.ndarray) -> np.ndarray:
    """States kept of each example: above the last layer, a head that reads [CLS] alone needs no other."""
    if depth == len(anatomy.layers) and anatomy.pools_first_token:
        return np.ones_like(lengths)
    return lengths


def prefix_bytes(
    anatomy: Anatomy, depths: Collection[int], lengths: Mapping[str, np.ndarray], dtype: torch.dtype
) -> int:
    """Bytes on disk of these depths over all splits."""
    states = sum(int(stored_lengths(anatomy, depth, rows).sum()) for depth in depths for rows in lengths.values())
    return states * int(anatomy.classifier.config.hidden_size) * _STORED[dtype].itemsize


def open_prefix(
    folder: Path, anatomy: Anatomy, depth: int, split: str, lengths: np.ndarray, dtype: torch.dtype
) -> PrefixSplit:
    """The states of one split at one depth that :func:`build_prefix` left in ``folder``."""
    path = folder / f"depth-{depth}" / f"{split}.bin"
    return PrefixSplit(path, stored_lengths(anatomy, depth, lengths), anatomy.classifier.config.hidden_size, dtype)


def prefix_seconds(folder: Path, depth: int) -> float | None:
    """What building this depth cost, or None where it is not there whole."""
    done = folder / f"depth-{depth}" / "done.json"
    return float(read_json(done)["seconds"]) if done.is_file() else None


@torch.inference_mode()
def build_prefix(
    folder: Path, anatomy: Anatomy, depths: Collection[int], splits: Mapping[str, Inputs], compute: Compute
) -> None:
    """Run the frozen layers over every split once and keep the states entering each of ``depths``.

    ``done.json`` is written last in each depth's folder: without it the states are not taken for whole.
    """
    started = time.perf_counter()
    model, stack = _shared_stack(anatomy, anatomy.layers[: max(depths)])
    encoder = getattr(model.eval(), anatomy.base_prefix).to(compute.device)
    caught: dict[int, torch.Tensor] = {}

    def catch(depth: int) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            caught[depth] = output[0] if isinstance(output, tuple) else output

        return hook

    hooks = [stack[depth - 1].register_forward_hook(catch(depth)) for depth in depths]
    for split, inputs in splits.items():
        files = {depth: _SplitWriter(folder, anatomy, depth, split, inputs.lengths, compute.dtype) for depth in depths}
        for indices in evaluation_batches(inputs.lengths, EVALUATION_TOKENS[compute.device.type]):
            batch = {name: value.to(compute.device) for name, value in inputs.batch(indices).items()}
            with compute.autocast():
                encoder(**batch)
            for depth, states in caught.items():
                files[depth].write(indices, states)
    for hook in hooks:
        hook.remove()
    seconds = time.perf_counter() - started
    for depth in depths:
        write_json(folder / f"depth-{depth}" / "done.json", {"seconds": seconds, "depths": sorted(depths)})


class _SplitWriter:
    """Writes the states of one split at one depth, batch by batch in any order."""

    def __init__(self, folder: Path, anatomy: Anatomy, depth: int, split: str, lengths: np.ndarray, dtype: torch.dtype):
        self._lengths = stored_lengths(anatomy, depth, lengths)
        self._offsets = np.concatenate([[0], np.cumsum(self._lengths)])
        self._dtype = dtype
        path = folder / f"depth-{depth}" / f"{split}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("wb", buffering=0)

    def write(self, indices: np.ndarray, states: torch.Tensor) -> None:
        # numpy has no bfloat16, so it goes through its bits.
        rows = states.to(self._dtype).cpu().contiguous().view(torch.uint8).numpy()
        for row, index in zip(rows, indices, strict=True):
            kept = row[: self._lengths[index]]
            os.pwrite(self._file.fileno(), kept.tobytes(), int(self._offsets[index]) * kept.shape[-1])
