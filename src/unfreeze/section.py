"""What every part of a study is: keys and values that are checked, and faults that say what to write instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from unfreeze.errors import StudyError, nearest

T = TypeVar("T", bound=BaseModel)


class Section(BaseModel):
    """A part of a study: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
    loc = [part for part, after in zip(fault["loc"], (*fault["loc"][1:], None), strict=True) if part != after]
    place = ".".join(str(part) for part in loc).removesuffix(".official")
    if fault["type"] == "extra_forbidden":
        return f"unknown key '{place}'{nearest(str(loc[-1]), _keys_at(model, fault['loc'][:-1]))}"
    if fault["type"] == "missing":
        return f"'{place}' is missing"
    message = fault["msg"].removeprefix("Value error, ")
    return f"{place}: {message}, not {fault['input']!r}" if fault["type"] != "value_error" else f"{place}: {message}"


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
