"""Strategies: which parameters of a classifier train. One small file each and one entry in :data:`STRATEGIES`."""

from __future__ import annotations

from typing import Any

from unfreeze.errors import StudyError, nearest
from unfreeze.section import parse_section
from unfreeze.strategies.base import Strategy
from unfreeze.strategies.bitfit import BitFit
from unfreeze.strategies.full import Full
from unfreeze.strategies.head_only import HeadOnly
from unfreeze.strategies.ia3 import IA3
from unfreeze.strategies.lora import LoRA
from unfreeze.strategies.partial import Partial

STRATEGIES: tuple[type[Strategy], ...] = (BitFit, Full, HeadOnly, IA3, LoRA, Partial)

__all__ = ["STRATEGIES", "Strategy", "make_strategy"]


def make_strategy(kind: str, options: dict[str, Any]) -> Strategy:
    """Build a strategy from what a study says of it.

    Raises:
        StudyError: the kind or an option is unknown, or a value is out of range.
    """
    kinds = {strategy.kind: strategy for strategy in STRATEGIES}
    if kind not in kinds:
        raise StudyError(f"strategies: '{kind}' is not known{nearest(kind, kinds)}")
    return parse_section(kinds[kind], options, where=f"strategies: {kind}")
