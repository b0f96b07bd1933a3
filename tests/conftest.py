"""Random tiny encoders of every family, saved as folders in hub format, and small labelled data."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers as tf
import yaml
from tokenizers import ByteLevelBPETokenizer

from unfreeze.records import EXAMPLES, Dataset

torch.set_num_threads(1)
# Every report would start a browser for the README's pictures, four seconds each; test_pictures.py takes this back.
os.environ["BROWSER_PATH"] = "/nowhere/chromium"

WORDS = (
    *("a", "the", "man", "woman", "dog", "cat", "red", "blue", "sleeps", "runs", "eats", "plays"),
    *("outside", "inside", "two", "three", "nobody", "is"),
)
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = {token: index for index, token in enumerate([*SPECIAL, *WORDS, *(f"##{w}" for w in "ab")])}
NLI = ("entailment", "neutral", "contradiction")

# At the usual 0.02 a random layer passes on next to nothing: [CLS] would not know the other tokens.
_WIDE = {"initializer_range": 0.3}
_SIZE = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32, **_WIDE}
_DEBERTA = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "position_buckets": 8,
    "position_biased_input": False,
}
_MODERN = {"pad_token_id": 0, "cls_token_id": 2, "bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3}
_BPE = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}


def _config(family: str, vocabulary: int) -> tf.PretrainedConfig:
    common = {"vocab_size": vocabulary, "max_position_embeddings": 66, **_SIZE}
    distil = {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32, **_WIDE}
    return {
        "bert": lambda: tf.BertConfig(**common),
        "distilbert": lambda: tf.DistilBertConfig(vocab_size=vocabulary, max_position_embeddings=66, **distil),
        "roberta": lambda: tf.RobertaConfig(**common, **_BPE, type_vocab_size=1),
        "electra": lambda: tf.ElectraConfig(**common, embedding_size=8),
        "mpnet": lambda: tf.MPNetConfig(**common),
        "deberta-v2": lambda: tf.DebertaV2Config(**common, **_DEBERTA, type_vocab_size=0),
        "modernbert": lambda: tf.ModernBertConfig(**common, **_MODERN),
    }[family]()


FAMILIES = ("bert", "distilbert", "roberta", "electra", "mpnet", "deberta-v2", "modernbert")


def _tokenizer(family: str, folder: Path) -> tf.PreTrainedTokenizerBase:
    if family == "roberta":
        bpe = ByteLevelBPETokenizer()
        bpe.train_from_iterator([" ".join(WORDS)], 400, 1, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
        bpe.save_model(str(folder))
        return tf.RobertaTokenizer.from_pretrained(str(folder), model_max_length=64)
    tokenizer = tf.BertTokenizer(vocab=VOCABULARY, model_max_length=64)
    if family in ("distilbert", "mpnet", "modernbert"):
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return tokenizer


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Folder of a random tiny encoder of a family, made once."""
    made: dict[str, str] = {}

    def make(family: str = "bert") -> str:
        if family not in made:
            folder = tmp_path_factory.mktemp("encoders") / f"tiny-{family}"
            folder.mkdir()
            tokenizer = _tokenizer(family, folder)
            torch.manual_seed(7)
            tf.AutoModel.from_config(_config(family, len(tokenizer))).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            made[family] = str(folder)
        return made[family]

    return make


def split_table(rows: int, labels: int, pair: bool, seed: int, name: str) -> pa.Table:
    """Examples whose label can be learned: the hypothesis (or text) ends in a word that tells it."""
    random = np.random.default_rng(seed)
    gold = random.integers(0, labels, rows)
    premise = [" ".join(random.choice(WORDS, random.integers(2, 9))) for _ in range(rows)]
    telling = [f"{WORDS[i % 4]} {WORDS[6 + label]}" for i, label in enumerate(gold)]
    columns = {
        "guid": [f"{name}-{i}" for i in range(rows)],
        "premise": premise if pair else [f"{p} {t}" for p, t in zip(premise, telling, strict=True)],
        "hypothesis": telling if pair else [None] * rows,
        "gold": gold,
        "group": np.arange(rows) // 2,
    }
    return pa.table(columns, schema=EXAMPLES)


@pytest.fixture(scope="session")
def small() -> Dataset:
    """180 training pairs in three classes, 48 for validation and for test."""
    sizes = {"train": 180, "validation": 48, "test": 48}
    splits = {name: split_table(rows, 3, True, seed, name) for seed, (name, rows) in enumerate(sizes.items())}
    return Dataset("small", NLI, splits)


@pytest.fixture
def study_file(tmp_path: Path, tiny: Callable[[str], str]) -> Callable[..., Path]:
    """Write a study on generated captions; what is given replaces whole sections, but for the recipe."""

    def write(*, recipe: dict[str, Any] | None = None, **sections: Any) -> Path:
        content = {
            "name": "trial",
            "data": {"dataset": "captions", "pairs": 240, "max_length": 48},
            "encoders": [tiny()],
            "recipe": {"epochs": 1, "batch_size": 16, "precision": "fp32", **(recipe or {})},
            **sections,
        }
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


def run_and_kill(study: Path, out: Path, *patterns: str) -> None:
    """Run a study in a program of its own, and kill that when every pattern has a file in the study's folder."""
    code = "import sys; from unfreeze import run_study; run_study(*sys.argv[1:], workers=1)"
    process = subprocess.Popen([sys.executable, "-c", code, str(study), str(out)], start_new_session=True)
    deadline = time.monotonic() + 120
    while not all(list(out.glob(pattern)) for pattern in patterns):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
