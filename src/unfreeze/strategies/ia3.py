"""(IA)³: learned vectors rescale keys, values and feed-forward states (Liu et al., 2022, arXiv:2205.05638)."""

from __future__ import annotations

from typing import ClassVar

from unfreeze.strategies.anatomy import Anatomy
from unfreeze.strategies.base import Strategy


class IA3(Strategy):
    """One vector on each key, value and feed-forward map of every layer, through PEFT."""

    kind: ClassVar[str] = "ia3"
    default_learning_rate: ClassVar[float] = 3e-3

    def select(self, anatomy: Anatomy) -> None:
        """Put the vectors in; PEFT makes them trainable."""
        from peft import IA3Config, inject_adapter_in_model

        family = anatomy.family
        config = IA3Config(
            target_modules=anatomy.linear_names([family.key, family.value, family.down]),
            feedforward_modules=anatomy.linear_names([family.down]),
        )
        inject_adapter_in_model(config, anatomy.classifier)
