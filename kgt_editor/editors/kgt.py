"""KGT as an editor: the weights stay, the user's graph changes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from torch import nn

from kgt_editor.editors.base import Editor, Restore
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.store import Graph, MemoryGraph, open_graph
from kgt_editor.graph.triple import Triple
from kgt_editor.kgt import editor as method
from kgt_editor.kgt import scoring
from kgt_editor.kgt.hparams import KGTHyperParams
from kgt_editor.kgt.model import KGEnhancedLM


class KGTEditor(Editor):
    """Knowledge Graph Tuning (Sun, Du and Chen, arXiv 2405.19686)."""

    name = "kgt"
    description = "Knowledge Graph Tuning: adds and removes triples of the user's graph, weights untouched"
    hparams_class = KGTHyperParams
    hparams: KGTHyperParams

    def __init__(self, hparams: KGTHyperParams) -> None:
        super().__init__(hparams)
        base_graph(hparams.graph)  # a broken file is an error of the request, not of the first edit

    def supports(self, model: nn.Module) -> tuple[bool, str]:
        """Any causal LM whose attention takes a mask, or one that has been wrapped already."""
        return (True, "") if isinstance(model, KGEnhancedLM) else scoring.check_model(model)

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
        return apply_kgt_to_model(model, tok, requests, self.hparams, copy=copy)


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
            settings are gone on with.
        tok: its tokenizer.
        requests: EasyEdit's dictionaries; see :meth:`kgt_editor.kgt.editor.Feedback.from_request`.
        hparams: settings of a model that is wrapped here.
        copy: give the returned model a graph of its own and leave the one of ``model`` as it is; weights are never
            copied.
        return_orig_weights, keep_original_weight, **kwargs: EasyEdit's, of no effect: undoing is always possible.

    Returns:
        The wrapped model and a callable that takes back exactly these edits (once; calling it again does nothing).

    Raises:
        UnsupportedModelError: the model's attention takes no mask.
        UsageError: a request is incomplete; none of the requests is in force then.
        NumericalError: the model gives NaN; none of the requests is in force then.
    """
    if isinstance(model, KGEnhancedLM):
        wrapped = model.with_graph(model.graph.copy()) if copy else model
    else:
        wrapped = KGEnhancedLM(model, tok, PersonalGraph(base_graph(hparams.graph)), hparams)
    graph = wrapped.graph
    numbers = [outcome.edit.number for outcome in method.edit_batch([wrapped] * len(requests), requests)]

    def restore() -> None:
        while numbers:
            graph.undo(numbers.pop())

    return wrapped, restore


@cache
def base_graph(source: str) -> Graph:
    """The base graph by name: ``world``, ``none`` or a file; opened once, shared by all users.

    Raises:
        UsageError: the file is missing or malformed.
        KgtError: the file is damaged.
    """
    if source == "none":
        return MemoryGraph()
    if source == "world":
        from kgt_editor.data.world import world_triples

        return MemoryGraph(Triple(*parts) for parts in world_triples())
    return open_graph(source)
