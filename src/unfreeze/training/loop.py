"""The training loop: one for every strategy."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import get_scheduler

from unfreeze.errors import Diverged
from unfreeze.recipe import Recipe
from unfreeze.strategies.anatomy import Anatomy
from unfreeze.studydir import RunDir
from unfreeze.training.batching import Inputs, epoch_batches, padded_tokens
from unfreeze.training.checkpoint import (
    Progress,
    copy_into,
    load_progress,
    load_trained,
    save_progress,
    save_trained,
)
from unfreeze.training.cost import Phases, StepFlops, count_saved_bytes, energy_counter, tensor_bytes
from unfreeze.training.device import Compute, random_state, restore_random_state
from unfreeze.training.history import History, Report
from unfreeze.training.predict import predict
from unfreeze.training.prefix import set_train_mode

# Training-loss points per epoch in history.jsonl: enough for a curve, few enough that a GPU is seldom waited for.
POINTS_PER_EPOCH = 50


@dataclass
class Trainer:
    """Trains one classifier.

    Attributes:
        model: what is run: the classifier, or its tail above a cached prefix.
        anatomy: the whole classifier, whose trainable parameters ``model`` shares.
        depth: layers of the frozen prefix.
        inputs: ``train`` and ``validation``, in the form that ``model`` takes.
        lengths: tokens of each training example, which decide what is batched together: the order must not depend
            on whether the prefix is cached, where above the last layer one state stands for all tokens.
        gold: class indices of both, int64.
        recipe: complete, learning rate included.
        seed: decides order and dropout.
        run: where history and checkpoints go.
        kept: the tensors a checkpoint holds (:func:`~unfreeze.training.checkpoint.kept_parameters`).
        report: called with every row of the history.
    """

    model: Any
    anatomy: Anatomy
    depth: int
    inputs: Mapping[str, Inputs]
    lengths: np.ndarray
    gold: Mapping[str, np.ndarray]
    recipe: Recipe
    seed: int
    compute: Compute
    run: RunDir
    kept: Mapping[str, torch.Tensor]
    report: Report = field(default=lambda _: None)

    def __post_init__(self) -> None:
        recipe = self.recipe
        self.trained = self.anatomy.trainable()
        self.phases = Phases(self.compute)
        self.targets = torch.from_numpy(self.gold["train"]).to(self.compute.device)
        assert recipe.learning_rate is not None
        groups = parameter_groups(self.trained, recipe.weight_decay)
        self.steps_per_epoch = math.ceil(len(self.lengths) / recipe.batch_size)
        self.steps = min(self.steps_per_epoch * recipe.epochs, recipe.max_steps or sys.maxsize)
        self.epochs = math.ceil(self.steps / self.steps_per_epoch)
        shape = (self.epochs, len(self.lengths))
        # Of each training example in each epoch, as training saw it: what data maps are made of.
        self.gold_probability = torch.zeros(shape, device=self.compute.device)
        self.correct = torch.zeros(shape, dtype=torch.bool, device=self.compute.device)
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)
        self.log_every = max(1, self.steps_per_epoch // POINTS_PER_EPOCH)
        self.schedule = get_scheduler(
            recipe.schedule,
            self.optimizer,
            num_warmup_steps=round(recipe.warmup * self.steps),
            num_training_steps=self.steps,
        )

    def train(self, until: int | None = None) -> Progress:
        """Run all epochs (or go on after the last whole one) and leave the best epoch's weights in the classifier.

        Args:
            until: the epoch after which to pause; a later call goes on.

        Raises:
            Diverged: the loss stopped being finite.
        """
        torch.manual_seed(self.seed)
        progress = self._resume()
        self.history = History(self.run.history, self.report, progress.history)
        patience = self.recipe.patience or math.inf
        progress.activation_bytes = self.rehearse()
        while progress.epoch < min(until or math.inf, self.epochs) and progress.stale < patience:
            self._train_epoch(progress)
            self._evaluate(progress)
            progress.history = self.history.lines
            save_progress(self.run.resume, progress, self._state())
        # The best epoch's weights wait on disk: a copy in memory would count as the strategy's peak.
        load_trained(self.run.checkpoint, self.kept)
        return progress

    def _train_epoch(self, progress: Progress) -> None:
        inputs, recipe = self.inputs["train"], self.recipe
        batches = epoch_batches(self.lengths, recipe.batch_size, self.seed, progress.epoch)
        del batches[self.steps - progress.step :]
        set_train_mode(self.model, self.anatomy, self.depth)
        joules = energy_counter(self.compute)
        started, loss_sum, seen, logged = time.perf_counter(), torch.zeros((), device=self.compute.device), 0, 0
        for number, batch in enumerate(batches, start=1):
            loss_sum += self.step(batch, progress.epoch)
            progress.step += 1
            seen += len(batch)
            if number % self.log_every == 0 or number == len(batches):
                seconds = progress.seconds + time.perf_counter() - started
                self._log(progress, float(loss_sum) / (seen - logged), seconds, progress.pairs + seen)
                loss_sum.zero_()
                logged = seen
        progress.seconds += time.perf_counter() - started
        self.phases.collect(progress.phases)
        used = None if joules is None else (energy_counter(self.compute) or 0.0) - joules
        # A counter that wraps around goes backwards.
        progress.joules = None if used is None or used < 0 or progress.joules is None else progress.joules + used
        progress.epoch += 1
        progress.pairs += seen
        flops = (progress.flops or 0.0) * progress.tokens
        flops += float(self.flops.of([part for batch in batches for part in self._parts(batch)], inputs.lengths).sum())
        progress.tokens += int(inputs.lengths[np.concatenate(batches)].sum())
        progress.flops = flops / progress.tokens
        progress.padded_tokens += padded_tokens(inputs.lengths, batches)

    def rehearse(self) -> int:
        """Forward and backward passes that change nothing; the bytes that the largest batch saves in between.

        Memory that does not suffice is told now and not after an hour, and an allocator that has met the largest
        batch first leaves smaller gaps: on SNLI full fine-tuning peaks at 1.32 GB instead of 1.48. Others follow for
        the operations they count.
        """
        batches = epoch_batches(self.lengths, self.recipe.batch_size, self.seed, 0)
        lengths = self.inputs["train"].lengths
        largest = max(batches, key=lambda batch: padded_tokens(lengths, [batch]))
        state = random_state(self.compute)
        saved = self.saved_bytes(self._parts(largest)[0])
        parts = [part for batch in batches for part in self._parts(batch)]
        self.flops = StepFlops.count(self._pass, parts, lengths)
        restore_random_state(state, self.compute)
        return saved

    def saved_bytes(self, part: np.ndarray) -> int:
        """What autograd saves of a batch, or a part of one, for its backward pass, which runs too."""
        found: list[int] = []
        set_train_mode(self.model, self.anatomy, self.depth)
        with count_saved_bytes(self.model.parameters(), found):
            self._pass(part)
        return found[0]

    def _pass(self, part: np.ndarray) -> None:
        torch.autograd.backward(F.cross_entropy(self._logits(part), self.targets[part]))
        self.optimizer.zero_grad()

    def _parts(self, batch: np.ndarray) -> list[np.ndarray]:
        return np.array_split(batch, min(self.recipe.gradient_accumulation, len(batch)))

    def _logits(self, part: np.ndarray) -> torch.Tensor:
        inputs = {name: value.to(self.compute.device) for name, value in self.inputs["train"].batch(part).items()}
        with self.compute.autocast():
            logits: torch.Tensor = self.model(**inputs).logits
        return logits.float()

    def step(self, batch: np.ndarray, epoch: int) -> torch.Tensor:
        """One optimiser step; returns the summed loss of its examples, still on the device."""
        loss_sum = torch.zeros((), device=self.compute.device)
        for part in self._parts(batch):
            self.phases.mark("forward")
            logits = self._logits(part)
            places = torch.from_numpy(part).to(self.compute.device, non_blocking=True)
            targets = self.targets[places]
            losses = F.cross_entropy(logits, targets, reduction="none")
            loss = losses.sum()
            self.gold_probability[epoch, places] = losses.detach().neg().exp()
            self.correct[epoch, places] = logits.detach().argmax(dim=1) == targets
            self.phases.mark("backward")
            torch.autograd.backward(loss / len(batch))
            loss_sum += loss.detach()
        self.phases.mark("optimizer")
        if self.recipe.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.trained.values(), self.recipe.max_grad_norm)
        self.rate = self.optimizer.param_groups[0]["lr"]
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        self.phases.mark(None)
        return loss_sum

    def _log(self, progress: Progress, loss: float, seconds: float, pairs: int) -> None:
        if not math.isfinite(loss):
            raise Diverged(
                f"the training loss became {loss} by step {progress.step} of {self.steps}; "
                f"lower the learning rate ({self.recipe.learning_rate:g})"
            )
        row = {"kind": "step", "step": progress.step, "epoch": progress.epoch, "loss": loss, "learning_rate": self.rate}
        self.history.write(row | {"seconds": round(seconds, 3), "pairs": pairs, "steps": self.steps})

    def _evaluate(self, progress: Progress) -> None:
        """Evaluate on validation and keep the weights if accuracy rose, or stayed and the loss fell."""
        started = time.perf_counter()
        logits = torch.from_numpy(predict(self.model, self.inputs["validation"], self.compute))
        gold = torch.from_numpy(self.gold["validation"])
        loss = float(F.cross_entropy(logits, gold))
        accuracy = float((logits.argmax(dim=1) == gold).float().mean())
        seconds = time.perf_counter() - started
        if not math.isfinite(loss):
            raise Diverged(f"the validation loss became {loss} after epoch {progress.epoch}; lower the learning rate")
        progress.evaluate_seconds += seconds
        best = progress.best
        if best is None or (accuracy, -loss) > (best["accuracy"], -best["loss"]):
            progress.best = {"epoch": progress.epoch, "accuracy": accuracy, "loss": loss}
            save_trained(self.run.checkpoint, self.kept)
            progress.stale = 0
        else:
            progress.stale += 1
        row = {"kind": "evaluation", "step": progress.step, "epoch": progress.epoch, "split": "validation"}
        self.history.write(row | {"loss": loss, "accuracy": accuracy, "seconds": round(seconds, 3)})

    def memory(self, progress: Progress) -> dict[str, int | None]:
        """Bytes of weights, gradients and optimiser state, and of what the largest batch saves for backward."""
        states = (value for state in self.optimizer.state.values() for value in state.values())
        return {
            "weight_bytes": tensor_bytes(self.anatomy.classifier.parameters()),
            "gradient_bytes": tensor_bytes(self.trained.values()),
            "optimizer_bytes": tensor_bytes(states),
            "activation_bytes": progress.activation_bytes,
        }

    def _state(self) -> dict[str, Any]:
        return {
            "kept": dict(self.kept),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "random": random_state(self.compute),
            "gold_probability": self.gold_probability,
            "correct": self.correct,
        }

    def _resume(self) -> Progress:
        found = load_progress(self.run.resume)
        if found is None:
            return Progress()
        progress, state = found
        copy_into(self.kept, state["kept"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        restore_random_state(state["random"], self.compute)
        self.gold_probability.copy_(state["gold_probability"])
        self.correct.copy_(state["correct"])
        return progress


def parameter_groups(trained: Mapping[str, torch.nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Decay matrices; not biases, norms, or the vectors of (IA)³ and DoRA, whose neutral value is not zero."""
    matrices = [p for p in trained.values() if p.squeeze().ndim >= 2]
    vectors: Iterable[Any] = [p for p in trained.values() if p.squeeze().ndim < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
