"""A model's weights as they were, to start every cell from the same model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from kgt_editor.errors import KgtError
from kgt_editor.lm.layers import device_of


class BaseWeights:
    """A copy of a model's weights and of its answer to a probe, to start every cell from the same model."""

    def __init__(self, model: Any, tok: Any) -> None:
        self._saved = {name: value.detach().to("cpu", copy=True) for name, value in _tensors(model)}
        self._trainable = {name: value.requires_grad for name, value in model.named_parameters()}
        self._probe = tok("The town of", return_tensors="pt").input_ids.to(device_of(model))
        self._answer = self._ask(model)

    @property
    def fingerprint(self) -> str:
        """A hash of the answer to the probe, every bit of it: another model gives another, and another machine may."""
        answer = self._answer.contiguous().view(torch.uint8).numpy()
        return hashlib.sha256(f"{self._answer.dtype}".encode() + answer.tobytes()).hexdigest()[:16]

    def restore(self, model: Any) -> None:
        """Write the saved weights back.

        Raises:
            KgtError: the model is not what it was: another set of tensors, or hooks that change its answers.
        """
        with torch.no_grad():
            for name, value in _tensors(model):
                if name in self._saved and self._saved[name].shape == value.shape:
                    value.copy_(self._saved[name])
        for name, value in model.named_parameters():
            value.requires_grad_(self._trainable.get(name, False))
            value.grad = None
        model.eval()
        changed = self.difference(model)
        if changed:
            raise KgtError(f"the base model cannot be brought back: {changed}")

    def difference(self, model: Any) -> str | None:
        """What is not bit for bit as it was; None where everything is."""
        found = dict(_tensors(model))
        for name in found.keys() ^ self._saved.keys():
            return f"{name} was {'added' if name in found else 'removed'}"
        for name, value in found.items():
            if not _same_bits(value.detach().cpu(), self._saved[name]):
                return f"{name} differs"
        return None if _same_bits(self._ask(model), self._answer) else "the weights are the same, its answers are not"

    @torch.no_grad()
    def _ask(self, model: Any) -> Tensor:
        logits: Tensor = model(self._probe).logits
        return logits.cpu()


def _tensors(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Those that are there: what accelerate has offloaded is brought in for a pass and cannot be written between."""
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if value.device.type != "meta":
            yield name, value


def _same_bits(left: Tensor, right: Tensor) -> bool:
    if left.shape != right.shape or left.dtype != right.dtype:
        return False
    return torch.equal(left.reshape(-1).view(torch.uint8), right.reshape(-1).view(torch.uint8))
