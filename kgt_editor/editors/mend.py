"""MEND: model editor networks with gradient decomposition (Mitchell et al. 2022, "Fast Model Editing at Scale").

A small network, trained once a model, turns the gradient of an edit's loss into a weight change that makes the edit,
carries over to other wordings, and leaves the rest alone. An edit is then one backward pass.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Literal
from weakref import WeakKeyDictionary

from pydantic import Field
from torch import Tensor, nn

from kgt_editor.config import HParams
from kgt_editor.data.record import Record
from kgt_editor.editors import cache
from kgt_editor.editors.base import Progress, Restore
from kgt_editor.editors.mend_network import MENDNetwork, gradient_factors, layer_shapes
from kgt_editor.editors.mend_training import train
from kgt_editor.editors.request import EditRequest, encode_targets
from kgt_editor.editors.weights import WeightEditor
from kgt_editor.errors import UsageError
from kgt_editor.lm.layers import device_of

# Bump when the network or its training changes: what lies in the cache is then trained anew.
NETWORK_VERSION = "3"

_NOT_TRAINING = {"alg_name", "model_name", "device", "model_parallel", "max_length"}


class MENDHParams(HParams):
    """EasyEdit's MEND fields, and three of ours. What has one allowed value only is a variant we do not offer.

    Attributes:
        inner_params: weights that are edited.
        rank, n_hidden: rank and number of the rectified residual blocks of the network.
        norm: normalise the factors per dimension.
        lr, lr_lr: Adam's learning rates for the network and for the edits' own learning rates.
        edit_lr: what those start from.
        cedit, cloc: weights of the edit and the locality loss (eq. 5).
        batch_size: edits a training iteration, each made on its own.
        accumulate_bs: iterations an optimiser step.
        max_iters: training iterations.
        grad_clip: largest norm of the network's gradient.
        lr_decay_from: share of the training after which the learning rates fall linearly to zero; 1 keeps them (ours).
        locality_prompts: prompts an edit that must not change (ours).
        neighbour_share: share of those that ask for the edited fact's relation (ours).
    """

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset(
        {
            *("archive", "model_class", "tokenizer_class", "tokenizer_name", "half", "debug", "silent", "verbose"),
            *("save", "model_save_pt", "results_dir", "data_dir", "dataset", "task", "eval_only", "final_eval"),
            *("max_epochs", "log_interval", "eval_log_interval", "val_interval", "val_batch_size", "val_steps"),
            *("early_stop_patience", "early_stop_key", "lr_scale", "cbase"),
        }
    )

    alg_name: Literal["MEND"] = "MEND"
    inner_params: tuple[str, ...] = Field(min_length=1)
    lr: float = Field(gt=0)
    edit_lr: float
    lr_lr: float = Field(ge=0)
    cedit: float = Field(ge=0)
    cloc: float = Field(ge=0)
    rank: int = Field(ge=1)
    n_hidden: int = Field(default=1, ge=0)
    norm: bool = True
    combine: Literal[True] = True
    x_only: Literal[False] = False
    delta_only: Literal[False] = False
    shared: Literal[True] = True
    one_sided: Literal[False] = False
    train_base: Literal[False] = False
    hidden_dim: None = None
    no_grad_layers: None = None
    dropout: float = Field(default=0.0, ge=0, le=0)
    init: Literal["id"] = "id"
    act: Literal["relu"] = "relu"
    mlp_class: Literal["IDMLP"] = "IDMLP"
    opt: Literal["Adam"] = "Adam"
    batch_size: int = Field(ge=1)
    accumulate_bs: int = Field(default=1, ge=1)
    max_iters: int = Field(ge=1)
    grad_clip: float = Field(default=100.0, gt=0)
    lr_decay_from: float = Field(default=1.0, ge=0, le=1)
    locality_prompts: int = Field(default=2, ge=1)
    neighbour_share: float = Field(default=0.5, ge=0, le=1)


class MENDEditor(WeightEditor):
    """Edits by one transformed gradient step; :meth:`prepare` has to see the unedited model first."""

    name = "mend"
    description = "gradient transformed by a trained hypernetwork (Mitchell et al. 2022)"
    hparams_class = MENDHParams
    hparams: MENDHParams

    def __init__(self, hparams: HParams) -> None:
        super().__init__(hparams)
        self._networks: WeakKeyDictionary[nn.Module, MENDNetwork] = WeakKeyDictionary()
        self._by_weights: dict[str, MENDNetwork] = {}

    def layers(self, model: nn.Module) -> list[str]:
        return [name.removesuffix(".weight") for name in self.hparams.inner_params]

    def adopt(self, model: nn.Module, duplicate: nn.Module) -> None:
        self._networks[duplicate] = self._network(model)

    def prepare(self, model: nn.Module, tok: Any, training: Sequence[Record], progress: Progress | None = None) -> None:
        """Trains the hypernetwork on ``training``, or fetches it from the user's cache folder.

        Raises:
            UnsupportedModelError: the model has no such layers.
            UsageError: there is nothing to train on.
            NumericalError: the training diverged.
        """
        self.require(model)
        hparams = self.hparams
        weights = cache.weights_hash(model)
        key = cache.text_hash(
            NETWORK_VERSION,
            weights,
            hparams.model_dump_json(exclude=_NOT_TRAINING),
            json.dumps([asdict(record) for record in training]),
        )
        shapes = layer_shapes(model, self.layers(model))
        network = MENDNetwork(shapes, hparams.rank, hparams.n_hidden, hparams.edit_lr, hparams.norm, hparams.seed)
        network.to(device_of(model))
        if not _fill(network, cache.load("mend", key)):
            train(model, tok, network, training, hparams, progress)
            cache.save("mend", key, network.state_dict())
        network.requires_grad_(False)
        self._networks[model] = self._by_weights[weights] = network

    def updates(self, model: nn.Module, tok: Any, requests: list[EditRequest]) -> Iterator[Mapping[str, Tensor]]:
        if not requests:
            return
        network = self._network(model)
        prompts = [request.prompt for request in requests]
        batch = encode_targets(model, tok, prompts, [request.target_new for request in requests])
        edits = network(gradient_factors(model, batch, list(network.shapes)))
        yield {name: factors.matrix() for name, factors in edits.items()}

    def _network(self, model: nn.Module) -> MENDNetwork:
        if model not in self._networks:
            # A copy the caller made of a prepared model.
            twin = self._by_weights.get(cache.weights_hash(model)) if self._by_weights else None
            if twin is None:
                raise UsageError(
                    "editor 'mend' has no hypernetwork for this model: call prepare(model, tok, training) before "
                    "the first edit"
                )
            self._networks[model] = twin
        return self._networks[model]


def _fill(network: MENDNetwork, kept: dict[str, Tensor] | None) -> bool:
    """Loads cached values; False where there are none or they do not fit."""
    if kept is None:
        return False
    try:
        network.load_state_dict(kept)
    except RuntimeError:
        return False
    return True


# Editors made by the call form below, so that a second call on the same model finds its hypernetwork.
_EDITORS: WeakKeyDictionary[nn.Module, dict[MENDHParams, MENDEditor]] = WeakKeyDictionary()


def apply_mend_to_model(
    model: nn.Module,
    tok: Any,
    requests: list[dict[str, Any]],
    hparams: MENDHParams,
    copy: bool = False,
    return_orig_weights: bool = False,
    keep_original_weight: bool = False,
    **kwargs: Any,
) -> tuple[nn.Module, Restore]:
    """EasyEdit's call form of :class:`MENDEditor`; see ``Editor.apply``.

    The first call on a model needs ``train_ds``: the records the hypernetwork is trained on.
    """
    editors = _EDITORS.setdefault(model, {})
    if hparams not in editors:
        if not kwargs.get("train_ds"):
            raise UsageError("MEND trains a hypernetwork before the first edit: pass train_ds, a list of Records")
        editor = MENDEditor(hparams)
        editor.prepare(model, tok, kwargs["train_ds"])
        editors[hparams] = editor
    return editors[hparams].apply(model, tok, requests, copy, return_orig_weights, keep_original_weight, **kwargs)
