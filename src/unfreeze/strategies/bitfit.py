"""BitFit: only the encoder's bias terms and the head train (Ben Zaken et al., 2022, arXiv:2106.10199)."""

from __future__ import annotations

from typing import ClassVar

from unfreeze.errors import StudyError
from unfreeze.strategies.anatomy import Anatomy
from unfreeze.strategies.base import Strategy


class BitFit(Strategy):
    """Every bias of the encoder trains, those of its layer norms included."""

    kind: ClassVar[str] = "bitfit"
    default_learning_rate: ClassVar[float] = 1e-3

    def select(self, anatomy: Anatomy) -> None:
        """Unfreeze the biases."""
        biases = [p for name, p in anatomy.base.named_parameters() if name.endswith("bias")]
        if not biases:
            raise StudyError(f"bitfit: encoder '{anatomy.name}' has no bias terms; choose another strategy for it")
        for bias in biases:
            bias.requires_grad_(True)
