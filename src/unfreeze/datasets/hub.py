"""Any dataset of the Hugging Face hub, or a local folder in one of its formats, through ``datasets``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from unfreeze.datasets.files import choose
from unfreeze.datasets.readers import text_rows
from unfreeze.datasets.source import Source, raw_table
from unfreeze.errors import DataError
from unfreeze.study import DataSpec

# What hub datasets call their splits, the likelier first.
NAMES = {
    "train": ("train",),
    "validation": ("validation", "dev", "valid", "validation_matched"),
    "test": ("test", "test_matched"),
}
# How the hub writes that there is no gold label.
NO_LABEL = "-1"


def read(spec: DataSpec) -> Source:
    """Load the dataset ``spec.path``, an id or a folder; a test split without labels counts as absent.

    Raises:
        DataError: it cannot be reached or loaded, or has no training split.
    """
    if not isinstance(spec.path, str):
        raise DataError("hub: data.path names one dataset, as in stanfordnlp/snli, or a local folder")
    loaded = _load(spec.path, spec.config)
    splits, dropped, labels = {}, [], None
    for split, names in NAMES.items():
        name = next((name for name in names if name in loaded), None)
        if name is None:
            continue
        table = loaded[name].with_format("arrow")[:]
        chosen = replace(choose(f"{spec.path} {name}", table.column_names, spec.columns), no_label=NO_LABEL)
        classes = getattr(loaded[name].features.get(chosen.label), "names", None)
        if classes:
            labels = tuple(classes)
            table = _with_names(table, chosen.label, labels)
        raw, out = raw_table(name, text_rows(name, table), chosen)
        if len(raw) or split == "train":
            splits[split] = raw
            dropped.append(out)
    if "train" not in splits:
        raise DataError(f"{spec.path}: has no train split, only {', '.join(loaded)}")
    called = "-".join(part for part in (Path(spec.path).name, spec.config) if part)
    return Source(called, splits, labels, pa.concat_tables(dropped))


def _load(path: str, config: str | None) -> Any:
    """The dataset's splits by name."""
    import datasets  # takes a second, and only this source needs it

    local = Path(path).is_dir()
    if not local:
        _reach(path, datasets.config.HF_DATASETS_CACHE)
    try:
        if local and any((Path(path) / mark).is_file() for mark in ("dataset_dict.json", "state.json")):
            loaded = datasets.load_from_disk(path)
        else:
            loaded = datasets.load_dataset(path, config)
    except Exception as error:  # whatever the library, a parser or the network raises, the user needs one line
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: datasets cannot load it: {reason or type(error).__name__}") from None
    return loaded if isinstance(loaded, dict) else {"train": loaded}


def _reach(path: str, cache: Path) -> None:
    """Ask the hub for the dataset once, because ``load_dataset`` retries for half a minute without a network.

    Raises:
        DataError: there is no such dataset, or no way to the hub and nothing of the dataset in the cache.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        HfApi().dataset_info(path, timeout=10)
    except RepositoryNotFoundError:
        raise DataError(f"{path}: neither a folder here nor a dataset on the hub (or one that needs a login)") from None
    except Exception as error:  # the client library's own exceptions differ from version to version
        if not (Path(cache) / path.replace("/", "___")).is_dir():
            reason = " ".join(str(error).split())
            raise DataError(
                f"{path}: no such folder here, and the Hugging Face hub cannot be reached ({reason}); "
                "go online, or put the dataset's folder on this machine and give its path"
            ) from None


def _with_names(table: pa.Table, column: str, names: tuple[str, ...]) -> pa.Table:
    """Put class names in place of class numbers, null where the number is negative."""
    number = table[column]
    known = pc.if_else(pc.less(number, 0), None, number)
    return table.set_column(table.column_names.index(column), column, pa.array(names).take(known))
