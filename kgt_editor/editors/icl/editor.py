"""In-context learning as an editor: an edit is remembered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from kgt_editor.editors.base import Editor, call_form
from kgt_editor.editors.icl.hparams import ICLHParams
from kgt_editor.editors.icl.model import InContextLM
from kgt_editor.editors.icl.steps import StepwiseLM
from kgt_editor.editors.memory import MEMORY, Feedback, read_feedback, write_feedback
from kgt_editor.errors import UnsupportedModelError
from kgt_editor.lm import batching
from kgt_editor.lm.prompted import PromptedLM
from kgt_editor.requests import EditRequest


class ICLEditor(Editor):
    """Puts what the user told in front of every query."""

    name = "icl"
    description = (
        "in-context: every remembered fact in the prompt, the closest by BM25 (icl:bm25), or one a step of a question "
        "that the model takes apart (icl:mello); weights untouched"
    )
    hparams_class = ICLHParams
    hparams: ICLHParams

    def supports(self, model: nn.Module) -> tuple[bool, str]:
        """Any causal LM; where facts are triples, for which it is asked at once, one in evaluation mode."""
        if isinstance(model, InContextLM):
            return True, ""
        if isinstance(model, PromptedLM):
            return False, f"it is wrapped as {type(model).__name__} already; give its .lm"
        return batching.check_model(model) if self.hparams.fact == "triple" else (True, "")

    def apply(
        self,
        model: nn.Module,
        tok: Any,
        requests: list[dict[str, Any]],
        copy: bool = False,
        return_orig_weights: bool = False,
        keep_original_weight: bool = False,
        **kwargs: Any,
    ) -> tuple[InContextLM, Callable[[], None]]:
        """Takes the requests into the memory.

        Args:
            model: a plain LM, which is wrapped with an empty memory, or a wrapped one, whose memory and settings are
                resumed.
            tok: its tokenizer.
            requests: EasyEdit's dictionaries.
            copy: give the returned model a memory of its own; weights are never copied.
            return_orig_weights, keep_original_weight, **kwargs: EasyEdit's, of no effect: undoing is always possible.

        Returns:
            The wrapped model and a callable that puts back the memory as it was before.

        Raises:
            UnsupportedModelError: see :meth:`supports`.
            UsageError: a request is incomplete; none is remembered then.
        """
        ok, reason = self.supports(model)
        if not ok:
            raise UnsupportedModelError(f"editor '{self.name}' cannot edit this model: {reason}")
        parsed = [EditRequest.parse(request) for request in requests]
        if isinstance(model, InContextLM):
            wrapped = model.duplicate() if copy else model
        else:
            wrapped = self._wrapped(model, tok, ())
        before = wrapped.memory.feedback
        wrapped.remember(parsed)

        def restore() -> None:
            wrapped.memory.feedback = before

        return wrapped, restore

    def save_state(self, model: nn.Module, folder: Path) -> bool:
        """The memory."""
        if isinstance(model, InContextLM):
            write_feedback(folder / MEMORY, model.memory.feedback)
        return True

    def load_state(self, model: nn.Module, tok: Any, folder: Path) -> nn.Module:
        if not (folder / MEMORY).is_file():
            return model
        return self._wrapped(model, tok, read_feedback(folder / MEMORY))

    def _wrapped(self, model: nn.Module, tok: Any, feedback: Sequence[Feedback]) -> InContextLM:
        kind = StepwiseLM if self.hparams.retrieval == "steps" else InContextLM
        return kind(model, tok, self.hparams, feedback)


apply_icl_to_model = call_form(ICLEditor)
