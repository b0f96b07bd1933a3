"""What every strategy is: options that a study may set, and the choice of what trains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from unfreeze.section import Section
from unfreeze.strategies.anatomy import Anatomy


class Strategy(Section, ABC):
    """Decides what trains; fields are its options. How deep the frozen prefix reaches follows from what trains.

    Attributes:
        kind: its name in a study.
        default_learning_rate: used where neither the strategy's nor the study's recipe names one.
    """

    kind: ClassVar[str]
    default_learning_rate: ClassVar[float]

    @property
    def slug(self) -> str:
        """Short name in tables and folders, options that matter included."""
        return self.kind

    @abstractmethod
    def select(self, anatomy: Anatomy) -> None:
        """Make the encoder's share of what trains trainable; everything arrives frozen.

        Raises:
            StudyError: the options do not fit this encoder.
        """

    def apply(self, anatomy: Anatomy) -> None:
        """Freeze the classifier, then let the strategy's choice and the head train.

        Raises:
            StudyError: the options do not fit this encoder.
        """
        anatomy.classifier.requires_grad_(False)
        self.select(anatomy)
        for module in anatomy.modules(anatomy.head_names):
            module.requires_grad_(True)

    def rewritten(self, anatomy: Anatomy) -> list[str]:
        """Names of frozen tensors that :meth:`select` changed, which a checkpoint must therefore carry."""
        del anatomy
        return []
