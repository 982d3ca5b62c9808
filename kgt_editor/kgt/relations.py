"""H(q, a, K): the K relations between e_q and e_a that an answer may be about (paper, section 4.2)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from kgt_editor.errors import KgtError, UsageError
from kgt_editor.graph.relations import verbalise
from kgt_editor.kgt.ranking import best_continuations
from kgt_editor.kgt.templates import SEPARATOR
from kgt_editor.lm import tree
from kgt_editor.lm.layers import device_of
from kgt_editor.lm.length import max_positions
from kgt_editor.lm.tokens import encode
from kgt_editor.requests import EditRequest

# Tokenizer -> (last word of a prompt, relation) -> ids of the relation behind it, with the separator's first token.
_TOKENS: WeakKeyDictionary[Any, dict[tuple[str, str], list[int]]] = WeakKeyDictionary()

MAX_WORDS = 12
MAX_CHARACTERS = 100
_MOST_KNOWN = 20_000
_TOKENS_PER_RELATION = 12
_SEPARATOR = re.compile(r"<\s*/?\s*sep\s*>")


def rank(
    model: Any, tok: Any, prompts: Sequence[str], vocabularies: Sequence[Sequence[str]], k: int
) -> list[list[str]]:
    """For each prompt the ``k`` relations of a closed vocabulary that continue T_extract best, the best first.

    Each is scored together with the first token of the separator behind it: without it 'country' would always beat
    'country of citizenship', which has it as its beginning.

    Args:
        model: the language model.
        tok: its tokenizer.
        prompts: T_extract, filled in, of any number of edits.
        vocabularies: relation phrases, at least one, for each prompt.
        k: how many.
    """
    questions = [_terminated(tok, prompt, known) for prompt, known in zip(prompts, vocabularies, strict=True)]
    found = best_continuations(model, questions, k)
    return [[known[index] for index in best] for known, best in zip(vocabularies, found, strict=True)]


def _terminated(tok: Any, prompt: str, vocabulary: Sequence[str]) -> tuple[list[int], list[list[int]]]:
    """Token ids of the prompt, and of each relation with the separator's first token.

    Tokenising every relation behind the whole prompt costs as much as running the model. What a relation becomes
    hangs on the last word before it, which the template fixes: it is remembered by that word.
    """
    known = _TOKENS.setdefault(tok, {})
    last = prompt.split()[-1]
    missing = [relation for relation in vocabulary if (last, relation) not in known]
    if len(known) + len(missing) > _MOST_KNOWN:
        known.clear()
        missing = list(vocabulary)
    ended = tree.encode_continuations(tok, prompt, [f"{text} {SEPARATOR}" for text in [vocabulary[0], *missing]])
    bare = tree.encode_continuations(tok, prompt, missing)
    for relation, (_, long), (_, short) in zip(missing, ended[1:], bare, strict=True):
        known[last, relation] = long[: len(short) + 1]
    context, witness = ended[0]
    expected = known[last, vocabulary[0]]
    if witness[: len(expected)] != expected:  # a tokenizer that looks further back than one word
        known.clear()
        return _terminated(tok, prompt, vocabulary)
    return context, [known[last, relation] for relation in vocabulary]


def generate(model: Any, tok: Any, prompt: str, subject: str, answer: str, k: int) -> list[str]:
    """The relations that the model writes after T_extract (the paper's form), at most ``k``, possibly none."""
    ids = torch.tensor(encode(tok, [prompt]), device=device_of(model))
    room = (max_positions(model) or 10**9) - ids.shape[1]
    if room <= 0:
        raise KgtError(f"the extraction prompt of {ids.shape[1]} tokens fills the model's context: shorten the query")
    written = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=min(k * _TOKENS_PER_RELATION, room),
        do_sample=False,
        num_beams=1,
        pad_token_id=tok.pad_token_id,
        stopping_criteria=StoppingCriteriaList([_Written(tok, ids.shape[1], k)]),
    )
    text = tok.decode(written[0, ids.shape[1] :], skip_special_tokens=False)
    if tok.eos_token:
        text = text.split(tok.eos_token)[0]
    return parse(text, subject, answer, k)


def parse(text: str, subject: str, answer: str, k: int) -> list[str]:
    """The usable relations in ``r1 <sep> r2 <sep> ...``, at most ``k``.

    Only the first line counts. Left out are relations that are empty or punctuation, repeated (whatever their case),
    longer than ``MAX_WORDS`` words or ``MAX_CHARACTERS`` characters, or a copy of the subject or the answer; subject
    and answer written around a relation are cut off it.
    """
    found: dict[str, str] = {}
    for part in _SEPARATOR.split(text.strip().split("\n")[0]):
        words = " ".join(part.split()).strip(" .,;:\"'")
        words = re.sub(rf"^{re.escape(subject)}\b\s*|\s*\b{re.escape(answer)}$", "", words, flags=re.IGNORECASE)
        if re.search(r"\w", words) and len(words.split()) <= MAX_WORDS and len(words) <= MAX_CHARACTERS:
            relation = verbalise(words)
            found.setdefault(relation.casefold(), relation)
    return list(found.values())[:k]


def from_user(request: EditRequest, k: int) -> list[str]:
    """The relations that the user names in the request.

    Raises:
        UsageError: the request has neither.
    """
    relations = list(dict.fromkeys(verbalise(relation) for relation in request.relations if relation.strip()))
    if not relations:
        raise UsageError(
            f"relation_source 'user' needs the relation, but the request for {request.prompt!r} has neither "
            "'relations' nor 'relation_id'; name one, or set relation_source to rank or generate"
        )
    return relations[:k]


class _Written(StoppingCriteria):
    """Stops when ``k`` separators, or a line, are written."""

    def __init__(self, tok: Any, start: int, k: int) -> None:
        self._tok, self._start, self._k = tok, start, k

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: Any) -> torch.BoolTensor:
        text = self._tok.decode(input_ids[0, self._start :]).strip()
        done = "\n" in text or len(_SEPARATOR.findall(text)) >= self._k
        return torch.tensor([done], device=input_ids.device)  # type: ignore[return-value]
