"""SNLI in each form it is distributed in, with made-up sentences."""

import json
import zipfile

import pytest

from unfreeze.datasets import load_dataset
from unfreeze.errors import DataError
from unfreeze.records import EXAMPLES
from unfreeze.study import DataSpec
from unfreeze.studydir import StudyDir

LABELS = ("entailment", "neutral", "contradiction")
HEADER = ("gold_label", "sentence1_parse", "sentence1", "sentence2", "captionID", "pairID")
HEADER += ("label1", "label2", "label3", "label4", "label5")
# Most training pairs have one annotator, and of a few the labels are missing.
VOTES = (["neutral"] * 5, ["entailment", "neutral", "neutral", "contradiction", "neutral"], ["entailment"], [])


def records(split, captions, *, ids=True):
    rows = [
        {"gold_label": label, "sentence1": f"{split} robot {number} paints.", "sentence2": f'It is "{label}" {number}.'}
        for number in range(captions)
        for label in LABELS
    ]
    rows.append({"gold_label": "-", "sentence1": f"{split} robot x paints.", "sentence2": "Nobody agreed."})
    for number, row in enumerate(rows):
        given = VOTES[number % len(VOTES)]
        row |= {"annotator_labels": given, "sentence1_parse": "(ROOT)"}
        row |= {f"label{n}": label for n, label in enumerate(given, start=1)}
        row |= {"captionID": f"{split}{number // 3}", "pairID": f"{split}{number}"} if ids else {}
    return rows


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def txt(rows):
    lines = [HEADER, *([row.get(column, "") for column in HEADER] for row in rows)]
    return "".join("\t".join(line) + "\n" for line in lines)


def write(folder, splits, ending="jsonl", **options):
    folder.mkdir(parents=True, exist_ok=True)
    render = {"jsonl": jsonl, "txt": txt}[ending]
    for split, captions in splits.items():
        (folder / f"snli_1.0_{split}.{ending}").write_text(render(records(split, captions, **options)))
    return folder


def snli(path, **options):
    return load_dataset(DataSpec(dataset="snli", path=str(path), **options))


FULL = {"train": 30, "dev": 4, "test": 5}


def test_official_splits_drop_and_count_pairs_without_gold(tmp_path):
    dataset = snli(write(tmp_path / "nested" / "snli_1.0", FULL).parent)
    assert dataset.labels == LABELS
    assert {split: len(table) for split, table in dataset.splits.items()} == {"train": 90, "validation": 12, "test": 15}
    assert dataset.notes == ()
    assert dataset.dropped.to_pylist() == [
        {"source": f"snli_1.0_{split}.jsonl", "row": 3 * FULL[split] + 1, "reason": "no label"} for split in FULL
    ]
    assert dataset.splits["test"]["guid"].to_pylist()[:2] == ["test0", "test1"]
    assert dataset.splits["test"]["gold"].to_pylist()[:3] == [0, 1, 2]


def test_every_form_holds_the_same_examples(tmp_path):
    folder = write(tmp_path / "jsonl", FULL)
    text = write(tmp_path / "txt", FULL, "txt")
    with zipfile.ZipFile(tmp_path / "snli_1.0.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"snli_1.0/{file.name}")
            archive.writestr(f"__MACOSX/snli_1.0/._{file.name}", "shadow")
    want = snli(folder).splits
    for path in (text, tmp_path / "snli_1.0.zip"):
        got = snli(path).splits
        assert all(got[split].equals(want[split]) for split in want)
    assert '"neutral"' in want["train"]["hypothesis"][1].as_py()


def test_annotators_labels_are_counted_and_change_no_fingerprint(tmp_path):
    voted = snli(write(tmp_path / "voted", FULL))
    assert voted.splits["test"]["votes"].to_pylist()[:5] == [[0, 5, 0], [1, 3, 1], [1, 0, 0], None, [0, 5, 0]]
    folder = write(tmp_path / "plain", FULL)
    for file in folder.iterdir():
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        file.write_text(jsonl([{key: row[key] for key in row if "label" not in key or "gold" in key} for row in rows]))
    plain = snli(folder)
    assert plain.splits["test"].schema == EXAMPLES
    assert plain.fingerprint == voted.fingerprint
    study_dir = StudyDir(tmp_path / "study")
    study_dir.write_dataset(voted)
    assert study_dir.read_dataset().splits["test"].equals(voted.splits["test"])


def test_folder_without_test_says_that_dev_serves_as_test(tmp_path):
    dataset = snli(write(tmp_path, {"train": 30, "dev": 4}, ids=False))
    assert {split: len(table) for split, table in dataset.splits.items()} == {"train": 81, "validation": 9, "test": 12}
    assert any("development split serves as test" in note for note in dataset.notes)
    assert not set(dataset.splits["train"]["group"].to_pylist()) & set(
        dataset.splits["validation"]["group"].to_pylist()
    )
    assert dataset.splits["train"]["guid"][0].as_py().startswith("train-")
    assert set(dataset.splits["test"]["guid"].to_pylist()) == {f"validation-{row}" for row in range(1, 13)}


def test_random_split_is_of_the_training_split_alone(tmp_path):
    dataset = snli(write(tmp_path, FULL), split={"random": {"validation": 0.1, "test": 0.2}})
    assert {split: len(table) for split, table in dataset.splits.items()} == {"train": 63, "validation": 9, "test": 18}
    assert all(premise.startswith("train") for premise in dataset.splits["test"]["premise"].to_pylist())
    assert any("training split" in note for note in dataset.notes)


def test_ids_that_repeat_are_not_used(tmp_path):
    write(tmp_path, FULL)
    (tmp_path / "snli_1.0_dev.jsonl").write_text((tmp_path / "snli_1.0_test.jsonl").read_text())
    splits = snli(tmp_path).splits
    guids = [guid for table in splits.values() for guid in table["guid"].to_pylist()]
    assert len(set(guids)) == len(guids)


@pytest.mark.parametrize(
    ("content", "reason"),
    [('{"gold_label": "neutral"', "not JSON"), ("[1]", "not an object"), ('{"sentence1": "a"}', "no label")],
)
def test_broken_lines_are_counted_not_fatal(tmp_path, content, reason):
    write(tmp_path, FULL)
    file = tmp_path / "snli_1.0_dev.jsonl"
    file.write_text(content + "\n" + file.read_text())
    dataset = snli(tmp_path)
    assert len(dataset.splits["validation"]) == 12
    first = next(row for row in dataset.dropped.to_pylist() if row["source"] == file.name)
    assert first["row"] == 1
    assert reason in first["reason"]


def test_misspelt_label_is_dropped_by_name(tmp_path):
    write(tmp_path, FULL)
    with (tmp_path / "snli_1.0_dev.jsonl").open("a") as file:
        file.write(json.dumps({"gold_label": "nuetral", "sentence1": "A", "sentence2": "B"}) + "\n")
    reasons = snli(tmp_path).dropped["reason"].to_pylist()
    assert "label 'nuetral' is none of entailment, neutral, contradiction" in reasons


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match="no such folder or zip"):
        snli(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds no snli_1\.0_train"):
        snli(tmp_path)
    (tmp_path / "snli_1.0_train.txt").write_text("gold_label\tsentence_1\tsentence2\nneutral\ta\tb\n")
    (tmp_path / "snli_1.0_dev.txt").write_text("gold_label\tsentence_1\tsentence2\nneutral\ta\tb\n")
    with pytest.raises(DataError, match="no column 'sentence1' for the premise; did you mean 'sentence_1'"):
        snli(tmp_path)
    with pytest.raises(DataError, match=r"data\.path"):
        load_dataset(DataSpec(dataset="snli"))
    (tmp_path / "bad.zip").write_text("no zip")
    with pytest.raises(DataError, match="neither a folder nor a zip"):
        snli(tmp_path / "bad.zip")
