"""Where examples come from: one module for each source, and how they are split and looked at."""

from __future__ import annotations

from importlib import import_module

from unfreeze.datasets.evaluation import evaluation_set
from unfreeze.datasets.source import Source
from unfreeze.datasets.splits import split_source
from unfreeze.errors import DataError, nearest
from unfreeze.records import Dataset, EvaluationSet
from unfreeze.study import DataSpec, Study

# Each is a module of this folder with ``read(spec) -> Source``.
DATASETS = ("captions", "snli", "files", "hub")


def load_dataset(spec: DataSpec) -> Dataset:
    """Read, clean, split and sample the examples that ``spec`` describes.

    Raises:
        DataError: the dataset is unknown, or its data are missing, unreadable or unusable.
    """
    return split_source(_read(spec), spec)


def load_evaluation_sets(study: Study, dataset: Dataset) -> list[EvaluationSet]:
    """Read the further sets that a study's runs are evaluated on.

    Raises:
        DataError: one cannot be read or used, or its labels are not made of those of ``dataset``.
    """
    found = []
    for name, spec in study.evaluate_on.items():
        source = _read(DataSpec(**spec.model_dump(exclude={"labels"})))
        found.append(evaluation_set(name, source, spec.labels, dataset))
    return found


def _read(spec: DataSpec) -> Source:
    if spec.dataset not in DATASETS:
        raise DataError(f"unknown dataset '{spec.dataset}'{nearest(spec.dataset, DATASETS)}")
    source: Source = import_module(f"unfreeze.datasets.{spec.dataset}").read(spec)
    return source
