"""What a question asks for, as a vector: a model's hidden states, seen so that wordings of one question are alike.

The subject is masked, so that the vector holds the question and not whom it is about. How a question is put moves the
states more than what it asks for ("What is X's favourite food?" is nearer to "What colour is X's car?" than to "Which
dish does X love?"). So a model is shown sentences of our own, several wordings for each of some fifty things that can
be asked, and in each layer the directions are kept that tell those things apart, scaled by how little wordings of one
thing vary along them: Fisher's linear discriminant. As there are fewer sentences than directions, the covariance within
the kinds is shrunk towards a multiple of the identity (Hatch, Kajarekar and Stolcke 2006 normalise speakers by it). Two
texts are compared by the cosine of what is left, averaged over layers from the lower to the upper part of the model. No
record of any benchmark has a part in it.
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

from kgt_editor.kgt.kept_states import kept
from kgt_editor.lm.hidden import hidden_states

MASK = "X"
QUESTION_CUE = " Answer:"

# Parts of a model's depth. Any of them does nearly as well alone; the mean of some is steadier.
_DEPTHS = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95)
_MOST_KEPT = 4096  # texts; the oldest ones go first
_EPSILON = 1e-4
# How far the covariance within the kinds is shrunk. Between .1 and 3 it hardly matters: with SmolLM2-135M, kinds held
# out of the sentences in turn are told apart equally well.
_SHRINKAGE = 1.0
#: What a noun of ``nouns.yaml`` is put into.
FRAMES = ("The {} of X is", "The name of the {} of X is", "What is the {} of X?")
_SENTENCE_END = re.compile(r"[.!?]['\")\]]*\s+|\n\s*")

_OF_MODEL: WeakKeyDictionary[Any, Representations] = WeakKeyDictionary()


@cache
def neutral_sentences() -> dict[str, tuple[str, str]]:
    """Statement and question for everything that ``neutral.yaml`` asks of X; keys may be Wikidata ids."""
    text = files("kgt_editor.kgt").joinpath("neutral.yaml").read_text(encoding="utf-8")
    return {key: (statement, question) for key, (statement, question) in yaml.safe_load(text).items()}


@cache
def relation_sentences() -> dict[str, list[str]]:
    """More wordings for Wikidata's relations, by id."""
    text = files("kgt_editor.kgt").joinpath("relations.yaml").read_text(encoding="utf-8")
    found: dict[str, list[str]] = yaml.safe_load(text)
    return found


@cache
def nouns() -> dict[str, str]:
    """What everything is called that ``neutral.yaml`` asks of X, by the same keys."""
    found: dict[str, str] = yaml.safe_load(files("kgt_editor.kgt").joinpath("nouns.yaml").read_text(encoding="utf-8"))
    return found


@cache
def kinds() -> dict[str, list[str]]:
    """All wordings of everything that the sentences ask for, statement and question of ``neutral.yaml`` first.

    Its noun in every frame is among them: where all kinds share the words around what is asked, those words tell
    nothing apart, and wordings that have nothing else in common are seen to ask the same.
    """
    more = relation_sentences()
    return {
        key: [*pair, *more.get(key, ()), *(frame.format(nouns()[key]) for frame in FRAMES)]
        for key, pair in neutral_sentences().items()
    }


def sentences() -> tuple[list[str], Tensor, Tensor]:
    """All of :func:`kinds`: the texts; the number of what each asks for; 1 for a question, 0 for a statement."""
    texts = [text for wordings in kinds().values() for text in wordings]
    kind = torch.tensor([number for number, wordings in enumerate(kinds().values()) for _ in wordings])
    return texts, kind, torch.tensor([int(is_question(text)) for text in texts])


def is_question(text: str) -> bool:
    """Whether a text is answered rather than continued."""
    return text.rstrip().endswith("?")


def cued(text: str) -> str:
    """A question with what makes a model answer it; any other text as it is."""
    return text.rstrip() + QUESTION_CUE if is_question(text) else text


def masked(text: str, subject: str, mask: str = MASK) -> str:
    """The text with ``mask`` for the subject, whatever its case; as it is where the subject is not in it."""
    return mentions(subject).sub(mask, text)


def asked_of(text: str, subject: str) -> str:
    """What a text asks of the subject: :func:`masked`, from the sentence on that names the subject last.

    What stands before that is about something else: CounterFact puts foreign sentences before its paraphrases, and
    people say this and that before they ask.
    """
    named = [found.start() for found in mentions(subject).finditer(text)]
    begins = [found.end() for found in _SENTENCE_END.finditer(text) if named and found.end() <= named[-1]]
    return masked(text[begins[-1] :] if begins else text, subject)


def mentions(subject: str) -> re.Pattern[str]:
    """Where a text names the subject, as whole words, whatever its case."""
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
        texts, kind, asks = sentences()
        found = kept(model, tok, self._layers, texts, self.states, lambda raw: directions(raw, kind, asks))
        self._centres, self._scale = found["centres"], found["scale"]
        self._directions = found["directions"]  # (layers, width, directions)
        vectors = self._normed(found["raw"], self._centres[asks])
        firsts = [int((kind == number).nonzero()[0]) for number in range(len(kinds()))]
        #: key of ``neutral.yaml`` -> vectors of the statement and of the question, shape (2, layers * directions).
        self.neutral: dict[str, Tensor] = {
            key: vectors[first : first + 2] for key, first in zip(kinds(), firsts, strict=True)
        }

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
        """Vectors of length 1, shape (texts, layers * directions), fp32: their inner product is the mean cosine.

        Args:
            texts: with the subject masked.
        """
        found = {text: self._known[text] for text in texts if text in self._known}
        new = [text for text in dict.fromkeys(texts) if text not in found]
        if new:
            raw = self.states(new)
            centres = self._centres[torch.tensor([int(is_question(text)) for text in new])]
            fresh = dict(zip(new, self._normed(raw, centres).half(), strict=True))
            found.update(fresh)
            while self._known and len(self._known) + len(fresh) > _MOST_KEPT:
                self._known.pop(next(iter(self._known)))
            self._known.update(fresh)
        if not texts:
            return torch.zeros(0, len(self._layers) * self._directions.shape[2])
        return torch.stack([found[text] for text in texts]).float()

    def states(self, texts: Sequence[str]) -> Tensor:
        """Hidden states of texts with the subject masked, shape (texts, layers, width), fp32."""
        return hidden_states(self._model(), self._tok, [cued(text) for text in texts], self._layers)[:, 0]

    def _normed(self, raw: Tensor, centres: Tensor) -> Tensor:
        seen = torch.einsum("tlw,lwd->tld", (raw - centres) / self._scale, self._directions)
        return torch.nn.functional.normalize(seen, dim=-1).flatten(-2) / len(self._layers) ** 0.5


def directions(raw: Tensor, kind: Tensor, asks: Tensor) -> dict[str, Tensor]:
    """What is learnt from sentences' states.

    Args:
        raw: the states, shape (texts, layers, width).
        kind: what each asks for, numbers from 0, shape (texts,).
        asks: 1 for a question, 0 for a statement, shape (texts,).

    Returns:
        ``centres`` of statements and of questions, shape (2, layers, width); ``scale``, shape (layers, width);
        ``directions``, shape (layers, width, directions).
    """
    # Statements and questions differ by far more than what they ask for: each has a centre of its own.
    centres = torch.stack([raw[asks == form].mean(0) for form in (0, 1)])
    centred = raw - centres[asks]
    scale = centred.std(0) + _EPSILON
    found = torch.stack([_telling_apart(layer, kind) for layer in (centred / scale).unbind(1)])
    return {"centres": centres, "scale": scale, "directions": found}


def _telling_apart(states: Tensor, kind: Tensor) -> Tensor:
    """Fisher's directions: along them kinds differ most, measured by how wordings of one kind differ.

    Args:
        states: centred, shape (texts, width).
        kind: number of each text's kind from 0, shape (texts,).

    Returns:
        shape (width, directions), a direction fewer than there are kinds.
    """
    count = torch.bincount(kind)
    means = torch.zeros(len(count), states.shape[1]).index_add(0, kind, states) / count[:, None]
    # As the covariance within one kind is estimated: by one less than there are texts of it.
    within = (states - means[kind]) * (count / (count - 1).clamp(min=1)).sqrt()[kind, None] / len(states) ** 0.5
    shrunk = _SHRINKAGE * within.square().sum(0).mean() + _EPSILON
    # Its inverse square root, without a matrix of width x width: outside the span of the texts it is a number.
    _, spread, axes = torch.linalg.svd(within, full_matrices=False)
    gain = (spread.square() + shrunk).rsqrt() - shrunk.rsqrt()

    def whitened(rows: Tensor) -> Tensor:
        return rows * shrunk.rsqrt() + (rows @ axes.T * gain) @ axes

    between = whitened(means - means.mean(0))
    return whitened(torch.linalg.svd(between, full_matrices=False)[2][: len(count) - 1]).T
