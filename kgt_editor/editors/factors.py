"""Gradients of linear layers as rank-one factors, and what changes in that form do to a forward pass.

The gradient of a linear layer's weight is a sum over tokens of outer products delta u^T, u the layer's input and delta
the loss's gradient at its output (Mitchell et al. 2022, "Fast Model Editing at Scale", eq. 2). Editors that work
on those factors never hold a matrix for each edit of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kgt_editor.editors.targets import TargetBatch
from kgt_editor.lm.layers import LinearLayer, linear_layer
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

    def matrix_like(self, weight: LinearLayer) -> Tensor:
        """:meth:`matrix`, laid out in memory as ``weight`` is: adding the two then reads both in order."""
        return Factors(self.outputs, self.inputs).matrix().T if weight.transposed else self.matrix()

    def select(self, rows: Tensor) -> Factors:
        """Those rows, in that order; a row may come more than once."""
        return Factors(self.inputs[rows], self.outputs[rows])


def target_logits(model: Any, batch: TargetBatch) -> Tensor:
    """Logits at the batch's target positions only, (all target tokens, vocabulary)."""
    hidden = model.base_model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).last_hidden_state
    logits: Tensor = model.get_output_embeddings()(hidden[batch.rows, batch.columns])
    return logits


def gradient_factors(model: nn.Module, batch: TargetBatch, layers: Sequence[str]) -> tuple[dict[str, Factors], Tensor]:
    """Every row's own loss gradient for the weights of ``layers``, by layer name, and the logits behind the loss.

    No parameter needs ``requires_grad`` and none gets a ``.grad``. The logits are :func:`target_logits`, detached.
    """
    probes: dict[str, Tensor] = {}

    def probe(name: str, _: Tensor, output: Tensor) -> Tensor:
        probes[name] = torch.zeros_like(output, requires_grad=True)
        return output + probes[name]

    with torch.enable_grad(), Trace(model, layers, edit=probe) as trace:
        logits = target_logits(model, batch)
        loss = batch.row_losses(logits).sum()
    gradients = torch.autograd.grad(loss, [probes[name] for name in layers])
    found = {
        name: Factors(trace[name].input.detach().float(), gradient.float())
        for name, gradient in zip(layers, gradients, strict=True)
    }
    return found, logits.detach()


def edited_logits(model: nn.Module, batch: TargetBatch, changes: Mapping[str, Factors]) -> Tensor:
    """:func:`target_logits` of a model whose weights differ from row to row by ``changes``, which are added."""

    def change(name: str, inputs: Tensor, output: Tensor) -> Tensor:
        factors = changes[name]
        strength = torch.bmm(inputs.float(), factors.inputs.transpose(1, 2))  # (rows, length, tokens)
        return output + torch.bmm(strength, factors.outputs).to(output.dtype)

    with Trace(model, changes, edit=change):
        return target_logits(model, batch)


def has_gradient(factors: Factors) -> Tensor:
    """Which tokens the loss depends on, (rows, tokens)."""
    return (factors.outputs != 0).any(-1)


def layer_shapes(model: nn.Module, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """(out, in) of every named linear layer."""
    return {name: linear_layer(model, name).shape for name in names}
