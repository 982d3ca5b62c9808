"""Facts told in prose: every sentence is kept, in the user's own words, under everybody it names.

A triple of one is ``Ann Brun | has the note | Ann Brun, a painter, lives in Oslo.`` Whether it bears on a question is
for the guard to say, as with any fact; the model then reads the sentence and finds the answer in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kgt_editor.errors import UsageError
from kgt_editor.graph.entry import Edit
from kgt_editor.graph.relations import NOTE
from kgt_editor.graph.triple import Triple
from kgt_editor.kgt.model import KGEnhancedLM
from kgt_editor.talk.prose import sentences


@dataclass(frozen=True)
class Noted:
    """What became of a text.

    Attributes:
        edits: the journal's entries, one for each sentence that is kept; taking one back forgets the sentence.
        left: sentences that are not kept, because they name nobody, or are too long to be a sentence.
    """

    edits: tuple[Edit, ...]
    left: tuple[str, ...]

    def __str__(self) -> str:
        kept = [
            f"{edit.query} ({', '.join(triple.head for triple in edit.added) or 'known already'})"
            for edit in self.edits
        ]
        return "\n".join([*kept, *(f"not kept, it names nobody or is too long: {sentence}" for sentence in self.left)])


def note(model: KGEnhancedLM, text: str, about: Sequence[str] = ()) -> Noted:
    """Keep a text's sentences in the graph of ``model``.

    Args:
        model: a user's model.
        text: one sentence or several.
        about: whom or what the text is about, besides the names in it: "cricket", "the tea kitchen".

    Raises:
        UsageError: the model's settings have no guard that can look into sentences.
        KgtError: the journal cannot be written to; sentences before the failure are kept.
    """
    if model.hparams.guard != "similarity":
        raise UsageError("facts in prose need the guard 'similarity'; kgt calibrate chooses settings that have it")
    edits, left = [], []
    for sentence in sentences(text, about):
        heads = dict.fromkeys(model.graph.head_for(name) for name in sentence.about)
        if not heads:
            left.append(sentence.text)
            continue
        told = [Triple(head, NOTE, sentence.text) for head in heads]
        edits.append(model.graph.commit(sentence.text, sentence.text, added=told))
    return Noted(tuple(edits), tuple(left))
