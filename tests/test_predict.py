import numpy as np
import pytest
import torch

from conftest import FAMILIES, NLI
from unfreeze.strategies import make_strategy
from unfreeze.training.batching import tokenize
from unfreeze.training.device import Compute
from unfreeze.training.encoder import build_classifier, load_tokenizer
from unfreeze.training.predict import head_states, predict
from unfreeze.training.prefix import build_prefix, open_prefix, tail

FP32 = Compute(torch.device("cpu"), torch.float32, "test")
INDICES = np.array([40, 3, 17, 4])


@pytest.fixture
def made(tiny, small):
    def make(family):
        anatomy = build_classifier(tiny(family), NLI, make_strategy("head-only", {}), seed=0)
        return anatomy, tokenize(small.splits["test"], load_tokenizer(tiny(family)), 64)

    return make


def encoded(anatomy, tokens, index):
    """The encoder's own states of one example, alone in its batch; shape (tokens, hidden)."""
    with torch.inference_mode():
        return anatomy.base.eval()(**tokens.batch(np.array([index]))).last_hidden_state[0].numpy()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_reads_the_first_token_s_state(made, tmp_path, family):
    anatomy, tokens = made(family)
    expected = np.stack([encoded(anatomy, tokens, index)[0] for index in INDICES])
    found = head_states(anatomy.classifier, anatomy, tokens, FP32, INDICES)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    build_prefix(tmp_path, anatomy, (1, 3), {"test": tokens}, FP32)
    for depth in (1, 3):
        states = open_prefix(tmp_path, anatomy, depth, "test", tokens.lengths, torch.float32)
        from_tail = head_states(tail(anatomy, depth), anatomy, states, FP32, INDICES)
        np.testing.assert_allclose(from_tail, expected, atol=1e-5)


def test_a_head_that_pools_the_mean_reads_it(made):
    anatomy, tokens = made("modernbert")
    anatomy.classifier.config.classifier_pooling = "mean"
    expected = np.stack([encoded(anatomy, tokens, index).mean(axis=0) for index in INDICES])
    found = head_states(anatomy.classifier, anatomy, tokens, FP32, INDICES)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("strategy", [("full", {}), ("lora", {}), ("lora", {"dora": True}), ("ia3", {})], ids=str)
def test_in_bf16_predictions_are_those_of_autocast_and_weights_stay_whole(tiny, small, strategy):
    compute = Compute(torch.device("cpu"), torch.bfloat16, "test")
    anatomy = build_classifier(tiny(), NLI, make_strategy(*strategy), seed=0)
    tokens = tokenize(small.splits["test"], load_tokenizer(tiny()), 64)
    before = {name: value.clone() for name, value in anatomy.classifier.state_dict().items()}
    found = predict(anatomy.classifier, tokens, compute)[INDICES]
    with torch.inference_mode(), compute.autocast():
        wanted = anatomy.classifier(**tokens.batch(INDICES)).logits.float().numpy()
    np.testing.assert_allclose(found, wanted, atol=0.02 * float(np.abs(wanted).max()))
    after = anatomy.classifier.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_no_example_and_no_hook_left(made):
    anatomy, tokens = made("bert")
    assert head_states(anatomy.classifier, anatomy, tokens, FP32, np.array([], int)).shape == (0, 16)
    head_states(anatomy.classifier, anatomy, tokens, FP32, INDICES)
    assert not any(module._forward_pre_hooks for module in anatomy.classifier.modules())


def test_predictions_are_in_the_order_of_the_split(made):
    anatomy, tokens = made("bert")
    whole = predict(anatomy.classifier, tokens, FP32)
    with torch.inference_mode():
        alone = [anatomy.classifier(**tokens.batch(np.array([i]))).logits[0].numpy() for i in range(len(whole))]
    np.testing.assert_allclose(whole, np.stack(alone), atol=1e-5)
