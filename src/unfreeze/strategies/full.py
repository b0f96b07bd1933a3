"""Everything trains: encoder, embeddings and head."""

from __future__ import annotations

from typing import ClassVar

from unfreeze.strategies.anatomy import Anatomy
from unfreeze.strategies.base import Strategy


class Full(Strategy):
    """Full fine-tuning."""

    kind: ClassVar[str] = "full"
    default_learning_rate: ClassVar[float] = 5e-5

    def select(self, anatomy: Anatomy) -> None:
        """Unfreeze the whole encoder."""
        anatomy.classifier.requires_grad_(True)
