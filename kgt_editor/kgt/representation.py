"""What a question asks for, as a vector: a model's hidden states without what all questions share.

The subject is masked, so that the vector holds the question and not whom it is about. Statements and questions differ
by far more than what they ask for: each is centred on the mean of its own kind, and scaled, by the states under the
sentences of ``neutral.yaml``. Two texts are compared by the cosine of what is left, averaged over layers of the middle
and upper part of the model.
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

from kgt_editor.lm.hidden import hidden_states

MASK = "X"
QUESTION_CUE = " Answer:"

# Parts of a model's depth. Any of them does nearly as well alone; the mean of some is steadier.
_DEPTHS = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95)
_MOST_KEPT = 4096  # texts; the oldest ones go first
_EPSILON = 1e-4
_SENTENCE_END = re.compile(r"[.!?]['\")\]]*\s+|\n\s*")

_OF_MODEL: WeakKeyDictionary[Any, Representations] = WeakKeyDictionary()


@cache
def neutral_sentences() -> dict[str, tuple[str, str]]:
    """Statement and question for everything that ``neutral.yaml`` asks of X; keys may be Wikidata ids."""
    text = files("kgt_editor.kgt").joinpath("neutral.yaml").read_text(encoding="utf-8")
    return {key: (statement, question) for key, (statement, question) in yaml.safe_load(text).items()}


def is_question(text: str) -> bool:
    """Whether a text is answered rather than continued."""
    return text.rstrip().endswith("?")


def cued(text: str) -> str:
    """A question with what makes a model answer it; any other text as it is."""
    return text.rstrip() + QUESTION_CUE if is_question(text) else text


def masked(text: str, subject: str, mask: str = MASK) -> str:
    """The text with ``mask`` for the subject, whatever its case; as it is where the subject is not in it."""
    return _mentions(subject).sub(mask, text)


def asked_of(text: str, subject: str) -> str:
    """What a text asks of the subject: :func:`masked`, from the sentence on that names the subject last.

    What stands before that is about something else: CounterFact puts foreign sentences before its paraphrases, and
    people say this and that before they ask.
    """
    named = [found.start() for found in _mentions(subject).finditer(text)]
    begins = [found.end() for found in _SENTENCE_END.finditer(text) if named and found.end() <= named[-1]]
    return masked(text[begins[-1] :] if begins else text, subject)


def _mentions(subject: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(subject)}(?!\w)", re.IGNORECASE)


class Representations:
    """Vectors of texts under one model; what was asked for once is kept.

    Args:
        model: a causal LM in evaluation mode.
        tok: its tokenizer.
    """

    def __init__(self, model: Any, tok: Any) -> None:
        self._model, self._tok = ref(model), tok  # what is kept for a model goes with it
        blocks = int(model.config.get_text_config().num_hidden_layers)
        self._layers = sorted({max(1, round(depth * blocks)) for depth in _DEPTHS})
        self._known: dict[str, Tensor] = {}
        sentences = neutral_sentences().values()
        raw = self._states([sentence for pair in sentences for sentence in pair])
        raw = raw.view(len(sentences), 2, *raw.shape[1:])  # (sentences, statement or question, layers, width)
        self._centres = raw.mean(0)
        self._scale = raw.var(0).mean(0).sqrt() + _EPSILON
        vectors = self._normed(raw, self._centres)
        #: key of ``neutral.yaml`` -> vectors of the statement and of the question, shape (2, layers * width).
        self.neutral: dict[str, Tensor] = dict(zip(neutral_sentences(), vectors, strict=True))

    @classmethod
    def of(cls, model: Any, tok: Any) -> Representations:
        """Those of a model, made when they are first asked for."""
        if model not in _OF_MODEL:
            _OF_MODEL[model] = cls(model, tok)
        return _OF_MODEL[model]

    def clear(self) -> None:
        """Forget the texts that were asked for."""
        self._known = {}

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Vectors of length 1, shape (texts, layers * width), fp32: their inner product is the mean cosine.

        Args:
            texts: with the subject masked.
        """
        found = {text: self._known[text] for text in texts if text in self._known}
        new = [text for text in dict.fromkeys(texts) if text not in found]
        if new:
            raw = self._states(new)
            centres = self._centres[torch.tensor([int(is_question(text)) for text in new])]
            fresh = dict(zip(new, self._normed(raw, centres).half(), strict=True))
            found.update(fresh)
            while self._known and len(self._known) + len(fresh) > _MOST_KEPT:
                self._known.pop(next(iter(self._known)))
            self._known.update(fresh)
        if not texts:
            return torch.zeros(0, self._centres[0].numel())
        return torch.stack([found[text] for text in texts]).float()

    def _states(self, texts: Sequence[str]) -> Tensor:
        return hidden_states(self._model(), self._tok, [cued(text) for text in texts], self._layers)[:, 0]

    def _normed(self, raw: Tensor, centres: Tensor) -> Tensor:
        unit = torch.nn.functional.normalize((raw - centres) / self._scale, dim=-1)
        return unit.flatten(-2) / len(self._layers) ** 0.5
