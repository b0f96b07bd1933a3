"""What explore says of data whose figures are known by hand."""

import json

import numpy as np
import pyarrow as pa
import pytest

from unfreeze.datasets.explore import explore
from unfreeze.records import DROPPED, EXAMPLES, Dataset


def table(rows):
    columns = ("guid", "premise", "hypothesis", "gold", "group")
    return pa.Table.from_pylist([dict(zip(columns, row, strict=True)) for row in rows], schema=EXAMPLES)


@pytest.fixture
def dataset():
    train = [
        ("1", "a b c", "x", 0, 0),
        ("2", "a b c", "x", 1, 0),
        ("3", "a b c", "y z", 1, 0),
        ("4", "d", "x", 0, 1),
    ]
    test = [("5", "d", "x", 0, 1), ("6", "e", "x", 1, 2), ("7", "d", "new", 1, 1), ("8", "f", "x", 1, 3)]
    dropped = pa.table([["f.csv"] * 12, list(range(12)), ["no label"] * 11 + ["empty text"]], schema=DROPPED)
    splits = {"train": table(train), "validation": table(test[1:2]), "test": table(test)}
    return Dataset("d", ("no", "yes"), splits, dropped, ("a note",))


def test_figures(dataset):
    said = explore(dataset)
    json.dumps(said, allow_nan=False)
    assert said["sizes"] == {"train": 4, "validation": 1, "test": 4}
    assert said["label_counts"]["test"] == {"no": 1, "yes": 3}
    assert said["duplicates"]["train"] == {"repeated": 1, "conflicting": 1}
    assert said["duplicates"]["test"] == {"repeated": 0, "conflicting": 0}
    assert said["overlap"]["test"]["premise"] == {"count": 2, "share": 0.5}
    assert said["overlap"]["test"]["group"] == {"count": 2, "share": 0.5}
    assert said["overlap"]["test"]["text"] == {"count": 1, "share": 0.25}
    assert said["overlap"]["validation"]["premise"]["count"] == 0
    assert said["lengths"]["train"]["premise"]["words"]["mean"] == 2.5
    assert said["lengths"]["train"]["hypothesis"]["characters"]["max"] == 3
    assert [row["guid"] for row in said["samples"]["no"]] == ["1", "4"]
    assert said["notes"] == ["a note"]


def test_dropped_rows_are_counted_and_the_first_listed(dataset):
    first, second = explore(dataset)["dropped"]
    assert (first["reason"], first["count"], len(first["first"])) == ("no label", 11, 10)
    assert second == {"reason": "empty text", "count": 1, "first": [{"source": "f.csv", "row": 11}]}


def test_tokens_tell_the_truncated_share(dataset):
    tokens = explore(dataset, {"train": np.array([3, 5, 9, 12])}, max_length=8)["tokens"]
    assert tokens["train"]["truncated_share"] == 0.5
    assert tokens["train"]["max"] == 12


def test_tokens_have_a_histogram_of_bounded_size(dataset):
    long = np.append(np.arange(1, 1000), 50_000)
    tokens = explore(dataset, {"train": long, "test": np.array([3, 3, 700])}, max_length=512)["tokens"]
    train, test = tokens["train"]["histogram"], tokens["test"]["histogram"]
    assert train["edges"] == test["edges"]
    assert train["edges"][-1] < 1100
    assert len(train["counts"]) == len(train["edges"]) - 1 <= 50
    assert sum(train["counts"]) == len(long)
    width = train["edges"][1]
    assert train["counts"][1] == width
    assert train["counts"][-1] > width  # the longest text of all is in it
    assert [test["counts"][3 // width], test["counts"][700 // width]] == [2, 1]
    assert (tokens["train"]["p25"], tokens["train"]["p75"]) == tuple(np.quantile(long, (0.25, 0.75)))


def test_single_texts(dataset):
    single = {
        split: t.set_column(2, "hypothesis", pa.nulls(len(t), pa.string())) for split, t in dataset.splits.items()
    }
    said = explore(Dataset("d", ("no", "yes"), single))
    assert not said["is_pair"]
    assert list(said["lengths"]["test"]) == ["premise"]
    assert said["duplicates"]["train"] == {"repeated": 2, "conflicting": 1}
    assert said["overlap"]["test"]["text"]["count"] == 2
