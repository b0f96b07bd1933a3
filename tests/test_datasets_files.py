"""The user's own files: formats, columns, labels, and everything that can be wrong with them."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet
import pytest

from unfreeze.datasets import load_dataset
from unfreeze.errors import DataError
from unfreeze.study import DataSpec
from unfreeze.studydir import StudyDir


def files(path, **options):
    path = path if isinstance(path, dict) else str(path)
    return load_dataset(DataSpec(dataset="files", path=path, **options))


def examples(dataset):
    """Every example by text: its label."""
    return {
        row["premise"]: dataset.labels[row["gold"]] for table in dataset.splits.values() for row in table.to_pylist()
    }


def csv(path, rows, header="text,label"):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


GOOD = [f"good {number},pos" for number in range(15)] + [f"bad {number},neg" for number in range(15)]


def test_cells_stay_text(tmp_path):
    dataset = files(csv(tmp_path / "a.csv", [*GOOD, "007,pos", "NA,neg", "true,pos", "1.50,neg", "2020-01-01,pos"]))
    assert (
        examples(dataset).items()
        >= {"007": "pos", "NA": "neg", "true": "pos", "1.50": "neg", "2020-01-01": "pos"}.items()
    )
    assert dataset.labels == ("neg", "pos")
    assert not dataset.is_pair
    assert dataset.name == "a"


def test_every_format_gives_the_same_examples(tmp_path):
    rows = [{"Review": line.split(",")[0], "Stars": index % 3} for index, line in enumerate(GOOD)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row | {"extra": [1]}) + "\n\n" for row in rows))
    (tmp_path / "a.tsv").write_text("Review\tStars\n" + "".join(f"{r['Review']}\t{r['Stars']}\n" for r in rows))
    (tmp_path / "a.csv").write_text(
        "\ufeffReview,Stars\r\n" + "".join(f'"{r["Review"]}",{r["Stars"]}\r\n' for r in rows)
    )
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    found = [
        examples(files(tmp_path / f"a.{ending}", columns={"text": "Review", "label": "Stars"}))
        for ending in ("jsonl", "tsv", "csv", "csv.gz", "parquet")
    ]
    assert found[0] == {row["Review"]: str(row["Stars"]) for row in rows}
    assert all(one == found[0] for one in found)


def test_integer_labels_sort_as_numbers(tmp_path):
    rows = [f"text {number},{number % 3 * 9 + 1}" for number in range(30)]
    assert files(csv(tmp_path / "a.csv", rows)).labels == ("1", "10", "19")


def test_pandas_integers_with_a_gap(tmp_path):
    table = pa.table(
        {"text": [f"t{n}" for n in range(31)], "label": [*[float(n % 2) for n in range(30)], float("nan")]}
    )
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    dataset = files(tmp_path / "a.parquet")
    assert dataset.labels == ("0", "1")
    assert dataset.dropped.to_pylist() == [{"source": str(tmp_path / "a.parquet"), "row": 31, "reason": "no label"}]


def test_pair_columns_are_guessed_and_quotes_kept_in_raw_tsv(tmp_path):
    rows = [f'"a {number}\tb {number}\t{number % 2}' for number in range(20)]
    (tmp_path / "a.tsv").write_text("\n".join(["Sentence1\tSentence2\tLabel", *rows]) + "\n")
    dataset = files(tmp_path / "a.tsv")
    assert dataset.is_pair
    assert examples(dataset).keys() == {f'"a {number}' for number in range(20)}
    assert not len(dataset.dropped)


def test_rows_that_cannot_be_used_are_named(tmp_path):
    path = tmp_path / "a.csv"
    bad = ["one,two,three", " ,pos", "no label,", "", "fine,pos", '"two\nlines",neg']
    path.write_bytes(("text,label\n" + "\n".join([*GOOD, *bad]) + "\n").encode() + b"caf\xe9,pos\nlast,neg\n")
    dataset = files(path)
    assert [(row["row"], row["reason"]) for row in dataset.dropped.to_pylist()] == [
        (32, "3 columns instead of 2"),
        (38, "not UTF-8 text"),
        (33, "empty text"),
        (34, "no label"),
    ]
    assert {"fine", "two\nlines", "last"} <= examples(dataset).keys()


def test_open_quote_is_said(tmp_path):
    reasons = files(csv(tmp_path / "a.csv", [*GOOD, '"open,pos', "x,neg"])).dropped["reason"].to_pylist()
    assert len(reasons) == 1
    assert "a quote is left open" in reasons[0]


def test_one_file_for_each_split(tmp_path):
    train = csv(tmp_path / "train.csv", GOOD)
    test = csv(tmp_path / "test.csv", ["fine,pos", "poor,neg", "odd,meh"])
    dataset = files({"train": str(train), "test": str(test)})
    assert [len(dataset.splits[split]) for split in ("train", "validation", "test")] == [27, 3, 2]
    assert any("Validation is a tenth" in note for note in dataset.notes)
    assert dataset.dropped.to_pylist() == [
        {"source": str(test), "row": 4, "reason": "label 'meh' never seen in training"}
    ]


def test_group_column_keeps_examples_together(tmp_path):
    rows = [f"text {number},{number % 2},g{number // 5}" for number in range(100)]
    dataset = files(csv(tmp_path / "a.csv", rows, "text,label,author"), columns={"group": "author"})
    groups = [set(table["group"].to_pylist()) for table in dataset.splits.values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 20


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("a.csv", "text,label\n", {}, "no usable example$"),
        ("a.csv", "text,label\n,pos\n,neg\na,\n", {}, "no usable example; 2 of 3 rows were dropped for: empty text"),
        ("a.csv", '"text,label\n' + "good,pos\n" * 20000, {}, "first row is no header"),
        ("a.csv", "", {}, "the file is empty"),
        ("a.csv", "text,label,text\na,b,c\n", {}, "more than one column is called 'text'"),
        ("a.csv", "txt,label\na,b\n", {}, "no column 'text' for the text; did you mean 'txt'"),
        ("a.csv", "text,lable\na,b\n", {"columns": {"label": "label"}}, "did you mean 'lable'.*known: text, lable"),
        ("a.csv", "text,label\na,x\nb,x\nc,x\nd,x\n", {}, "only the label 'x'"),
        ("a.doc", "text,label\n", {}, "unknown ending '.doc'"),
        ("a.csv", "text,label\na,x\nb,y\n".encode("utf-16"), {}, "UTF-16"),
        ("a.csv.gz", "text,label\n", {}, "not a whole gzip file"),
        ("a.parquet", "text,label\n", {}, "not readable as Parquet"),
        ("a.jsonl", "text\n", {}, "no line is a JSON object"),
        ("a.csv", "a,b,label\n1,2,3\n", {"columns": {"hypothesis": "b"}}, "hypothesis and no premise"),
        ("a.csv", "text,label\na,x\nb,y\n", {"split": "official"}, "has no official splits"),
        ("a.csv", "text,label\na,x\nb,y\n", {"split": {"random": {"test": 5}}}, "leaves none to train on"),
    ],
)
def test_bad_files_end_in_one_line(tmp_path, name, content, options, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message) as caught:
        files(path, **options)
    assert "\n" not in str(caught.value)


def test_paths_that_are_no_file(tmp_path):
    with pytest.raises(DataError, match=f"{tmp_path}/no.csv: no such file"):
        files(tmp_path / "no.csv")
    with pytest.raises(DataError, match="is a folder"):
        files(tmp_path)
    with pytest.raises(DataError, match="names no train file"):
        files({"test": "a.csv"})
    with pytest.raises(DataError, match="names the file"):
        load_dataset(DataSpec(dataset="files"))


def test_columns_that_are_no_text_do_not_matter(tmp_path):
    """Bytes, and numbers that no integer holds, once ended in a traceback though nobody asked for them."""
    texts, labels = zip(*(line.split(",") for line in GOOD), strict=True)
    others = {"image": [b"\xff\xfe"] * 30, "score": [float("inf")] * 30, "size": [1e300] * 30}
    pa.parquet.write_table(pa.table({"text": texts, "label": labels} | others), tmp_path / "a.parquet")
    assert examples(files(tmp_path / "a.parquet")) == dict(zip(texts, labels, strict=True))


def test_large_numbers_of_groups_stay_apart(tmp_path):
    """pandas writes 1234567.0 where a column has gaps; six digits made one group of all."""
    rows = [
        {"text": line.split(",")[0], "label": line.split(",")[1], "group": 1234567.0 + index // 3}
        for index, line in enumerate(GOOD)
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = files(tmp_path / "a.jsonl", columns={"group": "group"}, split={"random": {}})
    assert len({number for table in found.splits.values() for number in table["group"].to_pylist()}) == 10


def test_a_label_with_a_line_break_is_read_back(tmp_path):
    split = {"train": str(csv(tmp_path / "a.csv", GOOD))}
    split["test"] = str(csv(tmp_path / "b.csv", [*GOOD, '"new text","two\nlines"']))
    found = files(split)
    assert len(found.dropped) == 1
    assert "Examples left out of validation and test, as training holds none of their classes: 1." in found.notes
    StudyDir(tmp_path / "out").write_dataset(found)
    assert StudyDir(tmp_path / "out").read_dataset().dropped.equals(found.dropped)
