"""UltraEdit: one closed-form step, nothing trained and no subject asked for (Gu et al. 2025, arXiv 2505.14679).

The hidden states that go into a linear layer and the loss's gradients at its output are normalised by running means
over all edits so far (lifelong normalisation); the gradients, weighed by the size of the states, are what the layer is
to add to its output on those states, and least squares with a ridge of one finds the change of its weight that does so.
The running means are all that is kept of earlier edits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kgt_editor.config import HParams
from kgt_editor.editors.base import call_form
from kgt_editor.editors.by_weights import ByWeights, same_editor
from kgt_editor.editors.factors import gradient_factors, layer_shapes
from kgt_editor.editors.targets import encode_targets
from kgt_editor.editors.weights import WeightEditor
from kgt_editor.lm.layers import device_of
from kgt_editor.requests import EditRequest

_MEANS = "means.safetensors"
_PARTS = ("count", "mean", "squares")


class UltraEditHParams(HParams):
    """EasyEdit's UltraEdit fields.

    Attributes:
        inner_params: layers that are edited, with or without ``.weight``.
        lr: the size of a step.
        token: ``mask``: the states of all tokens count.
    """

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset(
        {
            *("model_class", "tokenizer_class", "tokenizer_name", "half", "silent", "results_dir", "dropout"),
            # One call of the editor is one turn, however many requests it has.
            *("no_grad_layers", "batch_size", "batch_size_once", "editor_batch_size"),
        }
    )

    alg_name: Literal["ULTRAEDIT"] = "ULTRAEDIT"
    inner_params: tuple[str, ...] = Field(min_length=1)
    lr: float = Field(gt=0)
    token: Literal["mask"] = "mask"


@dataclass(frozen=True)
class Running:
    """Running mean and spread of vectors.

    Attributes:
        count: how many vectors were seen, ().
        mean: (width,).
        squares: sum of squared distances from the mean, (width,).
    """

    count: Tensor
    mean: Tensor
    squares: Tensor

    @classmethod
    def empty(cls, width: int, device: torch.device) -> Running:
        """Before the first vector."""
        zero = torch.zeros(width, device=device)
        return cls(torch.zeros((), device=device), zero, zero)

    def with_more(self, values: Tensor) -> Running:
        """After ``values``, (vectors, width), too. The spread within them counts as in the authors' code."""
        more = len(values)
        count = self.count + more
        step = values.mean(0) - self.mean
        within = more * values.var(0) if more > 1 else torch.zeros_like(step)
        return Running(
            count,
            self.mean + step * more / count,
            self.squares + within + step.square() * self.count * more / count,
        )

    def normalise(self, values: Tensor) -> Tensor:
        """``values`` with the mean at zero and a spread of one."""
        spread = (self.squares / (self.count - 1).clamp_min(1)).sqrt()
        return (values - self.mean) / (spread + torch.finfo(values.dtype).eps)


Means = dict[str, Running]


class UltraEditEditor(WeightEditor):
    """Edits by one gradient and one linear system a layer, normalised over the edits of a lifetime."""

    name = "ultraedit"
    description = "closed-form step from normalised hidden states and gradients (Gu et al. 2025)"
    hparams_class = UltraEditHParams
    hparams: UltraEditHParams

    def __init__(self, hparams: HParams) -> None:
        super().__init__(hparams)
        self._means: ByWeights[Means] = ByWeights(self.layers)

    @classmethod
    def for_call(cls, model: nn.Module, tok: Any, hparams: Any, kwargs: Mapping[str, Any]) -> UltraEditEditor:
        """The editor that made this model's earlier edits."""
        return same_editor(cls, model, hparams)

    def layers(self, model: nn.Module) -> list[str]:
        return [name.removesuffix(".weight") for name in self.hparams.inner_params]

    def adopt(self, model: nn.Module, duplicate: nn.Module) -> None:
        self._means.adopt(model, duplicate)

    def updates(self, model: nn.Module, tok: Any, requests: list[EditRequest]) -> Iterator[Mapping[str, Tensor]]:
        if not requests:
            return
        prompts, targets = [request.prompt for request in requests], [request.target_new for request in requests]
        batch = encode_targets(model, tok, prompts, targets, whole=True)
        read = batch.mask.bool()
        shapes = layer_shapes(model, self.layers(model))
        means = dict(self._means.find(model) or {})
        seen = {}
        for name, factors in gradient_factors(model, batch, list(shapes))[0].items():
            seen[name] = factors.inputs[read], factors.outputs[read]
            kind, values = _kind(shapes[name]), torch.cat(seen[name], dim=-1)
            means[kind] = means.get(kind, Running.empty(values.shape[-1], values.device)).with_more(values)
        yield {name: self._step(means[_kind(shapes[name])], *both) for name, both in seen.items()}
        self._means.keep(model, means)  # what was yielded is written by now

    def _step(self, running: Running, states: Tensor, gradients: Tensor) -> Tensor:
        """What to add, (out, in), from a layer's inputs (tokens, in) and gradients at its output (tokens, out)."""
        both = running.normalise(torch.cat([states, gradients], dim=-1))
        unit_states, unit_gradients = both.split([states.shape[-1], gradients.shape[-1]], dim=-1)
        wanted = -self.hparams.lr * unit_states.square().sum(-1, keepdim=True) * unit_gradients
        # (H^T H + I)^-1 H^T V = H^T (H H^T + I)^-1 V: a system as large as the number of tokens.
        gram = states @ states.T + torch.eye(len(states), device=states.device)
        return torch.linalg.solve(gram, wanted).T @ states

    def save_state(self, model: nn.Module, folder: Path) -> bool:
        means = self._means.find(model) or {}
        parts = {f"{kind}.{part}": getattr(one, part) for kind, one in means.items() for part in _PARTS}
        save_file(parts, folder / _MEANS)
        return super().save_state(model, folder)

    def load_state(self, model: nn.Module, tok: Any, folder: Path) -> nn.Module:
        kept = load_file(folder / _MEANS, device=str(device_of(model)))
        restored = super().load_state(model, tok, folder)
        kinds = {name.partition(".")[0] for name in kept}
        self._means.keep(restored, {kind: Running(*(kept[f"{kind}.{part}"] for part in _PARTS)) for kind in kinds})
        return restored


def _kind(shape: tuple[int, int]) -> str:
    """Layers of one shape share their running means."""
    return "{}x{}".format(*shape)


apply_ultraedit_to_model = call_form(UltraEditEditor)
