import pytest

from unfreeze.errors import StudyError
from unfreeze.recipe import Recipe, StudyRecipe
from unfreeze.study import Study, dump_study, load_study


@pytest.fixture
def write(tmp_path):
    def write(text, *overrides):
        path = tmp_path / "study.yaml"
        path.write_text(text)
        return load_study(path, overrides)

    return write


TUNED = """
strategies: [full, {lora: {rank: {tune: [4, 8]}}, recipe: {weight_decay: {tune: [0, 0.1]}}}]
recipe: {learning_rate: tune, epochs: 2}
"""


def test_what_is_left_to_validation_stands_apart(write):
    study = write(TUNED)
    assert study.recipe.tuned == {"learning_rate": "tune"}
    assert (study.recipe.epochs, study.recipe.learning_rate) == (2, None)
    assert study.strategies[1].recipe.tuned == {"weight_decay": {"tune": [0, 0.1]}}
    assert study.strategies[1].options == {"rank": {"tune": [4, 8]}}


def test_a_tuned_study_reads_back(write):
    study = write(TUNED)
    assert write(dump_study(study)) == study
    assert write(dump_study(study)) != write(TUNED, "recipe.learning_rate=1e-3")


def test_a_recipe_can_be_given_from_python():
    study = Study(strategies=("full",), recipe=Recipe(epochs=1))
    assert study.recipe.epochs == 1
    assert study.recipe.model_dump(exclude_unset=True) == {"epochs": 1}
    assert StudyRecipe(learning_rate="tune").tuned == {"learning_rate": "tune"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("recipe.learning_rat=tune", "unknown key 'recipe.learning_rat'; did you mean 'learning_rate'?"),
        ("recipe.epochs={tune: [0, 3]}", "recipe.epochs: Input should be greater than or equal to 1, not 0"),
        ("recipe.epochs={tune: [1, x]}", "recipe.epochs: Input should be a valid integer"),
        ("recipe.epochs=tune", "epochs: name the values to try, as in {tune: [1, 3]}"),
        ("recipe.epochs={tune: []}", "epochs: name the values to try"),
        ("recipe.epochs={tun: [1]}", "recipe.epochs: Input should be a valid integer"),
        ("tuning={trials: 3, seconds: 60}", "tuning: a budget is trials or seconds, not both"),
        ("tuning={trial: 3}", "unknown key 'tuning.trial'; did you mean 'trials'?"),
        ("compare_at=flop", "unknown key 'compare_at.flop'; did you mean 'flops'?"),
        ("compare_at={flops: 0}", "compare_at.flops: Input should be greater than 0"),
        ("compare_at={memory: much}", "compare_at.memory: could not parse value and unit"),
        ("compare_at={flops: 1e15, seconds: 5}", "compare_at: name one of steps, seconds, memory and flops"),
        ("compare_at={}", "compare_at: name one of steps, seconds, memory and flops"),
        ("recipe.max_steps=0", "recipe.max_steps: Input should be greater than or equal to 1"),
        ("tuning={trials: 0}", "tuning.trials: Input should be greater than or equal to 1"),
    ],
)
def test_a_fault_says_where_and_what(write, override, message):
    with pytest.raises(StudyError) as caught:
        write(TUNED, override)
    assert message in str(caught.value)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("written", "kind", "amount"),
    [
        ("flops", "flops", None),
        ("{flops: 1e15}", "flops", 1e15),
        ("{seconds: 600}", "seconds", 600),
        ("{memory: 4 GiB}", "memory", 4 * 2**30),
        ("{steps: 1000}", "steps", 1000),
    ],
)
def test_what_strategies_are_compared_at(write, written, kind, amount):
    study = write(TUNED, f"compare_at={written}")
    assert (study.compare_at.kind, study.compare_at.amount) == (kind, amount)
    assert write(dump_study(study)) == study
    assert write(TUNED).compare_at == write(TUNED, "compare_at=steps").compare_at
