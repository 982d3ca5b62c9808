"""Which feed-forward neurons a model uses to answer a prompt: integrated gradients (Dai et al. 2022, section 3.2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from kgt_editor.errors import UnsupportedModelError
from kgt_editor.lm.layers import device_of, linear_layer
from kgt_editor.lm.length import check_length
from kgt_editor.lm.tokens import continuation_ids
from kgt_editor.lm.trace import Trace

# config.model_type -> the module before the non-linearity, and the down-projection, whose columns are the value slots.
_MODULES = {
    "gpt2": ("transformer.h.{}.mlp.c_fc", "transformer.h.{}.mlp.c_proj"),
    "llama": ("model.layers.{}.mlp.gate_proj", "model.layers.{}.mlp.down_proj"),
    "mistral": ("model.layers.{}.mlp.gate_proj", "model.layers.{}.mlp.down_proj"),
    "qwen2": ("model.layers.{}.mlp.gate_proj", "model.layers.{}.mlp.down_proj"),
}

Neuron = tuple[int, int]


@dataclass(frozen=True)
class NeuronSite:
    """Where the neurons of a block lie.

    Attributes:
        layer: number of the block.
        value: name of the down-projection; neuron i is its input i, and its column i the value slot.
        gate: name of the linear layer whose output is scaled instead; None to scale the neurons themselves.
    """

    layer: int
    value: str
    gate: str | None = None

    @property
    def module(self) -> str:
        """The module whose call shows and takes the neurons' activations."""
        return self.gate or self.value


def neuron_sites(model: nn.Module, layers: Sequence[int] | None, preactivation: bool = False) -> list[NeuronSite]:
    """The neurons of the blocks ``layers``, or of all blocks.

    Raises:
        UnsupportedModelError: unknown architecture, or no such block.
    """
    config: Any = model.config
    if config.model_type not in _MODULES:
        raise UnsupportedModelError(
            f"KN does not know where a model of type {config.model_type!r} keeps its neurons; "
            f"known: {', '.join(_MODULES)}"
        )
    blocks = range(config.num_hidden_layers)
    for layer in layers or ():
        if layer not in blocks:
            raise UnsupportedModelError(f"the model has blocks 0 to {len(blocks) - 1}, not {layer}; change 'layers'")
    gate, value = _MODULES[config.model_type]
    return [
        NeuronSite(layer, value.format(layer), gate.format(layer) if preactivation else None)
        for layer in sorted(set(blocks if layers is None else layers))
    ]


class Attribution:
    """Integrated gradients of P(target | prompt) over the activations at the prompt's last position.

    For one neuron of activation w, that is w times the mean over k = 1..m of dP/dw with its block's activations at
    k/m of their values. Only what follows from that position is run: the tokens before it are read once, and every
    block at every step is one row of a batch over the prompt's last token and the target.
    """

    def __init__(self, model: nn.Module, tok: Any, prompt: str, target: str, sites: Sequence[NeuronSite]) -> None:
        self._model = model
        #: the candidates, in the order of everything below.
        self.sites = list(sites)
        stem, self._target = continuation_ids(tok, prompt, target)
        check_length(model, len(stem) + len(self._target), prompt)
        device = device_of(model)
        self._tail = torch.tensor([[stem[-1], *self._target[:-1]]], device=device)
        self._past = DynamicCache()
        with torch.no_grad():
            if stem[:-1]:
                model(input_ids=torch.tensor([stem[:-1]], device=device), past_key_values=self._past, use_cache=True)
            with Trace(model, [name for site in self.sites for name in (site.value, site.module)]) as trace:
                self._run(1)
        #: the neurons' activations at the prompt's last position, (neurons,) for each site.
        self.activations = [trace[site.value].input[0, 0] for site in self.sites]
        #: what is scaled and attributed to: those, or the gates' outputs.
        self.scaled = [
            trace[site.gate].output[0, 0] if site.gate else trace[site.value].input[0, 0] for site in self.sites
        ]

    def _run(self, rows: int) -> Tensor:
        """P(target | prompt) in every row, (rows,), fp32."""
        past = deepcopy(self._past)  # a model call writes into it
        past.batch_repeat_interleave(rows)
        logits = self._model(input_ids=self._tail.expand(rows, -1), past_key_values=past, use_cache=True).logits
        wanted = torch.tensor(self._target, device=logits.device).expand(rows, -1)[..., None]
        return logits.float().log_softmax(-1).gather(-1, wanted).squeeze(-1).sum(-1).exp()

    def probabilities(self, scales: Sequence[tuple[int, float]]) -> tuple[Tensor, dict[int, Tensor]]:
        """P(target | prompt) with one block's activations scaled in each row.

        Args:
            scales: (index of a site, factor) for each row.

        Returns:
            the probabilities, (rows,), and by site the activations they are differentiable in, (its rows, neurons).
        """
        rows = {
            index: [row for row, (site, _) in enumerate(scales) if site == index]
            for index in sorted({site for site, _ in scales})
        }
        scaled = {
            index: torch.stack([scales[row][1] * self.scaled[index] for row in members]).requires_grad_()
            for index, members in rows.items()
        }
        places = {self.sites[index].module: index for index in rows}

        def write(name: str, _: Tensor, output: Tensor) -> Tensor:
            index = places[name]
            new = scaled[index]
            if self.sites[index].gate is None:
                linear = linear_layer(self._model, name)
                new = nn.functional.linear(new, linear.matrix, linear.module.bias)  # type: ignore[arg-type]
            output = output.clone()
            output[rows[index], 0] = new
            return output

        with torch.enable_grad(), Trace(self._model, places, edit=write):
            return self._run(len(scales)), scaled

    def scores(self, steps: int, batch_size: int) -> Tensor:
        """The attributions, (sites, neurons), fp32.

        Args:
            steps: m of section 3.2.
            batch_size: rows (one block at one step each) a forward pass.
        """
        rows = [(index, step / steps) for index in range(len(self.sites)) for step in range(1, steps + 1)]
        total = torch.zeros(len(self.sites), len(self.scaled[0]), device=self._tail.device)
        for start in range(0, len(rows), batch_size):
            probabilities, scaled = self.probabilities(rows[start : start + batch_size])
            # Rows do not see each other: the gradient of the sum is every row's own.
            gradients = torch.autograd.grad(probabilities.sum(), list(scaled.values()))
            for index, gradient in zip(scaled, gradients, strict=True):
                total[index] += gradient.float().sum(0)
        return total * torch.stack(self.scaled).float() / steps


def coarse_neurons(scores: Tensor, layers: Sequence[int], threshold: float) -> set[Neuron]:
    """Neurons (block, index) whose attribution is above ``threshold`` times the largest.

    Args:
        scores: (layers, neurons).
        layers: the block that each row of ``scores`` stands for.
        threshold: t of section 3.3, below 1.
    """
    chosen = scores > threshold * scores.max()  # none where all are negative
    return {(layers[row], index) for row, index in chosen.nonzero().tolist()}


def shared_neurons(found: Sequence[Iterable[Neuron]], share: float) -> list[Neuron]:
    """Neurons found for more than ``share`` of the prompts (p of section 3.3), sorted.

    Args:
        found: the coarse neurons of every prompt.
    """
    counts = Counter(neuron for neurons in found for neuron in neurons)
    return sorted(neuron for neuron, count in counts.items() if count > share * len(found))
