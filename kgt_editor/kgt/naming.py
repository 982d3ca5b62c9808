"""Names for what a query asks: relations of H(q, a, K) found without writing anything (ours).

``rank`` by similarity asks two things of every relation of the vocabulary. Is the query near to the sentences that ask
for this relation? And does the answer fit: how probable is it behind those sentences? They are "X <relation>", and for
Wikidata's relations those of ``neutral.yaml`` and ``relations.yaml`` too. What is near to sentences of other relations
as well says little: that is taken away. ``query`` takes the user's own words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
import yaml
from torch import Tensor

from kgt_editor.graph.relations import WIKIDATA_PHRASES, verbalise
from kgt_editor.kgt.representation import (
    MASK,
    Representations,
    cued,
    is_question,
    masked,
    neutral_sentences,
)
from kgt_editor.lm.forest import continuation_log_probs
from kgt_editor.lm.rows import Pair
from kgt_editor.lm.tokens import continuation_ids_batch, encode

# Weight of the answer's fit beside the query's similarity, both in standard deviations over the vocabulary. Chosen with
# SmolLM2-135M on CounterFact's training and validation records.
_FIT = 0.8
_PLACE = "…"
_LEADING = re.compile(r"^(?:the|a|an|and|,|\W)\s+", re.IGNORECASE)

_OF_MODEL: WeakKeyDictionary[Any, Namer] = WeakKeyDictionary()


def rank(
    model: Any, tok: Any, queries: Sequence[tuple[str, str, str]], vocabularies: Sequence[Sequence[str]], k: int
) -> list[list[str]]:
    """For each query the ``k`` relations of its vocabulary that it most likely asks for, the likeliest first.

    Args:
        model, tok: the language model.
        queries: query, subject as it stands in it, and the user's answer.
        vocabularies: relation phrases, at least one, for each query.
        k: how many.
    """
    if model not in _OF_MODEL:
        _OF_MODEL[model] = Namer(model, tok)
    return [_OF_MODEL[model].rank(*query, known, k) for query, known in zip(queries, vocabularies, strict=True)]


class Namer:
    """What is kept for a model: what it expects behind the sentences of every relation.

    Args:
        model: a causal LM in evaluation mode.
        tok: its tokenizer.
    """

    def __init__(self, model: Any, tok: Any) -> None:
        self._model, self._tok = ref(model), tok
        self._next: dict[str, Tensor] = {}

    def rank(self, query: str, subject: str, answer: str, vocabulary: Sequence[str], k: int) -> list[str]:
        """See :func:`rank`."""
        near = self._similarity(masked(query, subject), vocabulary)
        scores = _standard(near) + _FIT * _standard(self._fit(answer, vocabulary))
        best = scores.topk(min(k, len(vocabulary))).indices.tolist()
        return [vocabulary[index] for index in best]

    def _similarity(self, query: str, vocabulary: Sequence[str]) -> Tensor:
        """Similarity of the query to each relation, less that of the neutral sentences that ask for other things."""
        representations = Representations.of(self._model(), self._tok)
        asking = _means(representations, vocabulary)  # (vocabulary, width)
        others = torch.cat(list(representations.neutral.values()))
        keys = [key for key in representations.neutral for _ in range(2)]
        foreign = torch.tensor([[other != _KEYS.get(relation) for other in keys] for relation in vocabulary]).float()
        usual = (asking @ others.T * foreign).sum(1) / foreign.sum(1)
        return asking @ representations([query])[0] - usual

    def _fit(self, answer: str, vocabulary: Sequence[str]) -> Tensor:
        """Log probability of the answer's first token behind each relation's sentences, their mean."""
        unknown = [relation for relation in vocabulary if relation not in self._next]
        if unknown:
            stems = [[cued(text) for text in sentences(relation)] for relation in unknown]
            ids = encode(self._tok, [stem for listed in stems for stem in listed])
            pairs: list[Pair] = [(stem, [0]) for stem in ids]  # a place holder: the whole distribution is wanted
            found = iter(continuation_log_probs(self._model(), pairs))
            for relation, listed in zip(unknown, stems, strict=True):
                self._next[relation] = torch.stack([next(found)[0] for _ in listed]).mean(0).half().cpu()
        first = continuation_ids_batch(self._tok, [MASK], [answer])[0][1][0]
        return torch.stack([self._next[relation][first] for relation in vocabulary]).float()


@cache
def _written() -> dict[str, list[str]]:
    text = files("kgt_editor.kgt").joinpath("relations.yaml").read_text(encoding="utf-8")
    found: dict[str, list[str]] = yaml.safe_load(text)
    return found


def sentences(relation: str) -> list[str]:
    """Sentences about ``X`` that ask for a relation; a relation of our own making has its phrase alone."""
    key = _KEYS.get(relation)
    more = [*neutral_sentences()[key], *_written()[key]] if key else []
    return [f"{MASK} {relation}", *more]


def _means(representations: Representations, vocabulary: Sequence[str]) -> Tensor:
    """Mean vector of each relation's sentences, shape (vocabulary, width)."""
    listed = [sentences(relation) for relation in vocabulary]
    rows = iter(representations([text for texts in listed for text in texts]))
    return torch.stack([torch.stack([next(rows) for _ in texts]).mean(0) for texts in listed])


_KEYS = {phrase: key for key, phrase in WIKIDATA_PHRASES.items()}


def _standard(values: Tensor) -> Tensor:
    """In standard deviations from the mean; zeros where all are equal."""
    return (values - values.mean()) / values.std(correction=0).clamp(min=1e-6)


def from_query(query: str, subject: str) -> str:
    """The words of the query without its subject, as a relation phrase.

    A subject at the beginning is left out, elsewhere an ellipsis holds its place: "Danielle Darrieux was born in"
    gives "was born in", "The mother tongue of Danielle Darrieux is" gives "mother tongue of … is". Words that are a
    known relation's label become its phrase.
    """
    words = " ".join(re.sub(rf"(?<!\w){re.escape(subject)}(?!\w)", _PLACE, query, flags=re.IGNORECASE).split())
    words = words.rstrip("?.:; ") if is_question(words) else words.rstrip(".:;, ")
    words = re.sub(rf"^{_PLACE}(?:['\u2019]s)?[\s,]*", "", words)
    words = _LEADING.sub("", words) or words
    return verbalise(words) if re.search(r"\w", words) else "is"
