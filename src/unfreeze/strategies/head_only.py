"""Only the head trains, on the encoder's frozen states (linear probing, where the head is one layer)."""

from __future__ import annotations

from typing import ClassVar

from unfreeze.strategies.anatomy import Anatomy
from unfreeze.strategies.base import Strategy


class HeadOnly(Strategy):
    """Nothing of the encoder trains."""

    kind: ClassVar[str] = "head-only"
    default_learning_rate: ClassVar[float] = 1e-3

    def select(self, anatomy: Anatomy) -> None:
        """Leave the whole encoder frozen."""
