"""Partial fine-tuning: the top layers and the head train, everything below is frozen."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from unfreeze.strategies.anatomy import Anatomy
from unfreeze.strategies.base import Strategy


class Partial(Strategy):
    """The top ``layers`` layers train; as many as the encoder has means all but the embeddings."""

    kind: ClassVar[str] = "partial"
    default_learning_rate: ClassVar[float] = 1e-4

    layers: int = Field(2, ge=1)

    @property
    def slug(self) -> str:
        """``partial-2``."""
        return f"partial-{self.layers}"

    def select(self, anatomy: Anatomy) -> None:
        """Unfreeze the top layers and what stands between the last one and the head."""
        anatomy.check_layers(self.layers, self.slug)
        for index in anatomy.top(self.layers):
            anatomy.layers[index].requires_grad_(True)
        for module in anatomy.modules(anatomy.final_names):
            module.requires_grad_(True)
