"""Tokenised splits and how examples are put together into batches with little padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch

from unfreeze.studydir import read_table, write_table

# Batches of one epoch are cut from pools of this many batches sorted by length: on SNLI at batch 32, 50 leave 3.0 % of
# padding, 100 leave 1.6 % and 200 leave 0.8 % (before widths are rounded), while an epoch's order stays random across
# pools and batches.
POOL_BATCHES = 100


class Inputs(Protocol):
    """What a model trains on and predicts from: tokens, or states a frozen prefix left."""

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example, int64, shape (examples,)."""
        ...

    def batch(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        """Keyword arguments of the model for these examples, padded to :func:`padded_width`."""
        ...


def padded_width(lengths: np.ndarray, indices: np.ndarray) -> int:
    """Tokens a batch of these examples is padded to: their longest, rounded up to one of 16 widths in every doubling.

    oneDNN prepares every product of every new width (13 to 20 of them, 0.2 to 0.3 ms and 0.6 MB each) and keeps them:
    SNLI's batches have 49 widths exactly and 36 rounded, for 0.4 % more of padding. Never wider than the longest
    example of the split, whose place the encoder is known to have.
    """
    longest = int(lengths[indices].max())
    step = 1 << max(0, longest.bit_length() - 5)
    return min(-(-longest // step) * step, int(lengths.max()))


@dataclass(frozen=True)
class TokenizedSplit:
    """Token ids of a split, ragged: example i holds ``ids[offsets[i]:offsets[i + 1]]``.

    Attributes:
        ids: int32, shape (tokens,).
        type_ids: token types, int8, shape (tokens,), where the encoder has them.
        offsets: int64, shape (examples + 1,).
        full_lengths: tokens each example would have without ``max_length``, int64, shape (examples,).
    """

    ids: np.ndarray
    type_ids: np.ndarray | None
    offsets: np.ndarray
    full_lengths: np.ndarray
    pad_id: int

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each example, int64, shape (examples,)."""
        return np.diff(self.offsets)

    def batch(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        """``input_ids``, ``attention_mask`` and, where the encoder has them, ``token_type_ids``."""
        starts, lengths = self.offsets[indices], self.lengths[indices]
        positions = np.arange(padded_width(self.lengths, indices))
        mask = positions < lengths[:, None]
        flat = np.where(mask, starts[:, None] + positions, 0)
        inputs = {"input_ids": np.where(mask, self.ids[flat], self.pad_id), "attention_mask": mask}
        if self.type_ids is not None:
            inputs["token_type_ids"] = np.where(mask, self.type_ids[flat], 0)
        return {name: torch.from_numpy(value.astype(np.int64)) for name, value in inputs.items()}


def tokenize(examples: pa.Table, tokenizer: Any, max_length: int) -> TokenizedSplit:
    """Tokenise a split: a pair as a pair (separators and token types are the tokenizer's), a single text alone."""
    first = examples["premise"].to_pylist()
    pair = () if examples["hypothesis"].null_count == len(examples) else (examples["hypothesis"].to_pylist(),)
    encoded = tokenizer(first, *pair, truncation="longest_first", max_length=max_length, return_attention_mask=False)
    ids, type_ids = encoded["input_ids"], encoded.get("token_type_ids")
    lengths = np.array([len(row) for row in ids], np.int64)
    cut = [index for index, encoding in enumerate(encoded.encodings) if encoding.overflowing]
    full_lengths = lengths.copy()
    if cut:
        whole = tokenizer(*([column[index] for index in cut] for column in (first, *pair)), verbose=False)["input_ids"]
        full_lengths[cut] = [len(row) for row in whole]
    return TokenizedSplit(
        ids=_flat(ids, np.int32),
        type_ids=None if type_ids is None else _flat(type_ids, np.int8),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        full_lengths=full_lengths,
        pad_id=tokenizer.pad_token_id,
    )


def _flat(rows: Sequence[Sequence[int]], dtype: type) -> np.ndarray:
    return np.fromiter((value for row in rows for value in row), dtype)


def write_tokens(path: Path, split: TokenizedSplit) -> None:
    """Keep a tokenised split as an Arrow file, atomically."""
    ragged = {"ids": split.ids} | ({} if split.type_ids is None else {"type_ids": split.type_ids})
    columns = {name: pa.LargeListArray.from_arrays(split.offsets, pa.array(values)) for name, values in ragged.items()}
    table = pa.table(columns | {"full_lengths": pa.array(split.full_lengths)})
    write_table(path, table.replace_schema_metadata({"pad_id": str(split.pad_id)}))


def read_tokens(path: Path) -> TokenizedSplit:
    """Read what :func:`write_tokens` kept."""
    table = read_table(path).combine_chunks()
    columns = {name: table[name].chunk(0) for name in table.column_names}
    return TokenizedSplit(
        ids=columns["ids"].values.to_numpy(),
        type_ids=columns["type_ids"].values.to_numpy() if "type_ids" in columns else None,
        offsets=columns["ids"].offsets.to_numpy(),
        full_lengths=columns["full_lengths"].to_numpy(),
        pad_id=int(table.schema.metadata[b"pad_id"]),
    )


def epoch_batches(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Every example once, in batches of similar length and random order.

    Args:
        lengths: tokens of each example.
        batch_size: pairs per optimiser step; only one batch of the epoch may be smaller.
        seed: with ``epoch``, decides the order.
        epoch: counted from 0.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    batches: list[np.ndarray] = []
    for start in range(0, len(order), POOL_BATCHES * batch_size):
        pool = order[start : start + POOL_BATCHES * batch_size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += np.split(pool, range(batch_size, len(pool), batch_size))
    return [batches[index] for index in random.permutation(len(batches))]


def evaluation_batches(lengths: np.ndarray, padded_tokens: int) -> list[np.ndarray]:
    """Every example once, longest first, in batches of at most ``padded_tokens`` tokens (one example at least).

    Their sizes are powers of two, so that shapes recur.
    """
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        fit = padded_tokens // padded_width(lengths, order[start : start + 1])
        size = 1 << max(0, fit.bit_length() - 1)
        batches.append(order[start : start + size])
        start += size
    return batches


def padded_tokens(lengths: np.ndarray, batches: Sequence[np.ndarray]) -> int:
    """Tokens these batches hold, padding included."""
    return sum(len(batch) * padded_width(lengths, batch) for batch in batches)
