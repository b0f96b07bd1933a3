"""LoRA: a low-rank update beside frozen linear maps (Hu et al., 2021, arXiv:2106.09685), through PEFT."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from unfreeze.errors import StudyError
from unfreeze.strategies.anatomy import Anatomy
from unfreeze.strategies.base import Strategy


def _names(value: Any) -> Any:
    if isinstance(value, str) or (isinstance(value, list | tuple) and value):
        return value
    raise ValueError(f"a name or a list of names, as in [query, key], not {value!r}")


class LoRA(Strategy):
    """Low-rank adapters on the ``targets`` of the top ``layers`` layers (all layers when left out).

    Attributes:
        rank: r, the rank of the update.
        alpha: the update is scaled by alpha / rank (alpha / √rank with ``rslora``).
        dropout: probability on the adapter's input.
        targets: ``query-value``, ``attention``, ``all-linear`` or names within a layer; see
            :meth:`~unfreeze.strategies.anatomy.Anatomy.linear_names`.
        layers: how many layers from the top carry adapters.
        rslora: rank-stabilised scaling (Kalajdzievski, 2023, arXiv:2312.03732).
        dora: weight-decomposed adaptation (Liu et al., 2024, arXiv:2402.09353).
        init: ``default``, or ``pissa``: from the principal singular vectors (Meng et al., 2024, arXiv:2404.02948).
    """

    kind: ClassVar[str] = "lora"
    default_learning_rate: ClassVar[float] = 5e-4

    rank: int = Field(8, ge=1)
    alpha: float = Field(16, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: Annotated[str | tuple[str, ...], BeforeValidator(_names)] = "query-value"
    layers: int | None = Field(None, ge=1)
    rslora: bool = False
    dora: bool = False
    init: Literal["default", "pissa"] = "default"

    @property
    def slug(self) -> str:
        """``lora-r8-query-value``, then every option that departs from plain LoRA on all layers."""
        targets = self.targets if isinstance(self.targets, str) else "+".join(self.targets)
        parts = [f"lora-r{self.rank}-{targets}"]
        parts += [f"top{self.layers}"] if self.layers else []
        parts += [name for name in ("rslora", "dora") if getattr(self, name)]
        parts += [self.init] if self.init != "default" else []
        return "-".join(parts)

    def select(self, anatomy: Anatomy) -> None:
        """Put adapters beside the targets; PEFT makes them trainable."""
        from peft import LoraConfig, inject_adapter_in_model

        if self.layers:
            anatomy.check_layers(self.layers, self.slug)
        names = anatomy.linear_names(self.targets, self.layers)
        width = min(anatomy.classifier.get_submodule(name).weight.shape[0] for name in names)
        if self.rank > width:
            raise StudyError(f"{self.slug}: rank {self.rank} is above the width {width} of encoder '{anatomy.name}'")
        # PiSSA needs the weights' singular vectors; where only shapes are asked for there are none.
        pissa = self.init == "pissa" and anatomy.classifier.device.type != "meta"
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=names,
            use_rslora=self.rslora,
            use_dora=self.dora,
            init_lora_weights="pissa" if pissa else True,
        )
        inject_adapter_in_model(config, anatomy.classifier)

    def rewritten(self, anatomy: Anatomy) -> list[str]:
        """PiSSA leaves the residual of each target in place of its weight."""
        if self.init != "pissa":
            return []
        return [f"{name}.base_layer.weight" for name in anatomy.linear_names(self.targets, self.layers)]
