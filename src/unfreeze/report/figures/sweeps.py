"""Which strategies are steps of one sweep: partial fine-tuning by depth, LoRA by rank."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]

# The option that a line runs through, and what stands before it in a strategy's name.
SWEPT = {"partial": ("layers", "partial-"), "lora": ("rank", "lora-r")}
FEWEST = 3  # strategies that make a line; two are a pair


@dataclass(frozen=True)
class Series:
    """Strategies of one encoder that a plot draws as one.

    Attributes:
        name: of the strategy, or of all: ``partial-0…6``.
        members: indices into the leaderboard, by step.
        steps: the depth or rank of each member; empty for a strategy that stands alone.
    """

    name: str
    members: tuple[int, ...]
    steps: tuple[int, ...] = ()


def series_of(leaderboard: Sequence[Row]) -> list[Series]:
    """Cut the leaderboard into sweeps and single strategies, each where its best member stands.

    Strategies are of one sweep where only depth or rank differs; LoRA's alpha may go with its rank. Head-only is
    partial fine-tuning of no layer.

    Args:
        leaderboard: rows with ``encoder``, ``strategy`` and ``options``.
    """
    families: dict[tuple[str, str, str], list[int]] = {}
    for index, row in enumerate(leaderboard):
        families.setdefault(_family(row), []).append(index)
    drawn = []
    for (_, kind, _), members in families.items():
        steps = [_step(leaderboard[index], kind) for index in members]
        # One depth or rank twice, as with two recipes, is no line.
        if kind in SWEPT and len(steps) == len(set(steps)) >= FEWEST:
            ordered = sorted(zip(steps, members, strict=True))
            name = _name(leaderboard[ordered[-1][1]]["strategy"], kind, sorted(steps))
            drawn.append(Series(name, tuple(index for _, index in ordered), tuple(step for step, _ in ordered)))
        else:
            drawn += [Series(leaderboard[index]["strategy"], (index,)) for index in members]
    return sorted(drawn, key=lambda series: min(series.members))


def _family(row: Row) -> tuple[str, str, str]:
    """Encoder, kind, and every option that is the same throughout a sweep."""
    kind = "partial" if row["options"]["kind"] == "head-only" else row["options"]["kind"]
    swept = ("kind", "alpha", SWEPT[kind][0]) if kind in SWEPT else ("kind",)
    fixed = {key: value for key, value in row["options"].items() if key not in swept}
    return row["encoder"], kind, json.dumps(fixed, sort_keys=True)


def _step(row: Row, kind: str) -> int:
    return int(row["options"].get(SWEPT[kind][0], 0)) if kind in SWEPT else 0


def _name(strategy: str, kind: str, steps: Sequence[int]) -> str:
    before = SWEPT[kind][1]
    return strategy.replace(f"{before}{steps[-1]}", f"{before}{steps[0]}…{steps[-1]}", 1)
