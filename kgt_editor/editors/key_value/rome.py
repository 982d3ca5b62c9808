"""ROME: rank-one model editing (Meng et al. 2022, "Locating and Editing Factual Associations in GPT", section 3.1).

One MLP down-projection W is read as a memory of keys k and values v = W k. The subject's last token gives the key k*;
the value v* that makes the model answer ``target_new`` is found by gradient descent; eq. 2 inserts the pair:
W' = W + Lambda (C^-1 k*)^T.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kgt_editor.config import HParams
from kgt_editor.data.record import Record
from kgt_editor.editors.base import Progress, call_form
from kgt_editor.editors.key_value.hparams import ROMEHParams
from kgt_editor.editors.key_value.keys import Covariance, context_prefixes, key_moments
from kgt_editor.editors.key_value.search import ValueSearch
from kgt_editor.editors.of_models import OfModels
from kgt_editor.editors.weights import WeightEditor
from kgt_editor.errors import NumericalError
from kgt_editor.lm.layers import get_module
from kgt_editor.requests import EditRequest


class ROMEEditor(WeightEditor):
    """Writes one fact a request into an MLP's down-projection by a rank-one update."""

    name = "rome"
    description = "rank-one update of one MLP down-projection (Meng et al. 2022)"
    hparams_class: ClassVar[type[ROMEHParams]] = ROMEHParams
    hparams: ROMEHParams

    def __init__(self, hparams: HParams) -> None:
        super().__init__(hparams)
        self._contexts: OfModels[list[str]] = OfModels()
        self._learnt: OfModels[dict[str, Any]] = OfModels()

    def layers(self, model: nn.Module) -> list[str]:
        hparams = self.hparams
        blocks = [hparams.layer_module_tmp.format(layer) for layer in (*hparams.layers, hparams.v_loss_layer)]
        for name in (*blocks, hparams.ln_f_module, hparams.lm_head_module):
            get_module(model, name)
        return [hparams.rewrite_module_tmp.format(layer) for layer in sorted(hparams.layers)]

    def check(self, requests: list[EditRequest]) -> None:
        for request in requests:
            _ = request.subject_end

    def adopt(self, model: nn.Module, duplicate: nn.Module) -> None:
        if model in self._contexts:
            self._contexts[duplicate] = self._contexts[model]
        if model in self._learnt:
            self._learnt[duplicate] = self._learnt[model]

    def prepare(
        self, model: nn.Module, tok: Any, training: Sequence[Record] = (), progress: Progress | None = None
    ) -> None:
        """Lets the model write the context texts and, with ``mom2_adjustment``, counts the keys' second moments."""
        self.require(model)
        hparams = self.hparams
        if model not in self._contexts:
            self._contexts[model] = context_prefixes(
                model, tok, hparams.context_prefixes, hparams.context_template_length_params, hparams.seed
            )
        if hparams.mom2_adjustment and model not in self._learnt:
            dtype = getattr(torch, hparams.mom2_dtype)
            moments = key_moments(
                model, tok, self.layers(model), hparams.mom2_dataset, hparams.mom2_n_samples, dtype, progress, training
            )
            self._learnt[model] = {name: self.learn(name, value) for name, value in moments.items()}

    def learn(self, layer: str, moments: Tensor) -> Any:
        """What the editor needs of a layer's second moments, (in, in)."""
        return Covariance.of(moments, layer, getattr(torch, self.hparams.mom2_dtype))

    def updates(self, model: nn.Module, tok: Any, requests: list[EditRequest]) -> Iterator[Mapping[str, Tensor]]:
        self.prepare(model, tok)
        for request in requests:
            for layer in sorted(self.hparams.layers):
                name = self.hparams.rewrite_module_tmp.format(layer)
                search = ValueSearch(model, tok, request, self._contexts[model], layer, self.hparams)
                covariance = self._learnt[model][name] if self.hparams.mom2_adjustment else None
                yield {name: rank_one_update(search.keys, search.keys[0], search.find_delta(), covariance)}


def rank_one_update(keys: Tensor, prompt_key: Tensor, delta: Tensor, covariance: Covariance | None = None) -> Tensor:
    """The matrix eq. 2 adds to W, (out, in).

    Its direction is C^-1 k* with k* the mean of ``keys``; its length is such that the edited layer maps
    ``prompt_key`` exactly to its old value plus ``delta`` (with one context, ``prompt_key`` is k*, and W' k* = v*).

    Args:
        keys: the layer's inputs at the subject's last token in every context, (contexts, in).
        prompt_key: that input in the bare edit prompt, (in,).
        delta: v* minus the layer's output for ``prompt_key``, (out,).
        covariance: C of the keys; None stands for the identity.

    Raises:
        NumericalError: the direction is orthogonal to ``prompt_key``.
    """
    direction = keys.mean(0)
    if covariance is not None:
        direction = covariance.solve(direction)
    direction = direction / direction.norm()
    scale = direction @ prompt_key
    if not bool(scale.abs() > 1e-8 * prompt_key.norm()):
        raise NumericalError("ROME: the keys of the contexts are orthogonal to the edit prompt's, or zero")
    return torch.outer(delta / scale, direction)


apply_rome_to_model = call_form(ROMEEditor)
