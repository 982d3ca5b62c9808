"""How the texts of one call may be put together for a model: in prefix trees, in padded rows, or each alone.

A tree (:mod:`kgt_editor.lm.tree`) is many texts in one row, held apart by a mask and by position ids. It is the same
as one text at a time where nothing but attention under that mask mixes tokens. A recurrent layer, a convolution or
ALiBi mixes them in other ways. Which models do is not kept as a list of names: when a model is first used, a few
short texts are read in each way, and the fastest way that agrees with reading them alone is taken from then on.
What shows in long texts only, a window of attention or a switch of rotary frequencies, is read from the configuration.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch

from kgt_editor.errors import NumericalError, UnsupportedModelError
from kgt_editor.lm.forward import dtype_of, takes
from kgt_editor.lm.layers import device_of, plain_model, text_config
from kgt_editor.lm.passes import out_of_memory
from kgt_editor.lm.sample import Sample, difference
from kgt_editor.lm.target import max_positions
from kgt_editor.lm.tree import MAX_NODES

_LOG = logging.getLogger(__name__)


class Way(Enum):
    """A way to put texts together, the fastest first; the value is how it is called in messages and tables."""

    TREES = "trees"
    PADDED_ROWS = "padded rows"
    SINGLE_ROWS = "single rows"


# Attention kernels that take an arbitrary mask; others take it for padding, or do not look at it.
_MASKABLE = ("eager", "sdpa")
# Names under which configurations say how far back a token can look, in tokens.
_WINDOWS = (
    "sliding_window",
    "sliding_window_size",
    "attention_window",
    "attention_window_size",
    "attention_chunk_size",
    "window_size",
    "local_attention",
    "local_attention_window_len",
    "index_topk",
)
# Of config.layer_types, the kinds that look back over all tokens; if there are no others, a window is not in use.
_UNLIMITED = {"full_attention", "attention"}
# Words in the names of kinds that are, in whole or in part, a recurrence or a convolution.
_RECURRENT = ("linear", "mamba", "conv", "recurrent", "hybrid")
# Tokens of a sample's texts.
_SAMPLE_TOKENS = 48
# A window up to which a sample is made so wide that one which counts places in the row, as GPT-Neo's does, shows.
_WIDE = 1024
# Largest difference that counts as rounding. SmolLM2-135M (30 layers) has 7e-6, 1e-2 and 7e-2 on a CPU, and errors grow
# with the square root of the number of layers at most; a layer that lets one text see another gives .3 and more.
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 4e-2, torch.bfloat16: 2e-1}


def check_model(model: Any) -> tuple[bool, str]:
    """Whether ``model`` can be scored at all, and if not, why: any causal LM in evaluation mode can."""
    plain = plain_model(model)
    name = type(plain).__name__
    if getattr(getattr(plain, "config", None), "is_encoder_decoder", False):
        return False, f"{name} is an encoder-decoder; a causal language model is needed"
    if getattr(model, "training", False):
        return False, f"{name} is in training mode, where dropout makes its answers random: call model.eval() first"
    return True, ""


def way_of(model: Any, longest: int) -> Way:
    """The fastest way to read texts of up to ``longest`` tokens that gives what reading each alone gives.

    What it depends on is found out once for every model, and again when its attention kernel, number format, device
    or adapters change; the first slower way that has to be taken is told to the log, with the reason.

    Raises:
        UnsupportedModelError: see :func:`check_model`.
        KgtError: there is no memory for a short text.
    """
    way, why = way_and_reason(model, longest)
    if why:
        _say(f"{type(plain_model(model)).__name__} reads texts in {way.value}, slower than trees: {why}")
    return way


def way_and_reason(model: Any, longest: int) -> tuple[Way, str]:
    """:func:`way_of`, and why no faster way is right; empty of trees.

    Raises:
        As :func:`way_of`.
    """
    ok, reason = check_model(model)
    if not ok:
        raise UnsupportedModelError(reason)
    no_trees = _why_no_trees(model, longest)
    if not no_trees:
        return Way.TREES, ""
    no_padding = _why_no_padding(model, longest)
    return (Way.SINGLE_ROWS, f"{no_trees}; {no_padding}") if no_padding else (Way.PADDED_ROWS, no_trees)


@cache
def _say(message: str) -> None:
    """Tell the log, once a process."""
    _LOG.warning("%s", message)


def _why_no_trees(model: Any, longest: int) -> str:
    """Why texts cannot be put into a tree; empty where they can."""
    missing = [name for name in ("attention_mask", "position_ids", "past_key_values") if not takes(model, name)]
    if missing:
        return f"its forward takes no {' and no '.join(missing)}"
    kernel = getattr(text_config(model), "_attn_implementation", None)
    if kernel not in _MASKABLE:
        return f"attention kernel '{kernel}' takes no mask of a tree (attn_implementation='sdpa' does)"
    kinds = sorted(kind for kind in set(_layer_types(model)) if any(word in kind for word in _RECURRENT))
    if kinds:
        return f"its layers of type {' and '.join(kinds)} mix tokens without a mask"
    window = attention_window(model)
    # A row that is no wider than the window is right however the window is counted; a sample shows it for small ones.
    limit = window if window is None or window <= _WIDE else max((window - 2 * MAX_NODES) // 2, 0)
    if limit is not None and longest > limit:
        return f"texts of over {limit} tokens (its attention looks back over {window})"
    return _switch(model, longest) or _sampled(model, Way.TREES)


def _why_no_padding(model: Any, longest: int) -> str:
    """Why rows cannot be padded; empty where they can."""
    return _switch(model, longest) or _sampled(model, Way.PADDED_ROWS)


def _switch(model: Any, longest: int) -> str:
    """What in a pass hangs on the longest text in it: LongRoPE has other frequencies beyond a length."""
    rope = getattr(text_config(model), "rope_parameters", None) or getattr(text_config(model), "rope_scaling", None)
    kinds = [rope, *rope.values()] if isinstance(rope, dict) else []  # one for all layers, or one for each type
    for kind in (kind for kind in kinds if isinstance(kind, dict)):
        if kind.get("rope_type", kind.get("type")) == "longrope":
            limit = kind.get("original_max_position_embeddings")
            limit = limit or getattr(text_config(model), "original_max_position_embeddings", None)
            if isinstance(limit, int) and longest > limit:
                return f"texts of over {limit} tokens change its rotary frequencies for all that is in a pass"
    return ""


def attention_window(model: Any) -> int | None:
    """Most tokens that every layer sees at once, where the configuration names a window or a chunk."""
    config = text_config(model)
    kinds = _layer_types(model)
    found = []
    if not kinds or not set(kinds) <= _UNLIMITED:
        # vars: configurations whose layers differ refuse getattr.
        found = [getattr(config, "__dict__", {}).get(name) for name in _WINDOWS]
        found += [getattr(layer, name, None) for layer in _layer_configs(config) for name in _WINDOWS]
    found.append(getattr(config, "floor_scale", None))  # Llama 4 scales attention by places in the row beyond this
    sizes = [size for size in found if isinstance(size, int) and size > 0]
    return min(sizes, default=None)


def _layer_types(model: Any) -> list[str]:
    config = text_config(model)
    named = (getattr(config, name, None) for name in ("layer_types", "layers_block_type"))
    return next(([str(kind) for kind in kinds] for kinds in named if kinds), [])


def _layer_configs(config: Any) -> list[Any]:
    layers = getattr(config, "per_layer_config", None)
    return list(layers.values() if isinstance(layers, dict) else layers or ())


@dataclass
class _Sampled:
    """Why a way is not taken (empty where it is), for every way that was tried, while the model stays as it was."""

    state: tuple[Any, ...]
    reasons: dict[Way, str] = field(default_factory=dict)


_SAMPLED: WeakKeyDictionary[Any, _Sampled] = WeakKeyDictionary()


def _sampled(model: Any, way: Way) -> str:
    config = text_config(model)
    adapters = str(getattr(model, "active_adapters", "")) if hasattr(model, "peft_config") else ""
    kernel = getattr(config, "_attn_implementation", None)
    state = (kernel, dtype_of(model), device_of(model), attention_window(model), adapters)
    known = _SAMPLED.get(model)
    if known is None or known.state != state:
        known = _SAMPLED[model] = _Sampled(state)
    if way in known.reasons:
        return known.reasons[way]
    reason, settled = _try(model, way)
    if settled:
        known.reasons[way] = reason
    return reason


def _try(model: Any, way: Way) -> tuple[str, bool]:
    """Read a sample; why ``way`` is not right for the model, and whether that will be so the next time too."""
    limits = [_SAMPLE_TOKENS, max_positions(model), attention_window(model) if way is Way.TREES else None]
    sample = Sample.of(model, min(limit for limit in limits if limit is not None))
    if sample is None:
        return "its context is too short for a sample", True
    first, second = sample.alone(model)
    if bool(first.isnan().any()) or bool(second.isnan().any()):
        return "it gives NaN logits", False
    try:
        if way is Way.TREES:
            compared = sample.in_trees(model, first, second, _wide(model))
        else:
            compared = sample.in_rows(model, first, second)
        worst = max(difference(found, right) for found, right in compared)
    except NumericalError:
        worst = float("inf")
    except Exception as error:
        # Whatever a model's own code raises where it is given a tree: it can be read in another way.
        if out_of_memory(error):
            return f"there is no memory for a sample in {way.value}", False
        told = str(error).strip().splitlines() or [""]
        return f"it cannot be given texts in {way.value} ({type(error).__name__}: {told[0][:100]})", True
    if worst <= tolerance(model):
        return "", True
    return f"texts read in {way.value} change each other", True


def _wide(model: Any) -> int:
    window = attention_window(model)
    return 0 if window is None or window > _WIDE else window


def tolerance(model: Any) -> float:
    """The largest :func:`difference` that rounding in the model's number format makes."""
    dtype = dtype_of(model)
    if dtype == torch.float32 and device_of(model).type == "cuda" and torch.get_float32_matmul_precision() != "highest":
        dtype = torch.float16  # TF32 has as many bits of mantissa
    return _TOLERANCE.get(dtype, _TOLERANCE[torch.bfloat16])
