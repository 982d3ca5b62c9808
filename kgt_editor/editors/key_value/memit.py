"""MEMIT: many facts at once, spread over several MLPs (Meng et al. 2023, "Mass-Editing Memory in a Transformer").

ROME inserts one pair of key and value exactly into one layer. MEMIT asks for the hidden state behind the last of
several layers that makes the model answer, for every request of a batch, and lets each layer, lowest first, bring it
nearer by its share: W' = W + R K^T (lambda C + K K^T)^-1 (eq. 14 and 15), which weighs the new keys K against those
that the layer has seen before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from kgt_editor.editors.base import call_form
from kgt_editor.editors.key_value.hparams import ROMEHParams
from kgt_editor.editors.key_value.rome import ROMEEditor
from kgt_editor.editors.key_value.search import ValueSearch, subject_states
from kgt_editor.requests import EditRequest


class SpreadHParams(ROMEHParams):
    """What MEMIT and those after it have besides ROME's fields.

    Attributes:
        layers: blocks over whose down-projections an edit is spread; the value is searched for behind the highest.
    """

    IGNORED_KEYS: ClassVar[frozenset[str]] = ROMEHParams.IGNORED_KEYS | {"layer_selection"}

    mom2_adjustment: Literal[True] = True


class MEMITHParams(SpreadHParams):
    """EasyEdit's MEMIT fields.

    Attributes:
        mom2_update_weight: lambda of eq. 15, how much the keys of the past count.
    """

    alg_name: Literal["MEMIT"] = "MEMIT"  # type: ignore[assignment]
    mom2_update_weight: float = Field(gt=0)


class SpreadEditor(ROMEEditor):
    """Spreads edits over several layers; a subclass says in which direction of a layer's input they are written."""

    hparams: SpreadHParams

    def spread(
        self, model: nn.Module, tok: Any, requests: list[EditRequest], directions: Callable[[str, Tensor], Tensor]
    ) -> Iterator[Mapping[str, Tensor]]:
        """The matrices of all layers, lowest first (MEMIT's algorithm 1).

        Args:
            model, tok: the model, which every matrix is added to before the next is asked for, and its tokenizer.
            requests: the edits of the batch.
            directions: of a layer's name and the keys of the requests there, (requests, in), the direction that each
                one's share of the change is written in, of the same shape.
        """
        self.prepare(model, tok)
        names, prefixes, top = self.layers(model), self._contexts[model], max(self.hparams.layers)
        searches = [ValueSearch(model, tok, request, prefixes, top, self.hparams, True) for request in requests]
        wanted = torch.stack([search.value + search.find_delta() for search in searches])
        for number, name in enumerate(names):
            keys, present = self.states(model, tok, requests, [name])
            share = (wanted - present) / (len(names) - number)
            yield {name: share.T @ directions(name, keys[name])}

    def states(
        self, model: nn.Module, tok: Any, requests: list[EditRequest], layers: list[str]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Keys by layer and the values behind the highest edited block, see :func:`subject_states`."""
        block = self.hparams.layer_module_tmp.format(max(self.hparams.layers))
        return subject_states(model, tok, requests, self._contexts[model], layers, block)


class MEMITEditor(SpreadEditor):
    """Inserts a batch of facts into several MLPs by least squares against the keys of a text."""

    name = "memit"
    description = "least-squares update of several MLP down-projections, a batch at once (Meng et al. 2023)"
    hparams_class = MEMITHParams
    hparams: MEMITHParams

    def updates(self, model: nn.Module, tok: Any, requests: list[EditRequest]) -> Iterator[Mapping[str, Tensor]]:
        def directions(layer: str, keys: Tensor) -> Tensor:
            # K^T (lambda C + K K^T)^-1 = (lambda I + K^T C^-1 K)^-1 K^T C^-1: a system as large as the batch.
            solved = self._learnt[model][layer].solve(keys.double())
            gram = keys.double() @ solved.T
            ridge = self.hparams.mom2_update_weight * torch.eye(len(keys), dtype=gram.dtype, device=gram.device)
            return torch.linalg.solve(gram + ridge, solved).to(keys.dtype)

        if requests:
            yield from self.spread(model, tok, requests, directions)


apply_memit_to_model = call_form(MEMITEditor)
