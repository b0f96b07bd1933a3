"""What follows from what was measured, with made-up figures; test_measuring.py measures."""

import numpy as np
import pytest

from unfreeze.errors import StudyError
from unfreeze.grid.budget import MOST_EPOCHS, Budget, largest_within, step_key
from unfreeze.grid.plan import expand
from unfreeze.grid.space import find_spaces
from unfreeze.study import Study, load_study

STRATEGIES = ("head-only", {"partial": {"layers": 1}}, "full")


def make(small, at, costs, failures=(), strategies=STRATEGIES, examples=180, **recipe):
    """A budget and the written runs, given what was measured of each strategy's step."""
    recipe = {"epochs": 2, "batch_size": 16} | recipe
    study = Study(strategies=strategies, recipe=recipe, compare_at=at, seeds=(0, 1))
    runs = expand(study, small)
    kind = study.compare_at.kind
    lengths = np.random.default_rng(0).integers(4, 20, examples)
    found = {step_key(kind, r.spec): costs[r.strategy] for r in runs if r.strategy in costs}
    failed = {step_key(kind, r.spec): "no room" for r in runs if r.strategy in failures}
    return Budget(study, runs, examples, lambda _: lengths, found, failed), runs


def recipes(budget, runs, seed=0):
    bound = [budget.bound(run) for run in runs if run.spec.seed == seed]
    return {run.strategy: run.spec.recipe for run in bound if run.refused is None}


FLOPS = {
    "head-only": {"flops": [20.0]},
    "partial-1": {"flops": [0.5, 30.0, 100.0]},
    "full": {"flops": [2.0, 100.0, 100.0]},
}


def test_by_itself_every_run_has_its_own_recipe(small):
    budget, runs = make(small, "steps", {})
    assert [budget.bound(run) for run in runs] == runs
    assert budget.about(runs) == {"kind": "steps", "name": None, "limits": {"minilm": None}, "sentences": []}


def test_the_dearest_keeps_its_recipe_and_its_run_and_the_others_spend_as_much(small):
    budget, runs = make(small, "flops", FLOPS, examples=4000)
    for run in runs:
        bound = budget.bound(run)
        if run.strategy == "full":
            assert bound.spec == run.spec, "what was trained before is not trained again"
            continue
        assert bound.written == run.spec
        if run.strategy == "partial-1":
            limit, recipe = budget.limit("minilm", run.spec.seed), bound.spec.recipe
            steps = recipe.max_steps or 250 * recipe.epochs
            spent = budget._spent(run.spec, recipe.epochs + 1)
            assert spent[steps - 1] <= limit < spent[steps], "not one step more"
            assert recipe.epochs == -(-steps // 250)
    assert budget.limit("minilm", 0) != budget.limit("minilm", 1), "padding depends on the order, hence on the seed"


def test_most_epochs_leave_some_of_the_budget_and_say_so(small):
    budget, runs = make(small, "flops", FLOPS)
    head = recipes(budget, runs)["head-only"]
    assert (head.epochs, head.max_steps) == (MOST_EPOCHS, None)
    first, capped = budget.about([budget.bound(run) for run in runs])["sentences"]
    assert first.startswith("Compared at equal FLOPs: ")
    assert first.endswith("what the dearest strategy takes by its own recipe.")
    share = MOST_EPOCHS * 180 * 20 / budget.limit("minilm", 0)
    assert capped.startswith(f"head-only stops after {MOST_EPOCHS} epochs, at {100 * share:.1f}")


def test_seconds_that_are_given(small):
    costs = {"head-only": {"seconds": 0.1}, "partial-1": {"seconds": 0.25}, "full": {"seconds": 2.0}}
    budget, runs = make(small, {"seconds": 6}, costs)
    found = {name: (recipe.epochs, recipe.max_steps) for name, recipe in recipes(budget, runs).items()}
    assert found == {"head-only": (5, None), "partial-1": (2, None), "full": (1, 3)}
    assert budget.about(runs)["limits"] == {"minilm": 6}


def test_steps_that_are_given(small):
    budget, runs = make(small, {"steps": 24}, {}, strategies=("head-only", {"full": {}, "recipe": {"batch_size": 60}}))
    found = {name: (recipe.epochs, recipe.max_steps) for name, recipe in recipes(budget, runs).items()}
    assert found == {"head-only": (2, None), "full": (8, None)}
    assert budget.about(runs)["sentences"] == ["Compared at equal optimiser steps: 24 for every run."]


def test_what_does_not_fit_names_strategy_need_and_budget(small):
    budget, runs = make(small, {"flops": 20_000}, FLOPS)
    bound = {run.strategy: budget.bound(run) for run in runs}
    assert bound["head-only"].refused is None
    assert "full on minilm: one step takes " in bound["full"].refused
    assert "above the 20.0\u202fkFLOP that every run may use" in bound["full"].refused
    assert bound["full"].spec == bound["full"].written


def test_a_strategy_that_could_not_be_measured_leaves_the_others(small):
    budget, runs = make(small, "flops", {key: FLOPS[key] for key in ("head-only", "partial-1")}, failures=("full",))
    bound = [budget.bound(run) for run in runs]
    assert [run.strategy for run in bound if run.refused] == ["full", "full"]
    assert bound[2].refused == "full on minilm: what it costs could not be measured: no room"
    assert recipes(budget, runs)["partial-1"].max_steps is None, "the dearest of those that were"


def test_only_what_changes_a_step_s_cost_is_measured_anew(small):
    def key(**changes):
        study = Study(strategies=("full",), recipe={"learning_rate": 1e-3, "epochs": 3} | changes)
        return step_key("flops", expand(study, small)[0].spec)

    assert key() == key(epochs=5, learning_rate=1e-4, max_steps=7, patience=2, warmup=0.5)
    assert len({key(), key(batch_size=8), key(gradient_accumulation=2), key(precision="bf16")}) == 4


def test_gradient_accumulation_pads_each_part_alone(small):
    whole, runs = make(small, "flops", FLOPS)
    parts, split = make(small, "flops", FLOPS, gradient_accumulation=4)
    full = next(run.spec for run in runs if run.strategy == "full")
    in_parts = next(run.spec for run in split if run.strategy == "full")
    assert len(parts._costs(in_parts, 0)) == len(whole._costs(full, 0)) == 12
    assert (parts._costs(in_parts, 0) <= whole._costs(full, 0)).all()


@pytest.mark.parametrize("accumulation", [1, 4])
def test_the_largest_batch_that_fits(accumulation):
    tried = []

    def needed(size):
        tried.append(size)
        return 1000 + 37 * -(-size // accumulation)

    for limit in (1036, 1037, 1500, 3000, 10**9):
        fits = [size for size in range(1, 201) if 1000 + 37 * -(-size // accumulation) <= limit]
        assert largest_within(limit, needed, 200) == max(fits, default=0)
    tried.clear()
    largest_within(3000, needed, 10**6)
    assert len(tried) < 10
    assert max(tried) < 2 * 55 * accumulation, "nothing much larger than what fits is tried"


@pytest.mark.parametrize(
    ("at", "key", "value"),
    [
        ("flops", "epochs", [1, 2]),
        ({"seconds": 5}, "epochs", [1, 2]),
        ("memory", "batch_size", [8, 16]),
        ({"steps": 9}, "max_steps", [3, 4]),
    ],
)
def test_what_follows_from_the_budget_cannot_be_tuned(at, key, value):
    study = Study(strategies=("full",), recipe={key: {"tune": value}}, compare_at=at)
    with pytest.raises(StudyError) as caught:
        find_spaces(study)
    kind = study.compare_at.kind
    assert caught.value.problems == (f"strategies: full: {key} cannot be tuned: it follows from compare_at: {kind}",)


def test_the_founding_study_s_memory_is_one_preset_away(small):
    study = load_study("snli-classic-memory")
    assert (study.compare_at.kind, study.compare_at.amount) == ("memory", None)
    classic = expand(load_study("snli-classic"), small)
    assert [run.spec for run in expand(study, small)] == [run.spec for run in classic]
    assert study.data == load_study("snli-classic").data
