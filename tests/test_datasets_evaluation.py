"""Further sets, whose labels may merge those of the study."""

import pytest

from study_factory import dataset
from unfreeze.datasets import load_evaluation_sets
from unfreeze.errors import DataError, StudyError
from unfreeze.section import parse_section
from unfreeze.study import Study
from unfreeze.studydir import StudyDir

ROWS = [("a man sleeps", "a man", "entailment"), ("a man sleeps", "nobody", "non-entailment"), ("x", "y", "unsure")]


@pytest.fixture
def hans(tmp_path):
    path = tmp_path / "hans.csv"
    path.write_text("premise,hypothesis,label\n" + "".join(",".join(row) + "\n" for row in ROWS))
    return str(path)


def load(path, labels, name="hans", data=None):
    written = {"strategies": ["full"], "evaluate_on": {name: {"path": path, **({"labels": labels} if labels else {})}}}
    return load_evaluation_sets(parse_section(Study, written, "study.yaml"), data or dataset())[0]


MERGED = {"entailment": "entailment", "non-entailment": ["neutral", "contradiction"]}


def test_labels_are_merged_and_others_dropped(hans, tmp_path):
    found = load(hans, MERGED)
    assert (found.labels, found.merged) == (("entailment", "non-entailment"), ((0,), (1, 2)))
    assert found.examples["gold"].to_pylist() == [0, 1]
    assert found.examples["group"].to_pylist() == [0, 0], "they share a premise"
    assert found.dropped["reason"].to_pylist() == ["label 'unsure' is none of entailment, non-entailment"]
    study_dir = StudyDir(tmp_path / "out")
    study_dir.write_evaluation_set(found)
    kept = study_dir.read_evaluation_set("hans")
    assert (kept.labels, kept.merged, kept.fingerprint) == (found.labels, found.merged, found.fingerprint)
    assert kept.examples.equals(found.examples)


def test_the_same_labels_need_not_be_said(hans):
    found = load(hans, None)
    assert found.labels == ("entailment", "neutral", "contradiction")
    assert len(found.examples) == 1
    assert found.fingerprint != load(hans, MERGED).fingerprint


def test_numbers_are_labels_too(tmp_path):
    path = tmp_path / "n.csv"
    path.write_text("premise,hypothesis,label\na,b,0\na,c,1\n")
    assert load(str(path), {0: "entailment", 1: ["neutral", "contradiction"]}).examples["gold"].to_pylist() == [0, 1]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"entailment": "entailment"}, "nothing is made of neutral, contradiction"),
        ({"a": ["entailment", "neutral"], "b": ["neutral", "contradiction"]}, "'neutral' is named 2 times"),
        ({"a": "entailmen", "b": ["neutral", "contradiction"]}, "no label of the study; did you mean 'entailment'"),
        ({"a": "entailment", "b": ["neutral", "contradiction"]}, "no row has one of the labels a, b"),
    ],
)
def test_labels_that_do_not_fit(hans, labels, said):
    with pytest.raises(DataError, match=said):
        load(hans, labels)


def test_names_and_pairs_are_checked(hans):
    with pytest.raises(DataError, match="one of the study's own splits or files"):
        load(hans, MERGED, name="mistakes")
    with pytest.raises(DataError, match="one of the study's own splits"):
        load(hans, MERGED, name="test")
    with pytest.raises(StudyError):
        load(hans, MERGED, name="../x")
    with pytest.raises(DataError, match="holds pairs, but the study's data are single texts"):
        load(hans, MERGED, data=dataset(pairs=False))
