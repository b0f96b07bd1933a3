import numpy as np
import pytest
import torch

from conftest import NLI
from unfreeze.strategies import make_strategy
from unfreeze.training.batching import tokenize
from unfreeze.training.device import Compute
from unfreeze.training.encoder import build_classifier, load_tokenizer
from unfreeze.training.prefix import build_prefix, open_prefix
from unfreeze.training.resident import resident, size_bytes, to_device

CPU = Compute(torch.device("cpu"), torch.float32, "test")
ROWS = (np.arange(10), np.array([7, 3, 3, 40]), np.array([5]))


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) and a[name].dtype == b[name].dtype for name in a)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_tokens_are_batched_as_the_split_batches_them(tiny, small, family):
    tokens = tokenize(small.splits["test"], load_tokenizer(tiny(family)), 64)
    there = resident(tokens, CPU.device)
    assert all(same(there.batch(rows), tokens.batch(rows)) for rows in ROWS)
    assert to_device(tokens, CPU) is tokens


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("depth", [1, 3])
def test_states_are_batched_as_the_split_batches_them(tmp_path, tiny, small, dtype, depth):
    anatomy = build_classifier(tiny(), NLI, make_strategy("head-only", {}), seed=0)
    tokens = tokenize(small.splits["test"], load_tokenizer(tiny()), 64)
    build_prefix(tmp_path, anatomy, (depth,), {"test": tokens}, Compute(CPU.device, dtype, "test"))
    states = open_prefix(tmp_path, anatomy, depth, "test", tokens.lengths, dtype)
    there = resident(states, CPU.device)
    assert all(same(there.batch(rows), states.batch(rows)) for rows in ROWS)
    assert size_bytes(states) == (tmp_path / f"depth-{depth}" / "test.bin").stat().st_size
