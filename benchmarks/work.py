"""What is measured, and on which data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from unfreeze.datasets import load_dataset
from unfreeze.records import Dataset
from unfreeze.strategies import Strategy, make_strategy
from unfreeze.study import DataSpec
from unfreeze.training.batching import TokenizedSplit, tokenize
from unfreeze.training.encoder import load_tokenizer

MAX_LENGTH = 128
# The same learning rate for both sides: those of the SNLI sample in docs/results.md.
RATES = {"head-only": 1e-3, "full": 1e-4, "lora-r8-query-value": 1e-3, "lora-r16-all-linear": 5e-4}
RATES |= {f"partial-{layers}": 3e-4 for layers in range(1, 6)}


@dataclass(frozen=True)
class Work:
    """One row of the table.

    Attributes:
        name: of the row.
        mode: ``steps`` trains one epoch and nothing else, ``run`` trains three with evaluation after each and on
            test, ``predict`` answers the test split, ``grid`` is several such runs.
        batch: pairs per optimiser step.
        seeds: of each of a grid's four strategies.
        scale: times so many pairs: the faster the steps, the more of them, so that the first meeting with each width of
            a batch is not most of what is measured.
        targets: at least so many times the tuned peer, and the untuned one.
    """

    name: str
    mode: Literal["steps", "run", "predict", "grid"]
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    encoder: str = "minilm"
    batch: int = 32
    seeds: int = 3
    scale: int = 1
    targets: tuple[float, float] | None = None

    @property
    def epochs(self) -> int:
        """Of training."""
        return 3 if self.mode in ("run", "grid") else 1

    @cached_property
    def made(self) -> Strategy:
        """The strategy."""
        return make_strategy(self.kind, dict(self.options))

    @property
    def strategy(self) -> str:
        """Its short name."""
        return self.made.slug


PARTIAL = {"layers": 2}
QUERY_VALUE = {"rank": 8, "alpha": 16, "targets": "query-value"}
ALL_LINEAR = {"rank": 16, "alpha": 32, "targets": "all-linear"}
WORKS = (
    Work("partial-2, steps from the prefix", "steps", "partial", PARTIAL, scale=10, targets=(3.5, 9)),
    Work("partial-2, a run of 3 epochs, prefix built in it", "run", "partial", PARTIAL, scale=5, targets=(3, 7)),
    Work("12 partial and head-only runs of 3 epochs", "grid", "head-only", scale=2, targets=(5, 10)),
    Work("LoRA q,v r8, steps", "steps", "lora", QUERY_VALUE, scale=3, targets=(1.7, 4.5)),
    Work("LoRA all-linear r16, steps", "steps", "lora", ALL_LINEAR, scale=3, targets=(1.4, 3.5)),
    Work("full, steps", "steps", "full", scale=3, targets=(1.4, 3.5)),
    Work("prediction", "predict", "full", scale=8, targets=(2.2, 3.5)),
)
# How cost grows with pairs, layers, batch size and runs.
SCALING = (
    *(Work(f"partial-2, a run on {scale} × the pairs", "run", "partial", PARTIAL, scale=scale) for scale in (1, 2, 4)),
    *(Work(f"partial-{n}, steps", "steps", "partial", {"layers": n}, scale=2) for n in (1, 3, 5)),
    *(Work(f"LoRA q,v r8, steps at batch {n}", "steps", "lora", QUERY_VALUE, batch=n, scale=2) for n in (8, 32, 128)),
    *(Work(f"{4 * n} partial and head-only runs", "grid", "head-only", seeds=n) for n in (1, 2, 4)),
)
# A grid's strategies.
GRID = (("head-only", {}), *(("partial", {"layers": layers}) for layers in (1, 2, 3)))


@dataclass(frozen=True)
class Data:
    """Tokens and labels of some pairs.

    Attributes:
        dataset: the pairs.
        tokens: by split.
    """

    dataset: Dataset
    tokens: dict[str, TokenizedSplit]

    @property
    def labels(self) -> int:
        """How many."""
        return len(self.dataset.labels)

    @cached_property
    def gold(self) -> dict[str, np.ndarray]:
        """Class indices, int64, by split."""
        return {split: rows["gold"].to_numpy().astype(np.int64) for split, rows in self.dataset.splits.items()}

    def rows(self, split: str) -> list[dict[str, Any]]:
        """Examples as Trainer's collator takes them."""
        tokens = self.tokens[split]
        bounds = zip(tokens.offsets[:-1], tokens.offsets[1:], self.gold[split].tolist(), strict=True)
        assert tokens.type_ids is not None
        return [
            {"input_ids": tokens.ids[a:b].tolist(), "token_type_ids": tokens.type_ids[a:b].tolist(), "labels": label}
            for a, b, label in bounds
        ]


def load(snli: Path | None, pairs: int) -> Dataset:
    """``pairs`` training pairs and, as 70 to 10 to 20, pairs of validation and test: SNLI's folder's, or generated."""
    spec = DataSpec(dataset="snli", path=str(snli)) if snli else DataSpec(pairs=max(60, 4 * pairs))
    whole = load_dataset(spec)
    sizes = {"train": pairs, "validation": pairs // 7, "test": 2 * pairs // 7}
    splits = {split: whole.splits[split].slice(0, rows) for split, rows in sizes.items()}
    return Dataset(whole.name, whole.labels, splits)


def tokens(dataset: Dataset) -> Data:
    """Tokenise once; no side is timed at it."""
    tokenizer = load_tokenizer("minilm")
    return Data(dataset, {split: tokenize(rows, tokenizer, MAX_LENGTH) for split, rows in dataset.splits.items()})
