"""A small graph, a request, and a model that answers sensibly."""

from __future__ import annotations

from typing import Any

from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.store import MemoryGraph
from kgt_editor.graph.triple import Triple
from kgt_editor.kgt.hparams import AS_PRINTED, KGTHyperParams
from kgt_editor.kgt.model import KGEnhancedLM

LM = tuple[Any, Any]


QUERY = "Ada Brun was born in the town of"


BASE = [Triple("Ada Brun", "was born in", "Velmora"), Triple("Ada Brun", "speaks the language", "Quin")]


def request(answer: str = "Tarsil", query: str = QUERY, **more: Any) -> dict[str, Any]:
    return {"prompt": query, "subject": "Ada Brun", "target_new": answer, **more}


PRINTED = KGTHyperParams(**AS_PRINTED)


def enhanced(lm: LM, *base: Triple, **settings: Any) -> KGEnhancedLM:
    hparams = KGTHyperParams.build({**AS_PRINTED, **settings}, "test")
    return KGEnhancedLM(*lm, PersonalGraph(MemoryGraph(base)), hparams)


def triples(model: KGEnhancedLM) -> set[Triple]:
    return {z for head in model.graph.heads() for z in model.graph.triples_from(head)}
