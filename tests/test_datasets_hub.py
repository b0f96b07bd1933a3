"""Local folders in the hub's formats, and what is said when the hub is out of reach. No network."""

import datasets
import pyarrow as pa
import pyarrow.parquet
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError

from unfreeze.datasets import load_dataset
from unfreeze.errors import DataError
from unfreeze.study import DataSpec

NAMES = ["no", "maybe", "yes"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def hub(path, **options):
    return load_dataset(DataSpec(dataset="hub", path=str(path), **options))


def columns(split, size, label=None):
    numbers = range(size)
    return {
        "premise": [f"{split} premise {number // 3}" for number in numbers],
        "hypothesis": [f"{split} hypothesis {number}" for number in numbers],
        "label": [number % 3 if label is None else label for number in numbers],
    }


def class_labels(split, size, label=None):
    features = datasets.Features(
        premise=datasets.Value("string"), hypothesis=datasets.Value("string"), label=datasets.ClassLabel(names=NAMES)
    )
    return datasets.Dataset.from_dict(columns(split, size, label), features=features)


def sizes(dataset):
    return [len(dataset.splits[split]) for split in ("train", "validation", "test")]


def test_saved_to_disk_with_class_names_and_a_test_split_without_labels(tmp_path):
    splits = {
        "train": datasets.concatenate_datasets([class_labels("train", 60), class_labels("odd", 2, label=-1)]),
        "validation_matched": class_labels("validation", 12),
        "test": class_labels("test", 9, label=-1),
    }
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "saved")
    dataset = hub(tmp_path / "saved")
    assert dataset.labels == ("no", "maybe", "yes")
    assert sizes(dataset) == [54, 6, 12]
    assert any("development split serves as test" in note for note in dataset.notes)
    assert dataset.dropped.to_pylist() == [
        {"source": "train", "row": 61, "reason": "no label"},
        {"source": "train", "row": 62, "reason": "no label"},
    ]
    first = dataset.splits["test"].to_pylist()[0]
    assert first["premise"] == "validation premise 0"
    assert first["gold"] == 0


def test_parquet_folder_with_a_card(tmp_path):
    for split, size in {"train": 60, "validation": 12, "test": 15}.items():
        pa.parquet.write_table(pa.table(columns(split, size)), tmp_path / f"{split}-00000-of-00001.parquet")
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n"
        + "".join(f"  - split: {split}\n    path: {split}-*\n" for split in ("train", "validation", "test"))
        + "dataset_info:\n  features:\n  - {name: premise, dtype: string}\n  - {name: hypothesis, dtype: string}\n"
        "  - name: label\n    dtype:\n      class_label:\n        names: {'0': 'no', '1': 'maybe', '2': 'yes'}\n---\n"
    )
    dataset = hub(tmp_path)
    assert sizes(dataset) == [60, 12, 15]
    assert dataset.labels == ("no", "maybe", "yes")
    assert dataset.notes == ()


def test_csv_folder_of_single_texts(tmp_path):
    (tmp_path / "train.csv").write_text("text,stars\n" + "".join(f"text {n},{n % 2 + 1}\n" for n in range(60)))
    dataset = hub(tmp_path, columns={"label": "stars"})
    assert dataset.labels == ("1", "2")
    assert sizes(dataset) == [42, 6, 12]
    assert not dataset.is_pair


def test_folder_without_train_or_with_nothing(tmp_path):
    (tmp_path / "test.csv").write_text("text,label\na,x\n")
    with pytest.raises(DataError, match="has no train split, only test"):
        hub(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="datasets cannot load it"):
        hub(tmp_path / "empty")


def test_hub_out_of_reach_is_said_at_once(tmp_path, monkeypatch):
    def unreachable(*_, **__):
        raise OSError("[Errno -2] Name or service not known")

    monkeypatch.setattr(HfApi, "dataset_info", unreachable)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: pytest.fail("retries for half a minute"))
    with pytest.raises(DataError, match=r"hub cannot be reached.*Name or service not known.*give its path") as caught:
        hub("somebody/something")
    assert "\n" not in str(caught.value)
    (tmp_path / "cache" / "somebody___something").mkdir(parents=True)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: {"train": class_labels("train", 60)})
    assert sizes(hub("somebody/something")) == [42, 6, 12]


def test_no_such_dataset(monkeypatch):
    def unknown(*_, **__):
        raise RepositoryNotFoundError.__new__(RepositoryNotFoundError)

    monkeypatch.setattr(HfApi, "dataset_info", unknown)
    with pytest.raises(DataError, match="neither a folder here nor a dataset on the hub"):
        hub("somebody/something")
