from importlib import resources

import pytest
from transformers import BertConfig

from conftest import FAMILIES, NLI
from unfreeze.errors import StudyError
from unfreeze.strategies import STRATEGIES, make_strategy
from unfreeze.strategies.anatomy import Anatomy
from unfreeze.training.encoder import build_classifier, shape_only

EVERY = [
    ("head-only", {}),
    ("partial", {"layers": 1}),
    ("partial", {"layers": 3}),
    ("bitfit", {}),
    ("lora", {}),
    ("lora", {"targets": "attention", "dora": True}),
    ("lora", {"targets": "all-linear", "layers": 1, "rslora": True, "rank": 4}),
    ("lora", {"init": "pissa", "rank": 2}),
    ("ia3", {}),
    ("full", {}),
]


def fits(family, kind):
    return (family, kind) != ("modernbert", "bitfit")


def test_the_registry_is_the_folder():
    files = {
        entry.name for entry in (resources.files("unfreeze") / "strategies").iterdir() if entry.name.endswith(".py")
    }
    assert {s.__module__.rsplit(".", 1)[1] + ".py" for s in STRATEGIES} == files - {
        "__init__.py",
        "base.py",
        "anatomy.py",
    }
    assert [s.kind for s in STRATEGIES] == sorted(s.kind for s in STRATEGIES)


# By hand, for BERT-base: hidden 768, intermediate 3072, 12 layers, vocabulary 30,522, three labels.
LAYER = 4 * (768 * 768 + 768) + (768 * 3072 + 3072) + (3072 * 768 + 768) + 2 * 2 * 768
HEAD = (768 * 768 + 768) + (768 * 3 + 3)
EMBEDDINGS = (30522 + 512 + 2) * 768 + 2 * 768
LORA_QV = 12 * 2 * (8 * 768 + 768 * 8)


@pytest.mark.parametrize(
    ("kind", "options", "trainable", "total"),
    [
        ("head-only", {}, HEAD, EMBEDDINGS + 12 * LAYER + HEAD),
        ("partial", {"layers": 2}, 2 * LAYER + HEAD, EMBEDDINGS + 12 * LAYER + HEAD),
        ("lora", {"rank": 8, "targets": "query-value"}, LORA_QV + HEAD, EMBEDDINGS + 12 * LAYER + HEAD + LORA_QV),
        ("full", {}, EMBEDDINGS + 12 * LAYER + HEAD, EMBEDDINGS + 12 * LAYER + HEAD),
    ],
)
def test_parameters_of_bert_base(tmp_path, kind, options, trainable, total):
    BertConfig().save_pretrained(tmp_path)
    anatomy = shape_only(str(tmp_path), NLI, make_strategy(kind, options))
    assert sum(p.numel() for p in anatomy.trainable().values()) == trainable
    assert sum(p.numel() for p in anatomy.classifier.parameters()) == total
    assert all(p.is_meta for p in anatomy.classifier.parameters())


def test_the_hand_counted_numbers_are_the_known_ones():
    assert (HEAD, 2 * LAYER + HEAD, LORA_QV + HEAD) == (592_899, 14_768_643, 887_811)
    assert EMBEDDINGS + 12 * LAYER + HEAD == 109_484_547


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("kind", "options"), EVERY)
def test_the_head_always_trains(tiny, family, kind, options):
    if not fits(family, kind):
        pytest.skip("ModernBERT has no biases")
    anatomy = build_classifier(tiny(family), NLI, make_strategy(kind, options), seed=0)
    trained = anatomy.trainable()
    for name, _ in anatomy.classifier.named_parameters():
        if name.startswith(anatomy.head_names):
            assert name in trained


# What each family calls the maps that LoRA's named targets mean; see Family.
QUERY_VALUE = {
    "bert": {"attention.self.query", "attention.self.value"},
    "distilbert": {"attention.q_lin", "attention.v_lin"},
    "roberta": {"attention.self.query", "attention.self.value"},
    "electra": {"attention.self.query", "attention.self.value"},
    "mpnet": {"attention.attn.q", "attention.attn.v"},
    "deberta-v2": {"attention.self.query_proj", "attention.self.value_proj"},
    "modernbert": {"attn.Wqkv"},
}
COUNTS = {"query-value": 2, "attention": 4, "all-linear": 6}


@pytest.mark.parametrize("family", FAMILIES)
def test_lora_targets_of_each_family(tiny, family):
    anatomy = build_classifier(tiny(family), NLI, make_strategy("head-only", {}), seed=0)
    prefix = f"{anatomy.layers_name}.2."
    assert {n.removeprefix(prefix) for n in anatomy.linear_names("query-value", 1)} == QUERY_VALUE[family]
    fused = 2 if family == "modernbert" else 0  # one matrix for query, key and value
    for targets, count in COUNTS.items():
        names = anatomy.linear_names(targets)
        assert len(names) == 3 * (count - (1 if targets == "query-value" and fused else fused))
        assert all(anatomy.classifier.get_submodule(name).weight.ndim == 2 for name in names)


def test_top_layers_carry_the_adapters(tiny):
    anatomy = build_classifier(tiny(), NLI, make_strategy("lora", {"layers": 2}), seed=0)
    layers = {name.split(".")[3] for name in anatomy.trainable() if "lora_" in name}
    assert layers == {"1", "2"}
    assert anatomy.prefix_depth() == 1


@pytest.mark.parametrize(
    ("kind", "options", "depth"),
    [
        ("head-only", {}, 3),
        ("partial", {"layers": 2}, 1),
        ("partial", {"layers": 3}, 0),
        ("lora", {}, 0),
        ("full", {}, 0),
    ],
)
def test_prefix_depth(tiny, kind, options, depth):
    assert build_classifier(tiny(), NLI, make_strategy(kind, options), seed=0).prefix_depth() == depth


def test_partial_with_every_layer_is_all_but_the_embeddings(tiny):
    anatomy = build_classifier(tiny(), NLI, make_strategy("partial", {"layers": 3}), seed=0)
    frozen = {name for name, p in anatomy.classifier.named_parameters() if not p.requires_grad}
    assert frozen
    assert all(name.startswith("bert.embeddings.") for name in frozen)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("lorra", {}, "'lorra' is not known; did you mean 'lora'"),
        ("lora", {"rnk": 4}, "unknown key 'rnk'; did you mean 'rank'"),
        ("lora", {"rank": 0}, "rank: Input should be greater than or equal to 1"),
        ("lora", {"rank": 17}, "rank 17 is above the width 16"),
        ("lora", {"targets": []}, "targets: a name or a list of names"),
        ("lora", {"targets": "query"}, "targets: 'query' is not known; did you mean 'query-value'"),
        ("lora", {"targets": ["querry"]}, "'querry' matches no linear map"),
        ("partial", {"layers": 4}, "layers: 4 asked for, but encoder .* has 3; choose 1 to 3"),
        ("lora", {"layers": 4}, "layers: 4 asked for"),
    ],
)
def test_what_does_not_fit_is_said(tiny, kind, options, message):
    with pytest.raises(StudyError, match=message):
        build_classifier(tiny(), NLI, make_strategy(kind, options), seed=0)


def test_bitfit_without_biases(tiny):
    with pytest.raises(StudyError, match="has no bias terms"):
        build_classifier(tiny("modernbert"), NLI, make_strategy("bitfit", {}), seed=0)


def test_slugs_name_what_matters():
    assert make_strategy("lora", {}).slug == "lora-r8-query-value"
    options = {"rank": 4, "targets": ["query"], "layers": 2, "dora": True, "init": "pissa"}
    assert make_strategy("lora", options).slug == "lora-r4-query-top2-dora-pissa"


def test_a_mean_pooling_head_is_known(tiny):
    anatomy = build_classifier(tiny("modernbert"), NLI, make_strategy("head-only", {}), seed=0)
    assert anatomy.pools_first_token
    anatomy.classifier.config.classifier_pooling = "mean"
    assert not Anatomy(anatomy.classifier, "tiny").pools_first_token
