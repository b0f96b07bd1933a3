"""The user's own CSV, TSV, JSONL or Parquet: one file, or one for each split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from unfreeze.datasets.readers import read_path
from unfreeze.datasets.source import Chosen, Source, no_column, raw_table
from unfreeze.errors import DataError
from unfreeze.study import Columns, DataSpec

# What columns are usually called, the likelier first.
PAIRS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text1", "text2"),
    ("text_a", "text_b"),
)
TEXTS = ("text", "sentence", "content", "review", "comment", "premise")
LABELS = ("label", "gold_label", "labels", "class", "category", "target", "gold")


def read(spec: DataSpec) -> Source:
    """Read the file or files of ``spec.path``.

    Raises:
        DataError: a file is missing or cannot be read, or a column is not there.
    """
    if not spec.path:
        raise DataError("files: data.path names the file, or one for each split as in path: {train: …, test: …}")
    paths = {"train": spec.path} if isinstance(spec.path, str) else spec.path
    if "train" not in paths:
        raise DataError("files: data.path names no train file")
    splits, dropped = {}, []
    for split, path in paths.items():
        rows = read_path(Path(path))
        chosen = choose(path, rows.table.column_names, spec.columns)
        splits[split], out = raw_table(path, rows, chosen)
        dropped.append(out)
    return Source(Path(paths["train"]).name.split(".")[0], splits, dropped=pa.concat_tables(dropped))


def choose(name: str, there: Sequence[str], columns: Columns) -> Chosen:
    """Settle which column holds what: as the user says, otherwise by the usual names, whatever their case.

    Raises:
        DataError: nothing there looks like a text or a label, and the user does not say.
    """
    premise, hypothesis = choose_texts(name, there, columns)
    label = columns.label or next((_usual(there)[word] for word in LABELS if word in _usual(there)), None)
    if not label:
        raise DataError(f"{name}: {no_column('label', 'label', there)}; say which in data.columns")
    return Chosen(premise=premise, hypothesis=hypothesis, label=label, group=columns.group)


def choose_texts(name: str, there: Sequence[str], columns: Columns) -> tuple[str, str | None]:
    """Settle which columns hold the texts: premise (or the single text) and, for pairs, hypothesis.

    Raises:
        DataError: nothing there looks like a text, and the user does not say.
    """
    premise, hypothesis = columns.premise or columns.text, columns.hypothesis
    if hypothesis and not premise:
        raise DataError(f"{name}: data.columns names a hypothesis and no premise; name both")
    if premise:
        return premise, hypothesis
    usual = _usual(there)
    pair = next((pair for pair in PAIRS if all(word in usual for word in pair)), None)
    text = next((word for word in TEXTS if word in usual), None)
    if not pair and not text:
        raise DataError(f"{name}: {no_column('text', 'text', there)}; say which in data.columns")
    return (usual[pair[0]], usual[pair[1]]) if pair else (usual[str(text)], None)


def _usual(there: Sequence[str]) -> dict[str, str]:
    return {column.lower(): column for column in reversed(there)}
