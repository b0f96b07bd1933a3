"""How training examples are learned (dataset cartography, Swayamdipta et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unfreeze.records import dynamics_arrays

REGIONS = ("easy to learn", "ambiguous", "hard to learn")


@dataclass(frozen=True)
class Cartography:
    """Where training examples lie on a data map; every array has shape (examples,).

    Attributes:
        confidence: mean probability of the gold label over epochs.
        variability: its standard deviation over epochs.
        correctness: share of epochs in which the answer was the gold label.
        learned: the first epoch (1, 2, …) from which the answer stays the gold label; infinite where it never does.
    """

    confidence: np.ndarray
    variability: np.ndarray
    correctness: np.ndarray
    learned: np.ndarray

    @property
    def region(self) -> np.ndarray:
        """Index into :data:`REGIONS`.

        The paper names regions without borders. Here an example is easy where its confidence stays above one half by
        its variability, hard where it stays below by as much, and ambiguous between.
        """
        above = self.confidence - 0.5
        return np.where(above > self.variability, 0, np.where(above < -self.variability, 2, 1))


def cartography(dynamics: pa.Table, guid: pa.ChunkedArray) -> Cartography:
    """Read one run's :data:`~unfreeze.records.DYNAMICS`, in the order of ``guid``.

    Args:
        dynamics: every training example in it, in any order.
        guid: of the training split.
    """
    order = pc.index_in(guid.combine_chunks(), dynamics["guid"].combine_chunks()).to_numpy()
    probability, correct = (array[:, order] for array in dynamics_arrays(dynamics))
    # Epochs from the last backwards until the first mistake.
    kept = np.logical_and.accumulate(correct[::-1], axis=0).sum(axis=0)
    return Cartography(
        probability.mean(axis=0, dtype=np.float64),
        probability.std(axis=0, dtype=np.float64),
        correct.mean(axis=0),
        np.where(kept > 0, len(correct) + 1.0 - kept, np.inf),
    )


def mean_of(runs: Sequence[Cartography]) -> Cartography:
    """The mean over runs; ``learned`` is the epoch from which all of them stay right."""
    return Cartography(
        np.mean([run.confidence for run in runs], axis=0),
        np.mean([run.variability for run in runs], axis=0),
        np.mean([run.correctness for run in runs], axis=0),
        np.max([run.learned for run in runs], axis=0),
    )


def likely_label_errors(mean: Cartography, most: int) -> np.ndarray:
    """Indices of examples that are hard to learn, least confident first.

    What every run gives a low probability in every epoch may be difficult, but the authors of the method find
    mislabelled examples mostly here (section 5).

    Args:
        mean: over all runs of a study.
        most: how many at most.
    """
    hard = (mean.region == 2).nonzero()[0]
    return np.asarray(hard[np.argsort(mean.confidence[hard], kind="stable")[:most]])


def learned_apart(strategies: Sequence[Cartography], most: int) -> np.ndarray:
    """Indices of examples that one strategy learns early and another late or never, widest apart first.

    Args:
        strategies: the mean over seeds of each.
        most: how many at most.
    """
    learned = np.stack([one.learned for one in strategies])
    # Never is later than the last epoch in which anything is learned.
    learned = np.where(np.isfinite(learned), learned, learned[np.isfinite(learned)].max(initial=0) + 1)
    apart = np.ptp(learned, axis=0)
    # Among equals, those whose confidence differs most.
    order = np.lexsort((-np.ptp([one.confidence for one in strategies], axis=0), -apart))
    return np.asarray(order[apart[order] > 0][:most])


def earlier(a: Cartography, b: Cartography) -> int:
    """How many examples ``a`` learns in an earlier epoch than ``b``, or ``b`` never."""
    return int((a.learned < b.learned).sum())
