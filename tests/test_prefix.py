import numpy as np
import pytest
import torch

from conftest import FAMILIES, NLI
from unfreeze.strategies import make_strategy
from unfreeze.training.batching import tokenize
from unfreeze.training.device import Compute
from unfreeze.training.encoder import build_classifier, load_tokenizer
from unfreeze.training.predict import predict
from unfreeze.training.prefix import (
    build_prefix,
    open_prefix,
    prefix_bytes,
    prefix_seconds,
    set_train_mode,
    tail,
)

FP32 = Compute(torch.device("cpu"), torch.float32, "test")
BF16 = Compute(torch.device("cpu"), torch.bfloat16, "test")


def classifier(folder, strategy=("partial", {"layers": 1})):
    return build_classifier(folder, NLI, make_strategy(*strategy), seed=0)


def build(tmp_path, anatomy, small, folder, depths, compute=FP32):
    tokens = {"test": tokenize(small.splits["test"], load_tokenizer(folder), 64)}
    build_prefix(tmp_path, anatomy, depths, tokens, compute)
    return tokens["test"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_tail_gives_the_classifier_s_logits(tmp_path, tiny, small, family):
    anatomy = classifier(tiny(family))
    tokens = build(tmp_path, anatomy, small, tiny(family), (1, 2, 3))
    whole = predict(anatomy.classifier, tokens, FP32)
    for depth in (1, 2, 3):
        states = open_prefix(tmp_path, anatomy, depth, "test", tokens.lengths, torch.float32)
        assert np.abs(predict(tail(anatomy, depth), states, FP32) - whole).max() < 1e-6


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_from_the_prefix_are_the_classifier_s(tmp_path, tiny, small, family):
    anatomy = classifier(tiny(family), ("partial", {"layers": 2}))
    tokens = build(tmp_path, anatomy, small, tiny(family), (1,))
    states = open_prefix(tmp_path, anatomy, 1, "test", tokens.lengths, torch.float32)
    rows, gold = np.arange(16), torch.tensor(small.splits["test"]["gold"].to_numpy()[:16], dtype=torch.long)

    def gradients(model, inputs):
        model.eval()  # dropout off
        anatomy.classifier.zero_grad()
        torch.nn.functional.cross_entropy(model(**inputs.batch(rows)).logits, gold).backward()
        return {name: p.grad.clone() for name, p in anatomy.trainable().items()}

    uncached, cached = gradients(anatomy.classifier, tokens), gradients(tail(anatomy, 1), states)
    assert uncached.keys() == cached.keys()
    assert max(float(g.abs().max()) for g in uncached.values()) > 1e-4
    for name in uncached:
        torch.testing.assert_close(cached[name], uncached[name], atol=1e-6, rtol=1e-4)


def test_states_in_bf16_are_half_the_size(tmp_path, tiny, small):
    anatomy = classifier(tiny())
    tokens = build(tmp_path, anatomy, small, tiny(), (2, 3), BF16)
    sizes = {depth: (tmp_path / f"depth-{depth}" / "test.bin").stat().st_size for depth in (2, 3)}
    assert sizes[2] == int(tokens.lengths.sum()) * 16 * 2
    assert sizes[3] == 48 * 16 * 2, "above the last layer only [CLS] is kept"
    assert prefix_bytes(anatomy, (2, 3), {"test": tokens.lengths}, torch.bfloat16) == sum(sizes.values())
    states = open_prefix(tmp_path, anatomy, 2, "test", tokens.lengths, torch.bfloat16)
    assert states.batch(np.arange(4))["inputs_embeds"].dtype == torch.bfloat16
    whole, cached = predict(anatomy.classifier, tokens, BF16), predict(tail(anatomy, 2), states, BF16)
    assert np.abs(whole - cached).max() < 0.02


def test_a_head_that_pools_the_mean_keeps_every_state(tmp_path, tiny, small):
    anatomy = classifier(tiny("modernbert"), ("head-only", {}))
    anatomy.classifier.config.classifier_pooling = "mean"
    tokens = build(tmp_path, anatomy, small, tiny("modernbert"), (3,))
    states = open_prefix(tmp_path, anatomy, 3, "test", tokens.lengths, torch.float32)
    assert np.array_equal(states.lengths, tokens.lengths)
    whole = predict(anatomy.classifier, tokens, FP32)
    assert np.abs(predict(tail(anatomy, 3), states, FP32) - whole).max() < 1e-6


def test_an_unfinished_pass_is_not_taken_for_whole(tmp_path, tiny, small, monkeypatch):
    anatomy = classifier(tiny())
    assert prefix_seconds(tmp_path, 2) is None
    monkeypatch.setattr("unfreeze.training.prefix._SplitWriter.write", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build(tmp_path, anatomy, small, tiny(), (2,))
    assert (tmp_path / "depth-2" / "test.bin").exists()
    assert prefix_seconds(tmp_path, 2) is None


def test_building_leaves_no_hooks_and_no_gaps(tmp_path, tiny, small):
    anatomy = classifier(tiny())
    build(tmp_path, anatomy, small, tiny(), (2,))
    assert not any(layer._forward_hooks for layer in anatomy.layers)
    assert len(anatomy.layers) == 3
    assert prefix_seconds(tmp_path, 2) > 0


def test_frozen_layers_run_without_dropout(tiny):
    anatomy = classifier(tiny())
    set_train_mode(anatomy.classifier, anatomy, 2)
    assert [layer.training for layer in anatomy.layers] == [False, False, True]
    assert not anatomy.base.embeddings.training
    set_train_mode(anatomy.classifier, anatomy, 0)
    assert anatomy.base.embeddings.training
    assert all(layer.training for layer in anatomy.layers)
