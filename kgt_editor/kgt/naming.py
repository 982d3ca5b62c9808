"""Names for what a query asks: relations of H(q, a, K) found without writing anything (ours).

``rank`` by similarity asks two things of every relation of the vocabulary. Is the query near to the sentences that ask
for this relation? And does the answer fit: how probable is it behind those sentences? They are "X <relation>", and for
Wikidata's relations those of ``neutral.yaml`` and ``relations.yaml`` too. What is near to sentences of other relations
as well says little: that is taken away. ``query`` takes the user's own words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor

from kgt_editor.graph.relations import WIKIDATA_PHRASES, verbalise
from kgt_editor.kgt.representation import (
    MASK,
    Representations,
    asked_of,
    cued,
    is_question,
    masked,
    neutral_sentences,
    relation_sentences,
)
from kgt_editor.lm.continuations import continuation_log_probs
from kgt_editor.lm.rows import Pair
from kgt_editor.lm.tokens import continuation_ids_batch, encode

# Weight of the answer's fit beside the query's similarity, both in standard deviations over the vocabulary. Chosen with
# SmolLM2-135M on CounterFact's training and validation records.
_FIT = 0.8
PLACE = "…"
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


class _Known(NamedTuple):
    """What a model says of one relation's sentences.

    Attributes:
        asking: the mean of their vectors, shape (width,).
        usual: how near that is to the neutral sentences that ask for other things.
        expected: log probabilities of the token behind them, their mean, shape (vocabulary of the model,).
    """

    asking: Tensor
    usual: Tensor
    expected: Tensor


class Namer:
    """What is kept for a model: what it says of the sentences of every relation.

    Args:
        model: a causal LM in evaluation mode.
        tok: its tokenizer.
    """

    def __init__(self, model: Any, tok: Any) -> None:
        self._model, self._tok = ref(model), tok
        self._known: dict[str, _Known] = {}

    def rank(self, query: str, subject: str, answer: str, vocabulary: Sequence[str], k: int) -> list[str]:
        """See :func:`rank`."""
        near = self._similarity(asked_of(query, subject), vocabulary)
        scores = _standard(near) + _FIT * _standard(self._fit(answer, vocabulary))
        best = scores.topk(min(k, len(vocabulary))).indices.tolist()
        return [vocabulary[index] for index in best]

    def _similarity(self, query: str, vocabulary: Sequence[str]) -> Tensor:
        """Similarity of the query to each relation, less that of the neutral sentences that ask for other things."""
        known = self._of(vocabulary)
        asking = torch.stack([one.asking for one in known])  # (vocabulary, width)
        vector = Representations.of(self._model(), self._tok)([query])[0]
        return asking @ vector - torch.stack([one.usual for one in known])

    def _fit(self, answer: str, vocabulary: Sequence[str]) -> Tensor:
        """Log probability of the answer's first token behind each relation's sentences, their mean."""
        first = continuation_ids_batch(self._tok, [MASK], [answer])[0][1][0]
        return torch.stack([one.expected[first] for one in self._of(vocabulary)]).float()

    def _of(self, vocabulary: Sequence[str]) -> list[_Known]:
        new = [relation for relation in vocabulary if relation not in self._known]
        if new:
            self._known.update(zip(new, self._learn(new), strict=True))
        return [self._known[relation] for relation in vocabulary]

    def _learn(self, relations: Sequence[str]) -> list[_Known]:
        representations = Representations.of(self._model(), self._tok)
        listed = [sentences(relation) for relation in relations]
        texts = [text for several in listed for text in several]
        pairs: list[Pair] = [  # a place holder for the continuation: the whole distribution is wanted
            (stem, [0]) for stem in encode(self._tok, [cued(text) for text in texts])
        ]
        expected, vectors = iter(continuation_log_probs(self._model(), pairs)), iter(representations(texts))
        others = torch.cat(list(representations.neutral.values()))
        keys = [key for key in representations.neutral for _ in range(2)]
        found = []
        for relation, several in zip(relations, listed, strict=True):
            asking = torch.stack([next(vectors) for _ in several]).mean(0)
            foreign = torch.tensor([other != _KEYS.get(relation) for other in keys])
            usual = (others[foreign] @ asking).mean()
            behind = torch.stack([next(expected)[0] for _ in several]).mean(0)
            found.append(_Known(asking, usual, behind.half().cpu()))
        return found


def sentences(relation: str) -> list[str]:
    """Sentences about ``X`` that ask for a relation; a relation of our own making has its phrase alone."""
    key = _KEYS.get(relation)
    more = [*neutral_sentences()[key], *relation_sentences()[key]] if key else []
    return [f"{MASK} {relation}", *more]


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
    words = " ".join(masked(query, subject, PLACE).split())
    words = words.rstrip("?.:; ") if is_question(words) else words.rstrip(".:;, ")
    words = re.sub(rf"^{PLACE}(?:['\u2019]s)?[\s,]*", "", words)
    words = _LEADING.sub("", words) or words
    return verbalise(words) if re.search(r"\w", words) else "is"
