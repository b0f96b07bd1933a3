"""The same classifier with less work: what does not reach the loss is left out, what is slow on this device replaced.

Modules stay transformers' and PEFT's own, and so do their parameters and names; what changes is how some of them
compute. Logits and gradients agree up to rounding, and dropout keeps its probability while its random bits differ.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.lora import Linear as LoRALinear
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from unfreeze.strategies.anatomy import Anatomy, Family
from unfreeze.training.device import Compute

SHORT_ATTENTION = "unfreeze_short"


def make_lean(anatomy: Anatomy, compute: Compute, keep: Collection[str] = (), *, every_token: bool = False) -> None:
    """Change how a classifier computes, in place.

    Args:
        anatomy: the classifier, its strategy applied.
        compute: device and arithmetic it will run in.
        keep: names of frozen tensors that must stay as they are, because a checkpoint holds them.
        every_token: whether the last layer's states of all tokens are wanted, not only what the head reads.
    """
    if compute.dtype != torch.float32:
        _cast_frozen(anatomy, compute.dtype, keep)
    backend = anatomy.classifier._supports_attention_backend
    if compute.device.type == "cpu":
        anatomy.classifier.set_attn_implementation(SHORT_ATTENTION if backend else "eager")
    if anatomy.pools_first_token and not every_token:
        _cut_last_layer(anatomy, backend)
    for parent in list(anatomy.classifier.modules()):
        if isinstance(parent, LoRALinear) and not parent.lora_variant:
            parent.forward = _LoRAForward(parent)
        if compute.device.type == "cpu":
            for name, child in parent.named_children():
                if type(child) is nn.Dropout:
                    setattr(parent, name, Dropout(child.p))


def _cast_frozen(anatomy: Anatomy, dtype: torch.dtype, keep: Collection[str]) -> None:
    """Frozen matrices once: autocast would cast them at every step (a tenth of a LoRA step on MiniLM)."""
    for name, module in anatomy.classifier.named_modules():
        if type(module) is nn.Linear and not module.weight.requires_grad and f"{name}.weight" not in keep:
            for parameter in module.parameters(recurse=False):
                if not parameter.requires_grad:
                    parameter.data = parameter.data.to(dtype)


@contextmanager
def cast_matrices(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Linear maps in another type for a while: without gradients autocast would cast them for every batch."""
    maps = (module for module in model.modules() if type(module) is nn.Linear)
    whole = {parameter: parameter.data for module in maps for parameter in module.parameters()}
    try:
        for parameter in whole:
            parameter.data = parameter.data.to(dtype)
        yield
    finally:
        for parameter, data in whole.items():
            parameter.data = data


def _cut_last_layer(anatomy: Anatomy, backend: bool) -> None:
    """Let only the first token pass the last layer's attention, and only it ask there where that is known how.

    Where the residual is added in a module that also holds attention's output map, all it does is the first token's;
    else it is added to every token alike: the first has its value and no other is looked at.
    """
    layer, family = anatomy.layers[-1], anatomy.family
    layer.get_submodule(family.attended).register_forward_hook(_first_token)
    within, after = (name.rpartition(".")[0] for name in (family.query, family.output))
    if within != after:
        layer.get_submodule(after).register_forward_pre_hook(lambda _, inputs: tuple(map(_first, inputs)))
    if backend and family.query != family.key:
        attention = layer.get_submodule(within)
        attention.forward = _FirstTokenAttention(layer, family)


class _FirstTokenAttention:
    """Forward pass of an attention layer in which the first token alone asks; all others only answer.

    Plain maps of keys and values are folded into the one query: ``q·(W h + b) = (Wᵀq)·h + q·b`` and
    ``Σ a (W h + b) = W (Σ a h) + b Σ a``, so that ``W`` meets one vector of a head and not every token. The heads then
    ask the states themselves, as so many queries of one head. A one is appended to each state, and ``b`` to ``W``.
    """

    def __init__(self, layer: nn.Module, family: Family) -> None:
        parts = (layer.get_submodule(name) for name in (family.query, family.key, family.value))
        self.query, self.key, self.value = parts
        owner = family.query.rpartition(".")[0]
        self.attention: Any = layer.get_submodule(owner)
        # DistilBERT's attention holds its output map, BERT's stands beside it.
        inside = family.output.startswith(f"{owner}.")
        self.output = layer.get_submodule(family.output) if inside else nn.Identity()
        self.folds = all(type(part) is nn.Linear and part.bias is not None for part in (self.key, self.value))

    def __call__(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **_: Any
    ) -> tuple[torch.Tensor, None]:
        query = self._heads(self.query(_first(hidden_states)))
        mask = None if attention_mask is None else attention_mask[:, :, :1]
        if not self.folds:
            answers = (self._heads(part(hidden_states)) for part in (self.key, self.value))
            return self.output(self._attend(query, *answers, mask).flatten(-2)), None
        asked = query[:, :, 0].transpose(0, 1) @ self._folded(self.key)  # (heads, batch, hidden + 1)
        states = F.pad(hidden_states.to(asked.dtype), (0, 1), value=1.0)[:, None]
        mixed = self._attend(asked.transpose(0, 1)[:, None], states, states, mask)
        values = mixed[:, :, 0].transpose(0, 1) @ self._folded(self.value).transpose(1, 2)
        return self.output(values.transpose(0, 1).flatten(-2)[:, None]), None

    def _heads(self, states: torch.Tensor) -> torch.Tensor:
        return states.view(*states.shape[:2], -1, self.attention.attention_head_size).transpose(1, 2)

    def _folded(self, part: Any) -> torch.Tensor:
        """Shape (heads, width, hidden + 1)."""
        weight = torch.cat([part.weight, part.bias[:, None]], dim=1)
        return weight.view(-1, self.attention.attention_head_size, weight.shape[1])

    def _attend(self, *states: Any) -> torch.Tensor:
        """Shape (batch, queries, heads, width)."""
        attention = self.attention
        mixed: torch.Tensor = ALL_ATTENTION_FUNCTIONS[attention.config._attn_implementation](
            attention, *states, dropout=attention.dropout.p if attention.training else 0.0, scaling=attention.scaling
        )[0]
        return mixed


def _first_token(_module: nn.Module, _inputs: Any, output: Any) -> Any:
    """Nothing after the last layer's attention needs any token but the first where the head reads it alone."""
    return (_first(output[0]), *output[1:]) if isinstance(output, tuple) else _first(output)


def _first(states: torch.Tensor) -> torch.Tensor:
    """The first token's, shape (batch, 1, hidden), contiguous.

    In inference torch copies the matrix that a view meets for every example: 50 of 63 ms of a batch behind a prefix.
    """
    return states[:, :1].contiguous()


class _LoRAForward:
    """PEFT's ``base(x) + B(A(dropout(x))) · scaling`` in one product less of the output's size, uncast."""

    def __init__(self, module: LoRALinear) -> None:
        (name,) = module.active_adapters
        self.base, self.dropout = module.base_layer, module.lora_dropout
        self.name, self.a, self.b, self.scaling = name, module.lora_A[name], module.lora_B[name], module.scaling[name]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        base = self.base(x)
        low = self.a(self.dropout[self.name](x))
        weight = self.b.weight.t()
        out = torch.addmm(base.flatten(0, -2), low.flatten(0, -2), weight, alpha=self.scaling)
        return out.view(base.shape)


# Random bits compared with a threshold are made as the sign of a difference of 15-bit integers, whose bits then mask
# those of 1 / (1 - p): torch's own bernoulli_ takes 2.7 ms for 330,000 values on one thread, this 0.5.
_BITS = {torch.bfloat16: torch.int16, torch.float32: torch.int32}


@cache
def _scale_bits(p: float, dtype: torch.dtype) -> int:
    return int(torch.tensor(1 / (1 - p), dtype=dtype).view(_BITS[dtype]))


def _multiplier(x: torch.Tensor, p: float) -> torch.Tensor:
    """0 with probability ``p`` (to 1/32768), else 1 / (1 - p), in the shape and type of ``x``."""
    words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    bits = words.view(torch.int16)[: x.numel()].view(x.shape)
    dropped = bits.bitwise_and_(0x7FFF).sub_(round(p * 0x8000)).bitwise_right_shift_(15)
    return dropped.bitwise_not_().to(_BITS[x.dtype]).bitwise_and_(_scale_bits(p, x.dtype)).view(x.dtype)


class Dropout(nn.Dropout):
    """Dropout whose random bits are made in bulk, for the CPU."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As :class:`torch.nn.Dropout`."""
        return input * _multiplier(input, self.p) if self.training and self.p else input


def short_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Plain attention for short sequences on a CPU.

    Args:
        module: the attention layer.
        query: shape (batch, heads, queries, width).
        key: shape (batch, heads, tokens, width).
        value: as ``key``.
        attention_mask: added to the scores, shape (batch, 1, queries, tokens) or what broadcasts to it.
        scaling: of the scores; width ** -0.5 if left out.
        dropout: probability on the attention weights.

    Returns:
        Shape (batch, queries, heads, width), and no weights.
    """
    del module
    scaling = scaling or query.shape[-1] ** -0.5
    mixed: torch.Tensor = _Attention.apply(query, key, value, attention_mask, scaling, dropout)  # type: ignore[no-untyped-call]
    return mixed.transpose(1, 2), None


class _Attention(torch.autograd.Function):
    """Attention with dropout on its weights, which are computed in float32 and kept in the states' own type.

    torch's bfloat16 softmax over some 30 keys takes four times as long as the float32 one with both conversions; kept
    in float32 the weights were two thirds of what LoRA's longest batches save (95 tokens, MiniLM). Written out, the
    backward pass has the products of the forward pass again: oneDNN prepares three for a shape and not six.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        scaling: float,
        p: float,
    ) -> torch.Tensor:
        ctx.shape, ctx.scaling = query.shape[:2], scaling
        query, key, value = (states.flatten(0, 1).contiguous() for states in (query, key, value))
        scores = _by_head(torch.bmm(query, key.transpose(1, 2)), ctx.shape)
        values = scores.float() * scaling if mask is None else torch.add(mask.float(), scores, alpha=scaling)
        weights = F.softmax(values, dim=-1).to(value.dtype).flatten(0, 1)
        multiplier = _multiplier(weights, p) if p else None
        ctx.save_for_backward(query, key, value, weights, multiplier)
        return _by_head(torch.bmm(_dropped(weights, multiplier), value), ctx.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, weights, multiplier = ctx.saved_tensors
        gradient = gradients[0].flatten(0, 1).contiguous()
        of_weights = _dropped(torch.bmm(gradient, value.transpose(1, 2)), multiplier).float()
        scores = torch._softmax_backward_data(of_weights, weights.float(), -1, torch.float32)
        scores = scores.mul_(ctx.scaling).to(value.dtype)
        asks, answers, holds = ctx.needs_input_grad[:3]
        found = (
            torch.bmm(scores, key) if asks else None,
            torch.bmm(scores.transpose(1, 2), query) if answers else None,
            torch.bmm(_dropped(weights, multiplier).transpose(1, 2), gradient) if holds else None,
        )
        return *(None if states is None else _by_head(states, ctx.shape) for states in found), None, None, None


def _by_head(states: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    return states.view(*shape, *states.shape[1:])


def _dropped(values: torch.Tensor, multiplier: torch.Tensor | None) -> torch.Tensor:
    return values if multiplier is None else values * multiplier


AttentionInterface.register(SHORT_ATTENTION, short_attention)
AttentionMaskInterface.register(SHORT_ATTENTION, eager_mask)
