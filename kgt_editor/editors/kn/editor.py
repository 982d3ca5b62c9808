"""KN: knowledge neurons (Dai et al. 2022, "Knowledge Neurons in Pretrained Transformers").

The neurons that carry a fact are those whose activations the true answer's probability is attributed to, by
integrated gradients, for one wording of the question and for most others. The edit (section 5.1) writes into their
value slots, the columns of the down-projection: the true answer's embedding is taken away and the new one's added.

Neurons that more than a tenth of the relation's other facts have are left out (``shared.py``); an edit request does
not bring those facts along, so :meth:`KNEditor.prepare` takes them from the training records.

The paper edits BERT. Three things had to be decided for causal language models:

- The prompt's last position stands for the mask, and of a target of several tokens the product of their
  probabilities is attributed and the mean of their embeddings written.
- The embedding is the output head's row. In the paper's model, and wherever the head is tied, that is the word
  embedding; in an untied one (Llama) nothing reads the word embedding from the residual stream.
- A gated MLP's activations (Llama: silu(gate) * up) are as often negative as positive, and a negative one would
  subtract what is written into its slot. So the slot is written with the sign of its activation at the edit prompt.

EasyEdit's KN takes the edit prompt alone; it takes away the embedding of the answer that the model gives now, adds
the word embeddings with a fixed factor, and attributes to the MLP's values before the non-linearity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from kgt_editor.config import HParams
from kgt_editor.data.record import Record
from kgt_editor.editors import cache
from kgt_editor.editors.base import Progress, call_form
from kgt_editor.editors.kn.attribution import (
    Attribution,
    Neuron,
    NeuronSite,
    coarse_neurons,
    neuron_sites,
    shared_neurons,
)
from kgt_editor.editors.kn.shared import Shared, facts_by_relation, shared_by_relation
from kgt_editor.editors.of_models import OfModels
from kgt_editor.editors.weights import WeightEditor
from kgt_editor.errors import KgtError, NumericalError, UsageError
from kgt_editor.lm.layers import frozen, linear_layer
from kgt_editor.lm.tokens import continuation_ids, join
from kgt_editor.notice import tell
from kgt_editor.requests import EditRequest

# What does not bear on which neurons are found.
_NOT_FINDING = {"model_name", "device", "model_parallel", "lr_scale", "lambda_true", "lambda_new", "batch_size"}


class KNHParams(HParams):
    """EasyEdit's KN fields, and eight of ours.

    Attributes:
        steps: points of the integral.
        batch_size: rows a forward pass; a row is one block at one step.
        adaptive_threshold: a prompt's neurons are those above this share of the largest attribution (t).
        refine: keep the neurons that several wordings share; otherwise those of the edit prompt alone are taken.
        p: with ``refine``, the share of the wordings that a neuron must be found in more than.
        lr_scale: multiplies both lambdas.
        lambda_true, lambda_new: how many times the old answer's embedding is taken away and the new one's added
            (section 5.1; ours).
        layers: blocks whose neurons are candidates; all where none are named (ours).
        context_prefixes: texts that stand before the edit prompt to give the wordings of ``refine``. A benchmark's
            paraphrases cannot: they judge the edit (ours).
        attribute_to: ``activation`` (the neurons, as in the paper) or ``preactivation``, what the MLP's first layer
            (its gate, where it has one) gives before the non-linearity, as in EasyEdit (ours).
        shared_share: neurons of more than this share of a relation's training facts are left out of its edits; null
            leaves none out, as EasyEdit does (ours).
        relation_facts: how many training facts of a relation are looked at, at most (ours).
    """

    # Fields of EasyEdit's files that its own code does not read either.
    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset({"n_toks"})

    alg_name: Literal["KN"] = "KN"
    steps: int = Field(default=20, ge=1)
    batch_size: int = Field(default=20, ge=1)
    adaptive_threshold: float = Field(default=0.2, ge=0, lt=1)
    refine: bool = False
    p: float = Field(default=0.7, ge=0, lt=1)
    lr_scale: float = Field(default=1.0, gt=0)
    lambda_true: float = Field(default=1.0, ge=0)
    lambda_new: float = Field(default=8.0, gt=0)
    layers: tuple[int, ...] | None = Field(default=None, min_length=1)
    context_prefixes: tuple[str, ...] = ()
    attribute_to: Literal["activation", "preactivation"] = "activation"
    shared_share: float | None = Field(default=0.1, ge=0, lt=1)
    relation_facts: int = Field(default=20, ge=2)


class KNEditor(WeightEditor):
    """Writes the new answer into the value slots of the neurons that give the old one."""

    name = "kn"
    description = "value slots of a fact's knowledge neurons (Dai et al. 2022)"
    hparams_class = KNHParams
    hparams: KNHParams

    def __init__(self, hparams: HParams) -> None:
        super().__init__(hparams)
        self._shared: OfModels[Shared] = OfModels()

    def prepare(self, model: nn.Module, tok: Any, training: Sequence[Record], progress: Progress | None = None) -> None:
        """Finds the neurons that the facts of each relation share, or fetches them from the user's cache folder.

        Raises:
            UnsupportedModelError: unknown architecture.
            NumericalError: the attributions hold NaN or infinity.
        """
        share = self.hparams.shared_share
        if share is None or model in self._shared:
            return
        self.require(model)

        def neurons_of(request: EditRequest) -> list[Neuron]:
            return self._find(self._attributions(model, tok, request), request)

        key = (cache.weights_hash(model), self.hparams.model_dump_json(exclude=_NOT_FINDING))
        facts = facts_by_relation(training, self.hparams.relation_facts)
        with frozen(model):
            self._shared[model] = shared_by_relation(facts, neurons_of, share, key, progress)

    def adopt(self, model: nn.Module, duplicate: nn.Module) -> None:
        if model in self._shared:
            self._shared[duplicate] = self._shared[model]

    def layers(self, model: nn.Module) -> list[str]:
        return [site.value for site in self._sites(model)]

    def check(self, requests: list[EditRequest]) -> None:
        for request in requests:
            if not request.ground_truth:
                raise UsageError(
                    f"{request.label}: KN needs the field 'ground_truth', the text of the answer before the edit; the "
                    "neurons it looks for are those that give it"
                )

    def updates(self, model: nn.Module, tok: Any, requests: list[EditRequest]) -> Iterator[Mapping[str, Tensor]]:
        for request in requests:
            attributions = self._attributions(model, tok, request)
            neurons = self._choose(model, attributions, request)
            yield value_slot_updates(model, attributions[0], neurons, self._change(model, tok, request))

    def knowledge_neurons(self, model: nn.Module, tok: Any, request: EditRequest) -> list[Neuron]:
        """The (block, index) of the neurons an edit would write to; the model's parameters ask for no gradients.

        Raises:
            KgtError: no neuron passes the thresholds.
            NumericalError: the attributions hold NaN or infinity.
        """
        return self._choose(model, self._attributions(model, tok, request), request)

    def _sites(self, model: nn.Module) -> list[NeuronSite]:
        return neuron_sites(model, self.hparams.layers, self.hparams.attribute_to == "preactivation")

    def _attributions(self, model: nn.Module, tok: Any, request: EditRequest) -> list[Attribution]:
        """One for each wording; the first is the edit prompt's."""
        prefixes = self.hparams.context_prefixes if self.hparams.refine else ()
        wordings = [request.prompt, *(join(prefix, request.prompt) for prefix in prefixes)]
        sites = self._sites(model)
        return [Attribution(model, tok, wording, request.ground_truth, sites) for wording in wordings]

    def _choose(self, model: nn.Module, attributions: list[Attribution], request: EditRequest) -> list[Neuron]:
        """The fact's neurons without those that its relation's facts share."""
        hparams = self.hparams
        neurons = self._find(attributions, request)
        if not neurons:
            raise KgtError(
                f"KN: no neuron that speaks for {request.ground_truth!r} after {request.prompt!r} is shared by more "
                f"than {hparams.p:g} of {len(attributions)} wordings; lower p or adaptive_threshold"
            )
        if hparams.shared_share is None:
            return neurons
        relation = next(iter(request.relations), "").partition("(")[0]
        shared = self._shared.get(model, {}).get(relation)
        if shared is None:
            tell(
                f"KN: no training fact of relation {relation or 'without a name'!r} is known, so no neuron is left "
                "out of its edits as shared; see docs/method.md"
            )
            return neurons
        own = [neuron for neuron in neurons if neuron not in shared]
        if not own:
            raise KgtError(
                f"KN: more than {hparams.shared_share:.0%} of the facts of {relation!r} have every neuron that speaks "
                f"for {request.ground_truth!r} after {request.prompt!r}; raise shared_share, or set it to null"
            )
        return own

    def _find(self, attributions: list[Attribution], request: EditRequest) -> list[Neuron]:
        hparams = self.hparams
        found = []
        for attribution in attributions:
            scores = attribution.scores(hparams.steps, hparams.batch_size)
            if not bool(scores.isfinite().all()):
                raise NumericalError(f"KN: the attributions of {request.prompt!r} hold NaN or infinity")
            found.append(coarse_neurons(scores, [site.layer for site in attribution.sites], hparams.adaptive_threshold))
        return shared_neurons(found, hparams.p)

    @torch.no_grad()
    def _change(self, model: nn.Module, tok: Any, request: EditRequest) -> Tensor:
        """What is added to a value slot of positive activation, (width,), fp32."""
        head: Tensor = model.get_output_embeddings().weight  # type: ignore[operator]

        def embedding(target: str) -> Tensor:
            _, ids = continuation_ids(tok, request.prompt, target)
            return head[torch.tensor(ids, device=head.device)].float().mean(0)

        new, true = embedding(request.target_new), embedding(request.ground_truth)
        return self.hparams.lr_scale * (self.hparams.lambda_new * new - self.hparams.lambda_true * true)


def value_slot_updates(
    model: nn.Module, attribution: Attribution, neurons: list[Neuron], change: Tensor
) -> dict[str, Tensor]:
    """The matrices (out, in) that add ``change`` to the value slots of ``neurons``, by layer name.

    Args:
        model: the model.
        attribution: of the edit prompt; its activations give the signs.
        neurons: (block, index) of each.
        change: what a neuron of positive activation is to add to the residual stream, (out,).
    """
    matrices: dict[str, Tensor] = {}
    for site, activations in zip(attribution.sites, attribution.activations, strict=True):
        chosen = [index for layer, index in neurons if layer == site.layer]
        if chosen:
            matrix = change.new_zeros(linear_layer(model, site.value).shape)
            matrix[:, chosen] = torch.outer(change, activations[chosen].float().sign())
            matrices[site.value] = matrix
    return matrices


apply_kn_to_model = call_form(KNEditor)
