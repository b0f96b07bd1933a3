"""What one stage hands to the next: Arrow tables and frozen dataclasses, none of which needs torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa

SPLITS = ("train", "validation", "test")

# One labelled example. `hypothesis` is null where the task is a single text. `gold` indexes Dataset.labels.
# `group` is the same number for examples that must not be separated by a grouped split (same premise, or same
# value of the group column), over all splits: premise leakage and clustered intervals are computed from it.
EXAMPLES = pa.schema(
    [
        ("guid", pa.string()),
        ("premise", pa.string()),
        ("hypothesis", pa.string()),
        ("gold", pa.int32()),
        ("group", pa.int32()),
    ]
)

# A further column where annotators' labels are known: how many gave each of Dataset.labels, null where none did.
VOTES = pa.field("votes", pa.list_(pa.int32()))

# One row of the source that could not be used: the file (or hub split) it stood in, its 1-based row, and why.
DROPPED = pa.schema([("source", pa.string()), ("row", pa.int64()), ("reason", pa.string())])

# What a run says of one example. `logits` has one float per label.
PREDICTIONS = pa.schema(
    [
        ("guid", pa.string()),
        ("gold", pa.int32()),
        ("predicted", pa.int32()),
        ("logits", pa.list_(pa.float32())),
    ]
)

# How a run learned one training example: in each epoch the probability it gave the gold label, before that step's
# update, and whether its answer was the gold label.
DYNAMICS = pa.schema(
    [
        ("guid", pa.string()),
        ("gold", pa.int32()),
        ("gold_probability", pa.list_(pa.float32())),
        ("correct", pa.list_(pa.bool_())),
    ]
)


@dataclass(frozen=True)
class Dataset:
    """Labelled examples, split.

    Attributes:
        name: what tables call it, e.g. ``"snli"``.
        labels: class names; ``gold`` indexes them.
        splits: ``train``, ``validation`` and ``test``, each a table with schema :data:`EXAMPLES` and,
            where annotators' labels are known, the column :data:`VOTES`.
        dropped: rows that could not be used, schema :data:`DROPPED`.
        notes: sentences every table must repeat (e.g. that the development split serves as test).
    """

    name: str
    labels: tuple[str, ...]
    splits: Mapping[str, pa.Table]
    dropped: pa.Table = field(default_factory=DROPPED.empty_table)
    notes: tuple[str, ...] = ()

    @property
    def is_pair(self) -> bool:
        """Whether examples are sentence pairs rather than single texts."""
        return bool(self.splits["train"]["hypothesis"].null_count < len(self.splits["train"]))

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits of the sha256 of labels and every split's text and gold, in order."""
        digest = hashlib.sha256(repr(self.labels).encode())
        for split in SPLITS:
            digest.update(split.encode())
            for column in ("guid", "premise", "hypothesis", "gold"):
                # Python's own values, so that chunking and Arrow's buffer layout do not matter.
                digest.update(repr(self.splits[split][column].to_pylist()).encode())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class EvaluationSet:
    """Labelled examples that a study's runs answer besides its own splits.

    Attributes:
        labels: its class names; ``gold`` indexes them.
        merged: for each label the indices of the study's labels that it is made of.
        examples: schema :data:`EXAMPLES`.
        dropped: rows that could not be used, schema :data:`DROPPED`.
    """

    name: str
    labels: tuple[str, ...]
    merged: tuple[tuple[int, ...], ...]
    examples: pa.Table
    dropped: pa.Table = field(default_factory=DROPPED.empty_table)

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits of the sha256 of labels, texts and gold, in order."""
        digest = hashlib.sha256(repr((self.labels, self.merged)).encode())
        for column in ("guid", "premise", "hypothesis", "gold"):
            digest.update(repr(self.examples[column].to_pylist()).encode())
        return digest.hexdigest()[:16]


def predictions_table(guid: pa.ChunkedArray, gold: pa.ChunkedArray, logits: np.ndarray) -> pa.Table:
    """Build a :data:`PREDICTIONS` table from float32 logits of shape (examples, labels)."""
    columns = [
        guid,
        gold,
        pa.array(logits.argmax(axis=1), pa.int32()),
        pa.array(list(logits), pa.list_(pa.float32())),
    ]
    return pa.table(columns, schema=PREDICTIONS)


def logits_array(predictions: pa.Table) -> np.ndarray:
    """The logits of a :data:`PREDICTIONS` table as a float32 array of shape (examples, labels)."""
    flat: np.ndarray = predictions["logits"].combine_chunks().flatten().to_numpy()
    return flat.reshape(len(predictions), -1).astype(np.float32, copy=False)


def dynamics_table(
    guid: pa.ChunkedArray, gold: pa.ChunkedArray, gold_probability: np.ndarray, correct: np.ndarray
) -> pa.Table:
    """Build a :data:`DYNAMICS` table.

    Args:
        guid: of the training examples.
        gold: their labels.
        gold_probability: shape (epochs, examples).
        correct: shape (epochs, examples), booleans.
    """
    epochs, examples = gold_probability.shape
    ends = pa.array(np.arange(examples + 1, dtype=np.int32) * epochs)
    flat = (pa.array(gold_probability.T.ravel(), pa.float32()), pa.array(correct.T.ravel(), pa.bool_()))
    return pa.table([guid, gold, *(pa.ListArray.from_arrays(ends, values) for values in flat)], schema=DYNAMICS)


def dynamics_arrays(dynamics: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """``gold_probability`` and ``correct`` of a :data:`DYNAMICS` table, each of shape (epochs, examples)."""
    probability, correct = (
        dynamics[name].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(dynamics), -1).T
        for name in ("gold_probability", "correct")
    )
    return probability, correct


def mistakes_table(guid: pa.ChunkedArray, states: np.ndarray) -> pa.Table:
    """Build a table of ``guid`` and ``state``, a fixed-size list of float16, from states of shape (mistakes, hidden).

    A state is what the head reads: that of [CLS], or the mean over tokens. Three digits place a point well enough, and
    4,000 mistakes at hidden size 768 take 6 MB.
    """
    state = pa.FixedSizeListArray.from_arrays(pa.array(states.astype(np.float16).ravel()), states.shape[1])
    return pa.table({"guid": guid, "state": state})


def states_array(mistakes: pa.Table) -> np.ndarray:
    """The states of a :func:`mistakes_table` as a float32 array of shape (mistakes, hidden)."""
    flat: np.ndarray = mistakes["state"].combine_chunks().flatten().to_numpy()
    return flat.reshape(len(mistakes), mistakes.schema.field("state").type.list_size).astype(np.float32)
