import pytest

from unfreeze.errors import StudyError
from unfreeze.grid.plan import expand
from unfreeze.grid.space import beyond, budget, edges, find_spaces, provisional, settle
from unfreeze.recipe import StudyRecipe
from unfreeze.study import Study


def study(*strategies, recipe=None, **more):
    return Study.model_validate({"strategies": strategies, "recipe": recipe or {"learning_rate": "tune"}, **more})


def test_learning_rates_around_each_strategys_default_half_a_decade_apart():
    spaces = find_spaces(study("head-only", "full", "lora"))
    assert [space.axes["learning_rate"] for space in spaces] == [
        (3.2e-4, 1e-3, 3.2e-3),
        (1.6e-5, 5e-5, 1.6e-4),
        (1.6e-4, 5e-4, 1.6e-3),
    ]


def test_every_strategy_has_the_same_budget():
    three = study("head-only", "full", {"lora": {"rank": 8}})
    assert budget(three, find_spaces(three)) == 3
    ranks = study("head-only", {"lora": {"rank": {"tune": [2, 4, 8]}}})
    spaces = find_spaces(ranks)
    assert budget(ranks, spaces) == 9, "as many as the strategy with most candidates has"
    assert [space.size for space in spaces] == [7, 9], "a range that is ours widens to use it, as far as three decades"
    assert spaces[0].axes["learning_rate"][::6] == (3.2e-5, 3.2e-2)
    named = study("full", {"lora": {"rank": {"tune": [2, 4, 8]}}}, recipe={"learning_rate": {"tune": [1e-4, 1e-3]}})
    assert [space.size for space in find_spaces(named)] == [2, 6], "a range that the study names stays as it is"
    many = study({"lora": {"rank": {"tune": [1, 2, 4, 8, 16]}}}, recipe={"weight_decay": {"tune": [0, 0.1, 0.2]}})
    assert budget(many, find_spaces(many)) == 12
    assert budget(study("full", tuning={"trials": 5}), find_spaces(study("full"))) == 5
    assert budget(study("full", tuning={"seconds": 60}), find_spaces(study("full"))) is None


def test_the_middle_of_a_range_comes_first():
    (space,) = find_spaces(study({"lora": {"rank": {"tune": [2, 4, 8]}}}))
    assert space.grid[0] == {"rank": 4, "learning_rate": 5e-4}
    assert len(space.grid) == 9
    assert space.grid[-1] in [{"rank": rank, "learning_rate": rate} for rank in (2, 8) for rate in (1.6e-4, 1.6e-3)]


def test_a_strategys_own_recipe_goes_before_the_studys(small):
    mixed = study(
        "full", {"lora": {}, "recipe": {"learning_rate": 1e-3}}, recipe={"learning_rate": "tune", "epochs": 5}
    )
    (space,) = find_spaces(mixed)
    assert space.entry.kind == "full"
    settled = settle(mixed, [space], {("minilm", 0): {"learning_rate": 7e-5}})
    runs = expand(settled, small)
    assert [(run.strategy, run.spec.recipe.learning_rate) for run in runs] == [
        ("full", 7e-5),
        ("lora-r8-query-value", 1e-3),
    ]
    assert {run.spec.recipe.epochs for run in runs} == {5}
    assert [run.strategy for run in expand(settle(mixed, [space], {}), small)] == ["lora-r8-query-value"]


def test_encoders_choose_apart(small):
    both = study({"lora": {"rank": {"tune": [2, 4]}}}, recipe={"epochs": 1}, encoders=["a", "b"])
    spaces = find_spaces(both)
    chosen = {("a", 0): {"rank": 2}, ("b", 0): {"rank": 4}}
    runs = expand(settle(both, spaces, chosen), small)
    assert [(run.spec.encoder, run.spec.strategy["rank"]) for run in runs] == [("a", 2), ("b", 4)]
    assert [run.spec.strategy["rank"] for run in expand(provisional(both, spaces), small)] == [4, 4]


def test_a_trial_is_the_run_that_the_choice_makes_but_for_its_seed(small):
    tuned = study("full", seeds=[0])
    (space,) = find_spaces(tuned)
    trial = space.trial(tuned, small, {"learning_rate": 1e-4}).spec
    (run,) = expand(Study(strategies=("full",), recipe=StudyRecipe(learning_rate=1e-4)), small)
    assert trial.seed == 1000
    assert trial.model_copy(update={"seed": 0}).run_id == run.run_id


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": [0, 1000]}, "tuning.seed: 1000 is one of the study's seeds"),
        ({"strategies": [{"lora": {"rank": "tune"}}]}, "strategies: lora: rank: name the values to try"),
        (
            {"strategies": [{"lora": {"rank": {"tune": [4, 0]}}}]},
            "lora: rank: Input should be greater than or equal to 1",
        ),
        ({"strategies": [{"lora": {"rnk": {"tune": [4]}}}]}, "did you mean 'rank'?"),
        (
            {"strategies": ["full", {"full": {}, "recipe": {"learning_rate": "tune"}}]},
            "strategies: full: the same is tuned twice",
        ),
        ({"recipe": {"epochs": 1}, "tuning": {"trials": 4}}, "tuning: nothing is left to validation"),
    ],
)
def test_what_cannot_be_tuned(changes, message):
    written = {"strategies": ["full"], "recipe": {"learning_rate": "tune"}, **changes}
    with pytest.raises(StudyError) as caught:
        find_spaces(Study.model_validate(written))
    assert message in str(caught.value)
    assert len(caught.value.problems) == 1


def test_one_step_beyond_an_end():
    rates = {"learning_rate": (1e-4, 3.2e-4, 1e-3), "rank": (4, 8, 16)}
    assert beyond(rates, {"learning_rate": 1e-3, "rank": 8}) == 3.1e-3
    assert beyond(rates, {"learning_rate": 1e-4, "rank": 8}) == 3.1e-5
    assert beyond(rates, {"learning_rate": 3.2e-4, "rank": 16}) is None
    assert beyond({"rank": (4, 8, 16)}, {"rank": 16}) is None
    assert beyond({"learning_rate": (1e-3,)}, {"learning_rate": 1e-3}) is None


def test_numbers_at_an_end_of_three_or_more():
    axes = {"learning_rate": (1e-4, 1e-3), "rank": (4, 8, 16), "targets": ("attention", "all-linear", "query-value")}
    found = edges(axes, {"learning_rate": 1e-3, "rank": 16, "targets": "attention"})
    assert found == [{"key": "rank", "value": 16, "end": "highest", "tried": 3}]
    assert edges(axes, {"learning_rate": 1e-3, "rank": 8, "targets": "attention"}) == []
