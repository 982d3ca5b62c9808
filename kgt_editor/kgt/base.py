"""The base graph that the settings name."""

from __future__ import annotations

from functools import cache

from kgt_editor.graph.store import Graph, MemoryGraph, open_graph
from kgt_editor.graph.triple import Triple


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
