"""The registry names every reader of the folder, and loading costs no torch."""

import pkgutil
import subprocess
import sys
from importlib import import_module

import pytest

import unfreeze.datasets
from unfreeze.datasets import DATASETS, load_dataset
from unfreeze.errors import DataError
from unfreeze.study import DataSpec


def test_registry_matches_the_folder():
    modules = [module.name for module in pkgutil.iter_modules(unfreeze.datasets.__path__)]
    readers = [name for name in modules if hasattr(import_module(f"unfreeze.datasets.{name}"), "read")]
    assert sorted(readers) == sorted(DATASETS)


def test_loading_imports_neither_torch_nor_datasets():
    code = (
        "import sys; from unfreeze.datasets import load_dataset; from unfreeze.study import DataSpec;"
        "load_dataset(DataSpec(pairs=60)); assert not {'torch', 'datasets', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_dataset_names_the_nearest():
    with pytest.raises(DataError, match="did you mean 'snli'"):
        load_dataset(DataSpec(dataset="snil"))
