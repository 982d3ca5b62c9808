"""MEND's parts: gradients as rank-one factors, the network that transforms them, and their effect on a forward pass.

Mitchell et al. 2022, "Fast Model Editing at Scale", section 3. The gradient of a linear layer's weight is a sum over
tokens of outer products delta u^T, u the layer's input and delta the loss's gradient at its output (eq. 2). MEND never
handles the full matrix: it maps (u, delta) to another such pair and writes the product of those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kgt_editor.editors.request import TargetBatch
from kgt_editor.lm.layers import linear_layer
from kgt_editor.lm.trace import Trace


@dataclass(frozen=True)
class Factors:
    """A batch of matrices in factored form, one a row: the sum over tokens of ``outer(outputs, inputs)``.

    Attributes:
        inputs: (rows, tokens, in).
        outputs: (rows, tokens, out).
    """

    inputs: Tensor
    outputs: Tensor

    def matrix(self) -> Tensor:
        """The sum of all rows' matrices, (out, in)."""
        return torch.einsum("rto,rti->oi", self.outputs, self.inputs)

    def select(self, rows: Tensor) -> Factors:
        """Those rows, in that order; a row may come more than once."""
        return Factors(self.inputs[rows], self.outputs[rows])


def target_logits(model: Any, batch: TargetBatch) -> Tensor:
    """Logits at the batch's target positions only, (all target tokens, vocabulary)."""
    hidden = model.base_model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).last_hidden_state
    logits: Tensor = model.get_output_embeddings()(hidden[batch.rows, batch.columns])
    return logits


def gradient_factors(model: nn.Module, batch: TargetBatch, layers: Sequence[str]) -> dict[str, Factors]:
    """Every row's own loss gradient for the weights of ``layers``, by layer name.

    No parameter needs ``requires_grad`` and none gets a ``.grad``.
    """
    probes: dict[str, Tensor] = {}

    def probe(name: str, _: Tensor, output: Tensor) -> Tensor:
        probes[name] = torch.zeros_like(output, requires_grad=True)
        return output + probes[name]

    with torch.enable_grad(), Trace(model, layers, edit=probe) as trace:
        loss = batch.row_losses(target_logits(model, batch)).sum()
    gradients = torch.autograd.grad(loss, [probes[name] for name in layers])
    return {
        name: Factors(trace[name].input.detach().float(), gradient.float())
        for name, gradient in zip(layers, gradients, strict=True)
    }


def edited_logits(model: nn.Module, batch: TargetBatch, changes: Mapping[str, Factors]) -> Tensor:
    """:func:`target_logits` of a model whose weights differ from row to row by ``changes``, which are added."""

    def change(name: str, inputs: Tensor, output: Tensor) -> Tensor:
        factors = changes[name]
        strength = torch.bmm(inputs.float(), factors.inputs.transpose(1, 2))  # (rows, length, tokens)
        return output + torch.bmm(strength, factors.outputs).to(output.dtype)

    with Trace(model, changes, edit=change):
        return target_logits(model, batch)


class LowRankResidual(nn.Module):
    """``z + act(scale * (U V z + b) + shift)``, the identity at first; scale and shift are each layer's own (eq. 4)."""

    def __init__(self, width: int, rank: int, layers: int, rectify: bool, generator: torch.Generator) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.zeros(width, rank))
        self.down = nn.Parameter(torch.randn(rank, width, generator=generator) / width**0.5)
        self.bias = nn.Parameter(torch.zeros(width))
        self.scale = nn.Parameter(torch.ones(layers, width))
        self.shift = nn.Parameter(torch.zeros(layers, width))
        self._rectify = rectify

    def forward(self, values: Tensor, layer: int) -> Tensor:
        mixed = values @ self.down.T @ self.up.T + self.bias
        mixed = mixed * self.scale[layer] + self.shift[layer]
        # clamp, not relu: its gradient at zero is one, and at first everything here is zero.
        return values + (mixed.clamp(min=0) if self._rectify else mixed)


class FactorNetwork(nn.Module):
    """The residual blocks that layers of one weight shape share (eq. 4)."""

    def __init__(self, width: int, rank: int, layers: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            LowRankResidual(width, rank, layers, number < hidden, generator) for number in range(hidden + 1)
        )

    def forward(self, values: Tensor, layer: int) -> Tensor:
        for block in self.blocks:
            values = block(values, layer)
        return values


class MENDNetwork(nn.Module):
    """Maps gradient factors to the factors of an edit.

    Layers of one weight shape share a network; each has its own scales, shifts, normalisation and learning rate.

    Args:
        shapes: layer name -> (out, in).
        rank: rank of the residual blocks.
        hidden: how many of them are rectified and stand before the last, linear one (the paper: one).
        edit_lr: what the learned rates of the edits start from.
        norm: whether factors are normalised per dimension first.
        seed: seed of the initial weights.
    """

    def __init__(
        self, shapes: Mapping[str, tuple[int, int]], rank: int, hidden: int, edit_lr: float, norm: bool, seed: int
    ) -> None:
        super().__init__()
        self.shapes = dict(shapes)
        self.norm = norm
        generator = torch.Generator().manual_seed(seed)
        groups: dict[tuple[int, int], list[str]] = {}
        for name, shape in self.shapes.items():
            groups.setdefault(shape, []).append(name)
        self._place = {name: (self._key(shape), group.index(name)) for shape, group in groups.items() for name in group}
        self.networks = nn.ModuleDict(
            {
                self._key((out, features)): FactorNetwork(features + out, rank, len(group), hidden, generator)
                for (out, features), group in groups.items()
            }
        )
        self.edit_lrs = nn.Parameter(torch.full((len(self.shapes),), edit_lr))
        for number, (out, features) in enumerate(self.shapes.values()):
            self.register_buffer(f"mean_{number}", torch.zeros(features + out))
            self.register_buffer(f"spread_{number}", torch.ones(features + out))

    @staticmethod
    def _key(shape: tuple[int, int]) -> str:
        return "{}x{}".format(*shape)

    @torch.no_grad()
    def fit_normalisation(self, samples: Iterable[Mapping[str, Factors]]) -> None:
        """Sets mean and spread of every dimension from gradient factors, tokens without a gradient left out."""
        counts = dict.fromkeys(self.shapes, 0)
        sums = {name: torch.zeros(2, sum(shape), dtype=torch.float64) for name, shape in self.shapes.items()}
        for factors in samples:
            for name, value in factors.items():
                joined = torch.cat([value.inputs, value.outputs], dim=-1)[_has_gradient(value)].double().cpu()
                counts[name] += len(joined)
                sums[name] += torch.stack([joined.sum(0), joined.square().sum(0)])
        for number, (name, (out, features)) in enumerate(self.shapes.items()):
            mean, square = sums[name] / max(counts[name], 1)
            spread = (square - mean.square()).clamp_min(0).sqrt()
            # A dimension that hardly moved here must not blow up where it does.
            floors = torch.cat([part.mean().expand(len(part)) for part in spread.split([features, out])])
            self.get_buffer(f"mean_{number}").copy_(mean)
            self.get_buffer(f"spread_{number}").copy_(spread.clamp_min(1e-2 * floors).clamp_min(1e-12))

    def forward(self, factors: Mapping[str, Factors]) -> dict[str, Factors]:
        """Factors to *add* to the weights: learning rate and sign are in them."""
        edits = {}
        for number, name in enumerate(self.shapes):
            value = factors[name]
            key, layer = self._place[name]
            joined = torch.cat([value.inputs, value.outputs], dim=-1)
            if self.norm:
                joined = (joined - self.get_buffer(f"mean_{number}")) / self.get_buffer(f"spread_{number}")
            inputs, outputs = self.networks[key](joined, layer).split(
                [value.inputs.shape[-1], value.outputs.shape[-1]], dim=-1
            )
            # Padding and tokens the loss does not depend on have no gradient, so nothing to transform.
            outputs = -self.edit_lrs[number] * outputs * _has_gradient(value)[..., None]
            edits[name] = Factors(inputs, outputs)
        return edits


def _has_gradient(factors: Factors) -> Tensor:
    """Which tokens the loss depends on, (rows, tokens)."""
    return (factors.outputs != 0).any(-1)


def layer_shapes(model: nn.Module, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """(out, in) of every named linear layer."""
    return {name: linear_layer(model, name).shape for name in names}
