"""The settings of OPPU."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from kgt_editor.config import HParams


class OPPUHParams(HParams):
    """EasyEdit's LoRA fields, and a few of ours.

    Attributes:
        alg_name: ``OPPU``, or ``LoRA`` as in EasyEdit's files.
        lora_type: ``lora``, or ``adalora`` (a fixed rank of its form, see
            :func:`kgt_editor.editors.oppu.model.peft_config`).
        layers: blocks that get an adapter; empty for all.
        num_steps: most passes over the new feedback.
        batch_size: new feedback an optimiser step.
        lr, weight_decay: AdamW's.
        kl_factor: zero; neither the paper nor EasyEdit has such a term.
        norm_constraint: ``false``; nor such a constraint.
        target_modules: names of the linear layers, or ends of names.
        rank, lora_alpha, lora_dropout: LoRA's; the update is scaled by ``lora_alpha / rank``.
        stop_loss: tuning ends after a pass whose mean loss on the new feedback (nats a token) is below (ours).
        replay: older feedback beside every batch (ours).
        retrieval_k: feedback retrieved for a prompt; 0 for none.
        profile: text about the user that stands in front of every prompt.
    """

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset({"fp16", "results_dir"})

    alg_name: Literal["OPPU", "LoRA"] = "OPPU"
    lora_type: Literal["lora", "adalora"] = "lora"
    layers: tuple[int, ...] = ()
    num_steps: int = Field(ge=1)
    batch_size: int = Field(default=128, ge=1)
    lr: float = Field(gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    kl_factor: float = Field(default=0.0, ge=0, le=0)
    norm_constraint: None = None
    target_modules: tuple[str, ...] = Field(min_length=1)
    rank: int = Field(ge=1)
    lora_alpha: float = Field(gt=0)
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    stop_loss: float = Field(default=0.0, ge=0)
    replay: int = Field(default=16, ge=0)
    retrieval_k: int = Field(default=0, ge=0)
    profile: str = ""

    @field_validator("norm_constraint", mode="before")
    @classmethod
    def _none_only(cls, value: Any) -> None:
        if value not in (None, False):
            raise ValueError("an adapter has no norm constraint; set false")
