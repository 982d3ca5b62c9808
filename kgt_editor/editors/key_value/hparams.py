"""Hyperparameters that ROME, MEMIT and AlphaEdit share."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from kgt_editor.config import HParams


class ROMEHParams(HParams):
    """EasyEdit's ROME fields, and four of ours with defaults that change nothing.

    Attributes:
        layers: blocks whose down-projection is edited, one rank-one update each, lowest first.
        v_num_grad_steps, v_lr: Adam steps and learning rate of the search for v*.
        v_loss_layer: block after which the loss is read off (the last one, in the paper).
        v_weight_decay: weight of ``|delta| / |v|^2``.
        clamp_norm_factor: ``|delta|`` is kept below this many times ``|v|``.
        kl_factor: weight of the KL divergence on the essence prompt "{subject} is a".
        mom2_adjustment: use C^-1 k* (eq. 2) with the keys' second moments; otherwise k* itself.
        mom2_dataset: path of the text file those are counted on, one passage a line; ``training``: what the training
            records say; ``world`` for a testbed model.
        mom2_n_samples: how many passages of it are read.
        context_template_length_params: ``[[tokens, how many], ...]``: texts the model writes to stand before
            the prompt.
        context_prefixes: texts to stand before the prompt instead (ours).
        share_prefix: run what stands in front of the subject's last token once, not in every step: the same update up
            to rounding. Off, every step runs whole prompts, as the authors' code does (ours).
        v_stop_loss: the search ends when its loss falls below (fixed in the authors' code; ours).
        rewrite_module_tmp, layer_module_tmp, ln_f_module, lm_head_module: module names, ``{}`` for the block.
    """

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset({"stats_dir", "fp16", "mlp_module_tmp", "attn_module_tmp"})

    alg_name: Literal["ROME"] = "ROME"
    layers: tuple[int, ...] = Field(min_length=1)
    fact_token: Literal["subject_last"] = "subject_last"
    v_num_grad_steps: int = Field(ge=1)
    v_lr: float = Field(gt=0)
    v_loss_layer: int = Field(ge=0)
    v_weight_decay: float = Field(ge=0)
    clamp_norm_factor: float = Field(gt=0)
    kl_factor: float = Field(ge=0)
    mom2_adjustment: bool = False
    mom2_dataset: str = "training"
    mom2_n_samples: int = Field(default=100_000, ge=1)
    mom2_dtype: Literal["float32", "float64"] = "float32"
    context_template_length_params: tuple[tuple[int, int], ...] = ()
    context_prefixes: tuple[str, ...] = ()
    share_prefix: bool = True
    v_stop_loss: float = 0.05
    rewrite_module_tmp: str
    layer_module_tmp: str
    ln_f_module: str
    lm_head_module: str

    @model_validator(mode="after")
    def _loss_above_edit(self) -> ROMEHParams:
        if max(self.layers) > self.v_loss_layer:
            raise ValueError(f"v_loss_layer = {self.v_loss_layer} lies below the edited layer {max(self.layers)}")
        return self
