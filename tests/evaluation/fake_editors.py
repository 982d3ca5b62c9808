"""Editors that do just what a test of the harness needs; tests register them as ``fake_editors:<class>``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from kgt_editor.config import HParams
from kgt_editor.editors.base import Editor, restore_model
from kgt_editor.errors import KgtError
from kgt_editor.evaluation.answers import say
from kgt_editor.lm.scoring import TargetScore, score_targets


class FakeHParams(HParams):
    """What shall go wrong, and how long an edit takes."""

    alg_name: str = "FAKE"
    delay: float = 0.0
    journal: str = ""  # a file that gets a line at every edit, for another process to watch
    refuse: tuple[int, ...] = ()
    crash: bool = False
    crash_at: tuple[int, ...] = ()
    half_way: tuple[int, ...] = ()
    exhaust: str = ""
    exhaust_after: int = 4  # applications, warm-up and preparation included
    die: bool = False
    leak: bool = False
    hook: bool = False
    unprepared: bool = False
    unsupported: bool = False
    forgetful: bool = False  # cannot be saved
    outcomes: tuple[str, ...] = ()  # of the edits, in turn


def _double(module, args, output):
    output.logits = output.logits * 2


class WeightEditor(Editor):
    """Adds noise to the output embedding."""

    name = "fake"
    description = "adds noise"
    hparams_class = FakeHParams
    needs_hparams_file = False
    hparams: FakeHParams
    log: ClassVar[list[tuple[str, Any]]] = []

    def supports(self, model):
        return not self.hparams.unsupported, "it is a test"

    def prepare(self, model, tok, training, progress=None):
        self.log.append(("prepare", len(training)))
        if self.hparams.unprepared:
            raise KgtError("no hypernetwork today")
        if progress is not None:
            progress("training", 1, 1)

    def apply(self, model, tok, requests, copy=False, return_orig_weights=False, keep_original_weight=False, **kwargs):
        (request,) = requests
        self.log.append(("apply", request["case_id"]))
        if self.hparams.journal:
            with Path(self.hparams.journal).open("a", encoding="utf-8") as journal:
                journal.write(f"{request['case_id']}\n")
        time.sleep(self.hparams.delay)
        if request["case_id"] in self.hparams.refuse:
            raise KgtError(f"case {request['case_id']} is refused")
        if self.hparams.die:
            os._exit(9)
        if self.hparams.crash or request["case_id"] in self.hparams.crash_at:
            raise RuntimeError("a defect\nover two lines")
        if self.hparams.exhaust and len(self.log) > self.hparams.exhaust_after:
            raise RuntimeError(self.hparams.exhaust)
        name, weight = next(iter(model.named_parameters()))
        before = {name: weight.detach().clone()} if return_orig_weights else {}
        with torch.no_grad():
            weight.add_(0.01 * torch.randn_like(weight))
        if request["case_id"] in self.hparams.half_way:
            raise RuntimeError("half way")
        if self.hparams.hook:
            model.register_forward_hook(_double)
        return model, {} if self.hparams.leak else before

    def edit_details(self):
        outcomes, edits = self.hparams.outcomes, sum(kind == "apply" for kind, _ in self.log)
        return {"outcome": outcomes[edits % len(outcomes)]} if outcomes else None

    def save_state(self, model, folder):
        if not self.hparams.forgetful:
            name, weight = next(iter(model.named_parameters()))
            torch.save({name: weight.detach()}, folder / "weight.pt")
        return not self.hparams.forgetful

    def load_state(self, model, tok, folder):
        return restore_model(model, torch.load(folder / "weight.pt"))


class Memory(nn.Module):
    """Answers the queries it was told by heart, the others as the model under it."""

    def __init__(self, lm: nn.Module, tok: Any) -> None:
        super().__init__()
        self.lm, self.tok = lm, tok
        self.answers: dict[str, str] = {}

    def score_targets(self, prompts, targets, batch_size=64):
        plain = score_targets(self.lm, self.tok, prompts, targets, batch_size)
        return [
            TargetScore(-0.1 if self.answers[prompt] == target else -50.0, 1, self.answers[prompt] == target)
            if prompt in self.answers
            else score
            for prompt, target, score in zip(prompts, targets, plain, strict=True)
        ]


class MemoryEditor(Editor):
    """Wraps the model and learns every edit and its paraphrases by heart."""

    name = "memory"
    description = "by heart"
    hparams_class = FakeHParams
    needs_hparams_file = False

    def apply(self, model, tok, requests, copy=False, return_orig_weights=False, keep_original_weight=False, **kwargs):
        wrapped = model if isinstance(model, Memory) else Memory(model, tok)
        for request in requests:
            for prompt in (request["prompt"], request["rephrase_prompt"]):
                wrapped.answers[prompt] = request["target_new"]

        def restore() -> None:
            for request in requests:
                for prompt in (request["prompt"], request["rephrase_prompt"]):
                    del wrapped.answers[prompt]

        return wrapped, restore


class Stubborn(nn.Module):
    """Answers every prompt that names a subject it was told of with what it was told; the others as the model."""

    def __init__(self, lm: nn.Module, tok: Any) -> None:
        super().__init__()
        self.lm, self.tok = lm, tok
        self.told: dict[str, str] = {}

    def score_targets(self, prompts, targets, batch_size=None):
        return score_targets(self.lm, self.tok, prompts, targets, batch_size=batch_size)

    def answer_many(self, prompts, max_new_tokens=16):
        plain = say(self.lm, self.tok, prompts, max_new_tokens)
        told = [next((new for name, new in self.told.items() if name in prompt), None) for prompt in prompts]
        return [old if new is None else new for old, new in zip(plain, told, strict=True)]


class StubbornEditor(Editor):
    """Wraps the model, which then thinks of one thing only where a subject is named."""

    name = "stubborn"
    description = "one answer a subject"
    hparams_class = FakeHParams
    needs_hparams_file = False

    def apply(self, model, tok, requests, copy=False, return_orig_weights=False, keep_original_weight=False, **kwargs):
        wrapped = model if isinstance(model, Stubborn) else Stubborn(model, tok)
        wrapped.told |= {request["subject"]: request["target_new"] for request in requests}
        return wrapped, lambda: wrapped.told.clear()
