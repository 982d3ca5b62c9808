"""Work cut into forward passes: as much at once as a device uses well, less where its memory runs out."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch

from kgt_editor.errors import KgtError

# Tokens a forward pass. A processor is busy with 512; a GPU takes longer to start a small pass than to compute it.
_CPU_TOKENS = 512
_GPU_TOKENS = 2048

# What torch says, where it raises no OutOfMemoryError of its own.
_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


def tokens_a_pass(device: torch.device) -> int:
    """How many tokens one forward pass is given: a function of the kind of device alone, so that runs repeat."""
    return _CPU_TOKENS if device.type == "cpu" else _GPU_TOKENS


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that a device, or the machine, has no memory left."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in message for words in _OUT_OF_MEMORY)


def in_passes(
    total: int, fitting: Callable[[int], int], run: Callable[[int, int], None], most: int | None = None
) -> None:
    """Run texts ``0`` to ``total - 1`` in order, so many a pass as fit.

    A pass that runs out of memory is run again with half as many texts, and no later one gets more.

    Args:
        total: how many texts there are.
        fitting: how many texts from a given one on make a pass of a sensible size, at least 1.
        run: one pass over the texts from a number up to, not including, another.
        most: texts a pass at most; without it, as many as fit.

    Raises:
        KgtError: there is not even memory for a pass over one text.
    """
    start, most = 0, total if most is None else most
    while start < total:
        end = start + min(fitting(start), most, total - start)
        short = False
        try:
            run(start, end)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if end - start == 1:
                raise KgtError(
                    "out of memory on a single prompt: use a smaller model, another --dtype or device, or shorter "
                    "prompts"
                ) from error
            short = True
        if short:  # outside of the handler, which holds on to the frames that hold on to the tensors
            most = (end - start) // 2
            gc.collect()
            torch.cuda.empty_cache()
        else:
            start = end
