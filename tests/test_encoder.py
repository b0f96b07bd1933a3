from pathlib import Path

import pytest
import torch

from conftest import FAMILIES, NLI
from unfreeze.errors import EncoderError
from unfreeze.strategies import make_strategy
from unfreeze.training import encoder
from unfreeze.training.batching import tokenize


def test_minilm_is_the_published_one(monkeypatch):
    folder = Path(encoder.locate("minilm"))
    assert (folder / "model.safetensors").is_file()
    encoder.locate.cache_clear()
    monkeypatch.setattr(encoder, "MINILM_SHA256", "0" * 64)
    with pytest.raises(EncoderError, match="not the published 000000000000…; reinstall"):
        encoder.locate("minilm")
    encoder.locate.cache_clear()


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "a/b/c"])
def test_a_path_that_is_not_there(name):
    with pytest.raises(EncoderError, match="no such folder"):
        encoder.locate(name)


def test_a_hub_that_cannot_be_reached(monkeypatch):
    monkeypatch.setattr(
        "huggingface_hub.HfApi.model_info", lambda *_, **__: (_ for _ in ()).throw(OSError("no\nroute"))
    )
    with pytest.raises(
        EncoderError, match=r"'nobody/nothing': no such folder here, and .* reached \(no route\); go online"
    ):
        encoder.load_config("nobody/nothing")


def test_a_cached_copy_serves_where_the_hub_cannot_be_reached(monkeypatch, tiny):
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: (_ for _ in ()).throw(OSError("no route")))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: f"{tiny()}/config.json")
    assert encoder.load_config("somebody/something").model_type == "bert"
    encoder.locate.cache_clear()
    encoder.load_config.cache_clear()


def test_a_family_that_is_not_supported(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(EncoderError, match="family 'gpt2' is not supported; known: bert, "):
        encoder.load_config(str(tmp_path))


def test_a_folder_without_weights(tmp_path, tiny):
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((Path(tiny()) / name).read_bytes())
    with pytest.raises(EncoderError, match="cannot be loaded from /"):
        encoder.build_classifier(str(tmp_path), NLI, make_strategy("head-only", {}), seed=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_seed_decides_the_head(tiny, family):
    def head(seed):
        anatomy = encoder.build_classifier(tiny(family), NLI, make_strategy("head-only", {}), seed=seed)
        return torch.cat(
            [p.flatten() for name, p in anatomy.trainable().items() if p.ndim == 2 and "pooler" not in name]
        )

    assert torch.equal(head(0), head(0))
    assert not torch.equal(head(0), head(1))


@pytest.mark.parametrize("family", FAMILIES)
def test_head_dropout_reaches_the_head_alone(tiny, family):
    anatomy = encoder.build_classifier(tiny(family), NLI, make_strategy("head-only", {}), seed=0, head_dropout=0.37)
    of = {name: m.p for name, m in anatomy.classifier.named_modules() if isinstance(m, torch.nn.Dropout)}
    in_head = {name for name, p in of.items() if p == 0.37}
    assert in_head
    assert all(name.startswith(anatomy.head_names) for name in in_head)


def test_labels_are_the_classifier_s_own(tiny):
    anatomy = encoder.build_classifier(tiny(), NLI, make_strategy("head-only", {}), seed=0)
    assert anatomy.classifier.config.id2label == dict(enumerate(NLI))


def test_positions_the_encoder_reads(tiny):
    assert encoder.max_positions(tiny("bert")) == 66
    assert encoder.max_positions(tiny("roberta")) == 64


@pytest.mark.parametrize(
    ("family", "text"),
    [
        ("bert", "[CLS] a man [SEP] a dog [SEP]"),
        ("roberta", "<s>a man</s></s>a dog</s>"),
        ("modernbert", "[CLS] a man [SEP] a dog [SEP]"),
    ],
)
def test_a_pair_reaches_the_model_as_a_pair(tiny, small, family, text):
    examples = small.splits["train"].slice(0, 1)
    examples = examples.set_column(1, "premise", [["a man"]]).set_column(2, "hypothesis", [["a dog"]])
    tokenizer = encoder.load_tokenizer(tiny(family))
    split = tokenize(examples, tokenizer, 32)
    assert tokenizer.decode(split.ids) == text
    assert (split.type_ids is not None) == (family == "bert")
    if split.type_ids is not None:
        assert split.type_ids.tolist() == [0, 0, 0, 0, 1, 1, 1]
