"""Which mistakes a run makes for the same reason: those its head reads alike, and what they have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.cluster import HDBSCAN
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from unfreeze.analysis.mistakes import Answers
from unfreeze.analysis.words import LEVEL, Vocabulary, count_words, word_lifts
from unfreeze.errors import MissingExtra
from unfreeze.records import states_array

Projection = Literal["pca", "umap"]

# Distances say little in 384 dimensions or more. In 5 or 10 components the mistakes of MiniLM on SNLI that are about
# one thing (water, dogs, bicycles) fall together with others; 20 tell them apart, and 4,000 mistakes then take 0.8 s,
# where 50 take two.
COMPONENTS = 20
# A cluster must hold 1 % of the mistakes, else it is not worth a look, and ten of them: in fewer, hardly any word can
# be told from chance once a vocabulary has been tested.
SMALLEST, SMALLEST_SHARE = 10, 0.01
FEWEST = 2 * SMALLEST  # mistakes below which there is no map: HDBSCAN finds two clusters or none
NAME_WORDS = 3


@dataclass(frozen=True)
class MistakeMap:
    """Mistakes of one run, placed and clustered.

    Attributes:
        examples: their rows in the test split, shape (mistakes,).
        position: where each stands in the plane, float32, shape (mistakes, 2).
        cluster: the number of its cluster, the largest first, -1 for none; shape (mistakes,).
        names: what each cluster is called, largest first.
    """

    examples: np.ndarray
    position: np.ndarray
    cluster: np.ndarray
    names: tuple[str, ...]


def reduce_states(states: np.ndarray) -> np.ndarray:
    """The first :data:`COMPONENTS` principal components (or as many as there are) of standardised states.

    Standardised, because a few dimensions of an encoder's states are many times as wide as all others.
    """
    components = min(COMPONENTS, *states.shape)
    scaled = StandardScaler().fit_transform(states)
    with np.errstate(invalid="ignore"):  # states all the same: a run that collapsed has no variance to share out
        return np.asarray(PCA(components, svd_solver="covariance_eigh").fit_transform(scaled), np.float32)


def find_clusters(reduced: np.ndarray) -> np.ndarray:
    """HDBSCAN (Campello et al. 2013), its leaves: the densest groups, in which no two denser ones stand apart.

    The more usual choice, most persistent clusters, takes half of a cloud that is denser in its middle for one: 2,096
    of 4,000 mistakes of head-only on SNLI, where leaves are water and pools, dogs and frisbees, bicycles, ball games.

    Args:
        reduced: shape (mistakes, components).

    Returns:
        Number of each mistake's cluster, the largest first, -1 for none; shape (mistakes,).
    """
    smallest = max(SMALLEST, int(SMALLEST_SHARE * len(reduced)))
    found = HDBSCAN(
        min_cluster_size=smallest, min_samples=SMALLEST, cluster_selection_method="leaf", copy=True
    ).fit_predict(reduced)
    sizes = np.bincount(found[found >= 0])
    rank = np.empty(len(sizes), int)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    return np.asarray(np.append(rank, -1)[found])


def place(reduced: np.ndarray, projection: Projection) -> np.ndarray:
    """Where each mistake stands in the plane.

    Args:
        reduced: shape (mistakes, components).
        projection: ``pca`` takes the first two components; ``umap`` (McInnes et al. 2018) keeps neighbours together.

    Returns:
        Float32, shape (mistakes, 2).

    Raises:
        MissingExtra: UMAP is asked for and not installed.
    """
    if projection == "pca":
        return reduced[:, :2]
    try:
        from umap import UMAP
    except ImportError:
        raise MissingExtra("projection 'umap'", "umap") from None
    return np.asarray(UMAP(random_state=0, n_jobs=1).fit_transform(reduced), np.float32)


def main_confusion(run: Answers, examples: np.ndarray) -> tuple[int, int, int]:
    """The most frequent gold and predicted label among some mistakes, and how many of them have both."""
    pairs = np.stack([run.gold[examples], run.predicted[examples]])
    kinds, counts = np.unique(pairs, axis=1, return_counts=True)
    gold, predicted = kinds[:, counts.argmax()].tolist()
    return gold, predicted, int(counts.max())


def map_mistakes(
    mistakes: Mapping[str, pa.Table],
    answers: Mapping[str, Answers],
    guid: pa.ChunkedArray,
    labels: Sequence[str],
    vocabulary: Vocabulary | None,
    projection: Projection = "pca",
) -> dict[str, MistakeMap]:
    """Place and cluster the mistakes of each run, and name the clusters.

    A cluster is called by the words that stand in it more often than in the test split, surest first; where none is
    sure, by its most frequent confusion, gold → predicted.

    Args:
        mistakes: tables of :func:`~unfreeze.records.mistakes_table` by run id, of :data:`FEWEST` rows or more.
        answers: test answers by run id.
        guid: of the test split.
        labels: class names.
        vocabulary: of the test split; None names every cluster by its confusion.
        projection: see :func:`place`.

    Raises:
        MissingExtra: UMAP is asked for and not installed.
    """
    maps = {}
    for run_id, table in mistakes.items():
        reduced = reduce_states(states_array(table))
        examples, cluster = pc.index_in(table["guid"], guid).to_numpy(), find_clusters(reduced)
        groups = [examples[cluster == number] for number in range(cluster.max() + 1)]
        names = _names(groups, answers[run_id], labels, vocabulary, len(guid))
        maps[run_id] = MistakeMap(examples, place(reduced, projection), cluster, names)
    return maps


def _names(
    groups: Sequence[np.ndarray], run: Answers, labels: Sequence[str], vocabulary: Vocabulary | None, total: int
) -> tuple[str, ...]:
    inside = np.zeros((len(groups), total), bool)
    for group, examples in enumerate(groups):
        inside[group, examples] = True
    counts = count_words(vocabulary, inside) if vocabulary else None
    names = []
    for group, examples in enumerate(groups):
        gold, predicted, _ = main_confusion(run, examples)
        lifted = _lifted(word_lifts(counts, group)) if counts else []
        names.append(", ".join(lifted[:NAME_WORDS]) or f"{labels[gold]} → {labels[predicted]}")
    return tuple(names)


def _lifted(lifts: pa.Table) -> list[str]:
    """Words that a corrected test finds more frequent, surest first."""
    found = lifts.filter((pc.field("q") < LEVEL) & (pc.field("lift") > 1))
    words: list[str] = found.sort_by([("p", "ascending"), ("lift", "descending")])["word"].to_pylist()
    return words
