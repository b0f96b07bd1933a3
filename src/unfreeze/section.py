"""What every part of a study is: keys and values that are checked, and faults that say what to write instead."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from unfreeze.errors import StudyError, nearest

T = TypeVar("T", bound=BaseModel)

# What YAML calls the types that pydantic names in Python's words.
SECTION, LIST = "keys and values are wanted", "a list is wanted, as in [a, b]"
WANTED = {"model_type": SECTION, "model_attributes_type": SECTION, "dict_type": SECTION, "tuple_type": LIST}
WANTED["too_short"] = "one at least is wanted"

# Of everything that is drawn at random: below 0 or above, one generator or another refuses it in the middle of a grid.
Seed = Annotated[int, Field(ge=0, lt=2**32)]


def _paths(value: Any) -> Any:
    splits = ("train", "validation", "test")
    if value is None or isinstance(value, str) or (isinstance(value, dict) and set(value) <= set(splits)):
        return value
    raise ValueError(f"a path, or one for each of {', '.join(splits)} as in {{train: …, test: …}}; not {value!r}")


Paths = Annotated[str | dict[Literal["train", "validation", "test"], str] | None, BeforeValidator(_paths)]


class Loader(yaml.SafeLoader):
    """YAML 1.1 reads ``3e-4`` as a string; people who write learning rates mean a number.

    PyYAML takes the last of two equal keys; whoever wrote both means both.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Keys and values, no key twice."""
        written = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for twin in (key for key, times in Counter(written).items() if times > 1):
            raise yaml.MarkedYAMLError(problem=f"'{twin}' stands there twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


class Section(BaseModel):
    """A part of a study: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def parse_section(model: type[T], raw: Any, where: str) -> T:
    """Validate ``raw``; a fault becomes one line with its place and, for an unknown key, the nearest right one.

    Raises:
        StudyError: with one line for each fault.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        # A bad item also makes pydantic call its tuple too short; the item's own fault says it.
        faults = [fault for fault in error.errors() if not (fault["type"] == "too_short" and fault["input"])]
        raise StudyError(*(f"{where}: {_fault(model, fault)}" for fault in faults)) from None


def _fault(model: type[BaseModel], fault: Any) -> str:
    # Tags of the split union stand in `loc` as if they were keys: {random: …} shows as split.random.random.
    loc = [part for part, after in zip(fault["loc"], (*fault["loc"], None)[1:], strict=True) if part != after]
    place = ".".join(str(part) for part in loc).removesuffix(".official")
    if fault["type"] == "extra_forbidden":
        return f"unknown key '{place}'{nearest(str(loc[-1]), _keys_at(model, fault['loc'][:-1]))}"
    if fault["type"] == "missing":
        return f"'{place}' is missing"
    message = WANTED.get(fault["type"], fault["msg"].removeprefix("Value error, "))
    said = message if fault["type"] == "value_error" else f"{message}, not {fault['input']!r}"
    return f"{place}: {said}" if place else said


def _keys_at(model: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """Field names of the section at ``loc``, found through the annotations on the way to it."""
    here = model
    for part in loc:
        inner = list(_sections(here.model_fields[str(part)].annotation)) if part in here.model_fields else []
        if inner:
            # Of a union (the kinds of split), the one whose key was written.
            here = next((section for section in inner if set(section.model_fields) & set(loc)), inner[0])
    return list(here.model_fields)


def _sections(annotation: Any) -> Iterator[type[Section]]:
    """Every section that an annotation admits."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for inner in get_args(annotation):
        yield from _sections(inner)
