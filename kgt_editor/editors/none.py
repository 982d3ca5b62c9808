"""No edit at all: the row every other editor is read against."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

from torch import nn

from kgt_editor.config import HParams
from kgt_editor.editors.base import Editor, Restore
from kgt_editor.requests import EditRequest


class NoneHParams(HParams):
    """Nothing to set."""

    alg_name: str = "NONE"


class NoneEditor(Editor):
    """Leaves the model as it is; requests are checked like any other editor's."""

    name = "none"
    description = "no edit: the model as it is"
    hparams_class = NoneHParams
    needs_hparams_file = False

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
        for request in requests:
            EditRequest.parse(request)
        return (deepcopy(model) if copy else model), {}

    def save_state(self, model: nn.Module, folder: Path) -> bool:
        return True

    def load_state(self, model: nn.Module, tok: Any, folder: Path) -> nn.Module:
        return model
