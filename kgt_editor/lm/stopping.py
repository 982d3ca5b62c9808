"""When a model that writes an answer may stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria


class BehindFirstLine(StoppingCriteria):
    """Ends a row when its first line that holds anything is over: what would come behind is cut off anyway.

    Args:
        text: makes text of token ids.
    """

    def __init__(self, text: Callable[[list[int]], str]) -> None:
        self._text = text
        self._start: int | None = None

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> Any:
        if self._start is None:  # it is asked behind the first new token
            self._start = input_ids.shape[1] - 1
        over = ["\n" in self._text(row).lstrip() for row in input_ids[:, self._start :].tolist()]
        done: Tensor = torch.tensor(over, device=input_ids.device)
        return done
