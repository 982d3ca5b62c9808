"""What an editor knows of models."""

from __future__ import annotations

from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from torch import nn

_T = TypeVar("_T")


class OfModels(WeakKeyDictionary[nn.Module, _T]):
    """A value for each model, which goes with the model.

    It stays in the process whose models they are: an editor that is sent to another process knows none there.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return OfModels, ()
