"""LocFT-BF: localised fine-tuning, breadth-first over all edits so far (Yang et al. 2025, arXiv 2509.22072).

Fine-tuning looked weak in model editing because it was run depth-first: one edit is tuned to the end, then the next,
and each undoes the one before. Run breadth-first, with every pass going over all edits in mini-batches, the same loss
on one layer holds thousands of them, with no constraint on the weights. To do so the edits have to be kept: an edit
tunes on itself and on every one before it, so that its cost grows with their number. Editors that see an edit once and
keep nothing (FT, ROME, MEND) cannot do that.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Literal
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from kgt_editor.config import HParams
from kgt_editor.editors import cache
from kgt_editor.editors.base import Restore, call_form
from kgt_editor.editors.ft import FTEditor, FTHParams, fine_tune, target_batches
from kgt_editor.lm.layers import linear_layer
from kgt_editor.requests import EditRequest

_HISTORY = "edits.json"

Edits = tuple[EditRequest, ...]


class LocFTHParams(FTHParams):
    """FT's fields under another name.

    Attributes:
        num_steps: most passes over all edits so far.
        batch_size: edits a mini-batch.
        stop_loss: a mini-batch below it takes no step, and the tuning ends when the mean over all edits is.
    """

    alg_name: Literal["LOCFT"] = "LOCFT"  # type: ignore[assignment]
    batch_size: int = 8
    objective_optimization: Literal["prompt_last", "target_new"] = "target_new"


class LocFTEditor(FTEditor):
    """Tunes one layer on all edits so far, a pass after another; a newer target of a prompt takes the older's place."""

    name = "locft"
    description = "fine-tuning of one layer, breadth-first over all edits so far, which it keeps (Yang et al. 2025)"
    hparams_class: ClassVar[type[FTHParams]] = LocFTHParams
    hparams: LocFTHParams

    def __init__(self, hparams: HParams) -> None:
        super().__init__(hparams)
        self._edits: WeakKeyDictionary[nn.Module, dict[str, Edits]] = WeakKeyDictionary()

    @classmethod
    def for_call(cls, model: nn.Module, tok: Any, hparams: Any, kwargs: Mapping[str, Any]) -> LocFTEditor:
        """The editor that made this model's earlier edits."""
        return _EDITORS.setdefault(model, {}).setdefault(hparams, cls(hparams))

    def adopt(self, model: nn.Module, duplicate: nn.Module) -> None:
        self._edits[duplicate] = dict(self._edits.get(model, {}))

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
        parsed = [EditRequest.parse(request) for request in requests]
        known = self.edits_in(model) if self.supports(model)[0] else ()
        edited, originals = super().apply(
            model, tok, requests, copy, return_orig_weights, keep_original_weight, **kwargs
        )
        if parsed:
            self._edits.setdefault(edited, {})[self._mark(edited)] = _with(known, parsed)
        return edited, originals

    def edits_in(self, model: nn.Module) -> Edits:
        """The edits that the model's weights hold, the oldest first; none where they are not this editor's work.

        Edits are kept under the weights that they gave: whoever puts older weights back takes back later edits too.
        """
        return self._edits.get(model, {}).get(self._mark(model), ())

    def _mark(self, model: nn.Module) -> str:
        digest = hashlib.sha256()
        for name in self.layers(model):
            digest.update(cache.content(linear_layer(model, name).weight))
        return digest.hexdigest()

    def updates(self, model: nn.Module, tok: Any, requests: list[EditRequest]) -> Iterator[Mapping[str, Tensor]]:
        if not requests:
            return
        # Mini-batches of mixed age; the same for the same edits.
        mixed = list(_with(self.edits_in(model), requests))
        random.Random(self.hparams.seed + len(mixed)).shuffle(mixed)
        batches = target_batches(model, tok, mixed, self.hparams)
        yield fine_tune(model, batches, self.layers(model), self.hparams)

    def save_state(self, model: nn.Module, folder: Path) -> bool:
        edits = [asdict(request) for request in self.edits_in(model)]
        (folder / _HISTORY).write_text(json.dumps(edits, ensure_ascii=False), encoding="utf-8")
        return super().save_state(model, folder)

    def load_state(self, model: nn.Module, tok: Any, folder: Path) -> nn.Module:
        edits = json.loads((folder / _HISTORY).read_text(encoding="utf-8"))
        restored = super().load_state(model, tok, folder)
        self._edits.setdefault(restored, {})[self._mark(restored)] = tuple(
            EditRequest(**{**edit, "relations": tuple(edit["relations"])}) for edit in edits
        )
        return restored


def _with(edits: Edits, requests: Sequence[EditRequest]) -> Edits:
    """Edits and newer ones, of each prompt the newest."""
    found = {edit.prompt: edit for edit in edits}
    for request in requests:
        found.pop(request.prompt, None)
        found[request.prompt] = request
    return tuple(found.values())


# Editors made by the call form below, so that a second call on the same model goes on after the first.
_EDITORS: WeakKeyDictionary[nn.Module, dict[LocFTHParams, LocFTEditor]] = WeakKeyDictionary()

apply_locft_to_model = call_form(LocFTEditor)
