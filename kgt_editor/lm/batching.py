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
from kgt_editor.lm.length import max_positions
from kgt_editor.lm.limits import Limits, fingerprint, limits_of
from kgt_editor.lm.passes import out_of_memory
from kgt_editor.lm.sample import Sample, difference
from kgt_editor.lm.tree import MAX_NODES

_LOG = logging.getLogger(__name__)


class Way(Enum):
    """A way to put texts together, the fastest first; the value is how it is called in messages and tables."""

    TREES = "trees"
    PADDED_ROWS = "padded rows"
    SINGLE_ROWS = "single rows"


# Attention kernels that take an arbitrary mask; others take it for padding, or do not look at it.
_MASKABLE = ("eager", "sdpa")
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

    What it depends on is found out once for every model, and again when its attention kernel, number format, device,
    adapters or window change; the first slower way that has to be taken is told to the log, with the reason.

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
    known = _known(model)
    switch = known.limits.switch
    switched = (
        "" if switch is None or longest <= switch else f"texts of over {switch} tokens change its rotary frequencies"
    )
    no_trees = (
        known.never_trees or _beyond(known.limits.window, longest) or switched or _sampled(model, known, Way.TREES)
    )
    if not no_trees:
        return Way.TREES, ""
    no_padding = switched or _sampled(model, known, Way.PADDED_ROWS)
    if not no_padding:
        return Way.PADDED_ROWS, no_trees
    return Way.SINGLE_ROWS, "; ".join(dict.fromkeys((no_trees, no_padding)))


@cache
def _say(message: str) -> None:
    """Tell the log, once a process."""
    _LOG.warning("%s", message)


@dataclass
class _Known:
    """What is known of a model as long as its state is the same.

    Attributes:
        config, text: its configuration and that of the part that reads text.
        state: what is looked at to see whether the model is as it was.
        limits: what the configuration says about long texts.
        never_trees: why no text is put into a tree, empty if some are.
        reasons: of the ways that were tried on a sample, why they are not taken, empty if they are.
    """

    config: Any
    text: Any
    state: tuple[Any, ...]
    limits: Limits
    never_trees: str
    reasons: dict[Way, str] = field(default_factory=dict)


_KNOWN: WeakKeyDictionary[Any, _Known] = WeakKeyDictionary()


def _known(model: Any) -> _Known:
    """What is known, anew where the model has changed. Every call of every scoring comes here: it has to be quick."""
    plain = plain_model(model)
    config = getattr(plain, "config", None)
    known = _KNOWN.get(model)
    text = known.text if known is not None and known.config is config else text_config(model)
    kernel = getattr(text, "_attn_implementation", None)
    weight = next(model.parameters(), None)
    place = None if weight is None else (weight.dtype, weight.device)
    adapters = "" if plain is model else str(getattr(model, "active_adapters", ""))
    state = (kernel, place, adapters, fingerprint(text))
    if known is None or known.config is not config or known.state != state:
        limits = limits_of(text)
        known = _KNOWN[model] = _Known(config, text, state, limits, _why_never(model, kernel, limits))
    return known


def _why_never(model: Any, kernel: Any, limits: Limits) -> str:
    missing = [name for name in ("attention_mask", "position_ids", "past_key_values") if not takes(model, name)]
    if missing:
        return f"its forward takes no {' and no '.join(missing)}"
    if kernel not in _MASKABLE:
        return f"attention kernel '{kernel}' takes no mask of a tree (attn_implementation='sdpa' does)"
    if limits.recurrent:
        return f"its layers of type {' and '.join(limits.recurrent)} mix tokens without a mask"
    return ""


def _beyond(window: int | None, longest: int) -> str:
    """Why texts of that length are too long for a tree, empty where they are not."""
    if window is None:
        return ""
    # A row that is no wider than the window is right however the window is counted; a sample shows it for small ones.
    limit = window if window <= _WIDE else max((window - 2 * MAX_NODES) // 2, 0)
    return f"texts of over {limit} tokens (its attention looks back over {window})" if longest > limit else ""


def _sampled(model: Any, known: _Known, way: Way) -> str:
    if way in known.reasons:
        return known.reasons[way]
    reason, settled = _try(model, known.limits.window, way)
    if settled:
        known.reasons[way] = reason
    return reason


def _try(model: Any, window: int | None, way: Way) -> tuple[str, bool]:
    """Read a sample; why ``way`` is not right for the model, and whether that will be so the next time too."""
    limits = [_SAMPLE_TOKENS, max_positions(model), window if way is Way.TREES else None]
    sample = Sample.of(model, min(limit for limit in limits if limit is not None))
    if sample is None:
        return "its context is too short for a sample", True
    first, second = sample.alone(model)
    if bool(first.isnan().any()) or bool(second.isnan().any()):
        return "it gives NaN logits", False
    try:
        if way is Way.TREES:
            wide = 0 if window is None or window > _WIDE else window
            compared = sample.in_trees(model, first, second, wide)
        else:
            compared = sample.in_rows(model, first, second)
        worst = max(difference(found, right) for found, right in compared)
    except NumericalError:
        worst = float("inf")
    except Exception as error:
        # Whatever a model's own code raises where it is given a tree: it can be read in another way.
        if out_of_memory(error):
            return f"there is no memory for a sample in {way.value}", False
        lines = str(error).strip().splitlines() or [""]
        return f"it cannot be given texts in {way.value} ({type(error).__name__}: {lines[0][:100]})", True
    if worst <= tolerance(model):
        return "", True
    return f"texts read in {way.value} change each other", True


def tolerance(model: Any) -> float:
    """The largest :func:`difference` that rounding in the model's number format makes."""
    dtype = dtype_of(model)
    if dtype == torch.float32 and device_of(model).type == "cuda" and torch.get_float32_matmul_precision() != "highest":
        dtype = torch.float16  # TF32 has as many bits of mantissa
    return _TOLERANCE.get(dtype, _TOLERANCE[torch.bfloat16])
