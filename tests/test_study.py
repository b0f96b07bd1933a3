import hashlib
import json
from pathlib import Path

import pytest

from unfreeze.errors import StudyError
from unfreeze.grid.plan import expand
from unfreeze.grid.space import find_spaces, provisional
from unfreeze.study import GroupedSplit, RandomSplit, dump_study, load_study, preset_names, slug

EXAMPLE = """
name: snli-sample
data: {dataset: snli, path: ../shared/snli, split: official, max_train_pairs: 20000, max_length: 128}
encoders: [minilm]
strategies:
  - head-only
  - {partial: {layers: 2}, recipe: {learning_rate: 3.0e-4}}
  - {lora: {rank: 8, alpha: 16, dropout: 0.1, targets: query-value}, recipe: {learning_rate: 1.0e-3}}
  - {lora: {rank: 16, alpha: 32, targets: all-linear}, recipe: {learning_rate: 5e-4}}
  - {full: {}, recipe: {learning_rate: 1.0e-4}}
recipe: {epochs: 3, batch_size: 32, warmup: 0.1, weight_decay: 0.01, schedule: linear, head_dropout: 0.1}
seeds: [0, 1]
"""


@pytest.fixture
def write(tmp_path):
    def write(text, *overrides):
        path = tmp_path / "study.yaml"
        path.write_text(text)
        return load_study(path, overrides)

    return write


def test_the_study_of_the_readme(write, small):
    study = write(EXAMPLE)
    runs = expand(study, small)
    assert [run.strategy for run in runs][:5] == [
        "head-only",
        "partial-2",
        "lora-r8-query-value",
        "lora-r16-all-linear",
        "full",
    ]
    assert [run.spec.recipe.learning_rate for run in runs][:5] == [1e-3, 3e-4, 1e-3, 5e-4, 1e-4]
    assert [run.spec.seed for run in runs] == [0] * 5 + [1] * 5
    assert len({run.run_id for run in runs}) == 10
    assert runs[0].run_id.startswith("minilm--head-only--s0--")


def test_nothing_is_needed_that_has_a_default(write, small):
    (run,) = expand(write("strategies: [lora]"), small)
    assert (run.spec.encoder, run.spec.seed, run.spec.recipe.learning_rate) == ("minilm", 0, 5e-4)


def test_a_dumped_study_reads_back(write, tmp_path):
    study = write(EXAMPLE)
    assert write(dump_study(study)) == study


@pytest.mark.parametrize("number", ["3e-4", "3.0e-4", "3E-4", "0.0003"])
def test_numbers_are_numbers(write, number):
    assert write(f"{{strategies: [full], recipe: {{learning_rate: {number}}}}}").recipe.learning_rate == 3e-4
    assert write("strategies: [full]", f"recipe.learning_rate={number}").recipe.learning_rate == 3e-4


def test_splits(write):
    assert write("{strategies: [full], data: {split: official}}").data.split == "official"
    random = write("{strategies: [full], data: {split: {random: {validation: 0.1, test: 2000}}}}").data.split
    assert isinstance(random, RandomSplit)
    assert (random.random.validation, random.random.test) == (0.1, 2000)
    assert isinstance(write("{strategies: [full], data: {split: {grouped: {}}}}").data.split, GroupedSplit)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("recipee.epochs=1", "unknown key 'recipee'; did you mean 'recipe'?"),
        ("recipe.epoch=1", "unknown key 'recipe.epoch'; did you mean 'epochs'?"),
        ("data.colums={a: 1}", "unknown key 'data.colums'; did you mean 'columns'?"),
        ("data.columns={textt: a}", "unknown key 'data.columns.textt'; did you mean 'text'?"),
        ("data.split={random: {tst: 0.1}}", "unknown key 'data.split.random.tst'; did you mean 'test'?"),
        ("data.split={grouped: {tst: 0.1}}", "unknown key 'data.split.grouped.tst'; did you mean 'test'?"),
        ("data.split={random: {test: 1.5}}", "a share between 0 and 1 or a whole number of examples, not 1.5"),
        ("data.split=oficial", "data.split: Input should be 'official', not 'oficial'"),
        ("recipe.epochs=x", "recipe.epochs: Input should be a valid integer"),
        ("recipe.warmup=1.0", "recipe.warmup: Input should be less than 1, not 1.0"),
        ("strategies=[]", "strategies: one at least is wanted, not []"),
        ("strategies=full", "strategies: a list is wanted, as in [a, b], not 'full'"),
        ("strategies=[full, lora, full]", "study.yaml: strategies: full: the same stands there twice"),
        ("strategies=[{lora: {}, encoders: []}]", "strategies.0.encoders: one at least is wanted"),
        ("recipe=3", "recipe: keys and values are wanted, not 3"),
        ("recipe.learning_rate=.inf", "recipe.learning_rate: Input should be a finite number"),
        ("seeds=[-1]", "seeds.0: Input should be greater than or equal to 0"),
        ("seeds=[4294967296]", "seeds.0: Input should be less than 4294967296"),
        ("tuning.seed=-1", "tuning.seed: Input should be greater than or equal to 0"),
        ("data.split={foo: {}}", "data.split: official, or sizes as in {random: {test: 0.2}}"),
        ("data.split=3", "data.split: official, or sizes as in {random: {test: 0.2}}"),
        ("data.path=3", "data.path: a path, or one for each of train, validation, test"),
        ("data.path={trian: x}", "data.path: a path, or one for each of train, validation, test"),
        ("strategies=[{lora: {}, partial: {}}]", "this one names lora and partial"),
        ("strategies=[{lora: 8}]", "the options of lora are keys and values"),
        ("strategies=[{lora: {}, recipe: {learning_rat: 1}}]", "did you mean 'learning_rate'?"),
        ("seeds=[a]", "seeds.0: Input should be a valid integer"),
        ("name=a/b", "name: String should match pattern"),
        ("recipe", "write key=value"),
        ("encoders.0=x", "lists are replaced whole"),
        ("data.columns={text: a, hypothesis: b}", "text is for single texts"),
    ],
)
def test_a_fault_says_where_and_what(write, override, message):
    with pytest.raises(StudyError) as caught:
        write(EXAMPLE, override)
    assert message in str(caught.value)
    assert len(caught.value.problems) == 1


def test_files_that_are_no_study(tmp_path):
    for text, message in (
        ("a: [", "not valid YAML"),
        ("recipe: {epochs: 1}\nrecipe: {batch_size: 8}", "not valid YAML: 'recipe' stands there twice"),
        ("- a", "a study is keys and values"),
        ("{}", "'strategies' is missing"),
    ):
        (tmp_path / "s.yaml").write_text(text)
        with pytest.raises(StudyError, match=message):
            load_study(tmp_path / "s.yaml")
    (tmp_path / "s.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StudyError, match="cannot be read as text"):
        load_study(tmp_path / "s.yaml")
    with pytest.raises(StudyError, match=r"nowhere\.yaml: no such file"):
        load_study("nowhere.yaml")
    with pytest.raises(StudyError, match="neither a file nor a preset; did you mean 'demo'"):
        load_study("demmo")


def test_strategies_of_some_encoders(write, small):
    text = "{encoders: [a, b], strategies: [full, {partial: {}, encoders: [b]}]}"
    assert [(r.spec.encoder, r.strategy) for r in expand(write(text), small)] == [
        ("a", "full"),
        ("b", "full"),
        ("b", "partial-2"),
    ]
    with pytest.raises(StudyError, match="'c' is not in encoders"):
        expand(write("{encoders: [a], strategies: [{partial: {}, encoders: [c]}]}"), small)


def test_the_hash_is_of_what_decides_the_result(write, small):
    base = expand(write("strategies: [full]"), small)[0].run_id
    same = ["{strategies: [{full: {}, published: {accuracy: 0.9}}]}", "{name: x, strategies: [full], seeds: [0]}"]
    other = ["{strategies: [full], recipe: {epochs: 4}}", "{strategies: [full], data: {max_length: 64}}"]
    assert {expand(write(text), small)[0].run_id for text in same} == {base}
    assert base not in {expand(write(text), small)[0].run_id for text in other}
    limited, unlimited = (expand(write("strategies: [full]", f"recipe.max_steps={n}"), small)[0] for n in (9, "null"))
    assert limited.run_id != base == unlimited.run_id
    spec = unlimited.spec.model_dump(mode="json")
    del spec["recipe"]["max_steps"]
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:8]
    assert base.endswith(digest), "folders from before there was such a key are still those of their specs"


@pytest.mark.parametrize("name", preset_names())
def test_presets_are_studies(name, small):
    study = load_study(name)
    assert study.name == name
    assert expand(provisional(study, find_spaces(study)), small)


def test_the_fair_studies_tune_every_strategy_and_run_five_seeds(small):
    names = ["head-only", "partial-2", "lora-r8-query-value", "lora-r16-all-linear", "full"]
    for preset, encoders in (("snli-fair", 2), ("snli-fair-small", 1)):
        study = load_study(preset)
        spaces = find_spaces(study)
        assert [len(space.axes["learning_rate"]) for space in spaces] == [3] * 5 * encoders
        runs = expand(provisional(study, spaces), small)
        assert [run.strategy for run in runs][:5] == names
        assert {run.spec.seed for run in runs} == {0, 1, 2, 3, 4}
        assert len(runs) == 25 * encoders
        assert (study.data.split, study.baselines) == ("official", True)


def test_the_founding_study_is_as_it_was_published(small):
    runs = {(slug(r.spec.encoder), r.spec.strategy["kind"]): r for r in expand(load_study("snli-classic"), small)}
    found = {
        key: (r.spec.recipe.batch_size, r.spec.recipe.learning_rate, r.published.accuracy, r.published.loss)
        for key, r in runs.items()
    }
    assert found == {
        ("bert-base-uncased", "partial"): (18, 3e-5, 0.8498, 0.4151),
        ("bert-base-uncased", "lora"): (6, 1e-4, 0.8520, 0.4338),
        ("distilbert-base-uncased", "partial"): (13, 5e-5, 0.8112, 0.4828),
        ("distilbert-base-uncased", "lora"): (8, 1e-4, 0.8348, 0.4479),
    }
    for run in runs.values():
        recipe = run.spec.recipe
        assert (recipe.epochs, recipe.head_dropout, recipe.weight_decay, recipe.warmup) == (3, 0.5, 0.1, 0.1)
        assert recipe.max_grad_norm == 1.0


def test_the_example_files_are_studies(small):
    for path in (Path(__file__).parents[1] / "examples").glob("*.yaml"):
        assert expand(load_study(path), small)


def test_the_readme_s_study_is_a_study(write, small):
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    (block,) = (block.split("```")[0] for block in readme.split("```yaml\n")[1:])
    assert expand(write(block), small)


def test_slugs():
    assert [slug(name) for name in ("google-bert/bert-base-uncased", "/a/b c/", "minilm")] == [
        "bert-base-uncased",
        "b-c",
        "minilm",
    ]
