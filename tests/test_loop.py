import json
import math

import numpy as np
import pytest
import torch

from conftest import FAMILIES, NLI
from unfreeze.errors import Diverged, RunError
from unfreeze.strategies import make_strategy
from unfreeze.study import Recipe
from unfreeze.studydir import RunDir
from unfreeze.training.batching import tokenize
from unfreeze.training.checkpoint import kept_parameters, load_trained
from unfreeze.training.cost import count_flops
from unfreeze.training.device import Compute
from unfreeze.training.encoder import build_classifier, load_tokenizer
from unfreeze.training.lean import make_lean
from unfreeze.training.loop import History, Trainer, parameter_groups
from unfreeze.training.predict import predict

CPU = Compute(torch.device("cpu"), torch.float32, "test")
EVERY = [
    ("head-only", {}),
    ("partial", {"layers": 2}),
    ("bitfit", {}),
    ("lora", {"dropout": 0.1}),
    ("lora", {"targets": "all-linear", "dora": True}),
    ("lora", {"init": "pissa", "rank": 2}),
    ("ia3", {}),
    ("full", {}),
]


def make_trainer(small, folder, path, strategy=("full", {}), seed=0, report=lambda row: None, **recipe):
    chosen = make_strategy(*strategy)
    anatomy = build_classifier(folder, NLI, chosen, seed=seed, head_dropout=0.1)
    make_lean(anatomy, CPU, keep=chosen.rewritten(anatomy))
    tokens = {s: tokenize(small.splits[s], load_tokenizer(folder), 64) for s in ("train", "validation", "test")}
    gold = {s: small.splits[s]["gold"].to_numpy().astype(np.int64) for s in tokens}
    return Trainer(
        model=anatomy.classifier,
        anatomy=anatomy,
        depth=anatomy.prefix_depth(),
        inputs=tokens,
        lengths=tokens["train"].lengths,
        gold=gold,
        recipe=Recipe(**({"learning_rate": 3e-3, "epochs": 2, "batch_size": 16} | recipe)),
        seed=seed,
        compute=CPU,
        run=RunDir(path),
        kept=kept_parameters(anatomy, chosen),
        report=report,
    )


def history(path, kind):
    rows = [json.loads(line) for line in (path / "history.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == kind]


def logits(trainer):
    return predict(trainer.model, trainer.inputs["test"], CPU)


@pytest.mark.parametrize(("kind", "options"), EVERY)
def test_frozen_tensors_stay_bit_identical_and_the_rest_trains(tiny, small, tmp_path, kind, options):
    trainer = make_trainer(small, tiny(), tmp_path, (kind, options), weight_decay=0.1)
    before = {name: p.detach().clone() for name, p in trainer.anatomy.classifier.named_parameters()}
    trainer.train()
    trained = trainer.anatomy.trainable()
    # A token that never occurs leaves its embedding's row, but not the whole matrix, as it was.
    changed = {n for n, p in trainer.anatomy.classifier.named_parameters() if not torch.equal(p, before[n])}
    # Softmax does not see a constant added to every key's score, so a key's bias has no gradient: only decay and
    # rounding could move it. Token type and position rows beyond the data do not move either.
    assert changed <= set(trained)
    assert {name for name in set(trained) - changed if not name.endswith("key.bias")} == set()


@pytest.mark.parametrize(("kind", "options"), EVERY)
def test_the_loss_falls(tiny, small, tmp_path, kind, options):
    rate = 3e-2 if kind in ("ia3", "head-only", "bitfit") else 3e-3
    make_trainer(small, tiny(), tmp_path, (kind, options), epochs=8, learning_rate=rate).train()
    losses = [row["loss"] for row in history(tmp_path, "step")]
    assert np.mean(losses[-10:]) < np.mean(losses[:5]) - 0.02


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("kind", "options"), EVERY)
def test_saved_and_loaded_gives_the_same_logits(tiny, small, tmp_path, family, kind, options):
    if (family, kind) == ("modernbert", "bitfit"):
        pytest.skip("ModernBERT has no biases")
    trainer = make_trainer(small, tiny(family), tmp_path, (kind, options), epochs=1)
    trainer.train()
    chosen = make_strategy(kind, options)
    again = build_classifier(tiny(family), NLI, chosen, seed=99)
    load_trained(tmp_path / "checkpoint", kept_parameters(again, chosen))
    # transformers' own way of computing rounds otherwise; computed in the same way nothing differs.
    assert np.abs(logits(trainer) - predict(again.classifier, trainer.inputs["test"], CPU)).max() < 1e-5
    make_lean(again, CPU, keep=chosen.rewritten(again))
    assert np.array_equal(logits(trainer), predict(again.classifier, trainer.inputs["test"], CPU))


def test_the_same_seed_is_bit_identical_and_another_is_not(tiny, small, tmp_path):
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        trainer = make_trainer(small, tiny(), tmp_path / name, ("lora", {"dropout": 0.1}), seed=seed)
        trainer.train()
        found.append(logits(trainer))
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


class Killed(Exception):
    pass


@pytest.mark.parametrize(("kind", "options"), [("full", {}), ("lora", {"dropout": 0.1, "init": "pissa", "rank": 2})])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tiny, small, tmp_path, kind, options):
    def kill(row):
        if row["kind"] == "step" and row["step"] > 30:
            raise Killed

    whole = make_trainer(small, tiny(), tmp_path / "whole", (kind, options), epochs=4)
    whole.train()
    with pytest.raises(Killed):
        make_trainer(small, tiny(), tmp_path / "killed", (kind, options), epochs=4, report=kill).train()
    resumed = make_trainer(small, tiny(), tmp_path / "killed", (kind, options), epochs=4)
    steps = []
    resumed.report = lambda row: steps.append(row["step"])
    progress = resumed.train()
    assert min(steps) > 12, "whole epochs are not run again"
    assert progress.epoch == 4
    assert np.array_equal(logits(whole), logits(resumed))
    for kind_of_row in ("step", "evaluation"):
        rows = [history(tmp_path / name, kind_of_row) for name in ("whole", "killed")]
        assert [(r["step"], r["loss"]) for r in rows[0]] == [(r["step"], r["loss"]) for r in rows[1]]


def test_accumulated_parts_give_the_gradient_of_the_batch(tiny, small, tmp_path):
    grads = []
    for parts in (1, 3):
        trainer = make_trainer(
            small, tiny(), tmp_path / str(parts), gradient_accumulation=parts, max_grad_norm=None, warmup=0.5
        )
        trainer.model.eval()  # dropout off
        trainer.optimizer.zero_grad = lambda: None
        trainer.step(np.arange(16), epoch=0)
        grads.append({name: p.grad for name, p in trainer.trained.items() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_learning_rate_warms_up_and_falls_to_zero(tiny, small, tmp_path, schedule):
    trainer = make_trainer(small, tiny(), tmp_path, schedule=schedule, warmup=0.25)
    trainer.train()
    rates = [row["learning_rate"] for row in history(tmp_path, "step")]
    warm = round(0.25 * trainer.steps)
    assert rates[0] == 0
    assert rates[warm] == pytest.approx(3e-3)
    assert rates[: warm + 1] == sorted(rates[: warm + 1])
    assert rates[warm:] == sorted(rates[warm:], reverse=True)
    assert rates[-1] < 3e-3 / 5


def test_gradients_are_clipped(tiny, small, tmp_path):
    for clip, bound in ((1e-4, 1e-4), (None, math.inf)):
        trainer = make_trainer(small, tiny(), tmp_path / str(clip), max_grad_norm=clip)
        trainer.optimizer.zero_grad = lambda: None
        trainer.step(np.arange(16), epoch=0)
        norm = torch.linalg.vector_norm(
            torch.cat([p.grad.flatten() for p in trainer.trained.values() if p.grad is not None])
        )
        assert norm <= bound * 1.001
        assert clip is not None or norm > 1e-2


def test_vectors_do_not_decay(tiny):
    anatomy = build_classifier(tiny(), NLI, make_strategy("full", {}), seed=0)
    decayed, spared = parameter_groups(anatomy.trainable(), 0.1)
    names = {id(p): name for name, p in anatomy.classifier.named_parameters()}
    assert decayed["weight_decay"] == 0.1
    assert spared["weight_decay"] == 0
    assert all(names[id(p)].endswith(("bias", "LayerNorm.weight")) for p in spared["params"])
    assert not any("LayerNorm" in names[id(p)] or names[id(p)].endswith("bias") for p in decayed["params"])
    ia3 = build_classifier(tiny(), NLI, make_strategy("ia3", {}), seed=0)
    decayed = parameter_groups({n: p for n, p in ia3.trainable().items() if "ia3" in n}, 0.1)
    assert [group["weight_decay"] for group in decayed] == [0]


def test_the_best_epoch_is_restored(tiny, small, tmp_path):
    trainer = make_trainer(small, tiny(), tmp_path, epochs=6, learning_rate=2e-2)
    progress = trainer.train()
    rows = history(tmp_path, "evaluation")
    best = max(rows, key=lambda row: (row["accuracy"], -row["loss"]))
    assert (progress.best["epoch"], progress.best["loss"]) == (best["epoch"], best["loss"])
    restored = torch.from_numpy(predict(trainer.model, trainer.inputs["validation"], CPU))
    gold = torch.from_numpy(trainer.gold["validation"])
    assert float(torch.nn.functional.cross_entropy(restored, gold)) == best["loss"]


def test_patience_stops_early(tiny, small, tmp_path):
    # A rate that cannot change the accuracy: the second evaluation is already stale.
    trainer = make_trainer(small, tiny(), tmp_path, epochs=9, learning_rate=1e-12, patience=2, head_dropout=None)
    progress = trainer.train()
    rows = history(tmp_path, "evaluation")
    assert len(rows) == progress.epoch < 9
    assert progress.epoch == progress.best["epoch"] + 2


def test_a_loss_that_is_not_finite(tiny, small, tmp_path):
    trainer = make_trainer(small, tiny(), tmp_path, learning_rate=1e30, max_grad_norm=None, warmup=0.0)
    with pytest.raises(Diverged, match=r"loss became (nan|inf) .*lower the learning rate"):
        trainer.train()


def test_a_damaged_checkpoint(tiny, tmp_path):
    chosen = make_strategy("head-only", {})
    anatomy = build_classifier(tiny(), NLI, chosen, seed=0)
    with pytest.raises(RunError, match=r"cannot be read .* delete .* run the study again"):
        load_trained(tmp_path, kept_parameters(anatomy, chosen))
    (tmp_path / "trained.safetensors").write_bytes(b"rubbish")
    with pytest.raises(RunError, match="cannot be read"):
        load_trained(tmp_path, kept_parameters(anatomy, chosen))


@pytest.mark.parametrize("family", ["bert", "deberta-v2", "modernbert"])
@pytest.mark.parametrize(("kind", "options"), [("partial", {"layers": 1}), ("lora", {}), ("full", {})])
def test_flops_are_those_of_every_step_and_padding_is_known(tiny, small, tmp_path, family, kind, options):
    trainer = make_trainer(small, tiny(family), tmp_path, (kind, options), epochs=1)
    each, step = [], trainer.step

    def counted(batch, epoch):
        with count_flops(each):
            return step(batch, epoch)

    trainer.step = counted
    progress = trainer.train()
    # DeBERTa's relative positions cost the same for a batch of any size.
    assert progress.flops * progress.tokens == pytest.approx(sum(each), rel=1e-2 if family == "deberta-v2" else 1e-9)
    assert progress.pairs == 180
    tokens = tokenize(small.splits["train"], load_tokenizer(tiny(family)), 64).lengths
    assert progress.tokens == int(tokens.sum())
    assert 0 <= 1 - progress.tokens / progress.padded_tokens < 0.15


def test_max_steps_cut_the_last_epoch_short_and_the_schedule_to_length(tiny, small, tmp_path):
    trainer = make_trainer(small, tiny(), tmp_path / "whole", epochs=3, max_steps=17)
    progress = trainer.train()
    assert (trainer.steps, trainer.epochs, progress.step, progress.epoch) == (17, 2, 17, 2)
    assert progress.pairs < 17 * 16 + 1
    assert [row["step"] for row in history(tmp_path / "whole", "evaluation")] == [12, 17]
    rates = [row["learning_rate"] for row in history(tmp_path / "whole", "step")]
    assert rates[-1] == pytest.approx(max(rates) / 15, rel=0.1), "a step before zero"
    assert make_trainer(small, tiny(), tmp_path / "long", epochs=3, max_steps=99).steps == 36
    make_trainer(small, tiny(), tmp_path / "paused", epochs=3, max_steps=17).train(until=1)
    again = make_trainer(small, tiny(), tmp_path / "paused", epochs=3, max_steps=17)
    assert again.train().step == 17
    assert np.array_equal(logits(again), logits(trainer))


def test_what_each_example_was_given_in_training_adds_up_to_the_loss(tiny, small, tmp_path):
    trainer = make_trainer(small, tiny(), tmp_path, epochs=2)
    trainer.train()
    rows, pairs = history(tmp_path, "step"), len(small.splits["train"])
    for epoch in (0, 1):
        logged = [(row["loss"], row["pairs"] - epoch * pairs) for row in rows if row["epoch"] == epoch]
        total, before = 0.0, 0
        for loss, seen in logged:
            total, before = total + loss * (seen - before), seen
        assert float(-trainer.gold_probability[epoch].log().sum()) == pytest.approx(total, rel=1e-4)
        # With three classes the most likely has at least a third, and any other at most a half.
        assert bool((trainer.gold_probability[epoch][trainer.correct[epoch]] >= 1 / 3).all())
        assert bool((trainer.gold_probability[epoch][~trainer.correct[epoch]] <= 1 / 2).all())


def test_time_by_phase_and_memory_by_kind(tiny, small, tmp_path):
    found = {}
    for kind, options in (("full", {}), ("lora", {}), ("partial", {"layers": 1})):
        trainer = make_trainer(small, tiny(), tmp_path / kind, (kind, options))
        progress = trainer.train()
        assert set(progress.phases) == {"forward", "backward", "optimizer"}
        assert 0 < sum(progress.phases.values()) <= progress.seconds
        found[kind] = trainer.memory(progress)
        trained = sum(p.numel() for p in trainer.trained.values())
        assert found[kind]["gradient_bytes"] == 4 * trained
        # Two moments, and one step count a tensor.
        assert found[kind]["optimizer_bytes"] == 8 * trained + 4 * len(trainer.trained)
    assert found["full"]["activation_bytes"] > found["lora"]["activation_bytes"] > found["partial"]["activation_bytes"]


def test_an_interrupted_history_is_cut_at_once_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "history.jsonl"
    path.write_text("1\n2\n3\n")
    History(path, print, lines=2)
    assert path.read_text() == "1\n2\n"

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        History(path, print, lines=1)
    assert path.read_text() == "1\n2\n"
