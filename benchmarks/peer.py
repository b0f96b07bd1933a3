"""What a careful user writes today: Hugging Face Trainer with PEFT, on the same tokens, batches and steps."""

from __future__ import annotations

import tempfile
import time
from typing import Any

import numpy as np
import transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, Trainer, TrainingArguments

from benchmarks.work import RATES, Data, Work
from unfreeze.training.device import Compute
from unfreeze.training.encoder import load_tokenizer, locate

TARGETS = {"query-value": ["query", "value"], "all-linear": r".*encoder\.layer.*\.(query|key|value|dense)"}


def build(work: Work, labels: int, seed: int) -> Any:
    """The classifier as PEFT's and transformers' documentation build it."""
    transformers.set_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(locate(work.encoder), num_labels=labels)
    if work.kind == "lora":
        # The pooler is part of the head here as it is in unfreeze, so that the same parameters train.
        modules = {"target_modules": TARGETS[work.options["targets"]], "modules_to_save": ["pooler", "classifier"]}
        config = LoraConfig(task_type="SEQ_CLS", r=work.options["rank"], lora_alpha=work.options["alpha"], **modules)
        return get_peft_model(model, config)
    if work.kind != "full":
        layers = model.base_model.encoder.layer
        model.requires_grad_(False)
        for part in (*layers[len(layers) - work.options.get("layers", 0) :], model.bert.pooler, model.classifier):
            part.requires_grad_(True)
    return model


def measure(work: Work, data: Data, compute: Compute, seed: int, tuned: bool) -> dict[str, Any]:
    """Seconds, and the test accuracy where the work ends in one.

    Args:
        work: what is done.
        data: tokens and labels.
        compute: what unfreeze would choose; its bf16 is taken where ``tuned``.
        seed: of head, order and dropout.
        tuned: group by length and compute in bf16, rather than as a new Trainer does.
    """
    model = build(work, data.labels, seed)
    rows = {split: data.rows(split) for split in data.tokens}
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=work.batch,
            per_device_eval_batch_size=work.batch,
            num_train_epochs=work.epochs,
            learning_rate=RATES[work.strategy],
            warmup_steps=0.1,
            weight_decay=0.01,
            train_sampling_strategy="group_by_length" if tuned else "random",
            bf16=tuned and compute.precision == "bf16",
            eval_strategy="epoch" if work.mode == "run" else "no",
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            seed=seed,
            use_cpu=compute.device.type == "cpu",
        )
        trainer = Trainer(
            model,
            arguments,
            train_dataset=rows["train"],
            eval_dataset=rows["validation"],
            data_collator=DataCollatorWithPadding(load_tokenizer(work.encoder)),
        )
        started = time.perf_counter()
        if work.mode != "predict":
            trainer.train()
        answered = trainer.predict(rows["test"]) if work.mode != "steps" else None
        seconds = time.perf_counter() - started
    accuracy = None
    if work.mode == "run" and answered:
        # A Trainer that groups by length answers in that order too.
        accuracy = float((answered.predictions.argmax(axis=1) == answered.label_ids).mean())
    return {"seconds": seconds, "accuracy": accuracy, "useful": None}


def padded_share(lengths: np.ndarray, batch: int) -> float:
    """Padding of batches in random order, as a new Trainer cuts them."""
    order = np.random.default_rng(0).permutation(len(lengths))
    batches = np.split(order, range(batch, len(order), batch))
    return 1 - lengths.sum() / sum(len(batch) * lengths[batch].max() for batch in batches)
