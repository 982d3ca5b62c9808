"""KE: KnowledgeEditor (De Cao, Aziz and Titov 2021, "Editing Factual Knowledge in Language Models").

A network reads the edit and says how the gradient of its loss has to be gated, shifted and scaled to make it. It is
trained, once a model, to make edits and carry them over to other wordings, under the constraint that the model's
other answers move little. An edit is then one forward and one backward pass of its prompt.

The paper edits BERT and BART; this is its method for causal language models. Three things are simpler here: of the old
answer the network reads the first token, which the edit's own forward pass gives; one hidden layer serves all
matrices; the margin stays where the authors shrink it as training succeeds.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import nn

from kgt_editor.editors.base import call_form
from kgt_editor.editors.factors import layer_shapes
from kgt_editor.editors.hypernet.editor import HypernetEditor, HypernetHParams
from kgt_editor.editors.hypernet.ke_network import KENetwork, weight_scales
from kgt_editor.editors.hypernet.training import Constraint


class KEHParams(HypernetHParams):
    """The fields of EasyEdit's KE files, which came without an implementation, and ours.

    Attributes:
        edit_lr: what the edits' rates start from: a step's root mean square as a share of its weight's.
        cedit: weight of the edit loss.
        cloc: what the constraint's multiplier starts from; it moves from there.
        margin: how far other predictions may move, a KL divergence in nats (ours; the authors start from this default).
        multiplier_lr: how fast the multiplier moves (ours; the authors' value).
        lstm_dim: width of the LSTM, in each direction (ours; the authors' value).
        hidden_dim: width of the layer behind it (ours; the authors' value).
    """

    alg_name: Literal["KE"] = "KE"
    margin: float = Field(default=1e-3, ge=0)
    multiplier_lr: float = Field(default=0.1, ge=0)
    lstm_dim: int = Field(default=128, ge=1)
    hidden_dim: int = Field(default=128, ge=1)


class KEEditor(HypernetEditor[KENetwork]):
    """Edits by one gated gradient step; ``prepare`` has to see the unedited model first."""

    name = "ke"
    description = "gradient gated by a trained hypernetwork that reads the edit (De Cao et al. 2021)"
    network_version = "1"
    hparams_class = KEHParams
    hparams: KEHParams

    def network_for(self, model: nn.Module) -> KENetwork:
        hparams, layers = self.hparams, self.layers(model)
        return KENetwork(
            layer_shapes(model, layers),
            weight_scales(model, layers),
            model.get_input_embeddings().embedding_dim,  # type: ignore[operator]
            hparams.lstm_dim,
            hparams.hidden_dim,
            hparams.edit_lr,
            hparams.seed,
        )

    def locality(self) -> Constraint:
        return Constraint(self.hparams.cloc, self.hparams.margin, self.hparams.multiplier_lr)


apply_ke_to_model = call_form(KEEditor)
