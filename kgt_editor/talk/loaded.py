"""The language models of this process, one for all users."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

from kgt_editor.lm.loading import load_model

# transformers cannot load models in two threads at once; and two users are to have one model, not two.
_LOADING = threading.Lock()


def loaded(model: str, device: str, dtype: str) -> tuple[Any, Any, threading.RLock]:
    """A language model, its tokenizer, and who may use it: one thread at a time."""
    with _LOADING:
        return _of_process(model, device, dtype)


@cache
def _of_process(model: str, device: str, dtype: str) -> tuple[Any, Any, threading.RLock]:
    return (*load_model(model, device, dtype), threading.RLock())
