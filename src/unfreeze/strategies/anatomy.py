"""Where the parts of a classifier are: its layers, its head, its attention projections, for each encoder family.

A classifier is transformers' own ``…ForSequenceClassification``; nothing here copies or changes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from unfreeze.errors import EncoderError, StudyError, nearest

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Family:
    """Module names of one family; all but ``layers`` are relative to one layer.

    ``down`` is the last linear map of the feed-forward block. ``attended`` is the last module whose output holds what
    attention mixed and from which each token goes its own way; ModernBERT's adds a residual of all tokens after it,
    in which the first keeps its value. ModernBERT computes query, key and value in one
    matrix, so its three names are the same and ``query-value`` there adapts the key as well.
    """

    layers: str
    query: str
    key: str
    value: str
    output: str
    down: str
    attended: str


_BERT = Family(
    "encoder.layer",
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "output.dense",
    "attention",
)

# By the `model_type` of the configuration.
FAMILIES = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "electra": _BERT,
    "distilbert": Family(
        "transformer.layer",
        "attention.q_lin",
        "attention.k_lin",
        "attention.v_lin",
        "attention.out_lin",
        "ffn.lin2",
        "sa_layer_norm",
    ),
    "mpnet": Family(
        "encoder.layer",
        "attention.attn.q",
        "attention.attn.k",
        "attention.attn.v",
        "attention.attn.o",
        "output.dense",
        "attention",
    ),
    "deberta-v2": Family(
        "encoder.layer",
        "attention.self.query_proj",
        "attention.self.key_proj",
        "attention.self.value_proj",
        "attention.output.dense",
        "output.dense",
        "attention",
    ),
    "modernbert": Family("layers", "attn.Wqkv", "attn.Wqkv", "attn.Wqkv", "attn.Wo", "mlp.Wo", "mlp_norm"),
}


class Anatomy:
    """A classifier and the names of its parts.

    Args:
        classifier: a ``PreTrainedModel`` with a sequence-classification head.
        name: what messages call the encoder.

    Raises:
        EncoderError: its family is not supported.
    """

    def __init__(self, classifier: Any, name: str) -> None:
        model_type = classifier.config.model_type
        if model_type not in FAMILIES:
            raise EncoderError(
                f"encoder '{name}': family '{model_type}' is not supported{nearest(model_type, FAMILIES)}"
            )
        self.classifier = classifier
        self.name = name
        self.family = FAMILIES[model_type]
        self.base_prefix: str = classifier.base_model_prefix

    @property
    def base(self) -> Any:
        """The encoder inside the classifier."""
        return getattr(self.classifier, self.base_prefix)

    @cached_property
    def layers_name(self) -> str:
        """Full name of the list of layers, e.g. ``bert.encoder.layer``."""
        return f"{self.base_prefix}.{self.family.layers}"

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers, lowest first."""
        layers: nn.ModuleList = self.classifier.get_submodule(self.layers_name)
        return layers

    @cached_property
    def head_names(self) -> tuple[str, ...]:
        """Modules above the encoder, lowest first: its pooler if it has one, then all that is not the encoder."""
        pooler = [f"{self.base_prefix}.pooler"] if getattr(self.base, "pooler", None) is not None else []
        return (*pooler, *(name for name, _ in self.classifier.named_children() if name != self.base_prefix))

    @cached_property
    def final_names(self) -> tuple[str, ...]:
        """Modules of the encoder between its last layer and the head (ModernBERT's final norm)."""
        return tuple(f"{self.base_prefix}.{name}" for name, _ in self.base.named_children() if name == "final_norm")

    def modules(self, names: Sequence[str]) -> Iterator[nn.Module]:
        """The modules of these full names."""
        return (self.classifier.get_submodule(name) for name in names)

    @property
    def pools_first_token(self) -> bool:
        """Whether the head reads the first token's state alone ([CLS]) rather than the mean over tokens."""
        return getattr(self.classifier.config, "classifier_pooling", "cls") == "cls"

    def check_layers(self, wanted: int, strategy: str) -> None:
        """Raise StudyError where a strategy asks for more layers than there are."""
        if wanted > len(self.layers):
            raise StudyError(
                f"{strategy}: layers: {wanted} asked for, but encoder '{self.name}' has {len(self.layers)}; "
                f"choose 1 to {len(self.layers)}"
            )

    def top(self, layers: int | None) -> range:
        """Indices of the top ``layers`` layers; all of them for None."""
        return range(len(self.layers) - (layers or len(self.layers)), len(self.layers))

    def linear_names(self, targets: str | Sequence[str], layers: int | None = None) -> list[str]:
        """Full names of the linear maps that ``targets`` means in the top ``layers`` layers.

        Args:
            targets: ``query-value``, ``attention`` (query, key, value and output), ``all-linear`` (those and the
                feed-forward maps), or names that end a module's name within a layer, e.g. ``["attn.Wo"]``.
            layers: how many layers from the top; None for all.

        Raises:
            StudyError: a name matches no linear map.
        """
        family = self.family
        named = {
            "query-value": (family.query, family.value),
            "attention": (family.query, family.key, family.value, family.output),
            "all-linear": ("",),
        }
        if isinstance(targets, str) and targets not in named:
            raise StudyError(f"lora: targets: '{targets}' is not known{nearest(targets, named)}, or a list of names")
        wanted = named[targets] if isinstance(targets, str) else tuple(targets)
        inside = [name for name, module in self.layers[0].named_modules() if type(module).__name__ == "Linear"]
        for ending in wanted:
            if not any(_ends(name, ending) for name in inside):
                raise StudyError(
                    f"lora: targets: '{ending}' matches no linear map of encoder '{self.name}'{nearest(ending, inside)}"
                )
        chosen = [name for name in inside if any(_ends(name, ending) for ending in wanted)]
        # A later layer may lack one (ModernBERT's first has no attention norm), so each is looked up where it stands.
        return [f"{self.layers_name}.{index}.{name}" for index in self.top(layers) for name in chosen]

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that train, by full name."""
        return {name: p for name, p in self.classifier.named_parameters() if p.requires_grad}

    def prefix_depth(self) -> int:
        """How many layers from the bottom are a constant of the input: below the lowest one that trains, 0 for none."""
        depth = len(self.layers)
        above = (*self.head_names, *self.final_names)
        for name in self.trainable():
            if name.startswith(f"{self.layers_name}."):
                depth = min(depth, int(name.removeprefix(f"{self.layers_name}.").split(".")[0]))
            elif not any(name.startswith(f"{module}.") for module in above):
                return 0
        return depth


def _ends(name: str, ending: str) -> bool:
    """Whether a dotted name ends in these whole parts; attention.output.dense is not output.dense of the layer."""
    return not ending or name == ending or ("." not in ending and name.endswith(f".{ending}"))
