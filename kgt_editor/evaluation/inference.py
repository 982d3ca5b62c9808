"""What plain inference costs, beside which an edit's cost is read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from kgt_editor.data.record import Record
from kgt_editor.lm.layers import device_of
from kgt_editor.lm.meter import measure, tidy

FORWARD_PROMPTS = 20
_WARM_UP_PASSES = 2


@torch.no_grad()
def plain_inference(model: Any, tok: Any, records: Sequence[Record]) -> tuple[float, int]:
    """Median seconds of one forward pass on an edit prompt, and the peak memory of such passes in bytes."""
    tidy(device_of(model))
    prompts = [record.query for record in records[:FORWARD_PROMPTS]]
    batches = [tok(prompt, return_tensors="pt").to(device_of(model)) for prompt in prompts]
    for batch in batches[:_WARM_UP_PASSES]:
        model(**batch)
    passes = [measure(partial(model, **batch), device_of(model)) for batch in batches]
    return float(np.median([one.seconds for one in passes])), max(one.peak_bytes for one in passes)
