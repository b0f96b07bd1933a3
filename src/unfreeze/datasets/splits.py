"""From a source's rows to train, validation and test: the same seed gives the same split on any machine.

Order comes from sha256 of the seed and the example's guid or group, never from a random generator whose
algorithm may change with a library's version.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unfreeze.datasets.source import Source, take_out
from unfreeze.errors import DataError
from unfreeze.records import EXAMPLES, SPLITS, VOTES, Dataset
from unfreeze.study import DataSpec, GroupedSplit, RandomSplit, SplitSizes

# The share of train that becomes validation where the source has none.
CARVED = 0.1


def split_source(source: Source, spec: DataSpec) -> Dataset:
    """Split, sample and number a source's rows.

    Raises:
        DataError: the split asked for cannot be made, or leaves fewer than two classes to train on.
    """
    kind = spec.split or ("official" if len(source.splits) > 1 else GroupedSplit(grouped=SplitSizes()))
    if not len(source.splits["train"]):
        raise DataError(f"{source.name}: train holds no usable example{_most_dropped(source.dropped)}")
    _labels(source.name, source.splits["train"], source.labels)  # one class, or nothing at all, cannot be cut
    source = replace(source, splits=identified(source.splits))
    source = _official(source, spec.seed) if kind == "official" else _divided(source, kind, spec.seed)
    splits = dict(source.splits)
    if spec.max_train_pairs is not None and spec.max_train_pairs < len(splits["train"]):
        splits["train"], _ = divide(splits["train"], [spec.max_train_pairs], spec.seed)
    labels = _labels(source.name, splits["train"], source.labels)
    dropped, notes, left_out = [source.dropped], source.notes, 0
    for split in ("validation", "test"):
        label = splits[split]["label"]
        said = pc.binary_join_element_wise("label '", label, "' never seen in training", "")
        unseen = pc.invert(pc.is_in(label, pa.array(labels)))
        splits[split], out = take_out(splits[split], pc.if_else(unseen, said, None))
        dropped.append(out)
        left_out += len(out)
        if not len(splits[split]):
            raise DataError(f"{source.name}: no usable example is left in {split}; add some, or make the split larger")
    if left_out:
        notes += (f"Examples left out of validation and test, as training holds none of their classes: {left_out:,}.",)
    return Dataset(source.name, labels, _numbered(splits, labels), pa.concat_tables(dropped), notes)


def _most_dropped(dropped: pa.Table) -> str:
    """Why most rows could not be used."""
    if not len(dropped):
        return ""
    ((reason, times),) = Counter(dropped["reason"].to_pylist()).most_common(1)
    return f"; {times:,} of {len(dropped):,} rows were dropped for: {reason}"


def divide(pool: pa.Table, sizes: Sequence[float], seed: int, *, grouped: bool = False) -> list[pa.Table]:
    """Cut rows into parts of the given sizes and a last part with the rest, each with the pool's label balance.

    Args:
        pool: rows of schema :data:`~unfreeze.datasets.source.RAW`.
        sizes: of every part but the last; below 1 a share of the pool, otherwise a number of examples.
        seed: another seed cuts differently.
        grouped: keep a group's examples together; sizes are then met to within half a group for each label.

    Returns:
        One table more than ``sizes``, rows in the pool's order.
    """
    unit, _ = codes(group_key(pool) if grouped else pool["guid"])
    keys = _least(unit, _written(pool) if grouped else pool["guid"])
    label, names = codes(pool["label"])
    rank = np.array([int.from_bytes(hashlib.sha256(f"{seed}\0{key}".encode()).digest()[:8]) for key in keys], np.uint64)
    unit_size = np.bincount(unit, minlength=len(keys))
    stratum = _majority(unit, label, len(names))
    part = np.empty(len(keys), np.int64)
    quotas = [_quota(count(size, len(pool)), np.bincount(stratum, unit_size, len(names))) for size in sizes]
    for here in range(len(names)):
        units = np.flatnonzero(stratum == here)
        units = units[np.argsort(rank[units], kind="stable")]
        # A group goes where its middle example falls, so that one across a boundary lands on the nearer side.
        middle = np.cumsum(unit_size[units]) - (unit_size[units] - 1) / 2
        part[units] = np.searchsorted(np.cumsum([quota[here] for quota in quotas]), middle)
    return [pool.filter(pa.array(part[unit] == number)) for number in range(len(sizes) + 1)]


def count(size: float, total: int) -> int:
    """Number of examples that a size means: a share is rounded up, as scikit-learn does."""
    return math.ceil(size * total - 1e-9) if size < 1 else int(size)


def _official(source: Source, seed: int) -> Source:
    """The source's own splits; a missing test or validation split is made from the others, and noted."""
    splits, notes = dict(source.splits), list(source.notes)
    if len(splits) == 1:
        raise DataError(
            f"{source.name}: has no official splits; leave data.split out, or write "
            "split: {grouped: {validation: 0.1, test: 0.2}}"
        )
    if "test" not in splits:
        splits["test"] = splits.pop("validation")
        notes.append(f"{source.name} has no test split here: its development split serves as test.")
    if "validation" not in splits:
        splits["validation"], splits["train"] = divide(splits["train"], [CARVED], seed, grouped=True)
        notes.append("Validation is a tenth of train, grouped by premise.")
    return replace(source, splits=splits, notes=tuple(notes))


def _divided(source: Source, kind: RandomSplit | GroupedSplit, seed: int) -> Source:
    """Train, validation and test all cut from the source's training split."""
    grouped = isinstance(kind, GroupedSplit)
    sizes = kind.grouped if isinstance(kind, GroupedSplit) else kind.random
    pool = source.splits["train"]
    wanted = {"test": sizes.test, "validation": sizes.validation}
    held_out = sum(count(size, len(pool)) for size in wanted.values())
    if held_out >= len(pool):
        raise DataError(
            f"{source.name}: validation and test ask for {held_out:,} of {len(pool):,} usable examples, "
            "which leaves none to train on; make data.split smaller"
        )
    parts = divide(pool, list(wanted.values()), seed, grouped=grouped)
    notes = source.notes
    if len(source.splits) > 1:
        cut = "grouped" if grouped else "random"
        notes += (f"Train, validation and test are a {cut} cut of {source.name}'s training split, not its own splits.",)
    return replace(source, splits=dict(zip((*wanted, "train"), parts, strict=True)), notes=notes)


def _labels(name: str, train: pa.Table, order: tuple[str, ...] | None) -> tuple[str, ...]:
    """Class names that occur in training: in the source's order, else as numbers, else by the alphabet."""
    seen = set(train["label"].unique().to_pylist())
    if len(seen) < 2:
        raise DataError(f"{name}: train holds only the label '{seen.pop()}'; a classifier needs at least two classes")
    if order is not None:
        return tuple(label for label in order if label in seen)
    if all(re.fullmatch(r"[+-]?[0-9]+", label) for label in seen):
        return tuple(sorted(seen, key=lambda label: (int(label), label)))
    return tuple(sorted(seen))


def _numbered(splits: Mapping[str, pa.Table], labels: tuple[str, ...]) -> dict[str, pa.Table]:
    """Tables of schema EXAMPLES: labels become indices, groups numbers that mean the same in every split."""
    tables = [splits[split] for split in SPLITS]
    group, _ = codes(pa.chunked_array([chunk for table in tables for chunk in group_key(table).chunks], pa.string()))
    starts = np.cumsum([len(table) for table in tables])[:-1]
    voted = any(table["votes"].null_count < len(table) for table in tables)
    numbered = {}
    for split, table, numbers in zip(SPLITS, tables, np.split(group, starts), strict=True):
        gold = pc.index_in(table["label"], pa.array(labels))
        columns = [table["guid"], table["premise"], table["hypothesis"], gold, pa.array(numbers, pa.int32())]
        examples = pa.table(columns, schema=EXAMPLES)
        if voted:
            examples = examples.append_column(VOTES, _votes(table["votes"], labels))
        numbered[split] = examples.combine_chunks()
    return numbered


def _votes(given: pa.ChunkedArray, labels: tuple[str, ...]) -> pa.Array:
    """How many annotators gave each label, null where none gave any of them."""
    words = [(text or "").split() for text in given.to_pylist()]
    counts = [[row.count(label) for label in labels] for row in words]
    return pa.array([row if any(row) else None for row in counts], VOTES.type)


def identified(splits: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    """Where the source's own ids are missing or not unique, make them of split and row, as in ``train-12``."""
    guids = pa.chunked_array([chunk for raw in splits.values() for chunk in raw["guid"].chunks], pa.string())
    if pc.count_distinct(guids, mode="only_valid").as_py() == len(guids):
        return dict(splits)
    return {
        split: raw.set_column(0, "guid", pc.binary_join_element_wise(split, raw["row"].cast(pa.string()), "-"))
        for split, raw in splits.items()
    }


def group_key(raw: pa.Table) -> pa.ChunkedArray:
    """What examples that belong together share: the group column, else the premise, whatever its case and spaces."""
    alike = pc.utf8_lower(pc.utf8_normalize(pc.utf8_trim_whitespace(raw["premise"]), "NFKC"))
    return pc.coalesce(raw["group"], pc.replace_substring_regex(alike, r"\s+", " "))


def _written(raw: pa.Table) -> pa.ChunkedArray:
    return pc.coalesce(raw["group"], pc.utf8_trim_whitespace(raw["premise"]))


def _least(unit: np.ndarray, text: pa.ChunkedArray) -> list[str]:
    """The first by the alphabet of each unit's texts, which decides where the unit falls, whatever the rows' order."""
    found: dict[int, str] = {}
    for number, here in zip(unit.tolist(), text.to_pylist(), strict=True):
        found[number] = min(here, found.get(number, here))
    return list(found.values())


def codes(values: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """Number the distinct values by first appearance: codes of shape (rows,), and the values."""
    encoded = values.combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_pylist()


def _majority(unit: np.ndarray, label: np.ndarray, labels: int) -> np.ndarray:
    """The most frequent label of each unit, shape (units,); the first of equals."""
    cells, sizes = np.unique(unit * labels + label, return_counts=True)
    units, codes = np.divmod(cells, labels)
    order = np.lexsort((codes, -sizes, units))
    _, first = np.unique(units[order], return_index=True)
    return codes[order[first]]


def _quota(wanted: int, sizes: np.ndarray) -> np.ndarray:
    """Share ``wanted`` examples out over strata of these sizes by largest remainder, so that the sum is exact."""
    exact = wanted * sizes / sizes.sum()
    quota: np.ndarray = np.floor(exact).astype(np.int64)
    quota[np.argsort(quota - exact, kind="stable")[: wanted - quota.sum()]] += 1
    return quota
