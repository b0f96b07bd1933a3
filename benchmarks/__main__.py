"""unfreeze against its peer, interleaved in one run: ``python -m benchmarks [pairs]``.

The peer is a careful user's own script: Hugging Face Trainer with PEFT, dynamic padding, grouping by length, bf16 where
the machine multiplies in it. Same data (generated captions), encoder (MiniLM), batch size and steps; one epoch without
evaluation. What is compared is pairs per second in training, as a ratio; absolute figures are this machine's, now.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, Trainer, TrainingArguments

from unfreeze.datasets import load_dataset
from unfreeze.records import Dataset
from unfreeze.strategies import Strategy, make_strategy
from unfreeze.study import DataSpec, Recipe
from unfreeze.studydir import RunDir
from unfreeze.training import loop
from unfreeze.training.batching import Inputs, TokenizedSplit, tokenize
from unfreeze.training.checkpoint import kept_parameters
from unfreeze.training.device import Compute, choose_compute
from unfreeze.training.encoder import build_classifier, load_tokenizer, locate
from unfreeze.training.prefix import build_prefix, open_prefix, tail

BATCH, ROUNDS, LAYERS = 32, 3, 2
WORK = {"partial-2": make_strategy("partial", {"layers": LAYERS}), "LoRA q,v r8": make_strategy("lora", {})}


def peer(data: Dataset, splits: dict[str, TokenizedSplit], compute: Compute, strategy: Strategy) -> float:
    """Seconds that Trainer takes for one epoch."""
    model = AutoModelForSequenceClassification.from_pretrained(locate("minilm"), num_labels=3)
    if strategy.kind == "lora":
        config = LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules=["query", "value"])
        model = get_peft_model(model, config)
    else:
        model.requires_grad_(False)
        for part in (*model.bert.encoder.layer[-LAYERS:], model.bert.pooler, model.classifier):
            part.requires_grad_(True)
    tokens, gold = splits["train"], data.splits["train"]["gold"].to_pylist()
    bounds = zip(tokens.offsets[:-1], tokens.offsets[1:], gold, strict=True)
    rows = [
        {"input_ids": tokens.ids[a:b].tolist(), "token_type_ids": tokens.type_ids[a:b].tolist(), "labels": label}
        for a, b, label in bounds
    ]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=BATCH,
            num_train_epochs=1,
            train_sampling_strategy="group_by_length",
            bf16=compute.precision == "bf16",
            learning_rate=3e-4,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=compute.device.type == "cpu",
        )
        collator = DataCollatorWithPadding(load_tokenizer("minilm"))
        trainer = Trainer(model, arguments, train_dataset=rows, data_collator=collator)
        started = time.perf_counter()
        trainer.train()
        return time.perf_counter() - started


def ours(data: Dataset, tokens: dict[str, TokenizedSplit], compute: Compute, strategy: Strategy) -> float:
    """Seconds of the same steps in unfreeze, the frozen prefix of the training split built within them."""
    anatomy = build_classifier("minilm", data.labels, strategy, seed=0)
    gold = {split: data.splits[split]["gold"].to_numpy().astype(np.int64) for split in tokens}
    depth = anatomy.prefix_depth()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        inputs: dict[str, Inputs] = dict(tokens)
        if depth:
            build_prefix(Path(folder), anatomy, (depth,), {"train": tokens["train"]}, compute)
        prefix_seconds = time.perf_counter() - started
        if depth:
            build_prefix(Path(folder) / "evaluation", anatomy, (depth,), {"validation": tokens["validation"]}, compute)
            places = {"train": Path(folder), "validation": Path(folder) / "evaluation"}
            inputs = {s: open_prefix(places[s], anatomy, depth, s, tokens[s].lengths, compute.dtype) for s in tokens}
        trainer = loop.Trainer(
            model=(tail(anatomy, depth) if depth else anatomy.classifier).to(compute.device),
            anatomy=anatomy,
            depth=depth,
            inputs=inputs,
            lengths=tokens["train"].lengths,
            gold=gold,
            recipe=Recipe(epochs=1, batch_size=BATCH, learning_rate=3e-4),
            seed=0,
            compute=compute,
            run=RunDir(Path(folder) / "run"),
            kept=kept_parameters(anatomy, strategy),
        )
        return prefix_seconds + trainer.train().seconds


def main() -> None:
    """Print one row for each kind of work."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    data = load_dataset(DataSpec(pairs=pairs))
    tokens = {split: tokenize(data.splits[split], load_tokenizer("minilm"), 128) for split in ("train", "validation")}
    compute, count = choose_compute("auto", "auto"), len(data.splits["train"])
    columns = ("work", "Trainer, pairs/s", "unfreeze, pairs/s", "ratio (min to max)")
    table = Table(*columns, title=f"{count} pairs, {compute.reason}")
    sides: tuple[Callable[..., float], ...] = (peer, ours)
    for name, strategy in WORK.items():
        rounds = [[side(data, tokens, compute, strategy) for side in sides] for _ in range(ROUNDS)]
        ratios = [theirs / mine for theirs, mine in rounds]
        rates = [f"{count / statistics.median(column):.0f}" for column in zip(*rounds, strict=True)]
        table.add_row(name, *rates, f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    Console().print(table)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
