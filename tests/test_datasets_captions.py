"""The generated corpus: deterministic, balanced, and not to be read off the hypothesis."""

import re

import numpy as np
import pytest
from scipy.sparse import hstack
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from unfreeze.datasets import load_dataset
from unfreeze.datasets.caption_grammar import claim, sentence
from unfreeze.datasets.captions import LABELS, relation
from unfreeze.errors import DataError
from unfreeze.study import DataSpec


@pytest.fixture(scope="module")
def corpus():
    return load_dataset(DataSpec(pairs=6000))


def accuracy(corpus, columns):
    """Test accuracy of a logistic regression on counts of words and word pairs of these columns."""
    train, test = [], []
    for column in columns:
        vectorizer = CountVectorizer(ngram_range=(1, 2), min_df=4, token_pattern=r"\w+")
        train.append(vectorizer.fit_transform(corpus.splits["train"][column].to_pylist()))
        test.append(vectorizer.transform(corpus.splits["test"][column].to_pylist()))
    model = LogisticRegression(C=0.1, max_iter=300)
    model.fit(hstack(train), corpus.splits["train"]["gold"].to_numpy())
    return model.score(hstack(test), corpus.splits["test"]["gold"].to_numpy())


def test_neither_hypothesis_nor_bag_of_words_gives_the_label_away(corpus):
    assert accuracy(corpus, ["hypothesis"]) < 0.50
    assert accuracy(corpus, ["premise", "hypothesis"]) < 0.50


def test_same_seed_same_corpus_other_seed_another():
    # Known answer: every machine and version of Python makes the same corpus.
    assert load_dataset(DataSpec(pairs=60)).fingerprint == "b422ec13f1d43977"
    assert load_dataset(DataSpec(pairs=60, seed=1)).fingerprint != "b422ec13f1d43977"


def test_size_balance_and_split(corpus):
    assert corpus.labels == LABELS
    assert [len(corpus.splits[split]) for split in ("train", "validation", "test")] == pytest.approx(
        [4200, 600, 1200], abs=5
    )
    assert np.bincount(corpus.splits["train"]["gold"].to_numpy()) == pytest.approx([1400] * 3, rel=0.05)
    groups = [set(table["group"].to_pylist()) for table in corpus.splits.values()]
    assert sum(map(len, groups)) == len(set.union(*groups))
    assert sum(map(len, groups)) > 1850  # captions seldom repeat


def test_sentences_are_well_formed(corpus):
    texts = {text for column in ("premise", "hypothesis") for text in corpus.splits["train"][column].to_pylist()}
    shape = re.compile(r"[A-Z][a-z]*(,? [a-z]+)*\.")
    wrong = re.compile(r"\ba [aeiou]|\ban [^aeiou ]| (is|are)\.| (is|are) (is|are) |\b(an|a|some|the) \w+s is\b")
    assert [text for text in texts if not shape.fullmatch(text) or wrong.search(text)] == []


@pytest.mark.parametrize(
    ("stated", "claimed", "label"),
    [
        (("person", "child", "boy"), ("person", "child"), "entailment"),
        (("person", "child", "boy"), ("person", "child", "girl"), "contradiction"),
        (("person", "child", "boy"), ("person", "adult"), "contradiction"),
        (("person", "child"), ("person", "child", "boy"), "neutral"),
        (("person", "adult", "worker", "chef"), ("person", "adult", "woman"), "neutral"),
        (("jacket", "red jacket"), ("jacket", "blue jacket"), "contradiction"),
        (("jacket", "red jacket"), ("hat", "blue hat"), "neutral"),
        (("some", "two"), ("some", "three"), "contradiction"),
        (("for charity",), ("to win a prize",), "neutral"),
        ((), ("outdoors",), "neutral"),
    ],
)
def test_relation(stated, claimed, label):
    assert relation(stated, claimed) == label


def test_sentences_say_their_facts():
    class Never:
        """Takes the last of every choice."""

        def random(self):
            return 0.99

    facts = {"count": ("some", "two"), "who0": ("person", "child"), "activity": ("a", "flying|kite|flown")}
    assert sentence(facts, Never()) == "Two children are flying kites."
    assert claim("activity", facts, denied=True) == "The children are not flying kites."
    couple = {"count": ("one",), "who0": ("animal", "owl"), "who1": ("person", "adult"), "deed": ("a", "waking||woken")}
    assert sentence(couple, Never()) == "An owl is waking an adult."


def test_label_noise_is_little():
    # Without noise each caption has one pair of each label; one wrong label breaks its caption's three.
    table = load_dataset(DataSpec(pairs=6000)).splits["train"]
    golds = {}
    for group, gold in zip(table["group"].to_pylist(), table["gold"].to_pylist(), strict=True):
        golds.setdefault(group, []).append(gold)
    broken = np.mean([sorted(three) != [0, 1, 2] for three in golds.values() if len(three) == 3])
    assert 0.04 < broken < 0.11


@pytest.mark.parametrize("own", [{"path": "reviews.csv"}, {"columns": {"text": "review"}}])
def test_whoever_names_data_of_their_own_is_not_given_captions(own):
    with pytest.raises(DataError, match="write dataset: files"):
        load_dataset(DataSpec(**own))
