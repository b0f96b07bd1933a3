"""Which words stand in mistakes more often than chance would have it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import stats
from sklearn.feature_extraction.text import CountVectorizer

from unfreeze.analysis.slices import words

MIN_EXAMPLES = 5  # rarer words cannot be told from chance and would only weaken the correction
LEVEL = 0.05  # of false discoveries among the words that are called over-represented


@dataclass(frozen=True)
class Vocabulary:
    """The words of a split, and where each stands.

    Attributes:
        words: those of :data:`MIN_EXAMPLES` examples or more, shape (words,).
        stands: sparse, 1 where a word stands in an example (once or more), shape (examples, words).
    """

    words: np.ndarray
    stands: Any


@dataclass(frozen=True)
class WordCounts:
    """In how many examples, and in how many mistakes, each word stands (once or more).

    Attributes:
        vocabulary: the words, shape (words,).
        examples: counts, shape (words,).
        mistakes: counts, shape (runs, words).
        wrong: mistakes of each run, shape (runs,).
        total: all examples.
    """

    vocabulary: np.ndarray
    examples: np.ndarray
    mistakes: np.ndarray
    wrong: np.ndarray
    total: int


def read_words(examples: pa.Table) -> Vocabulary | None:
    """Look up which words stand where; both texts of a pair count as one.

    Args:
        examples: schema :data:`~unfreeze.records.EXAMPLES`.

    Returns:
        None where no word stands in :data:`MIN_EXAMPLES` examples.
    """
    pairs = zip(examples["premise"].to_pylist(), examples["hypothesis"].to_pylist(), strict=True)
    documents = [words(premise) + words(hypothesis) for premise, hypothesis in pairs]
    if len(documents) < MIN_EXAMPLES:
        return None
    try:
        vectorizer = CountVectorizer(analyzer=list, binary=True, min_df=MIN_EXAMPLES, dtype=np.int32)
        stands = vectorizer.fit_transform(documents)
    except ValueError:  # scikit-learn's way to say that no word is left
        return None
    return Vocabulary(vectorizer.get_feature_names_out(), stands)


def count_words(vocabulary: Vocabulary, wrong: np.ndarray) -> WordCounts:
    """Count words over a split.

    Args:
        vocabulary: of the split.
        wrong: shape (runs, examples), booleans; any groups of examples can stand for the mistakes of runs.
    """
    return WordCounts(
        vocabulary=vocabulary.words,
        examples=np.asarray(vocabulary.stands.sum(axis=0)).ravel(),
        mistakes=(vocabulary.stands.T @ wrong.T.astype(np.int32)).T,
        wrong=wrong.sum(axis=1),
        total=wrong.shape[1],
    )


def word_lifts(counts: WordCounts, run: int) -> pa.Table:
    """How much more often than the average example those with a word are mistakes.

    The p-value is Fisher's exact test (1922), its smaller side doubled; ``q`` corrects it over all words for the
    rate of false discoveries (Benjamini and Hochberg 1995). Examples that share a premise count as independent, so
    words of premises look a little surer than they are.

    Returns:
        One row a word: ``word``, ``examples``, ``mistakes``, ``error_rate``, ``lift`` (error rate over that of the
        run; null for a run without mistakes), ``p`` and ``q``.
    """
    mistakes, wrong = counts.mistakes[run], int(counts.wrong[run])
    arguments = (counts.total, wrong, counts.examples)
    more, fewer = stats.hypergeom.sf(mistakes - 1, *arguments), stats.hypergeom.cdf(mistakes, *arguments)
    p = np.clip(2 * np.minimum(more, fewer), 0, 1)
    rate = mistakes / counts.examples
    lift = pa.array(rate / (wrong / counts.total)) if wrong else pa.nulls(len(rate), pa.float64())
    return pa.table(
        {
            "word": counts.vocabulary.tolist(),
            "examples": counts.examples,
            "mistakes": mistakes,
            "error_rate": rate,
            "lift": lift,
            "p": p,
            "q": stats.false_discovery_control(p),
        }
    )
