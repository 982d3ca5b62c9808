"""One forward pass, of models that differ in what their ``forward`` takes."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import torch
from torch import Tensor

from kgt_editor.errors import NumericalError
from kgt_editor.lm.layers import plain_model


def takes(model: Any, argument: str) -> bool:
    """Whether the model's ``forward`` has an argument of that name; adapters around it hand all of them on."""
    # The class is asked: accelerate puts a function of its own, which takes anything, in the instance's place.
    return argument in _arguments(type(plain_model(model)).forward)


@cache
def _arguments(function: Any) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def last_logits(model: Any, ids: Tensor, keep: int, **inputs: Any) -> Tensor:
    """One pass, and the logits of the last ``keep`` positions alone where the model can compute those alone.

    Args:
        model: a causal LM in evaluation mode.
        ids: token ids, shape (rows, tokens).
        keep: how many positions.
        **inputs: further arguments of ``forward``; those that it does not have are left out.

    Returns:
        shape (rows, keep, vocabulary).
    """
    given = {name: value for name, value in inputs.items() if value is not None and takes(model, name)}
    if takes(model, "logits_to_keep"):
        given["logits_to_keep"] = keep
    output = model(input_ids=ids, **given)
    logits: Tensor = output if isinstance(output, Tensor) else output.logits
    # Counted from the end: prompt tuning puts positions of its own in front.
    return logits[:, -keep:]


def dtype_of(model: Any) -> torch.dtype:
    """The number format that the model computes in, of a quantised one too."""
    found = getattr(plain_model(model), "dtype", None)
    if isinstance(found, torch.dtype) and found.is_floating_point:
        return found
    floats = (value.dtype for value in model.parameters() if value.is_floating_point())
    return next(floats, torch.float32)


def lowest(model: Any) -> float:
    """What a mask adds where nothing is to be seen, in the model's number format."""
    return torch.finfo(dtype_of(model)).min


def check_finite(model: Any, log_probs: Tensor) -> None:
    """Refuse NaN.

    Raises:
        NumericalError: there is one among the log probabilities.
    """
    if torch.isnan(log_probs).any():
        raise NumericalError(
            f"{type(plain_model(model)).__name__} gives NaN logits; check its weights, or load it in float32"
        )
