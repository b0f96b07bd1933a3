"""What a run starts from: tokens, the frozen prefix it shares, its classifier and the loop that trains it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unfreeze.grid.plan import strategy_of
from unfreeze.records import SPLITS, Dataset
from unfreeze.strategies.anatomy import Anatomy
from unfreeze.study import RunSpec, slug
from unfreeze.studydir import RunDir, StudyDir
from unfreeze.training.batching import Inputs, TokenizedSplit, read_tokens, tokenize, write_tokens
from unfreeze.training.checkpoint import kept_parameters
from unfreeze.training.device import Compute, choose_compute
from unfreeze.training.encoder import build_classifier, load_tokenizer
from unfreeze.training.lean import make_lean
from unfreeze.training.loop import Trainer
from unfreeze.training.prefix import build_prefix, open_prefix, prefix_bytes, prefix_seconds, release_prefix, tail
from unfreeze.training.resident import to_device

Report = Callable[[dict[str, Any]], None]


def prepare(
    study_dir: StudyDir,
    dataset: Dataset,
    run: RunDir,
    spec: RunSpec,
    compute: Compute,
    splits: Sequence[str],
    report: Report,
) -> tuple[Trainer, float | None]:
    """What trains a run, from the shared frozen prefix where that is there, and the seconds this prefix took.

    Args:
        study_dir: the study's folder.
        dataset: its data.
        run: where history and checkpoints go.
        spec: the run's.
        compute: where and in what arithmetic.
        splits: whose inputs are wanted.
        report: called with every row of the run's history.
    """
    tokens = tokens_of(study_dir, dataset, spec.encoder, spec.max_length)
    anatomy, strategy = classifier_of(spec), strategy_of(spec)
    make_lean(anatomy, compute, keep=strategy.rewritten(anatomy))
    depth = anatomy.prefix_depth()
    prefix = prefix_folder(study_dir, spec.data_fingerprint, spec.encoder, spec.max_length, compute)
    shared_seconds = prefix_seconds(prefix, depth) if depth else None
    if shared_seconds is None:
        model: Any = anatomy.classifier.to(compute.device)
        inputs: Mapping[str, Inputs] = {split: tokens[split] for split in splits}
    else:
        model = tail(anatomy, depth).to(compute.device)
        release_prefix(anatomy, depth)
        inputs = {s: open_prefix(prefix, anatomy, depth, s, tokens[s].lengths, compute.dtype) for s in splits}
    inputs = {split: to_device(values, compute) for split, values in inputs.items()}
    kept = kept_parameters(anatomy, strategy)  # only now: moving to a device replaces the tensors
    gold = {split: dataset.splits[split]["gold"].to_numpy().astype(np.int64) for split in splits}
    lengths = tokens["train"].lengths
    trainer = Trainer(model, anatomy, depth, inputs, lengths, gold, spec.recipe, spec.seed, compute, run, kept, report)
    return trainer, shared_seconds


def classifier_of(spec: RunSpec) -> Anatomy:
    """The classifier of a run before its first step."""
    return build_classifier(
        spec.encoder,
        spec.labels,
        strategy_of(spec),
        seed=spec.seed,
        head_dropout=spec.recipe.head_dropout,
    )


def tokens_of(study_dir: StudyDir, dataset: Dataset, encoder: str, max_length: int) -> dict[str, TokenizedSplit]:
    """Tokenised splits, from the cache where they are there."""
    folder = study_dir.cache / "tokens" / _key(encoder, dataset.fingerprint, max_length)
    found = {}
    for split in SPLITS:
        path = folder / f"{split}.arrow"
        if not path.is_file():
            write_tokens(path, tokenize(dataset.splits[split], load_tokenizer(encoder), max_length))
        found[split] = read_tokens(path)
    return found


def prefix_folder(study_dir: StudyDir, fingerprint: str, encoder: str, max_length: int, compute: Compute) -> Path:
    """Where the frozen states of this encoder over these data lie, in this precision."""
    return study_dir.cache / "prefix" / _key(encoder, fingerprint, max_length, compute.precision)


def _key(encoder: str, *parts: Any) -> str:
    digest = hashlib.sha256(json.dumps([encoder, *parts]).encode()).hexdigest()
    return f"{slug(encoder)}-{digest[:8]}"


def build_shared_prefix(
    study_dir: StudyDir, spec: RunSpec, depths: tuple[int, ...], *, device: str, report: Report
) -> None:
    """Compute the frozen states that a group of runs starts from, unless they are there or too large to keep.

    Args:
        study_dir: the study's folder.
        spec: any run of the group: its encoder and data are what counts.
        depths: layers below which something is frozen.
        device: as in :func:`unfreeze.grid.run.run_one`.
        report: told what is done and why.
    """
    compute = choose_compute(device, spec.recipe.precision)
    folder = prefix_folder(study_dir, spec.data_fingerprint, spec.encoder, spec.max_length, compute)
    missing = [depth for depth in depths if prefix_seconds(folder, depth) is None]
    if not missing:
        return
    tokens = tokens_of(study_dir, study_dir.read_dataset(), spec.encoder, spec.max_length)
    anatomy = classifier_of(spec)
    make_lean(anatomy, compute)
    needed = prefix_bytes(anatomy, missing, {split: tokens[split].lengths for split in SPLITS}, compute.dtype)
    free = shutil.disk_usage(study_dir.path).free
    # Half of what is free: checkpoints and other people's files need room too.
    if needed > free // 2:
        report(
            {
                "kind": "note",
                "message": f"frozen prefix not kept: {needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free",
            }
        )
        return
    build_prefix(folder, anatomy, missing, tokens, compute)
    report({"kind": "note", "message": f"frozen prefix at depth {', '.join(map(str, missing))}: {needed / 1e6:.0f} MB"})
