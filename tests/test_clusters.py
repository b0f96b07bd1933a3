import sys
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from unfreeze.analysis.clusters import find_clusters, map_mistakes, place, reduce_states
from unfreeze.analysis.mistakes import Answers
from unfreeze.analysis.words import read_words
from unfreeze.errors import MissingExtra
from unfreeze.records import EXAMPLES, mistakes_table

LABELS = ("yes", "no", "perhaps")
GUID = pa.chunked_array([[f"test-{i}" for i in range(600)]])


def states(sizes, hidden=32, spread=0.3, seed=0):
    """Blobs of these sizes around far points, one dimension a hundred times as wide as the others."""
    random = np.random.default_rng(seed)
    blobs = np.repeat(random.normal(size=(len(sizes), hidden)), sizes, axis=0)
    wide = np.append(100, np.ones(hidden - 1))
    return (blobs + spread * random.normal(size=blobs.shape)) * wide


def test_planted_clusters_are_found_and_the_largest_comes_first():
    found = find_clusters(reduce_states(states([40, 200, 90])))
    assert [set(part.tolist()) for part in np.split(found, [40, 240])] == [{2}, {0}, {1}]


def test_a_cloud_without_groups_has_no_cluster():
    cloud = np.random.default_rng(0).normal(size=(500, 32))
    assert set(find_clusters(reduce_states(cloud)).tolist()) == {-1}


@pytest.mark.parametrize("shape", [(20, 384), (50, 1), (30, 2)])
def test_few_mistakes_and_narrow_states(shape):
    reduced = reduce_states(np.random.default_rng(0).normal(size=shape))
    assert reduced.shape == (shape[0], min(20, *shape))
    assert len(find_clusters(reduced)) == shape[0]


def test_states_that_are_all_the_same():
    reduced = reduce_states(np.ones((50, 16)))
    assert np.isfinite(reduced).all()
    assert len(find_clusters(reduced)) == 50


@pytest.fixture
def planted():
    """600 examples; a run errs on the first 150, whose states are three blobs, two of them with a word."""
    word = np.repeat(["zebra", "", "yellow", "", "zebra yellow"], [50, 50, 50, 400, 50])
    texts = [f"the man is here {extra}" for extra in word]
    columns = {"guid": GUID, "premise": texts, "hypothesis": [None] * 600, "gold": [0] * 600, "group": range(600)}
    examples = pa.table({name: pa.array(column) if name != "guid" else column for name, column in columns.items()})
    predicted = np.zeros(600, int)
    predicted[:150] = 1
    predicted[60:100] = 2
    run = Answers(np.zeros(600, int), predicted, np.ones(600), np.zeros(600))
    order = np.random.default_rng(1).permutation(150)
    return examples.cast(EXAMPLES), run, mistakes_table(GUID.take(order), states([50, 50, 50])[order])


def test_clusters_are_named_by_their_words_or_their_confusion(planted):
    examples, run, mistakes = planted
    found = map_mistakes({"a": mistakes}, {"a": run}, examples["guid"], LABELS, read_words(examples))["a"]
    names = np.array(found.names)[found.cluster[np.argsort(found.examples)]]
    assert [set(part) for part in np.split(names, 3)] == [{"zebra"}, {"yes → perhaps"}, {"yellow"}]
    assert sorted(found.examples.tolist()) == list(range(150))
    assert found.position.shape == (150, 2)
    wordless = map_mistakes({"a": mistakes}, {"a": run}, examples["guid"], LABELS, None)["a"]
    assert sorted(wordless.names) == ["yes → no", "yes → no", "yes → perhaps"]


def test_umap_is_asked_for_and_may_be_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingExtra, match=r"pip install 'unfreeze\[umap\]'"):
        place(np.zeros((30, 20)), "umap")


def test_umap_moves_points_and_changes_no_cluster(planted, monkeypatch):
    # The real one takes a minute to compile itself.
    class Umap:
        def __init__(self, **options):
            assert options["random_state"] == 0

        def fit_transform(self, reduced):
            return reduced[:, 2:4]

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Umap))
    examples, run, mistakes = planted
    by = {
        projection: map_mistakes({"a": mistakes}, {"a": run}, examples["guid"], LABELS, None, projection)["a"]
        for projection in ("pca", "umap")
    }
    assert np.array_equal(by["pca"].cluster, by["umap"].cluster)
    assert not np.array_equal(by["pca"].position, by["umap"].position)
