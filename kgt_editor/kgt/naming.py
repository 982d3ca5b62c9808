"""Names for what a query asks: relations of H(q, a, K) found without writing anything (ours).

``rank`` by similarity asks two things of every relation of the vocabulary. Is the query near to what asks for this
relation: "X <relation>", and for Wikidata's relations a statement and a question of ``neutral.yaml``? And does the
answer fit: is it more probable behind "X <relation>" than behind the other relations' sentences? From both what every
query and every answer has for a relation is taken away, else the commonest phrase would always win. ``query`` takes the
user's own words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor

from kgt_editor.graph.relations import WIKIDATA_PHRASES, verbalise
from kgt_editor.kgt.representation import MASK, Representations, is_question, masked
from kgt_editor.lm.forest import continuation_log_probs
from kgt_editor.lm.rows import Pair
from kgt_editor.lm.tokens import continuation_ids_batch, encode

# Weight of the answer's fit beside the query's similarity, both in standard deviations over the vocabulary.
_FIT = 0.5
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
    """What is kept for a model: how near every relation is to sentences that ask for something else.

    Args:
        model: a causal LM in evaluation mode.
        tok: its tokenizer.
    """

    def __init__(self, model: Any, tok: Any) -> None:
        self._model, self._tok = ref(model), tok
        self._fits: dict[str, Tensor] = {}

    def rank(self, query: str, subject: str, answer: str, vocabulary: Sequence[str], k: int) -> list[str]:
        """See :func:`rank`."""
        representations = Representations.of(self._model(), self._tok)
        near = self._similarity(representations, masked(query, subject), vocabulary)
        scores = _standard(near) + _FIT * _standard(self._fit(answer, vocabulary))
        best = scores.topk(min(k, len(vocabulary))).indices.tolist()
        return [vocabulary[index] for index in best]

    def _similarity(self, representations: Representations, query: str, vocabulary: Sequence[str]) -> Tensor:
        """Similarity of the query to each relation, less that of the sentences that ask for other things."""
        sums, counts = [], []
        phrases = representations([f"{MASK} {relation}" for relation in vocabulary])
        others = torch.cat(list(representations.neutral.values()))
        keys = [key for key in representations.neutral for _ in range(2)]
        for relation, phrase in zip(vocabulary, phrases, strict=True):
            key = _KEYS.get(relation)
            own = [phrase, *representations.neutral[key]] if key in representations.neutral else [phrase]
            sums.append(torch.stack(own).mean(0))
            counts.append(torch.tensor([other != key for other in keys]))
        asking = torch.stack(sums)  # (vocabulary, width)
        foreign = torch.stack(counts).float()  # (vocabulary, sentences)
        usual = (asking @ others.T * foreign).sum(1) / foreign.sum(1)
        return asking @ representations([query])[0] - usual

    def _fit(self, answer: str, vocabulary: Sequence[str]) -> Tensor:
        """Log probability of the answer's first token behind each relation."""
        unknown = [relation for relation in vocabulary if relation not in self._fits]
        if unknown:
            stems = encode(self._tok, [f"{MASK} {relation}" for relation in unknown])
            pairs: list[Pair] = [(stem, [0]) for stem in stems]  # a place holder: the whole distribution is wanted
            found = continuation_log_probs(self._model(), pairs)
            self._fits.update({relation: row[0].half().cpu() for relation, row in zip(unknown, found, strict=True)})
        first = continuation_ids_batch(self._tok, [MASK], [answer])[0][1][0]
        return torch.stack([self._fits[relation][first] for relation in vocabulary]).float()


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
