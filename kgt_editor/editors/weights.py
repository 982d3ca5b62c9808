"""What editors that change weights have in common: checking, writing, undoing."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kgt_editor.editors.base import Editor, Restore, restore_model
from kgt_editor.errors import NumericalError, UnsupportedModelError
from kgt_editor.lm.layers import LinearLayer, check_family, frozen, linear_layer
from kgt_editor.requests import EditRequest

_WEIGHTS = "weights.safetensors"


class WeightEditor(Editor):
    """An editor that adds a matrix to each of a few linear layers.

    A subclass says which layers (:meth:`layers`) and computes the matrices (:meth:`updates`). An error on the way,
    Ctrl-C included, leaves the model as it was.
    """

    @abstractmethod
    def layers(self, model: nn.Module) -> list[str]:
        """Names of the linear layers this editor may change."""

    @abstractmethod
    def updates(self, model: nn.Module, tok: Any, requests: list[EditRequest]) -> Iterator[Mapping[str, Tensor]]:
        """Yields matrices (out, in) to add, by layer name; each is written before the next is asked for."""

    def supports(self, model: nn.Module) -> tuple[bool, str]:
        try:
            check_family(model)
            for name in self.layers(model):
                linear_layer(model, name)
        except UnsupportedModelError as error:
            return False, str(error)
        return True, ""

    def require(self, model: nn.Module) -> None:
        """Raises ``UnsupportedModelError`` with the reason where :meth:`supports` says no."""
        supported, reason = self.supports(model)
        if not supported:
            raise UnsupportedModelError(f"editor '{self.name}' cannot edit this model: {reason}")

    def check(self, requests: list[EditRequest]) -> None:
        """Refuses requests this editor cannot make, before anything is changed."""

    def adopt(self, model: nn.Module, duplicate: nn.Module) -> None:
        """Makes what was prepared for ``model`` hold for its copy too."""

    def apply(
        self,
        model: nn.Module,
        tok: Any,
        requests: list[dict[str, Any]],
        copy: bool = False,
        return_orig_weights: bool = False,
        keep_original_weight: bool = False,
        **kwargs: Any,
    ) -> tuple[nn.Module, Restore]:
        self.require(model)
        parsed = [EditRequest.parse(request) for request in requests]
        self.check(parsed)
        edited = deepcopy(model) if copy else model
        if copy:
            self.adopt(model, edited)
        originals: dict[str, Tensor] = {}
        try:
            with frozen(edited):
                for matrices in self.updates(edited, tok, parsed):
                    for name, matrix in matrices.items():
                        self._write(linear_layer(edited, name), matrix, originals)
        except BaseException:
            restore_model(edited, originals)
            raise
        return edited, originals if return_orig_weights or keep_original_weight else {}

    def save_state(self, model: nn.Module, folder: Path) -> bool:
        """The weights of the layers that may be changed."""
        changed = {linear_layer(model, name).parameter: linear_layer(model, name).weight for name in self.layers(model)}
        save_file({name: weight.detach().contiguous() for name, weight in changed.items()}, folder / _WEIGHTS)
        return True

    def load_state(self, model: nn.Module, tok: Any, folder: Path) -> nn.Module:
        return restore_model(model, load_file(folder / _WEIGHTS))

    def _write(self, layer: LinearLayer, matrix: Tensor, originals: dict[str, Tensor]) -> None:
        # One entry that is not finite makes the sum so, and a sum costs a fraction of a test of every entry.
        if not bool(matrix.sum().isfinite()):
            raise NumericalError(f"editor '{self.name}': the update of '{layer.name}' holds NaN or infinity")
        weight = layer.weight.detach()
        originals.setdefault(layer.parameter, weight.clone())
        weight.add_(layer.stored(matrix).to(weight.dtype))
