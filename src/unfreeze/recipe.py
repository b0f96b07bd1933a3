"""How a run is trained, what of it a study leaves to validation, and what all strategies may spend alike."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    ByteSize,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from unfreeze.section import Section, Seed

# Of a strategy on an encoder, where a study does not say: every grid that is common is run whole.
TRIALS = 12


class Recipe(Section):
    """Optimiser hyperparameters. Left out, ``learning_rate`` is the strategy's own default.

    Attributes:
        max_steps: optimiser steps after which training ends within its epochs; the last one may be cut short.
        batch_size: pairs per optimiser step.
        gradient_accumulation: parts a batch is split into where it does not fit in memory.
        warmup: share of all steps over which the learning rate rises from zero.
        head_dropout: probability in the head; null keeps the encoder's own.
        max_grad_norm: gradients are clipped to this global norm; null never clips.
        patience: evaluations without a better validation accuracy after which training stops; null never stops.
    """

    epochs: int = Field(3, ge=1)
    max_steps: int | None = Field(None, ge=1)
    batch_size: int = Field(32, ge=1)
    gradient_accumulation: int = Field(1, ge=1)
    learning_rate: float | None = Field(None, gt=0)
    warmup: float = Field(0.1, ge=0, lt=1)
    schedule: Literal["linear", "cosine"] = "linear"
    weight_decay: float = Field(0.01, ge=0)
    head_dropout: float | None = Field(0.1, ge=0, lt=1)
    max_grad_norm: float | None = Field(1.0, gt=0)
    patience: int | None = Field(None, ge=1)
    precision: Literal["auto", "fp32", "bf16"] = "auto"


class StudyRecipe(Recipe):
    """A recipe as a study writes it: ``{tune: [1, 3]}`` leaves any key to validation, ``tune`` the learning rate."""

    _tuned: dict[str, Any] = PrivateAttr(default_factory=dict)  # as written

    @model_validator(mode="wrap")
    @classmethod
    def _take_out_tuned(cls, raw: Any, handler: ModelWrapValidatorHandler[StudyRecipe]) -> StudyRecipe:
        if isinstance(raw, Recipe):
            raw = raw.model_dump(exclude_unset=True)
        if not isinstance(raw, dict):
            return handler(raw)
        tuned = {key: value for key, value in raw.items() if key in cls.model_fields and is_tuned(value)}
        for key, value in tuned.items():
            for candidate in () if (key, value) == ("learning_rate", "tune") else candidates(key, value):
                handler({key: candidate})  # a fault is that of the key itself
        recipe = handler({key: value for key, value in raw.items() if key not in tuned})
        recipe._tuned = tuned
        return recipe

    @model_serializer(mode="wrap")
    def _put_back_tuned(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {**handler(self), **self._tuned}

    @property
    def tuned(self) -> dict[str, Any]:
        """What is left to validation, as written."""
        return self._tuned


def is_tuned(value: Any) -> bool:
    """Whether a value of a recipe or of a strategy's options is left to validation."""
    return value == "tune" or (isinstance(value, dict) and list(value) == ["tune"])


def candidates(key: str, value: Any) -> tuple[Any, ...]:
    """The values of ``{tune: [...]}``, each once.

    Raises:
        ValueError: there is none.
    """
    named = value["tune"] if isinstance(value, dict) else None
    if not isinstance(named, list | tuple) or not named:
        raise ValueError(f"{key}: name the values to try, as in {{tune: [1, 3]}}")
    return tuple(one for index, one in enumerate(named) if one not in named[:index])


class Tuning(Section):
    """What every strategy may try on each encoder before the grid is run; the same for all.

    Attributes:
        trials: runs; left out, as many as the strategy with most candidates has, at most 12.
        seconds: of training and validation on the device, instead of a number of runs; the last run is finished.
        seed: of the trials. The winners run on the study's own seeds, which must be others.
    """

    trials: int | None = Field(None, ge=1)
    seconds: float | None = Field(None, gt=0)
    seed: Seed = 1000

    @model_validator(mode="after")
    def _one_budget(self) -> Tuning:
        if self.trials and self.seconds:
            raise ValueError("a budget is trials or seconds, not both")
        return self


class CompareAt(Section):
    """What strategies have in common when they are compared: one of these keys, bare or with an amount for each run.

    ``seconds`` and ``flops`` mean training alone. ``memory`` is that of weights, gradients, optimiser state and what
    the largest batch saves for its backward pass. Bare, each is what the dearest strategy of an encoder takes by its
    recipe; bare ``steps`` are those of each recipe.
    """

    steps: int | None = Field(None, ge=1)
    seconds: float | None = Field(None, gt=0)
    memory: ByteSize | None = Field(None, gt=0)
    flops: float | None = Field(None, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, raw: Any) -> Any:
        return {raw: None} if isinstance(raw, str) else raw

    @model_validator(mode="after")
    def _one_kind(self) -> CompareAt:
        if len(self.model_fields_set) != 1:
            raise ValueError(
                "name one of steps, seconds, memory and flops, alone or with an amount, as in {seconds: 600}"
            )
        return self

    @model_serializer
    def _as_written(self) -> Any:
        return self.kind if self.amount is None else {self.kind: self.amount}

    @property
    def kind(self) -> str:
        """``steps``, ``seconds``, ``memory`` or ``flops``."""
        (kind,) = self.model_fields_set
        return kind

    @property
    def amount(self) -> float | None:
        """Steps, seconds, bytes or floating-point operations of each run; None where recipes decide."""
        amount: float | None = getattr(self, self.kind)
        return amount

    @property
    def decides(self) -> tuple[str, ...]:
        """Keys of a recipe that follow from it."""
        if self.kind == "memory":
            return ("batch_size",)
        return ("epochs", "max_steps") if self.kind != "steps" or self.amount else ()
