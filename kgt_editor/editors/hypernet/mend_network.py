"""MEND's network (Mitchell et al. 2022, "Fast Model Editing at Scale", section 3).

It never handles a full matrix: it maps a gradient's factors (u, delta) to another such pair, whose product is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from kgt_editor.editors.factors import Factors, gradient_factors, has_gradient
from kgt_editor.editors.hypernet.training import Hypernetwork
from kgt_editor.editors.targets import TargetBatch


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


class MENDNetwork(Hypernetwork):
    """Maps gradient factors to the factors of an edit.

    Layers of one weight shape share a network; each has its own scales, shifts, normalisation and learning rate.

    Args:
        shapes: layer name -> (out, in).
        rank: rank of the residual blocks.
        hidden: how many of them are rectified and stand before the last, linear one (the paper: one).
        edit_lr: what the learned rates of the edits start from.
        norm: whether factors are normalised per dimension first.
        seed: seed of the initial weights.
        norm_edit: whether an edit's gradients are first brought to the size that they have on the unedited model.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, int]],
        rank: int,
        hidden: int,
        edit_lr: float,
        norm: bool,
        seed: int,
        norm_edit: bool = False,
    ) -> None:
        super().__init__(shapes, edit_lr)
        self.norm, self.norm_edit = norm, norm_edit
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
        for number, (out, features) in enumerate(self.shapes.values()):
            self.register_buffer(f"mean_{number}", torch.zeros(features + out))
            self.register_buffer(f"spread_{number}", torch.ones(features + out))
            self.register_buffer(f"size_{number}", torch.ones(()))

    @staticmethod
    def _key(shape: tuple[int, int]) -> str:
        return "{}x{}".format(*shape)

    def edits(self, model: nn.Module, batch: TargetBatch) -> dict[str, Factors]:
        return self(gradient_factors(model, batch, list(self.shapes))[0])

    @torch.no_grad()
    def fit_normalisation(self, samples: Iterable[Mapping[str, Factors]]) -> None:
        """Sets mean and spread of every dimension from gradient factors, tokens without a gradient left out."""
        counts = dict.fromkeys(self.shapes, 0)
        sums = {name: torch.zeros(2, sum(shape), dtype=torch.float64) for name, shape in self.shapes.items()}
        sizes: dict[str, list[Tensor]] = {name: [] for name in self.shapes}
        for factors in samples:
            for name, value in factors.items():
                sizes[name].append(_size(value))
                joined = torch.cat([value.inputs, value.outputs], dim=-1)[has_gradient(value)].double().cpu()
                counts[name] += len(joined)
                sums[name] += torch.stack([joined.sum(0), joined.square().sum(0)])
        for number, (name, (out, features)) in enumerate(self.shapes.items()):
            mean, square = sums[name] / max(counts[name], 1)
            spread = (square - mean.square()).clamp_min(0).sqrt()
            # A dimension that hardly moved here must not blow up where it does.
            floors = torch.cat([part.mean().expand(len(part)) for part in spread.split([features, out])])
            self.get_buffer(f"mean_{number}").copy_(mean)
            self.get_buffer(f"size_{number}").copy_(torch.cat(sizes[name]).mean())
            self.get_buffer(f"spread_{number}").copy_(spread.clamp_min(1e-2 * floors).clamp_min(1e-12))

    def forward(self, factors: Mapping[str, Factors]) -> dict[str, Factors]:
        """Factors to *add* to the weights: learning rate and sign are in them."""
        found = {}
        for number, name in enumerate(self.shapes):
            value = factors[name]
            if self.norm_edit:
                scale = self.get_buffer(f"size_{number}") / _size(value).clamp_min(1e-12)
                value = Factors(value.inputs, value.outputs * scale[:, None, None])
            key, layer = self._place[name]
            joined = torch.cat([value.inputs, value.outputs], dim=-1)
            if self.norm:
                joined = (joined - self.get_buffer(f"mean_{number}")) / self.get_buffer(f"spread_{number}")
            inputs, outputs = self.networks[key](joined, layer).split(
                [value.inputs.shape[-1], value.outputs.shape[-1]], dim=-1
            )
            # Padding and tokens the loss does not depend on have no gradient, so nothing to transform.
            outputs = -self.edit_lrs[number] * outputs * has_gradient(value)[..., None]
            found[name] = Factors(inputs, outputs)
        return found


def _size(value: Factors) -> Tensor:
    """Root mean square of each edit's gradients at the layer's output, tokens without one left out, (rows,)."""
    tokens = has_gradient(value).sum(-1).clamp_min(1)
    return (value.outputs.square().sum((-2, -1)) / (tokens * value.outputs.shape[-1])).sqrt()
