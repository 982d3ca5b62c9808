"""What editors with a trained hypernetwork have in common: its training on demand, its cache, the models it is for."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from kgt_editor.config import HParams
from kgt_editor.data.record import Record
from kgt_editor.editors import cache
from kgt_editor.editors.base import Progress
from kgt_editor.editors.by_weights import same_editor
from kgt_editor.editors.hypernet.training import Constraint, Hypernetwork, Sampler, fit
from kgt_editor.editors.of_models import OfModels
from kgt_editor.editors.targets import encode_targets
from kgt_editor.editors.weights import WeightEditor
from kgt_editor.errors import UsageError
from kgt_editor.lm.layers import device_of, frozen, linear_layer
from kgt_editor.requests import EditRequest

_NOT_TRAINING = {"alg_name", "model_name", "device", "model_parallel", "max_length"}


class HypernetHParams(HParams):
    """The fields that EasyEdit's MEND and KE files share, and three of ours.

    Attributes:
        inner_params: weights that are edited.
        lr, lr_lr: Adam's learning rates for the network and for the edits' own learning rates.
        edit_lr: what those start from.
        cedit, cloc: weights of the edit and the locality loss.
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
            *("alg", "archive", "model_class", "tokenizer_class", "tokenizer_name", "half", "debug", "silent"),
            *("verbose", "save", "model_save_pt", "results_dir", "data_dir", "dataset", "task", "eval_only"),
            *("final_eval", "max_epochs", "log_interval", "eval_log_interval", "val_interval", "val_batch_size"),
            *("val_steps", "early_stop_patience", "early_stop_key", "lr_scale", "cbase"),
        }
    )

    inner_params: tuple[str, ...] = Field(min_length=1)
    lr: float = Field(gt=0)
    edit_lr: float
    lr_lr: float = Field(ge=0)
    cedit: float = Field(ge=0)
    cloc: float = Field(ge=0)
    train_base: Literal[False] = False
    no_grad_layers: None = None
    dropout: float = Field(default=0.0, ge=0, le=0)
    opt: Literal["Adam"] = "Adam"
    batch_size: int = Field(ge=1)
    accumulate_bs: int = Field(default=1, ge=1)
    max_iters: int = Field(ge=1)
    grad_clip: float = Field(default=100.0, gt=0)
    lr_decay_from: float = Field(default=1.0, ge=0, le=1)
    locality_prompts: int = Field(default=2, ge=1)
    neighbour_share: float = Field(default=0.5, ge=0, le=1)


_N = TypeVar("_N", bound=Hypernetwork)


class HypernetEditor(WeightEditor, Generic[_N]):
    """An editor whose :meth:`prepare` has to see the unedited model first.

    A subclass makes the network (:meth:`network_for`) and weighs its losses (:meth:`locality`).

    Attributes:
        network_version: changes with the network or its training, so that what lies in the cache is trained anew.
    """

    network_version: ClassVar[str]
    hparams: HypernetHParams

    def __init__(self, hparams: HParams) -> None:
        super().__init__(hparams)
        self._networks: OfModels[_N] = OfModels()
        self._by_weights: dict[str, _N] = {}

    @abstractmethod
    def network_for(self, model: nn.Module) -> _N:
        """The untrained network."""

    @abstractmethod
    def locality(self) -> Constraint:
        """How much the locality loss counts, at the beginning of a training."""

    def normalise(self, model: nn.Module, network: _N, sampler: Sampler) -> None:
        """Fits to the training's edits what the network is not trained in; most networks have nothing of it."""

    def layers(self, model: nn.Module) -> list[str]:
        return [name.removesuffix(".weight") for name in self.hparams.inner_params]

    def adopt(self, model: nn.Module, duplicate: nn.Module) -> None:
        self._networks[duplicate] = self._network(model)

    @classmethod
    def for_call(cls, model: nn.Module, tok: Any, hparams: Any, kwargs: Mapping[str, Any]) -> HypernetEditor[Any]:
        """The first call on a model prepares the editor on ``train_ds``, later ones find it.

        Raises:
            UsageError: the first call has no ``train_ds``.
        """
        editor = same_editor(cls, model, hparams)
        if model not in editor._networks:
            if not kwargs.get("train_ds"):
                raise UsageError(
                    f"{hparams.alg_name} trains a hypernetwork before the first edit: pass train_ds, a list of Records"
                )
            editor.prepare(model, tok, kwargs["train_ds"])
        return editor

    def prepare(self, model: nn.Module, tok: Any, training: Sequence[Record], progress: Progress | None = None) -> None:
        """Trains the hypernetwork on ``training``, or fetches it from the user's cache folder.

        Raises:
            UnsupportedModelError: the model has no such layers.
            UsageError: there is nothing to train on.
            NumericalError: the training diverged.
        """
        self.require(model)
        weights = cache.weights_hash(model)
        key = cache.text_hash(
            self.network_version,
            weights,
            self.hparams.model_dump_json(exclude=_NOT_TRAINING),
            json.dumps([asdict(record) for record in training]),
        )
        network = self.network_for(model).to(device_of(model))
        with cache.alone(self.name, key):  # two cells of this editor may begin side by side
            if not _fill(network, cache.load(self.name, key)):
                unfinished = cache.Unfinished(self.name, key)
                sampler = Sampler(model, tok, training, self.hparams)
                with frozen(model), torch.enable_grad():
                    self.normalise(model, network, sampler)
                    fit(model, network, sampler, self.locality(), self.hparams, progress, unfinished)
                cache.save(self.name, key, network.state_dict())
                unfinished.drop()
        network.requires_grad_(False)
        self._networks[model] = self._by_weights[weights] = network

    def updates(self, model: nn.Module, tok: Any, requests: list[EditRequest]) -> Iterator[Mapping[str, Tensor]]:
        if not requests:
            return
        network = self._network(model)
        prompts = [request.prompt for request in requests]
        batch = encode_targets(model, tok, prompts, [request.target_new for request in requests])
        edits = network.edits(model, batch)
        yield {name: factors.matrix_like(linear_layer(model, name)) for name, factors in edits.items()}

    def _network(self, model: nn.Module) -> _N:
        if model not in self._networks:
            # A copy the caller made of a prepared model.
            twin = self._by_weights.get(cache.weights_hash(model)) if self._by_weights else None
            if twin is None:
                raise UsageError(
                    f"editor '{self.name}' has no hypernetwork for this model: call prepare(model, tok, training) "
                    "before the first edit"
                )
            self._networks[model] = twin
        return self._networks[model]


def _fill(network: nn.Module, kept: dict[str, Tensor] | None) -> bool:
    """Loads cached values; False where there are none or they do not fit."""
    if kept is None:
        return False
    try:
        network.load_state_dict(kept)
    except RuntimeError:
        return False
    return True
