"""Where examples come from: one module for each source, and how they are split and looked at."""

from __future__ import annotations

from importlib import import_module

from unfreeze.datasets.splits import split_source
from unfreeze.errors import DataError, nearest
from unfreeze.records import Dataset
from unfreeze.study import DataSpec

# Each is a module of this folder with ``read(spec) -> Source``.
DATASETS = ("captions", "snli", "files", "hub")


def load_dataset(spec: DataSpec) -> Dataset:
    """Read, clean, split and sample the examples that ``spec`` describes.

    Raises:
        DataError: the dataset is unknown, or its data are missing, unreadable or unusable.
    """
    if spec.dataset not in DATASETS:
        raise DataError(f"unknown dataset '{spec.dataset}'{nearest(spec.dataset, DATASETS)}")
    source = import_module(f"unfreeze.datasets.{spec.dataset}").read(spec)
    return split_source(source, spec)
