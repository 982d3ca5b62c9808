"""What goes into and comes out of named modules during one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import Cache

from kgt_editor.lm.layers import get_module


@dataclass(frozen=True)
class Call:
    """One call of a module: its arguments and its result."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Tensor

    @property
    def input(self) -> Tensor:
        """The tensor the module works on (first argument)."""
        value: Tensor = self.args[0] if self.args else self.kwargs["hidden_states"]
        return value


class _StopForwardError(Exception):
    """Ends a forward pass once everything asked for was seen."""


class Trace(AbstractContextManager["Trace"]):
    """Records the last call of each named module while the context is open; leaves no hook behind.

    With ``stop=True`` the forward pass ends as soon as every named module has run, so that the layers above cost
    nothing; the exception this takes is swallowed by the context, so the model call has to be its last statement.
    ``edit(name, input, output)`` may return another tensor to go on with in an output's place.

    Example:
        >>> with Trace(model, ["transformer.h.0"], stop=True) as trace:
        ...     model(input_ids=ids)
        >>> trace["transformer.h.0"].output.shape
    """

    def __init__(
        self,
        model: nn.Module,
        names: Iterable[str],
        stop: bool = False,
        edit: Callable[[str, Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        self._modules = {name: get_module(model, name) for name in names}
        self._stop = stop
        self._edit = edit
        self._handles: list[RemovableHandle] = []
        self.calls: dict[str, Call] = {}

    def __getitem__(self, name: str) -> Call:
        return self.calls[name]

    def __enter__(self) -> Trace:
        for name, module in self._modules.items():
            self._handles.append(module.register_forward_hook(partial(self._record, name), with_kwargs=True))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        return kind is _StopForwardError

    def _record(self, name: str, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        call = Call(args, kwargs, first_tensor(output))
        if self._edit is not None:
            call = replace(call, output=self._edit(name, call.input, call.output))
        self.calls[name] = call
        if self._stop and len(self.calls) == len(self._modules):
            raise _StopForwardError
        return call.output if isinstance(output, Tensor) else (call.output, *output[1:])


def first_tensor(output: Any) -> Tensor:
    """A module's hidden states: its output, or the first of several."""
    value: Tensor = output if isinstance(output, Tensor) else output[0]
    return value


def replay(blocks: Iterable[nn.Module], calls: Iterable[Call], hidden: Tensor, past: Cache | None = None) -> Tensor:
    """Runs recorded blocks again on other hidden states, with the masks and positions they were called with.

    Args:
        blocks: consecutive decoder blocks.
        calls: the recorded call of each. A cache that it was given was written to, so ``past`` stands in its place.
        hidden: what the first of them reads, (batch, length, width).
        past: keys and values of what stands in front, as they were before the recorded pass; left as they are. None
            where the pass was recorded with ``use_cache=False``.
    """
    past = deepcopy(past)

    def given(value: Any) -> Any:
        return past if isinstance(value, Cache) else value

    for block, call in zip(blocks, calls, strict=True):
        kwargs = {name: given(value) for name, value in call.kwargs.items() if name != "hidden_states"}
        hidden = first_tensor(block(hidden, *map(given, call.args[1:]), **kwargs))
    return hidden
