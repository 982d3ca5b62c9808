"""A whole editor in a package of its own: it makes the words of an answer likelier everywhere."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field

from kgt_editor.config import HParams
from kgt_editor.editors.base import Editor


class EchoHParams(HParams):
    """``boost``: what is added to the logits of the answer's tokens."""

    alg_name: Literal["ECHO"] = "ECHO"
    boost: float = Field(default=5.0, gt=0)


class EchoEditor(Editor):
    """Puts a bias on the answer's tokens by a hook, and takes it away again."""

    name = "echo"
    description = "example: the answer's tokens are likelier everywhere"
    hparams_class = EchoHParams
    needs_hparams_file = False

    def apply(self, model, tok, requests, copy=False, return_orig_weights=False, keep_original_weight=False, **kwargs):
        bias = torch.zeros(model.config.vocab_size, device=model.device)
        for request in requests:
            bias[tok(f" {request['target_new']}", add_special_tokens=False).input_ids] = self.hparams.boost
        hook = model.get_output_embeddings().register_forward_hook(lambda module, args, logits: logits + bias)
        return model, hook.remove
