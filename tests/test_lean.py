import copy

import numpy as np
import pytest
import torch
from torch import nn

from conftest import FAMILIES, NLI
from unfreeze.strategies import make_strategy
from unfreeze.training.batching import tokenize
from unfreeze.training.device import Compute
from unfreeze.training.encoder import build_classifier, load_tokenizer
from unfreeze.training.lean import SHORT_ATTENTION, Dropout, cast_matrices, make_lean, short_attention
from unfreeze.training.prefix import release_prefix, tail

FP32 = Compute(torch.device("cpu"), torch.float32, "test")
BF16 = Compute(torch.device("cpu"), torch.bfloat16, "test")
STRATEGIES = [
    ("partial", {"layers": 1}),
    ("lora", {"targets": "all-linear", "alpha": 3}),
    ("lora", {"dora": True}),
    ("ia3", {}),
    ("full", {}),
]


def gradients(anatomy, inputs, gold, compute=FP32):
    """Logits and gradients, dropout off; adapters are moved off their neutral start first."""
    anatomy.classifier.eval()
    with compute.autocast():
        logits = anatomy.classifier(**inputs).logits.float()
    torch.nn.functional.cross_entropy(logits, gold).backward()
    return logits.detach(), {name: p.grad for name, p in anatomy.trainable().items()}


def shaken(folder, strategy):
    anatomy = build_classifier(folder, NLI, make_strategy(*strategy), seed=0)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in anatomy.trainable().values():
            parameter += 0.1 * torch.randn(parameter.shape, generator=random)
    return anatomy


def batch(folder, small, rows=16):
    tokens = tokenize(small.splits["test"], load_tokenizer(folder), 64)
    gold = torch.tensor(small.splits["test"]["gold"].to_numpy()[:rows], dtype=torch.long)
    return tokens.batch(np.arange(rows)), gold


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_logits_and_gradients_stay_the_classifier_s(tiny, small, family, strategy):
    inputs, gold = batch(tiny(family), small)
    plain, lean = shaken(tiny(family), strategy), shaken(tiny(family), strategy)
    make_lean(lean, FP32)
    logits, wanted = gradients(plain, inputs, gold)
    found_logits, found = gradients(lean, inputs, gold)
    assert (found_logits - logits).abs().max() < 1e-5
    assert found.keys() == wanted.keys()
    assert max(float(g.abs().max()) for g in wanted.values()) > 1e-4
    for name, gradient in wanted.items():
        assert (found[name] - gradient).abs().max() < 1e-5 * max(1.0, float(gradient.abs().max())), name


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_in_bf16_it_is_as_near_to_fp32_as_autocast_alone(tiny, small, strategy):
    inputs, gold = batch(tiny(), small, rows=48)
    exact, autocast, lean = (shaken(tiny(), strategy) for _ in range(3))
    make_lean(lean, BF16)
    truth = gradients(exact, inputs, gold)
    errors = []
    for anatomy in (autocast, lean):
        logits, grads = gradients(anatomy, inputs, gold, BF16)
        off = sum(float((grads[name] - g).square().sum()) for name, g in truth[1].items())
        norm = sum(float(g.square().sum()) for g in truth[1].values())
        errors.append((float((logits - truth[0]).abs().max()), (off / norm) ** 0.5))
    assert errors[0][1] > 0  # it does compute in bf16
    assert errors[1][0] < 2 * errors[0][0]
    assert errors[1][1] < 2 * errors[0][1]


@pytest.mark.parametrize("family", ["bert", "distilbert", "deberta-v2"])
def test_only_the_first_token_passes_the_last_layer(tiny, small, family):
    anatomy = shaken(tiny(family), ("partial", {"layers": 1}))
    make_lean(anatomy, FP32)
    layer, given = anatomy.layers[-1], {}
    for name in ("key", "value", "output", "down"):
        linear = layer.get_submodule(getattr(anatomy.family, name))
        linear.register_forward_pre_hook(lambda _, inputs, name=name: given.update({name: inputs[0]}))
    left = []
    layer.register_forward_hook(lambda _m, _i, out: left.append(out[0] if isinstance(out, tuple) else out))
    anatomy.classifier(**batch(tiny(family), small)[0])
    # Keys and values are folded into the query where it is known how: their maps meet no token at all.
    folded = family != "deberta-v2"
    assert set(given) == {"output", "down"} | (set() if folded else {"key", "value"})
    assert {given[name].shape[1] for name in ("output", "down")} == {left[0].shape[1]} == {1}


def test_maps_behind_the_first_token_never_copy_their_matrix(tiny, small):
    # torch multiplies a view of some tokens by a matrix that needs no gradient example by example, on copies of it.
    anatomy = shaken(tiny(), ("partial", {"layers": 1}))
    make_lean(anatomy, BF16)
    strides = []
    for part in anatomy.layers[-1].modules():
        if type(part) is nn.Linear:
            part.register_forward_pre_hook(lambda _, inputs: strides.append(inputs[0].is_contiguous()))
    with torch.inference_mode(), BF16.autocast():
        anatomy.classifier.eval()(**batch(tiny(), small)[0])
    assert len(strides) == 4  # query, attention's output and the two of the feed-forward block
    assert all(strides)


def test_matrices_are_cast_for_a_while_however_it_ends(tiny):
    anatomy, kinds = shaken(tiny(), ("lora", {})), {}
    before = {name: p.data_ptr() for name, p in anatomy.classifier.named_parameters()}

    def fail():
        with cast_matrices(anatomy.classifier, torch.bfloat16):
            kinds.update((type(m), m.weight.dtype) for m in anatomy.classifier.modules() if hasattr(m, "weight"))
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    assert kinds[nn.Linear] == torch.bfloat16
    assert kinds[nn.LayerNorm] == kinds[nn.Embedding] == torch.float32
    assert {name: p.data_ptr() for name, p in anatomy.classifier.named_parameters()} == before


def test_a_head_that_pools_the_mean_keeps_all_tokens(tiny, small):
    folder = tiny("modernbert")
    plain, lean = (shaken(folder, ("full", {})) for _ in range(2))
    for anatomy in (plain, lean):
        anatomy.classifier.config.classifier_pooling = "mean"
    make_lean(lean, FP32)
    inputs, gold = batch(folder, small)
    assert (gradients(lean, inputs, gold)[0] - gradients(plain, inputs, gold)[0]).abs().max() < 1e-5


def test_frozen_matrices_are_cast_once_and_trained_or_kept_ones_never(tiny):
    anatomy = shaken(tiny(), ("partial", {"layers": 1}))
    kept = f"{anatomy.layers_name}.0.attention.self.key.weight"
    make_lean(anatomy, BF16, keep=[kept])
    kinds = {name: p.dtype for name, p in anatomy.classifier.named_parameters()}
    assert all(kinds[name] == torch.float32 for name in [kept, *anatomy.trainable()])
    assert kinds[f"{anatomy.layers_name}.0.attention.self.query.weight"] == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_drops_its_share_scales_the_rest_and_repeats_under_a_seed(dtype, p):
    layer, x = Dropout(p), torch.ones(200, 999, dtype=dtype)
    torch.manual_seed(0)
    first = layer(x)
    torch.manual_seed(0)
    assert torch.equal(layer(x), first)
    assert not torch.equal(layer(x), first)
    assert first.float().unique().tolist() == [0.0, float(torch.tensor(1 / (1 - p), dtype=dtype))]
    dropped = (first == 0).float()
    # Five standard errors, over all values and over each row.
    assert abs(float(dropped.mean()) - p) < 5 * (p * (1 - p) / x.numel()) ** 0.5
    assert float((dropped.mean(dim=1) - p).abs().max()) < 5 * (p * (1 - p) / 999) ** 0.5
    assert torch.equal(layer.eval()(x), x)


def test_dropout_s_gradient_is_its_mask():
    x = torch.randn(30, 40, requires_grad=True)
    out = Dropout(0.3)(x)
    out.sum().backward()
    assert torch.equal(x.grad, torch.where(out == 0, 0.0, torch.tensor(1 / 0.7)))


def test_attention_weights_are_dropped_in_training_alone(tiny, small):
    anatomy = shaken(tiny(), ("full", {}))
    make_lean(anatomy, FP32)
    assert anatomy.classifier.config._attn_implementation == SHORT_ATTENTION
    query = torch.randn(2, 2, 5, 8)
    torch.manual_seed(0)
    plain, dropped = (short_attention(nn.Identity(), query, query, query, None, dropout=p)[0] for p in (0.0, 0.5))
    wanted = nn.functional.scaled_dot_product_attention(query, query, query).transpose(1, 2)
    assert (plain - wanted).abs().max() < 1e-6
    assert (dropped - wanted).abs().max() > 0.1


def test_the_weights_below_a_cached_prefix_can_go(tiny, small):
    anatomy = shaken(tiny(), ("partial", {"layers": 1}))
    total = sum(p.numel() for p in anatomy.classifier.parameters())
    model = tail(anatomy, 2)
    states = {"inputs_embeds": torch.randn(3, 5, 16), "attention_mask": torch.ones(3, 5, dtype=torch.long)}
    wanted = copy.deepcopy(model).eval()(**states).logits
    release_prefix(anatomy, 2)
    assert torch.equal(model.eval()(**states).logits, wanted)
    assert anatomy.layers[1].attention.self.key.weight.device.type == "meta"
    assert sum(p.numel() for p in anatomy.classifier.parameters()) == total
