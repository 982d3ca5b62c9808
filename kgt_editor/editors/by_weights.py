"""What an editor keeps of its earlier edits, under the weights that they gave.

Some editors need more of the past than what stands in the weights: the edits themselves, their keys, running means.
Whoever puts older weights back takes later edits back, and then what was kept for those weights holds again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from torch import nn

from kgt_editor.config import HParams
from kgt_editor.editors import cache
from kgt_editor.editors.base import Editor
from kgt_editor.editors.of_models import OfModels
from kgt_editor.lm.layers import linear_layer

_T = TypeVar("_T")
_E = TypeVar("_E", bound=Editor)


class ByWeights(Generic[_T]):
    """A value for every state in which an editor left a model.

    Args:
        layers: names of the layers of a model that the editor writes to; no other weight counts.
    """

    def __init__(self, layers: Callable[[nn.Module], list[str]]) -> None:
        self._layers = layers
        self._values: OfModels[dict[str, _T]] = OfModels()

    def find(self, model: nn.Module) -> _T | None:
        """What was kept for the weights that the model has now; None where they are not the editor's work."""
        kept = self._values.get(model)
        return kept.get(self._mark(model)) if kept else None

    def keep(self, model: nn.Module, value: _T) -> None:
        """Keeps ``value`` for the weights that the model has now."""
        self._values.setdefault(model, {})[self._mark(model)] = value

    def adopt(self, model: nn.Module, duplicate: nn.Module) -> None:
        """Makes what was kept for ``model`` hold for its copy too."""
        self._values[duplicate] = dict(self._values.get(model, {}))

    def _mark(self, model: nn.Module) -> str:
        digest = hashlib.sha256()
        for name in self._layers(model):
            digest.update(cache.content(linear_layer(model, name).weight))
        return digest.hexdigest()


def same_editor(cls: type[_E], model: nn.Module, hparams: HParams) -> _E:
    """The editor that calls of EasyEdit's form share, so that a second call on a model goes on after the first."""
    found: _E = _EDITORS.setdefault(model, {}).setdefault((cls, hparams), cls(hparams))
    return found


_EDITORS: OfModels[dict[tuple[type[Editor], HParams], Any]] = OfModels()
