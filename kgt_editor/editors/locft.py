"""LocFT-BF: localised fine-tuning, breadth-first over all edits so far (Yang et al. 2025, arXiv 2509.22072).

Fine-tuning looked weak in model editing because it was run depth-first: one edit is tuned to the end, then the next,
and each undoes the one before. Run breadth-first, with every pass going over all edits in mini-batches, the same loss
on one layer holds thousands of them, with no constraint on the weights. To do so the edits have to be kept: an edit
tunes on itself and on every one before it, so that its cost grows with their number. Editors that see an edit once and
keep nothing (FT, ROME, MEND) cannot do that.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from kgt_editor.config import HParams
from kgt_editor.editors.base import call_form
from kgt_editor.editors.by_weights import ByWeights, same_editor
from kgt_editor.editors.ft import FTEditor, FTHParams, fine_tune, target_batches
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
        self._edits: ByWeights[Edits] = ByWeights(self.layers)

    @classmethod
    def for_call(cls, model: nn.Module, tok: Any, hparams: Any, kwargs: Mapping[str, Any]) -> LocFTEditor:
        """The editor that made this model's earlier edits."""
        return same_editor(cls, model, hparams)

    def adopt(self, model: nn.Module, duplicate: nn.Module) -> None:
        self._edits.adopt(model, duplicate)

    def edits_in(self, model: nn.Module) -> Edits:
        """The edits that the model's weights hold, the oldest first; none where they are not this editor's work."""
        return self._edits.find(model) or ()

    def updates(self, model: nn.Module, tok: Any, requests: list[EditRequest]) -> Iterator[Mapping[str, Tensor]]:
        if not requests:
            return
        edits = _with(self.edits_in(model), requests)
        # Mini-batches of mixed age; the same for the same edits.
        mixed = list(edits)
        random.Random(self.hparams.seed + len(mixed)).shuffle(mixed)
        batches = target_batches(model, tok, mixed, self.hparams)
        yield fine_tune(model, batches, self.layers(model), self.hparams)
        self._edits.keep(model, edits)  # what was yielded is written by now

    def save_state(self, model: nn.Module, folder: Path) -> bool:
        edits = [asdict(request) for request in self.edits_in(model)]
        (folder / _HISTORY).write_text(json.dumps(edits, ensure_ascii=False), encoding="utf-8")
        return super().save_state(model, folder)

    def load_state(self, model: nn.Module, tok: Any, folder: Path) -> nn.Module:
        edits = json.loads((folder / _HISTORY).read_text(encoding="utf-8"))
        restored = super().load_state(model, tok, folder)
        self._edits.keep(
            restored, tuple(EditRequest(**{**edit, "relations": tuple(edit["relations"])}) for edit in edits)
        )
        return restored


def _with(edits: Edits, requests: Sequence[EditRequest]) -> Edits:
    """Edits and newer ones, of each prompt the newest."""
    found = {edit.prompt: edit for edit in edits}
    for request in requests:
        found.pop(request.prompt, None)
        found[request.prompt] = request
    return tuple(found.values())


apply_locft_to_model = call_form(LocFTEditor)
