"""FT: fine-tuning of one MLP down-projection, by the two objectives that EasyEdit calls FT-L and FT-M.

Zhu et al. 2020 ("Modifying Memories in Transformer Models") tune a few weights on the new fact and keep each within
a fixed distance of its old value (an L-infinity norm constraint); Meng et al. 2022 (ROME, section 3.1) run that on
one down-projection as their baseline FT+L. The objectives differ in where the target is read:

- FT-L, ``prompt_last``: every token of the target at the prompt's last position, as EasyEdit does. A target of
  several tokens cannot reach zero loss: the position has one distribution for all of them.
- FT-M, ``target_new``: every token at its own position, the usual masked language-model loss of the target.

EasyEdit's FT-L also trains on what the tokenizer adds to the target, a BOS before it or padding behind it; here only
the target's own tokens count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.func import functional_call

from kgt_editor.config import HParams
from kgt_editor.editors.base import call_form
from kgt_editor.editors.targets import TargetBatch, encode_targets
from kgt_editor.editors.weights import WeightEditor
from kgt_editor.errors import NumericalError
from kgt_editor.lm.layers import linear_layer
from kgt_editor.requests import EditRequest


class FTHParams(HParams):
    """EasyEdit's FT fields, and one of ours with a default that changes nothing.

    Attributes:
        layers: blocks whose down-projection is tuned, all together.
        num_steps: most passes over the requests.
        batch_size: requests an optimiser step.
        lr, weight_decay: Adam's; the decay pulls the weights towards zero, as in EasyEdit.
        kl_factor: zero; EasyEdit's FT reads no other value either.
        norm_constraint: how far a single weight may move; ``false`` lets it go anywhere.
        objective_optimization: ``prompt_last`` (FT-L) or ``target_new`` (FT-M).
        stop_loss: a batch whose loss (nats a token) is below takes no step, and the tuning ends when the mean over
            all requests is (fixed in EasyEdit's code; ours).
        rewrite_module_tmp: name of the layer, ``{}`` for the block, with or without ``.weight``; its bias stays.
    """

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset(
        {"layer_module_tmp", "mlp_module_tmp", "attn_module_tmp", "ln_f_module", "lm_head_module", "fp16"}
    )

    alg_name: Literal["FT"] = "FT"
    layers: tuple[int, ...] = Field(min_length=1)
    num_steps: int = Field(ge=1)
    batch_size: int = Field(default=128, ge=1)
    lr: float = Field(gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    kl_factor: float = Field(default=0.0, ge=0, le=0)
    norm_constraint: float | None = Field(default=None, gt=0)
    objective_optimization: Literal["prompt_last", "target_new"] = "prompt_last"
    stop_loss: float = Field(default=1e-2, ge=0)
    rewrite_module_tmp: str

    @field_validator("norm_constraint", mode="before")
    @classmethod
    def _false_is_none(cls, value: Any) -> Any:
        if value is True:
            raise ValueError("give the distance a weight may move, as 5e-4, or false")
        return None if value is False else value


class FTEditor(WeightEditor):
    """Tunes an MLP's down-projection on all requests of a call together."""

    name = "ft"
    description = "fine-tuning of one MLP down-projection within a norm constraint (Zhu et al. 2020), FT-L or FT-M"
    hparams_class = FTHParams
    hparams: FTHParams

    def layers(self, model: nn.Module) -> list[str]:
        template = self.hparams.rewrite_module_tmp.removesuffix(".weight")
        return [template.format(layer) for layer in sorted(set(self.hparams.layers))]

    def updates(self, model: nn.Module, tok: Any, requests: list[EditRequest]) -> Iterator[Mapping[str, Tensor]]:
        if requests:
            yield fine_tune(model, target_batches(model, tok, requests, self.hparams), self.layers(model), self.hparams)


def target_batches(
    model: nn.Module, tok: Any, requests: Sequence[EditRequest], hparams: FTHParams
) -> list[TargetBatch]:
    """The requests in batches of ``batch_size``, their targets read where ``objective_optimization`` says.

    Raises:
        UsageError: a request is longer than the model can read.
    """
    chunks = [requests[i : i + hparams.batch_size] for i in range(0, len(requests), hparams.batch_size)]
    batches = [
        encode_targets(model, tok, [request.prompt for request in chunk], [request.target_new for request in chunk])
        for chunk in chunks
    ]
    return batches if hparams.objective_optimization == "target_new" else [read_at_prompt_end(b) for b in batches]


def read_at_prompt_end(batch: TargetBatch) -> TargetBatch:
    """The same targets, every token of them read where the first one is: at the prompt's last position.

    The target's own tokens stay in the rows; a causal model does not see them from there.
    """
    ends = torch.full_like(batch.mask[:, 0], batch.mask.shape[1])
    ends = ends.scatter_reduce(0, batch.rows, batch.columns, "amin")
    return replace(batch, columns=ends[batch.rows])


def fine_tune(
    model: nn.Module, batches: Sequence[TargetBatch], layers: Sequence[str], hparams: FTHParams
) -> dict[str, Tensor]:
    """What Adam adds to each layer to make the targets likely, (out, in) in fp32 by layer name.

    The model itself is not touched: it runs with fp32 copies of the tuned weights in place of its own, so that small
    steps are not lost to half precision either.

    Args:
        model: the model, its parameters asking for no gradients.
        batches: the requests; one step each in turn, up to ``num_steps`` times.
        layers: names of the linear layers to tune.
        hparams: learning rate, constraint and stop.

    Raises:
        NumericalError: the loss is NaN or infinite.
    """
    linear = [linear_layer(model, name) for name in layers]
    old = [layer.weight.detach().float() for layer in linear]
    new = [weight.clone().requires_grad_() for weight in old]
    optimizer = torch.optim.Adam(new, lr=hparams.lr, weight_decay=hparams.weight_decay)
    requests = sum(len(batch.ids) for batch in batches)
    with torch.enable_grad():
        for step in range(hparams.num_steps):
            total = 0.0
            for batch in batches:
                tuned = {layer.parameter: w.to(layer.weight.dtype) for layer, w in zip(linear, new, strict=True)}
                inputs = {"input_ids": batch.ids, "attention_mask": batch.mask, "use_cache": False}
                logits = functional_call(model, tuned, (), inputs).logits
                loss = batch.row_losses(logits[batch.rows, batch.columns]).mean()
                if not bool(loss.isfinite()):
                    raise NumericalError(
                        f"FT, step {step}: the loss is {loss.item()}; lower lr or load the model in float32"
                    )
                total += loss.item() * len(batch.ids)
                if loss.item() < hparams.stop_loss:
                    continue
                optimizer.zero_grad()
                loss.backward(inputs=new)
                optimizer.step()
                if hparams.norm_constraint is not None:
                    _keep_near(new, old, hparams.norm_constraint)
            if total / requests < hparams.stop_loss:
                break
    return {
        layer.name: layer.stored(after.detach() - before) for layer, after, before in zip(linear, new, old, strict=True)
    }


@torch.no_grad()
def _keep_near(new: Sequence[Tensor], old: Sequence[Tensor], distance: float) -> None:
    for after, before in zip(new, old, strict=True):
        after.clamp_(before - distance, before + distance)


apply_ft_to_model = call_form(FTEditor)
