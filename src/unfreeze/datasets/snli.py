"""SNLI as its authors distribute it: a folder or the zip, ``.jsonl`` or ``.txt``, with or without a test file."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from unfreeze.datasets.readers import Rows, read_content
from unfreeze.datasets.source import Chosen, Source, raw_table
from unfreeze.errors import DataError
from unfreeze.study import DataSpec

LABELS = ("entailment", "neutral", "contradiction")
COLUMNS = Chosen(
    premise="sentence1",
    hypothesis="sentence2",
    label="gold_label",
    guid="pairID",
    votes="annotator_labels",
    no_label="-",
)
VOTES = ("label1", "label2", "label3", "label4", "label5")  # the same, in a .txt
STEMS = {"train": "snli_1.0_train", "validation": "snli_1.0_dev", "test": "snli_1.0_test"}
GET_IT = "snli_1.0.zip is at https://nlp.stanford.edu/projects/snli, or use {dataset: hub, path: stanfordnlp/snli}"


def read(spec: DataSpec) -> Source:
    """Read the splits that ``spec.path`` has.

    Raises:
        DataError: there is no SNLI at the path, or a file lacks a column.
    """
    if not isinstance(spec.path, str):
        raise DataError(f"snli: data.path names the folder or zip that holds SNLI; {GET_IT}")
    splits, dropped = {}, []
    for split, (name, content) in _contents(Path(spec.path)).items():
        rows = _with_votes(read_content(name, content, tuple(COLUMNS.columns().values()), (COLUMNS.votes or "",)))
        splits[split], out = raw_table(name, rows, COLUMNS, LABELS)
        dropped.append(out)
    return Source("snli", splits, LABELS, pa.concat_tables(dropped))


def _with_votes(rows: Rows) -> Rows:
    """Put the annotators' labels of a ``.txt`` into one column, as in a ``.jsonl``."""
    if not set(VOTES) <= set(rows.table.column_names):
        return rows
    votes = pc.binary_join_element_wise(*(rows.table[column] for column in VOTES), " ", null_handling="skip")
    return replace(rows, table=rows.table.append_column("annotator_labels", votes))


def _contents(path: Path) -> dict[str, tuple[str, bytes]]:
    """Name and content of each split's file, wherever in the folder or zip it lies."""
    if path.is_dir():
        files = {file.name: file for file in sorted(path.rglob("snli_1.0_*"))}
        return {split: (name, files[name].read_bytes()) for split, name in _names(path, files).items()}
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = {PurePosixPath(member).name: member for member in archive.namelist()}
            return {split: (name, archive.read(members[name])) for split, name in _names(path, members).items()}
    what = "neither a folder nor a zip" if path.exists() else "no such folder or zip"
    raise DataError(f"{path.absolute()}: {what}; {GET_IT}")


def _names(path: Path, there: Collection[str]) -> dict[str, str]:
    """The file name of each split that is there; ``.jsonl`` where it stands beside ``.txt``."""
    named = {split: name for split, stem in STEMS.items() for name in (f"{stem}.txt", f"{stem}.jsonl") if name in there}
    missing = "train" if "train" not in named else "dev or test" if len(named) == 1 else None
    if missing:
        raise DataError(f"{path.absolute()}: holds no snli_1.0_{missing} file (.jsonl or .txt); {GET_IT}")
    return named
