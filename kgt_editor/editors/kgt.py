"""KGT as an editor: the weights stay, the user's graph changes."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from kgt_editor.editors.base import Editor, Restore
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.kgt import editor as method
from kgt_editor.kgt.base import base_graph
from kgt_editor.kgt.hparams import KGTHyperParams
from kgt_editor.kgt.model import KGEnhancedLM
from kgt_editor.kgt.saved import GRAPH, read_graph
from kgt_editor.lm import batching

KEPT_SHOWN = 8  # of an entity's triples that an edit leaves alone


class KGTEditor(Editor):
    """Knowledge Graph Tuning (Sun, Du and Chen, arXiv 2405.19686)."""

    name = "kgt"
    description = "Knowledge Graph Tuning: adds and removes triples of the user's graph, weights untouched"
    hparams_class = KGTHyperParams
    hparams: KGTHyperParams

    def __init__(self, hparams: KGTHyperParams) -> None:
        super().__init__(hparams)
        base_graph(hparams.graph)  # a broken file is an error of the request, not of the first edit
        self._last: method.Outcome | None = None

    def supports(self, model: nn.Module) -> tuple[bool, str]:
        """Any causal LM in evaluation mode, or one that has been wrapped already."""
        return (True, "") if isinstance(model, KGEnhancedLM) else batching.check_model(model)

    def apply(
        self,
        model: nn.Module,
        tok: Any,
        requests: list[dict[str, Any]],
        copy: bool = False,
        return_orig_weights: bool = False,
        keep_original_weight: bool = False,
        **kwargs: Any,
    ) -> tuple[nn.Module, Restore]:
        """See :func:`apply_kgt_to_model`."""
        wrapped, restore, outcomes = _apply(model, tok, requests, self.hparams, copy)
        self._last = outcomes[-1] if outcomes else None
        return wrapped, restore

    def edit_details(self) -> dict[str, Any] | None:
        """P(a|q) before and after the last edit, and the entity's triples with their probabilities."""
        return None if self._last is None else _details(self._last)

    def save_state(self, model: nn.Module, folder: Path) -> bool:
        """The user's journal."""
        if isinstance(model, KGEnhancedLM):
            model.graph.save(folder / GRAPH)
        return True

    def load_state(self, model: nn.Module, tok: Any, folder: Path) -> nn.Module:
        if not (folder / GRAPH).is_file():
            return model
        graph = read_graph(folder / GRAPH, base_graph(self.hparams.graph))
        return KGEnhancedLM(model, tok, graph, self.hparams)


def apply_kgt_to_model(
    model: nn.Module,
    tok: Any,
    requests: list[dict[str, Any]],
    hparams: KGTHyperParams,
    copy: bool = False,
    return_orig_weights: bool = False,
    keep_original_weight: bool = False,
    **kwargs: Any,
) -> tuple[KGEnhancedLM, Callable[[], None]]:
    """Tune the graph to each request in turn.

    Args:
        model: a plain LM, which is wrapped with an empty overlay of the base graph, or a wrapped one, whose graph and
            settings are resumed.
        tok: its tokenizer.
        requests: EasyEdit's dictionaries; see :class:`kgt_editor.requests.EditRequest`.
        hparams: settings of a model that is wrapped here.
        copy: give the returned model a graph of its own and leave the one of ``model`` as it is; weights are never
            copied.
        return_orig_weights, keep_original_weight, **kwargs: EasyEdit's, of no effect: undoing is always possible.

    Returns:
        The wrapped model and a callable that takes back exactly these edits (once; calling it again does nothing).

    Raises:
        UnsupportedModelError: the model is in training mode, or no causal LM.
        UsageError: a request is incomplete; none of the requests is in force then.
        NumericalError: the model gives NaN; none of the requests is in force then.
    """
    wrapped, restore, _ = _apply(model, tok, requests, hparams, copy)
    return wrapped, restore


def _apply(
    model: nn.Module, tok: Any, requests: list[dict[str, Any]], hparams: KGTHyperParams, copy: bool
) -> tuple[KGEnhancedLM, Callable[[], None], list[method.Outcome]]:
    if isinstance(model, KGEnhancedLM):
        wrapped = model.with_graph(model.graph.copy()) if copy else model
    else:
        wrapped = KGEnhancedLM(model, tok, PersonalGraph(base_graph(hparams.graph)), hparams)
    graph = wrapped.graph
    outcomes = method.edit_batch([wrapped] * len(requests), requests)
    numbers = [outcome.edit.number for outcome in outcomes]

    def restore() -> None:
        while numbers:
            graph.undo(numbers.pop())

    return wrapped, restore, outcomes


def _details(outcome: method.Outcome) -> dict[str, Any]:
    """An edit for the records; of the triples that stay, the ones most likely to be read."""
    edit, problem = outcome.edit, outcome.problem
    known = {scored.triple: scored for scored in (*problem.present, *problem.proposals)}
    touched = {*edit.added, *edit.removed}
    stayed = sorted((z for z in problem.present if z.triple not in touched), key=lambda scored: -scored.retrieval)
    shown = [(triple, "added") for triple in edit.added] + [(triple, "removed") for triple in edit.removed]
    shown += [(scored.triple, "kept") for scored in stayed[:KEPT_SHOWN]]
    triples = [
        {
            "triple": list(triple),
            "change": change,
            "retrieval": _rounded(math.exp(known[triple].retrieval)),
            "reasoning": _rounded(math.exp(known[triple].reasoning)),
        }
        for triple, change in shown
    ]
    return {
        "outcome": outcome.became,
        "named_by": outcome.named_by,
        "before": _rounded(edit.before),
        "after": _rounded(edit.after),
        "triples": triples,
    }


def _rounded(probability: float | None) -> float | None:
    """Four digits, which is what a record is read for."""
    return None if probability is None else float(f"{probability:.4g}")
