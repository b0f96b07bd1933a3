"""Splits are exact, stratified, grouped when asked, and the same on every machine."""

import numpy as np
import pyarrow as pa
import pytest

from unfreeze.datasets.source import RAW, Source
from unfreeze.datasets.splits import count, divide, split_source
from unfreeze.errors import DataError
from unfreeze.records import EXAMPLES
from unfreeze.study import DataSpec


def pool(size, labels=("a", "b", "c"), per_group=3):
    rows = [
        {
            "guid": None,
            "premise": f"premise {number // per_group}",
            "hypothesis": f"hypothesis {number}",
            "label": labels[number % len(labels)],
            "group": None,
            "source": "file",
            "row": number + 1,
        }
        for number in range(size)
    ]
    return pa.Table.from_pylist(rows, schema=RAW)


def with_ids(raw):
    return raw.set_column(0, "guid", raw["row"].cast(pa.string()))


def share(table, label):
    return table["label"].to_pylist().count(label) / len(table)


def test_random_split_is_exact_and_stratified():
    raw = with_ids(pool(1000, labels="aaab"))
    test, validation, train = divide(raw, [0.2, 101], 0)
    assert [len(test), len(validation), len(train)] == [200, 101, 699]
    assert all(abs(share(part, "b") - 0.25) < 0.01 for part in (test, validation, train))
    assert sorted(row for part in (test, validation, train) for row in part["row"].to_pylist()) == list(range(1, 1001))


def test_grouped_split_separates_no_group():
    raw = pool(999)
    parts = divide(raw, [0.2, 0.1], 0, grouped=True)
    premises = [set(part["premise"].to_pylist()) for part in parts]
    assert sum(map(len, premises)) == 333
    assert np.allclose([len(part) for part in parts], [200, 100, 699], atol=3)


def test_premises_that_differ_in_case_or_spaces_stay_together():
    """Two of 4,000 test premises of the SNLI sample stood in training too, in other case or spacing."""
    written = ("A man  sleeps {}.", " a man sleeps {}.", "A MAN sleeps\u00a0{}.")
    premises = pa.array([written[number % 3].format(number // 3) for number in range(300)])
    raw = pool(300).set_column(1, "premise", premises)
    parts = divide(raw, [0.2, 0.1], 0, grouped=True)
    numbers = [{text.split()[-1].split("\u00a0")[-1] for text in part["premise"].to_pylist()} for part in parts]
    assert sum(map(len, numbers)) == 100
    rows = sorted(parts[0]["row"].to_pylist())
    backwards = divide(raw.take(pa.array(range(299, -1, -1))), [0.2, 0.1], 0, grouped=True)
    assert sorted(backwards[0]["row"].to_pylist()) == rows


def test_split_does_not_depend_on_the_machine_or_the_order_of_rows():
    known = [2, 3, 10]  # if it changes, every published split changes
    raw = with_ids(pool(12))
    assert divide(raw, [3], 7)[0]["row"].to_pylist() == known
    backwards = raw.take(pa.array(range(11, -1, -1)))
    assert sorted(divide(backwards, [3], 7)[0]["row"].to_pylist()) == known
    assert divide(raw, [3], 8)[0]["row"].to_pylist() != known


def test_shares_round_up_as_the_founding_study_did():
    assert count(0.2, 549_367) == 109_874
    assert count(0.1, 30) == 3
    assert count(25, 30) == 25


def test_sample_is_stratified_and_nested_options_stay():
    spec = DataSpec(max_train_pairs=90, split={"random": {"validation": 30, "test": 60}})
    dataset = split_source(Source("s", {"train": pool(900)}), spec)
    assert np.bincount(dataset.splits["train"]["gold"].to_numpy()).tolist() == [30, 30, 30]
    assert len(dataset.splits["test"]) == 60
    everything = split_source(Source("s", {"train": pool(900)}), spec.model_copy(update={"max_train_pairs": 10_000}))
    assert len(everything.splits["train"]) == 810
    assert all(table.schema == EXAMPLES for table in everything.splits.values())


def test_groups_mean_the_same_in_every_split():
    source = Source("s", {"train": pool(90), "test": pool(9), "validation": pool(6)})
    splits = split_source(source, DataSpec()).splits
    premise_of = {row["group"]: row["premise"] for table in splits.values() for row in table.to_pylist()}
    for table in splits.values():
        assert all(premise_of[row["group"]] == row["premise"] for row in table.to_pylist())
    assert len(premise_of) == 30


def test_default_split_is_grouped_where_the_source_has_one_file():
    splits = split_source(Source("s", {"train": pool(300)}), DataSpec()).splits
    assert [len(splits[split]) for split in ("train", "validation", "test")] == [210, 30, 60]
    groups = [set(table["group"].to_pylist()) for table in splits.values()]
    assert sum(map(len, groups)) == len(set.union(*groups))


def test_empty_split_is_an_error():
    with pytest.raises(DataError, match="no usable example is left in test"):
        split_source(Source("s", {"train": pool(30), "test": pool(3, labels="x")}), DataSpec())
