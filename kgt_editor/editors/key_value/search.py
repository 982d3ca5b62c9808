"""The value that makes a model answer an edit's target, found by gradient descent, and the states at a subject."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from kgt_editor.editors.key_value.hparams import ROMEHParams
from kgt_editor.editors.targets import encode_targets, pad_right, token_ending_at
from kgt_editor.errors import NumericalError
from kgt_editor.lm.layers import device_of, get_module
from kgt_editor.lm.prefix import read_prefix
from kgt_editor.lm.tokens import join
from kgt_editor.lm.trace import Trace, replay
from kgt_editor.requests import EditRequest

# What the KL term keeps: the paper's essence prompt p'.
ESSENCE_PROMPT = "{} is a"

# Rows of a forward pass that reads states.
_ROWS = 64


class ValueSearch:
    """The search for v* (ROME's section 3.1, step 2) of one request in one layer.

    What does not depend on the value runs once: the blocks up to the edited one, and the tokens in front of the
    subject's last one, whose keys and values the descent attends to (``share_prefix``; causal attention makes it
    exact). A step of the descent runs the rest, all contexts in a batch whose rows are moved so that the subjects'
    last tokens stand below each other.

    Args:
        model, tok: the model and its tokenizer.
        request: what is asked for.
        prefixes: texts to stand before the prompt, the first one empty.
        layer: the block whose value is searched for.
        hparams: steps and limits of the search.
        of_block: whether v* is the hidden state behind the block (MEMIT) or the output of its down-projection
            (ROME). A change of either moves the hidden state alike; what differs is the size that limits are
            relative to.
    """

    def __init__(
        self,
        model: nn.Module,
        tok: Any,
        request: EditRequest,
        prefixes: list[str],
        layer: int,
        hparams: ROMEHParams,
        of_block: bool = False,
    ) -> None:
        self._request = request
        self._layer = layer
        self._hparams = hparams
        self._of_block = of_block
        prompts = [join(prefix, request.prompt) for prefix in prefixes]
        essence = ESSENCE_PROMPT.format(request.subject)
        # The essence prompt is one more row; its continuation is never read.
        batch = encode_targets(model, tok, [*prompts, essence], [request.target_new] * (len(prompts) + 1))
        columns = subject_columns(tok, request, prompts)
        columns.append(token_ending_at(tok, essence, len(request.subject)))
        self._contexts = len(prompts)
        self._batch = batch.first(len(prompts)).aligned(columns)
        at = max(columns)
        self._first = at if hparams.share_prefix else 0
        self._subject = at - self._first
        self._capture(model)

    @torch.no_grad()
    def _capture(self, model: nn.Module) -> None:
        hparams = self._hparams
        rewrite = hparams.rewrite_module_tmp.format(self._layer)
        names = [hparams.layer_module_tmp.format(i) for i in range(self._layer, hparams.v_loss_layer + 1)]
        ids, mask = self._batch.ids, self._batch.mask
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        self._past = read_prefix(model, ids[:, : self._first], mask, positions)
        with Trace(model, [rewrite, *names], stop=True) as trace:
            model(
                input_ids=ids[:, self._first :],
                attention_mask=mask,
                position_ids=positions[:, self._first :],
                past_key_values=deepcopy(self._past),
                use_cache=self._past is not None,
            )
        self._blocks = [get_module(model, name) for name in names[1:]]
        self._calls = [trace[name] for name in names[1:]]
        self._norm = get_module(model, hparams.ln_f_module)
        self._head = get_module(model, hparams.lm_head_module)
        self._hidden = trace[names[0]].output
        self.value = trace[names[0] if self._of_block else rewrite].output[0, self._subject].float()
        #: the layer's inputs at the subject's last token, (contexts, in); the first is the bare prompt's.
        self.keys = trace[rewrite].input[:-1, self._subject].float()

    def _logits(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """Logits at the target positions of all contexts and at the essence prompt's subject, fp32."""
        at = self._subject
        changed = self._hidden[:, at : at + 1] + delta.to(self._hidden.dtype)
        hidden = torch.cat([self._hidden[:, :at], changed, self._hidden[:, at + 1 :]], dim=1)
        hidden = replay(self._blocks, self._calls, hidden, self._past)
        read = hidden[self._batch.rows, self._batch.columns - self._first]
        states = self._norm(torch.cat([read, hidden[-1:, at]]))
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
        delta = torch.zeros_like(self.value, requires_grad=True)
        optimizer = torch.optim.Adam([delta], lr=hparams.v_lr)
        size = self.value.norm()
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
                        f"{hparams.alg_name}, block {self._layer}, step {step}: the loss of "
                        f"{self._request.prompt!r} is {loss.item()}; lower v_lr or load the model in float32"
                    )
                if loss.item() < hparams.v_stop_loss or step == hparams.v_num_grad_steps - 1:
                    break
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                with torch.no_grad():
                    delta.mul_((hparams.clamp_norm_factor * size / delta.norm().clamp_min(1e-12)).clamp_max(1.0))
        return delta.detach()


def subject_columns(tok: Any, request: EditRequest, prompts: Sequence[str]) -> list[int]:
    """Where the subject's last token stands in prompts that end as the request's own."""
    tail = len(request.prompt) - request.subject_end
    return [token_ending_at(tok, prompt, len(prompt) - tail) for prompt in prompts]


@torch.no_grad()
def subject_states(
    model: nn.Module,
    tok: Any,
    requests: Sequence[EditRequest],
    prefixes: Sequence[str],
    layers: Sequence[str],
    block: str,
) -> tuple[dict[str, Tensor], Tensor]:
    """What linear layers read, and what a block gives, at the last token of each request's subject.

    A key is half the bare prompt's and half the mean over the prompts with a text in front, as MEMIT's authors count;
    a value is the bare prompt's.

    Args:
        model, tok: the model as it is now, and its tokenizer.
        requests: the edits.
        prefixes: texts to stand before the prompts, the first one empty.
        layers: names of the linear layers.
        block: name of a block above or around them all.

    Returns:
        Keys by layer, (requests, in), and values, (requests, out), both fp32.
    """
    inputs: dict[str, list[Tensor]] = {name: [] for name in layers}
    values: list[Tensor] = []
    each = max(1, _ROWS // len(prefixes))
    for start in range(0, len(requests), each):
        some = requests[start : start + each]
        prompts = [[join(prefix, request.prompt) for prefix in prefixes] for request in some]
        columns = [
            column for request, own in zip(some, prompts, strict=True) for column in subject_columns(tok, request, own)
        ]
        texts = tok([prompt for own in prompts for prompt in own]).input_ids
        texts = [text[: column + 1] for text, column in zip(texts, columns, strict=True)]
        ids, mask = pad_right(texts, tok.pad_token_id or 0, device_of(model))
        rows, ends = torch.arange(len(ids), device=ids.device), torch.tensor(columns, device=ids.device)
        with Trace(model, [*layers, block], stop=True) as trace:
            model(input_ids=ids, attention_mask=mask, use_cache=False)
        for name in layers:
            inputs[name].append(trace[name].input[rows, ends].float().unflatten(0, (len(some), len(prefixes))))
        values.append(trace[block].output[rows, ends].float()[:: len(prefixes)])
    return {name: _weighted(torch.cat(found)) for name, found in inputs.items()}, torch.cat(values)


def _weighted(keys: Tensor) -> Tensor:
    """(requests, contexts, in) to (requests, in)."""
    bare, others = keys[:, 0], keys[:, 1:]
    return (bare + others.mean(1)) / 2 if others.shape[1] else bare
