"""What a model makes of the sentences that come with the package, kept in the cache folder: finding out takes seconds.

Whether a file is of this very model is seen by asking the model: a few of the sentences are read again and compared
with what the file has. A model of the same shape with other weights gives other states, and is asked for all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from kgt_editor.folders import cache_folder

_CHECKED = 4  # sentences that are read again
# Of their length: threads, batches and machines round differently. Models that are nearer to each other than this tell
# the sentences apart alike.
_TOLERANCE, _TOLERANCE_OF_HALF = 1e-3, 2e-2
_FORM = 1  # of the file and of what is made of the states: goes up when either changes


def kept(
    model: Any,
    tok: Any,
    layers: Sequence[int],
    texts: Sequence[str],
    states: Callable[[Sequence[str]], Tensor],
    work: Callable[[Tensor], dict[str, Tensor]],
) -> dict[str, Tensor]:
    """``work(states(texts))`` and the states as ``raw``, from an earlier process where that knew this very model.

    Args:
        model, tok: the language model.
        layers: whose states they are.
        texts: the sentences.
        states: reads sentences, shape (texts, layers, width).
        work: what is made of the states.

    Nothing is said where the file cannot be written: then it is found out anew next time.
    """
    config = model.config.get_text_config().to_diff_dict()
    dtype = next(model.parameters()).dtype
    tolerance = _TOLERANCE if dtype in (torch.float32, torch.float64) else _TOLERANCE_OF_HALF
    asked = [_FORM, config, len(tok), list(layers), list(texts), str(dtype)]
    key = hashlib.sha256(json.dumps(asked, default=str, sort_keys=True).encode()).hexdigest()
    path = cache_folder() / "sentences" / f"{key[:32]}.safetensors"
    with contextlib.suppress(OSError, ValueError, RuntimeError, KeyError, SafetensorError):
        found = load_file(path)
        checked = states(texts[:_CHECKED])
        if float((checked - found["raw"][:_CHECKED]).norm()) <= tolerance * float(checked.norm()):
            return found
    raw = states(texts)
    found = {"raw": raw, **work(raw)}
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        save_file({name: value.contiguous() for name, value in found.items()}, part)
        part.replace(path)
    return found
