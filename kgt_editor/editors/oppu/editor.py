"""OPPU: one PEFT per user (Tan et al. 2024, arXiv 2402.04401): a LoRA adapter tuned on the user's own history.

The history is all feedback given so far, in order, and grows with every request. An edit goes on from the user's
present adapter: ``num_steps`` passes over the new feedback, a batch at a time, and beside every batch ``replay``
pieces of older feedback, drawn anew each time, so that it is not forgotten; an edit's cost does not grow with the
history. (The paper tunes once, on the whole history; EasyEdit's LoRA on the new request alone.) Old answers that a
newer one to the same prompt replaced are not replayed. The loss is the cross-entropy of the answer's tokens;
the paper keeps the adapter from changing other answers by nothing, and nor does this.

The paper's non-parametric knowledge is optional: ``retrieval_k`` pieces of feedback that BM25 finds closest to the
query, and a ``profile``, stand in front of the prompt in tuning and in use. In tuning, the feedback being learned is
itself left out of what is retrieved for it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kgt_editor.editors.base import Editor, call_form
from kgt_editor.editors.memory import MEMORY, Feedback, read_feedback, write_feedback
from kgt_editor.editors.oppu.hparams import OPPUHParams
from kgt_editor.editors.oppu.model import PersonalLM, adapted_layers
from kgt_editor.editors.targets import pad_right
from kgt_editor.errors import NumericalError, UnsupportedModelError
from kgt_editor.lm.layers import check_in_one_place, device_of, frozen, is_quantised
from kgt_editor.lm.length import check_length
from kgt_editor.lm.prompted import PromptedLM
from kgt_editor.lm.tokens import continuation_ids_batch, join
from kgt_editor.requests import EditRequest

_NO_LABEL = -100
_ADAPTER = "adapter.safetensors"


class OPPUEditor(Editor):
    """Tunes the user's adapter on feedback."""

    name = "oppu"
    description = "one LoRA adapter a user, tuned on the history of feedback (Tan et al. 2024), through peft"
    hparams_class = OPPUHParams
    hparams: OPPUHParams

    def supports(self, model: nn.Module) -> tuple[bool, str]:
        """Any causal LM of plain linear layers that has the modules of ``target_modules``."""
        if isinstance(model, PersonalLM):
            return True, ""
        if isinstance(model, PromptedLM):
            return False, f"it is wrapped as {type(model).__name__} already; give its .lm"
        if is_quantised(model):
            return False, "its weights are quantised, which is not tried with shared weights; load it in fp32 or fp16"
        if hasattr(model, "peft_config"):
            return False, "it has an adapter already; merge or unload that first"
        try:
            check_in_one_place(model)
            adapted_layers(model, self.hparams)
        except UnsupportedModelError as error:
            return False, str(error)
        return True, ""

    def apply(
        self,
        model: nn.Module,
        tok: Any,
        requests: list[dict[str, Any]],
        copy: bool = False,
        return_orig_weights: bool = False,
        keep_original_weight: bool = False,
        **kwargs: Any,
    ) -> tuple[PersonalLM, dict[str, Tensor] | Callable[[], None]]:
        """Adds the requests to the user's history and tunes the user's adapter.

        Args:
            model: a plain LM, from which a new user's model is made, or a user's model, whose adapter, history and
                settings are resumed. A plain LM is never changed: given again, as EasyEdit does for every request
                that is not sequential, it is a new user again.
            tok: its tokenizer.
            requests: EasyEdit's dictionaries.
            copy: give the returned model an adapter and a history of its own; the weights below are never copied.
            return_orig_weights, keep_original_weight: return what undoes the edit.
            **kwargs: EasyEdit's extras, ignored.

        Returns:
            The user's model, and a callable that puts adapter and history back as they were (or nothing).

        Raises:
            UnsupportedModelError: see :meth:`supports`.
            UsageError: a request is incomplete or too long.
            NumericalError: the loss is NaN or infinite. Nothing has changed then.
        """
        ok, reason = self.supports(model)
        if not ok:
            raise UnsupportedModelError(f"editor '{self.name}' cannot edit this model: {reason}")
        parsed = [EditRequest.parse(request) for request in requests]
        if isinstance(model, PersonalLM):
            personal = model.duplicate() if copy else model
        else:
            personal = PersonalLM(model, tok, self.hparams)
        before = personal.state()
        new = [Feedback(r.prompt, r.subject, r.target_new, join(r.prompt, r.target_new)) for r in parsed]
        try:
            personal.memory.add(new)
            tune(personal, new)
        except BaseException:
            personal.set_state(before)
            raise
        if not (return_orig_weights or keep_original_weight):
            return personal, {}
        return personal, lambda: personal.set_state(before)

    def save_state(self, model: nn.Module, folder: Path) -> bool:
        """The adapter's tensors and the history."""
        if isinstance(model, PersonalLM):
            tensors, feedback = model.state()
            save_file({str(number): tensor for number, tensor in enumerate(tensors)}, folder / _ADAPTER)
            write_feedback(folder / MEMORY, feedback)
        return True

    def load_state(self, model: nn.Module, tok: Any, folder: Path) -> nn.Module:
        if not (folder / MEMORY).is_file():
            return model
        personal = PersonalLM(model, tok, self.hparams)
        tensors = load_file(folder / _ADAPTER)
        feedback = tuple(read_feedback(folder / MEMORY))
        personal.set_state(([tensors[str(number)] for number in range(len(tensors))], feedback))
        return personal


def tune(personal: PersonalLM, new: Sequence[Feedback]) -> None:
    """Tune the adapter on new feedback, which is in the history already, and on some of the older.

    Raises:
        UsageError: a prompt is longer than the model can read.
        NumericalError: the loss is NaN or infinite.
    """
    hparams, learned = personal.hparams, set(new)
    older = [item for item in personal.memory.feedback if item not in learned]
    new = [item for item in personal.memory.feedback if item in learned]
    chunks = [new[i : i + hparams.batch_size] for i in range(0, len(new), hparams.batch_size)]
    draw = random.Random(f"{hparams.seed} {len(older)}")
    parameters = personal.tuned
    optimizer = torch.optim.AdamW(parameters, lr=hparams.lr, weight_decay=hparams.weight_decay)
    with torch.random.fork_rng(), frozen(personal), torch.enable_grad():
        torch.manual_seed(hparams.seed)
        # The adapter's dropout is at work, the language model's is not.
        for module in personal.modules():
            if isinstance(module, BaseTunerLayer):
                module.train()
        try:
            for parameter in parameters:
                parameter.requires_grad_(True)
            for step in range(hparams.num_steps):
                losses = [
                    _step(personal, optimizer, chunk, draw.sample(older, min(hparams.replay, len(older))), step)
                    for chunk in chunks
                ]
                if not losses or sum(losses) / len(losses) < hparams.stop_loss:
                    break
        finally:
            for parameter in parameters:
                parameter.requires_grad_(False)
                parameter.grad = None


def _step(
    personal: PersonalLM, optimizer: torch.optim.Optimizer, new: Sequence[Feedback], old: Sequence[Feedback], step: int
) -> float:
    """One optimiser step; returns the loss on the new feedback in nats a token."""
    ids, mask, labels = encode_feedback(personal, [*new, *old])
    output = personal.adapter(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False)
    loss = output.loss
    if not bool(loss.isfinite()):
        raise NumericalError(f"OPPU, step {step}: the loss is {loss.item()}; lower lr or load the model in float32")
    optimizer.zero_grad()
    loss.backward(inputs=personal.tuned)
    optimizer.step()
    rows = len(new)
    with torch.no_grad():
        logits = output.logits[:rows, :-1].float().flatten(0, 1)
        return float(nn.functional.cross_entropy(logits, labels[:rows, 1:].flatten(), ignore_index=_NO_LABEL))


def encode_feedback(personal: PersonalLM, feedback: Sequence[Feedback]) -> tuple[Tensor, Tensor, Tensor]:
    """Feedback as ids, attention mask and labels, each (rows, length), right-padded; only answers are labelled.

    Raises:
        UsageError: a row is longer than the model can read.
    """
    contexts = [personal.context(item.prompt, without=item) + item.prompt for item in feedback]
    pairs = continuation_ids_batch(personal.tok, contexts, [item.target for item in feedback])
    for context, (stem, target) in zip(contexts, pairs, strict=True):
        check_length(personal, len(stem) + len(target), context)
    device = device_of(personal)
    ids, mask = pad_right([stem + target for stem, target in pairs], personal.tok.pad_token_id or 0, device)
    labels, _ = pad_right([[_NO_LABEL] * len(stem) + target for stem, target in pairs], _NO_LABEL, device)
    return ids, mask, labels


apply_oppu_to_model = call_form(OPPUEditor)
