import numpy as np
import pytest
import torch

from unfreeze.training.batching import (
    epoch_batches,
    evaluation_batches,
    padded_tokens,
    padded_width,
    read_tokens,
    tokenize,
    write_tokens,
)
from unfreeze.training.encoder import load_tokenizer


@pytest.fixture
def lengths():
    return np.random.default_rng(0).integers(5, 60, 3001)


def test_every_example_once_an_epoch(lengths):
    batches = epoch_batches(lengths, 32, seed=0, epoch=0)
    assert sorted(np.concatenate(batches)) == list(range(3001))
    assert sorted(map(len, batches)) == [3001 % 32] + [32] * (3001 // 32)


def test_order_comes_from_seed_and_epoch(lengths):
    def order(seed, epoch):
        return np.concatenate(epoch_batches(lengths, 32, seed, epoch)).tolist()

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


def test_buckets_save_the_padding(lengths):
    batches = epoch_batches(lengths, 32, seed=0, epoch=0)
    random = np.array_split(np.random.default_rng(0).permutation(3001), len(batches))
    waste, unsorted = (1 - lengths.sum() / padded_tokens(lengths, b) for b in (batches, random))
    assert waste < 0.05 < 0.4 < unsorted


def test_evaluation_batches_hold_what_fits(lengths):
    batches = evaluation_batches(lengths, 512)
    assert sorted(np.concatenate(batches)) == list(range(3001))
    assert max(padded_tokens(lengths, [batch]) for batch in batches) <= 512
    assert {len(batch) for batch in batches[:-1]} == {8, 16, 32, 64}
    assert [len(b) for b in evaluation_batches(np.array([900, 3]), 512)] == [1, 1]


def test_widths_recur():
    lengths = np.arange(1, 501)
    widths = [padded_width(lengths, np.array([index])) for index in range(500)]
    assert all(length <= width < length * 17 / 16 for length, width in zip(lengths, widths, strict=True))
    assert len({width for width in widths if 64 < width <= 128}) == 16
    assert widths[-1] == 500  # not 512, for which the encoder may have no positions


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_batches_are_what_the_tokenizer_makes(tiny, small, family):
    tokenizer, examples = load_tokenizer(tiny(family)), small.splits["validation"]
    split = tokenize(examples, tokenizer, 64)
    rows = [3, 0, 17]
    expected = tokenizer(
        [examples["premise"][i].as_py() for i in rows],
        [examples["hypothesis"][i].as_py() for i in rows],
        padding=True,
        return_tensors="pt",
    )
    batch = split.batch(np.array(rows))
    assert set(batch) == set(expected)
    for name in batch:
        assert torch.equal(batch[name], expected[name])


def test_truncation_is_counted_and_keeps_both_texts(tiny, small):
    tokenizer = load_tokenizer(tiny())
    whole, cut = (tokenize(small.splits["train"], tokenizer, n) for n in (64, 8))
    assert np.array_equal(whole.full_lengths, whole.lengths)
    assert np.array_equal(cut.full_lengths, whole.lengths)
    assert (whole.lengths > 8).any()
    assert cut.lengths.max() == 8
    assert all(cut.batch(np.array([i]))["token_type_ids"].any() for i in range(20))


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_tokens_survive_the_disk(tmp_path, tiny, small, family):
    split = tokenize(small.splits["test"], load_tokenizer(tiny(family)), 64)
    write_tokens(tmp_path / "test.arrow", split)
    again = read_tokens(tmp_path / "test.arrow")
    assert again.pad_id == split.pad_id
    assert np.array_equal(again.full_lengths, split.full_lengths)
    for name, value in split.batch(np.arange(20)).items():
        assert torch.equal(value, again.batch(np.arange(20))[name])


def test_single_texts(tiny, small):
    examples = small.splits["test"].drop_columns("hypothesis").append_column("hypothesis", [[None] * 48])
    split = tokenize(examples, load_tokenizer(tiny()), 64)
    assert not split.type_ids.any()
