"""ROME: rank-one model editing (Meng et al. 2022, "Locating and Editing Factual Associations in GPT", section 3.1).

One MLP down-projection W is read as a memory of keys k and values v = W k. The subject's last token gives the key k*;
the value v* that makes the model answer ``target_new`` is found by gradient descent; eq. 2 inserts the pair:
W' = W + Lambda (C^-1 k*)^T.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal
from weakref import WeakKeyDictionary

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from kgt_editor.config import HParams
from kgt_editor.data.record import Record
from kgt_editor.editors.base import Progress, call_form
from kgt_editor.editors.rome.keys import Covariance, context_prefixes, key_covariance
from kgt_editor.editors.targets import encode_targets, token_ending_at
from kgt_editor.editors.weights import WeightEditor
from kgt_editor.errors import NumericalError
from kgt_editor.lm.layers import get_module
from kgt_editor.lm.tokens import join
from kgt_editor.lm.trace import Trace, replay
from kgt_editor.requests import EditRequest

# What the KL term keeps: the paper's essence prompt p'.
ESSENCE_PROMPT = "{} is a"


class ROMEHParams(HParams):
    """EasyEdit's ROME fields, and three of ours with defaults that change nothing.

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


class ROMEEditor(WeightEditor):
    """Writes one fact a request into an MLP's down-projection by a rank-one update."""

    name = "rome"
    description = "rank-one update of one MLP down-projection (Meng et al. 2022)"
    hparams_class = ROMEHParams
    hparams: ROMEHParams

    def __init__(self, hparams: HParams) -> None:
        super().__init__(hparams)
        self._contexts: WeakKeyDictionary[nn.Module, list[str]] = WeakKeyDictionary()
        self._covariances: WeakKeyDictionary[nn.Module, dict[str, Covariance]] = WeakKeyDictionary()

    def layers(self, model: nn.Module) -> list[str]:
        hparams = self.hparams
        blocks = [hparams.layer_module_tmp.format(layer) for layer in (*hparams.layers, hparams.v_loss_layer)]
        for name in (*blocks, hparams.ln_f_module, hparams.lm_head_module):
            get_module(model, name)
        return [hparams.rewrite_module_tmp.format(layer) for layer in sorted(hparams.layers)]

    def check(self, requests: list[EditRequest]) -> None:
        for request in requests:
            _ = request.subject_end

    def adopt(self, model: nn.Module, duplicate: nn.Module) -> None:
        if model in self._contexts:
            self._contexts[duplicate] = self._contexts[model]
        if model in self._covariances:
            self._covariances[duplicate] = self._covariances[model]

    def prepare(
        self, model: nn.Module, tok: Any, training: Sequence[Record] = (), progress: Progress | None = None
    ) -> None:
        """Lets the model write the context texts and, with ``mom2_adjustment``, counts the keys' second moments."""
        self.require(model)
        hparams = self.hparams
        if model not in self._contexts:
            self._contexts[model] = context_prefixes(
                model, tok, hparams.context_prefixes, hparams.context_template_length_params, hparams.seed
            )
        if hparams.mom2_adjustment and model not in self._covariances:
            dtype = getattr(torch, hparams.mom2_dtype)
            self._covariances[model] = {
                name: key_covariance(
                    model, tok, name, hparams.mom2_dataset, hparams.mom2_n_samples, dtype, progress, training
                )
                for name in self.layers(model)
            }

    def updates(self, model: nn.Module, tok: Any, requests: list[EditRequest]) -> Iterator[Mapping[str, Tensor]]:
        self.prepare(model, tok)
        for request in requests:
            for layer in sorted(self.hparams.layers):
                name = self.hparams.rewrite_module_tmp.format(layer)
                search = ValueSearch(model, tok, request, self._contexts[model], layer, self.hparams)
                covariance = self._covariances[model][name] if self.hparams.mom2_adjustment else None
                yield {name: rank_one_update(search.keys, search.keys[0], search.find_delta(), covariance)}


def rank_one_update(keys: Tensor, prompt_key: Tensor, delta: Tensor, covariance: Covariance | None = None) -> Tensor:
    """The matrix eq. 2 adds to W, (out, in).

    Its direction is C^-1 k* with k* the mean of ``keys``; its length is such that the edited layer maps
    ``prompt_key`` exactly to its old value plus ``delta`` (with one context, ``prompt_key`` is k*, and W' k* = v*).

    Args:
        keys: the layer's inputs at the subject's last token in every context, (contexts, in).
        prompt_key: that input in the bare edit prompt, (in,).
        delta: v* minus the layer's output for ``prompt_key``, (out,).
        covariance: C of the keys; None stands for the identity.

    Raises:
        NumericalError: the direction is orthogonal to ``prompt_key``.
    """
    direction = keys.mean(0)
    if covariance is not None:
        direction = covariance.solve(direction)
    direction = direction / direction.norm()
    scale = direction @ prompt_key
    if not bool(scale.abs() > 1e-8 * prompt_key.norm()):
        raise NumericalError("ROME: the keys of the contexts are orthogonal to the edit prompt's, or zero")
    return torch.outer(delta / scale, direction)


class ValueSearch:
    """The search for v* (section 3.1, step 2) of one request in one layer.

    Everything up to the edited block runs once; the descent runs only the blocks above it, all contexts in a batch.
    """

    def __init__(
        self, model: nn.Module, tok: Any, request: EditRequest, prefixes: list[str], layer: int, hparams: ROMEHParams
    ) -> None:
        self._request = request
        self._layer = layer
        self._hparams = hparams
        prompts = [join(prefix, request.prompt) for prefix in prefixes]
        essence = ESSENCE_PROMPT.format(request.subject)
        # The essence prompt is one more row; its continuation is never read.
        batch = encode_targets(model, tok, [*prompts, essence], [request.target_new] * (len(prompts) + 1))
        self._batch = batch.first(len(prompts))
        self._contexts = len(prompts)
        tail = len(request.prompt) - request.subject_end
        columns = [token_ending_at(tok, prompt, len(prompt) - tail) for prompt in prompts]
        columns.append(token_ending_at(tok, essence, len(request.subject)))
        self._columns = torch.tensor(columns, device=self._batch.ids.device)
        self._rows = torch.arange(len(columns), device=self._batch.ids.device)
        self._capture(model)

    @torch.no_grad()
    def _capture(self, model: nn.Module) -> None:
        hparams = self._hparams
        rewrite = hparams.rewrite_module_tmp.format(self._layer)
        names = [hparams.layer_module_tmp.format(i) for i in range(self._layer, hparams.v_loss_layer + 1)]
        with Trace(model, [rewrite, *names], stop=True) as trace:
            model(input_ids=self._batch.ids, attention_mask=self._batch.mask, use_cache=False)
        self._blocks = [get_module(model, name) for name in names[1:]]
        self._calls = [trace[name] for name in names[1:]]
        self._norm = get_module(model, hparams.ln_f_module)
        self._head = get_module(model, hparams.lm_head_module)
        self._hidden = trace[names[0]].output
        self._value = trace[rewrite].output[0, self._columns[0]].float()
        #: the layer's inputs at the subject's last token, (contexts, in); the first is the bare prompt's.
        self.keys = trace[rewrite].input[self._rows[:-1], self._columns[:-1]].float()

    def _logits(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """Logits at the target positions of all contexts and at the essence prompt's subject, fp32."""
        change = delta.to(self._hidden.dtype).expand(len(self._rows), -1)
        hidden = self._hidden.index_put((self._rows, self._columns), change, accumulate=True)
        hidden = replay(self._blocks, self._calls, hidden)
        rows = torch.cat([self._batch.rows, self._rows[-1:]])
        columns = torch.cat([self._batch.columns, self._columns[-1:]])
        states = self._norm(hidden[rows, columns])
        # EasyEdit names the (tied) input embedding as GPT-2's head.
        head = self._head
        logits = states @ head.weight.T if isinstance(head, nn.Embedding) else head(states)
        return logits[:-1].float(), logits[-1:].float()

    def find_delta(self) -> Tensor:
        """v* minus the present value at the subject's last token, (out,), fp32.

        Minimises eq. 4: negative log-likelihood of the target, averaged over the contexts, plus ``kl_factor`` times
        the KL divergence from the unedited predictions of the essence prompt (read at the subject's last token, as
        the authors' code does), plus the weight decay.

        Raises:
            NumericalError: the loss is NaN or infinite.
        """
        hparams = self._hparams
        delta = torch.zeros_like(self._value, requires_grad=True)
        optimizer = torch.optim.Adam([delta], lr=hparams.v_lr)
        size = self._value.norm()
        unedited: Tensor | None = None
        with torch.enable_grad():
            for step in range(hparams.v_num_grad_steps):
                logits, essence = self._logits(delta)
                predicted = essence.log_softmax(-1)
                if unedited is None:
                    unedited = predicted.detach()
                kl = (predicted.exp() * (predicted - unedited)).sum()
                loss = self._batch.row_losses(logits).sum() / self._contexts + hparams.kl_factor * kl
                loss = loss + hparams.v_weight_decay * delta.norm() / size**2
                if not bool(loss.isfinite()):
                    raise NumericalError(
                        f"ROME, block {self._layer}, step {step}: the loss of {self._request.prompt!r} is "
                        f"{loss.item()}; lower v_lr or load the model in float32"
                    )
                if loss.item() < hparams.v_stop_loss or step == hparams.v_num_grad_steps - 1:
                    break
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                with torch.no_grad():
                    delta.mul_((hparams.clamp_norm_factor * size / delta.norm().clamp_min(1e-12)).clamp_max(1.0))
        return delta.detach()


apply_rome_to_model = call_form(ROMEEditor)
