"""MEND: model editor networks with gradient decomposition (Mitchell et al. 2022, "Fast Model Editing at Scale").

A small network, trained once a model, turns the gradient of an edit's loss into a weight change that makes the edit,
carries over to other wordings, and leaves the rest alone. An edit is then one backward pass.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import nn

from kgt_editor.editors.base import call_form
from kgt_editor.editors.factors import gradient_factors, layer_shapes
from kgt_editor.editors.hypernet.editor import HypernetEditor, HypernetHParams
from kgt_editor.editors.hypernet.mend_network import MENDNetwork
from kgt_editor.editors.hypernet.training import Constraint, Sampler


class MENDHParams(HypernetHParams):
    """EasyEdit's MEND fields beside the shared ones. What has one allowed value only is a variant we do not offer.

    Attributes:
        rank, n_hidden: rank and number of the rectified residual blocks of the network.
        norm: normalise the factors per dimension.
        norm_edit: bring each edit's gradients to the size that they have on the unedited model first, so that the
            larger gradients of a model that edits have damaged do not make larger edits still (ours).
        cedit, cloc: weights of the edit and the locality loss (eq. 5).
    """

    alg_name: Literal["MEND"] = "MEND"
    rank: int = Field(ge=1)
    n_hidden: int = Field(default=1, ge=0)
    norm: bool = True
    norm_edit: bool = False
    combine: Literal[True] = True
    x_only: Literal[False] = False
    delta_only: Literal[False] = False
    shared: Literal[True] = True
    one_sided: Literal[False] = False
    hidden_dim: None = None
    init: Literal["id"] = "id"
    act: Literal["relu"] = "relu"
    mlp_class: Literal["IDMLP"] = "IDMLP"


class MENDEditor(HypernetEditor[MENDNetwork]):
    """Edits by one transformed gradient step; ``prepare`` has to see the unedited model first."""

    name = "mend"
    description = "gradient transformed by a trained hypernetwork (Mitchell et al. 2022)"
    network_version = "4"
    hparams_class = MENDHParams
    hparams: MENDHParams

    def network_for(self, model: nn.Module) -> MENDNetwork:
        hparams = self.hparams
        shapes = layer_shapes(model, self.layers(model))
        rank, hidden, seed = hparams.rank, hparams.n_hidden, hparams.seed
        return MENDNetwork(shapes, rank, hidden, hparams.edit_lr, hparams.norm, seed, hparams.norm_edit)

    def locality(self) -> Constraint:
        return Constraint(self.hparams.cloc)

    def normalise(self, model: nn.Module, network: MENDNetwork, sampler: Sampler) -> None:
        if network.norm or network.norm_edit:
            layers = list(network.shapes)
            network.fit_normalisation(gradient_factors(model, batch, layers)[0] for batch in sampler.samples())


apply_mend_to_model = call_form(MENDEditor)
