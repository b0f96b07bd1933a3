"""What users write: a study in YAML, checked key by key before anything is spent.

``load_study`` reads a file or a preset into a :class:`Study`. What each strategy's own options mean is known to
:mod:`unfreeze.strategies`; :func:`unfreeze.grid.plan.expand` turns a study into its :class:`RunSpec` list.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from unfreeze.errors import StudyError, nearest
from unfreeze.recipe import CompareAt, Recipe, StudyRecipe, Tuning
from unfreeze.section import Loader, Paths, Section, Seed, parse_section

EQUIVALENCE = 0.005  # half a point of accuracy: below what one would pay for with a slower or larger classifier


class Columns(Section):
    """Which columns of the user's own data hold what. ``text`` is another name for ``premise``."""

    premise: str | None = None
    hypothesis: str | None = None
    text: str | None = None
    label: str | None = None
    group: str | None = None

    @model_validator(mode="after")
    def _one_first_text(self) -> Columns:
        if self.text and (self.premise or self.hypothesis):
            raise ValueError("text is for single texts; a pair has premise and hypothesis")
        return self


def _size(value: float) -> float:
    if not (0 < value < 1 or (value >= 1 and value == int(value))):
        raise ValueError(f"a share between 0 and 1 or a whole number of examples, not {value:g}")
    return value if value < 1 else int(value)


# A whole number is a count of examples, a number below 1 a share of them.
Size = Annotated[float, AfterValidator(_size)]


class SplitSizes(Section):
    """How much of the pool becomes validation and test; the rest trains."""

    validation: Size = 0.1
    test: Size = 0.2


class RandomSplit(Section):
    """Stratified by label, at random."""

    random: SplitSizes


class GroupedSplit(Section):
    """Like random, but examples of one group (a premise, or the group column) stay together."""

    grouped: SplitSizes


def _split_kind(value: Any) -> str | None:
    if isinstance(value, dict):
        return next((kind for kind in ("grouped", "random") if kind in value), None)
    return "official" if isinstance(value, str) else type(value).__name__.removesuffix("Split").lower()


Split = Annotated[
    Annotated[Literal["official"], Tag("official")]
    | Annotated[RandomSplit, Tag("random")]
    | Annotated[GroupedSplit, Tag("grouped")],
    Discriminator(
        _split_kind,
        custom_error_type="split",
        custom_error_message="official, or sizes as in {random: {test: 0.2}} or {grouped: {test: 0.2}}",
    ),
]


class DataSpec(Section):
    """Where the examples come from and how they are split.

    Attributes:
        dataset: ``captions``, ``snli``, ``files`` or ``hub``.
        path: a file or folder, a hub id, or one path for each split.
        config: the configuration of a hub dataset that has several.
        columns: column names of the user's own data.
        split: ``official``, ``{random: {…}}`` or ``{grouped: {…}}``; left out, official where the source has splits.
        max_train_pairs: train on a stratified sample of this many examples.
        max_length: tokens above which a pair is truncated.
        pairs: size of the generated ``captions`` corpus.
        seed: of the split and the sample; the seeds of training are the study's own.
    """

    dataset: str = "captions"
    path: Paths = None
    config: str | None = None
    columns: Columns = Columns()
    split: Split | None = None
    max_train_pairs: int | None = Field(None, ge=2)
    max_length: int = Field(128, ge=4)
    pairs: int = Field(6000, ge=60)
    seed: int = 0


# YAML reads the label 0 as a number.
Label = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int) else value)]


class EvaluateOn(Section):
    """A further labelled set that every run answers after training: of a source with splits, its test split.

    ``labels`` maps the set's labels to the study's, or to several that it merges, as in
    ``{non-entailment: [neutral, contradiction]}``; left out, both have the same names.
    """

    dataset: str = "files"
    path: Paths = None
    config: str | None = None
    columns: Columns = Columns()
    labels: dict[Label, Label | tuple[Label, ...]] | None = None


class Published(Section):
    """Figures somebody else published for this combination; shown beside ours, never part of a run."""

    accuracy: float | None = None
    loss: float | None = None
    source: str = ""


class StrategyEntry(Section):
    """One strategy of the grid as written: ``head-only`` or ``{partial: {layers: 2}, recipe: {…}}``."""

    kind: str
    options: dict[str, Any] = Field(default_factory=dict)
    recipe: StudyRecipe = StudyRecipe()
    encoders: tuple[str, ...] | None = Field(None, min_length=1)
    published: Published | None = None


def _strategy_entry(value: Any) -> Any:
    if isinstance(value, str):
        return {"kind": value}
    if not isinstance(value, dict) or "kind" in value:
        return value
    rest = {key: value[key] for key in ("recipe", "encoders", "published") if key in value}
    kinds = [key for key in value if key not in rest]
    if len(kinds) != 1:
        raise ValueError(
            "a strategy names one kind, as in {partial: {layers: 2}, recipe: {…}}; "
            f"this one names {' and '.join(map(str, kinds)) or 'none'}"
        )
    options = value[kinds[0]] or {}
    if not isinstance(options, dict):
        raise ValueError(f"the options of {kinds[0]} are keys and values, as in {{partial: {{layers: 2}}}}")
    return {"kind": kinds[0], "options": options, **rest}


class Study(Section):
    """A grid of encoders × strategies × seeds on one dataset.

    Attributes:
        compare_at: what every run may spend: equal steps, seconds, memory or FLOPs.
        tuning: the budget of what is left to validation (``learning_rate: tune``).
        equivalence: a difference in test accuracy smaller than this share does not matter.
        baselines: also show what the majority class reaches, and logistic regression on the encoder's frozen
            embeddings: of all of the text and, where there is one, of the hypothesis alone.
        evaluate_on: further labelled sets by name; a new one trains nothing again.
    """

    name: str = Field("study", pattern=r"^[A-Za-z0-9][\w.-]*$")
    data: DataSpec = DataSpec()
    encoders: tuple[str, ...] = Field(("minilm",), min_length=1)
    strategies: tuple[Annotated[StrategyEntry, BeforeValidator(_strategy_entry)], ...] = Field(min_length=1)
    recipe: StudyRecipe = StudyRecipe()
    compare_at: CompareAt = CompareAt(steps=None)
    tuning: Tuning = Tuning()
    seeds: tuple[Seed, ...] = Field((0,), min_length=1)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    equivalence: float = Field(EQUIVALENCE, ge=0, lt=1)
    baselines: bool = True
    evaluate_on: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")], EvaluateOn] = Field(default_factory=dict)
    mute: tuple[Annotated[str, Field(pattern=r"^UNF\d{3}$")], ...] = ()

    @model_validator(mode="after")
    def _each_strategy_once(self) -> Study:
        written = [entry.model_dump(exclude_unset=True, exclude={"published"}) for entry in self.strategies]
        twins = [entry["kind"] for number, entry in enumerate(written) if entry in written[:number]]
        if twins:
            raise ValueError(f"strategies: {', '.join(twins)}: the same stands there twice")
        return self


class RunSpec(Section):
    """Everything that decides what a run computes: the source of its hash, so that it never runs twice.

    Attributes:
        data_fingerprint: of the split data (:attr:`unfreeze.records.Dataset.fingerprint`), wherever they lie.
        is_pair: whether examples are sentence pairs rather than single texts.
        strategy: ``kind`` and every option, defaults filled in.
        strategy_slug: the strategy's short name in paths, e.g. ``lora-r8-query-value``.
        recipe: complete, learning rate included.
    """

    dataset: str
    data_fingerprint: str
    labels: tuple[str, ...]
    is_pair: bool
    max_length: int
    encoder: str
    strategy: dict[str, Any]
    strategy_slug: str
    recipe: Recipe
    seed: int

    @property
    def run_id(self) -> str:
        """``<encoder>--<strategy>--s<seed>--<hash8>``, the run's folder name."""
        spec = self.model_dump(mode="json")
        if self.recipe.max_steps is None:
            del spec["recipe"]["max_steps"]  # runs that were hashed before there was this key keep their folders
        hash8 = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:8]
        return f"{slug(self.encoder)}--{self.strategy_slug}--s{self.seed}--{hash8}"


def slug(name: str) -> str:
    """Shorten an encoder's id or path to what tables and folders call it: its last part."""
    return re.sub(r"[^\w.-]+", "-", name.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1])


def preset_names() -> tuple[str, ...]:
    """Names of the studies that ship with the package."""
    folder = resources.files("unfreeze") / "presets"
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def study_text(source: str | Path) -> str:
    """The YAML text of a study file or preset.

    Raises:
        StudyError: it is neither.
    """
    path = Path(source)
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise StudyError(f"{path}: cannot be read as text ({error}); a study is a UTF-8 YAML file") from None
    if str(source) in preset_names():
        return (resources.files("unfreeze") / "presets" / f"{source}.yaml").read_text(encoding="utf-8")
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        raise StudyError(f"{source}: no such file")
    raise StudyError(f"{source}: neither a file nor a preset{nearest(str(source), preset_names())}")


def load_study(source: str | Path, overrides: Sequence[str] = ()) -> Study:
    """Read a study file or preset and apply ``key.path=value`` overrides.

    Raises:
        StudyError: with one line for each thing that is wrong.
    """
    try:
        raw = yaml.load(study_text(source), Loader)
    except yaml.YAMLError as error:
        raise StudyError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise StudyError(f"{source}: a study is keys and values, as in 'strategies: [head-only]'")
    for override in overrides:
        _apply_override(raw, override)
    return parse_section(Study, raw, where=str(source))


def dump_study(study: Study) -> str:
    """The study as YAML that :func:`load_study` reads back to an equal study."""
    content = study.model_dump(mode="json", exclude_unset=True)
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _apply_override(raw: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals:
        raise StudyError(f"--set {override}: write key=value, as in --set recipe.epochs=1")
    *parents, last = key.strip().split(".")
    section: Any = raw
    for parent in parents:
        section = section.setdefault(parent, {}) if isinstance(section, dict) else None
    if not isinstance(section, dict):
        raise StudyError(f"--set {override}: '{key}' is not a key of a section; lists are replaced whole")
    section[last] = yaml.load(value, Loader)
