"""AlphaEdit: MEMIT's update, projected onto what the layer's keys leave free (Fang et al. 2025, arXiv 2410.02355).

A change of W that lies in the null space of the keys of a text leaves the layer's output on them as it is; so does one
that is orthogonal to the keys of earlier edits, which are kept: W' = W + R K^T P (Kp Kp^T P + K K^T P + L2 I)^-1
(eq. 14), with P the projection onto the null space and Kp the keys of the edits before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kgt_editor.config import HParams
from kgt_editor.editors.base import call_form
from kgt_editor.editors.by_weights import ByWeights, same_editor
from kgt_editor.editors.key_value.memit import SpreadEditor, SpreadHParams
from kgt_editor.errors import NumericalError
from kgt_editor.lm.layers import linear_layer
from kgt_editor.requests import EditRequest

_KEYS = "keys.safetensors"


class AlphaEditHParams(SpreadHParams):
    """EasyEdit's AlphaEdit fields.

    Attributes:
        nullspace_threshold: eigenvalues of the keys' second moments below it make up the null space.
        L2: weight of the update's own size.
    """

    IGNORED_KEYS: ClassVar[frozenset[str]] = SpreadHParams.IGNORED_KEYS | {"P_loc", "mom2_update_weight"}

    alg_name: Literal["ALPHAEDIT"] = "ALPHAEDIT"  # type: ignore[assignment]
    nullspace_threshold: float = Field(gt=0)
    L2: float = Field(gt=0)


class AlphaEditEditor(SpreadEditor):
    """Inserts facts into several MLPs where neither a text's keys nor those of earlier edits are read."""

    name = "alphaedit"
    description = "MEMIT's update in the null space of a text's keys and of earlier edits' (Fang et al. 2025)"
    hparams_class = AlphaEditHParams
    hparams: AlphaEditHParams

    def __init__(self, hparams: HParams) -> None:
        super().__init__(hparams)
        self._edited: ByWeights[dict[str, Tensor]] = ByWeights(self.layers)

    @classmethod
    def for_call(cls, model: nn.Module, tok: Any, hparams: Any, kwargs: Mapping[str, Any]) -> AlphaEditEditor:
        """The editor that made this model's earlier edits; with ``train_ds`` it is prepared on them the first time."""
        editor = same_editor(cls, model, hparams)
        if kwargs.get("train_ds"):
            editor.prepare(model, tok, kwargs["train_ds"])
        return editor

    def adopt(self, model: nn.Module, duplicate: nn.Module) -> None:
        super().adopt(model, duplicate)
        self._edited.adopt(model, duplicate)

    def learn(self, layer: str, moments: Tensor) -> Tensor:
        """An orthonormal basis of the null space, (in, free), fp32."""
        values, vectors = torch.linalg.eigh(moments)
        free = vectors[:, values < self.hparams.nullspace_threshold]
        if not free.shape[1]:
            raise NumericalError(
                f"AlphaEdit: no direction of the inputs of '{layer}' is free at nullspace_threshold "
                f"{self.hparams.nullspace_threshold:g}; the smallest eigenvalue is {values[0].item():.3g}"
            )
        return free.float()

    def updates(self, model: nn.Module, tok: Any, requests: list[EditRequest]) -> Iterator[Mapping[str, Tensor]]:
        if not requests:
            return
        earlier = self.earlier_keys(model)

        def directions(layer: str, keys: Tensor) -> Tensor:
            # In the coordinates of the null space, and as a system as large as the number of edits so far.
            basis = self._learnt[model][layer]
            free = (torch.cat([earlier[layer].to(keys), keys]) @ basis).double()
            ridge = self.hparams.L2 * torch.eye(len(free), dtype=free.dtype, device=free.device)
            return torch.linalg.solve(free @ free.T + ridge, free)[-len(keys) :].to(keys.dtype) @ basis.T

        yield from self.spread(model, tok, requests, directions)
        # What was yielded is written by now, and lower layers have changed what upper ones read.
        keys, _ = self.states(model, tok, requests, self.layers(model))
        self._edited.keep(model, {name: torch.cat([earlier[name].to(found), found]) for name, found in keys.items()})

    def earlier_keys(self, model: nn.Module) -> dict[str, Tensor]:
        """The keys of the edits that the weights hold, (edits, in) by layer."""
        return self._edited.find(model) or {
            name: torch.zeros(0, linear_layer(model, name).shape[1]) for name in self.layers(model)
        }

    def save_state(self, model: nn.Module, folder: Path) -> bool:
        save_file({name: keys.contiguous() for name, keys in self.earlier_keys(model).items()}, folder / _KEYS)
        return super().save_state(model, folder)

    def load_state(self, model: nn.Module, tok: Any, folder: Path) -> nn.Module:
        restored = super().load_state(model, tok, folder)
        self._edited.keep(restored, load_file(folder / _KEYS))
        return restored


apply_alphaedit_to_model = call_form(AlphaEditEditor)
