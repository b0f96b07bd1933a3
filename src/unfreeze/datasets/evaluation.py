"""Further labelled sets that a study's runs are evaluated on, whose labels may merge those of the study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from unfreeze.datasets.source import Source, take_out
from unfreeze.datasets.splits import codes, group_key, identified
from unfreeze.errors import DataError, nearest
from unfreeze.records import EXAMPLES, SPLITS, Dataset, EvaluationSet

MISTAKES = "mistakes"  # lies beside the predictions of splits and sets, see RunDir.mistakes


def evaluation_set(
    name: str, source: Source, labels: Mapping[str, str | tuple[str, ...]] | None, dataset: Dataset
) -> EvaluationSet:
    """Number the rows of a source by its labels.

    Args:
        name: what the study calls the set.
        source: as its reader found it: the test split is taken, else validation, else all there is.
        labels: the set's label → one or several of the study's; None where both have the same names.
        dataset: the study's own data.

    Raises:
        DataError: the labels do not cover the study's, no row is left, pairs meet single texts, or the name is taken.
    """
    if name in (*SPLITS, MISTAKES):
        raise DataError(f"evaluate_on.{name}: is the name of one of the study's own splits or files; choose another")
    own = {label: (label,) for label in dataset.labels}
    given = own if labels is None else {k: (v,) if isinstance(v, str) else v for k, v in labels.items()}
    merged = _merged(name, given, dataset.labels)
    taken = next(source.splits[split] for split in reversed(SPLITS) if split in source.splits)
    raw = identified({name: taken})[name]
    said = pc.binary_join_element_wise("label '", raw["label"], f"' is none of {', '.join(given)}", "")
    unknown = pc.invert(pc.is_in(raw["label"], pa.array(list(given))))
    usable, out = take_out(raw, pc.if_else(unknown, said, None))
    if not len(usable):
        raise DataError(f"evaluate_on.{name}: no row has one of the labels {', '.join(given)}; mend its labels")
    if (usable["hypothesis"].null_count < len(usable)) != dataset.is_pair:
        what = ("single texts", "pairs") if dataset.is_pair else ("pairs", "single texts")
        raise DataError(f"evaluate_on.{name}: holds {what[0]}, but the study's data are {what[1]}; mend its columns")
    gold = pc.index_in(usable["label"], pa.array(list(given)))
    group, _ = codes(group_key(usable))
    columns = [usable["guid"], usable["premise"], usable["hypothesis"], gold, pa.array(group, pa.int32())]
    examples = pa.table(columns, schema=EXAMPLES).combine_chunks()
    return EvaluationSet(name, tuple(given), merged, examples, pa.concat_tables([source.dropped, out]))


def _merged(name: str, given: Mapping[str, tuple[str, ...]], labels: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
    """For each of the set's labels the indices of those it is made of; each must be used once and only once."""
    used = Counter(label for parts in given.values() for label in parts)
    for label, times in used.items():
        if label not in labels:
            raise DataError(f"evaluate_on.{name}: labels: '{label}' is no label of the study{nearest(label, labels)}")
        if times > 1:
            raise DataError(f"evaluate_on.{name}: labels: '{label}' is named {times} times; a label has one meaning")
    if missing := [label for label in labels if label not in used]:
        raise DataError(
            f"evaluate_on.{name}: labels: nothing is made of {', '.join(missing)}; say what they mean in this set"
        )
    return tuple(tuple(labels.index(label) for label in parts) for parts in given.values())
