"""When a model that writes an answer may stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria

_PART_OF_A_LETTER = "\ufffd"  # what a token gives that is not all of one


def first_line(text: str) -> str:
    """The first line of a text that holds anything."""
    return text.strip().split("\n")[0]


class BehindFirstLine(StoppingCriteria):
    """Ends a row when its first line that holds anything is over: what would come behind is cut off anyway.

    Args:
        text: makes text of token ids.
        show: is given the first row's line as it is written, piece by piece.
    """

    def __init__(self, text: Callable[[list[int]], str], show: Callable[[str], None] | None = None) -> None:
        self._text, self._show = text, show
        self._start: int | None = None
        self._shown = 0

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> Any:
        if self._start is None:  # it is asked behind the first new token
            self._start = input_ids.shape[1] - 1
        texts = [self._text(row) for row in input_ids[:, self._start :].tolist()]
        line = first_line(texts[0])
        if self._show and len(line) > self._shown and not line.endswith(_PART_OF_A_LETTER):
            self._show(line[self._shown :])
            self._shown = len(line)
        done: Tensor = torch.tensor(["\n" in text.lstrip() for text in texts], device=input_ids.device)
        return done
