"""Where a prompt ends and its continuation begins, in tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kgt_editor.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def join(context: str, continuation: str) -> str:
    """Context and continuation as one text; a space joins the two unless one of them brings its own."""
    if not context or context[-1].isspace() or continuation[:1].isspace():
        return context + continuation
    return f"{context} {continuation}"


def encode(tok: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of every text; BOS only where the tokenizer adds it itself, and never a closing EOS."""
    if not texts:
        return []
    different = list(dict.fromkeys(texts))  # an evaluation asks every prompt twice
    # Not verbose: whether a text fits is asked, and told, where it is going to be read.
    rows: list[list[int]] = tok(different, return_attention_mask=False, verbose=False).input_ids
    # The text of a chat brings its own BOS.
    start, begins = tok.bos_token_id, str(tok.bos_token)
    rows = [
        row[1:] if row[:2] == [start, start] and text.startswith(begins) else row
        for text, row in zip(different, rows, strict=True)
    ]
    # A tokenizer that closes every text with EOS would put it between context and continuation.
    end, mark = tok.eos_token_id, str(tok.eos_token)
    found = {
        text: row[:-1] if len(row) > 1 and row[-1] == end and not text.endswith(mark) else row
        for text, row in zip(different, rows, strict=True)
    }
    return [list(found[text]) for text in texts]


def continuation_ids_batch(
    tok: PreTrainedTokenizerBase, contexts: Sequence[str], continuations: Sequence[str]
) -> list[tuple[list[int], list[int]]]:
    """:func:`continuation_ids` of every pair, with two tokenizer calls in all."""
    # Space at the context's end belongs to the continuation's first token in every BPE.
    stems = [context.rstrip() for context in contexts]
    wholes = encode(tok, [join(context, text) for context, text in zip(contexts, continuations, strict=True)])
    pairs = []
    for stem, stem_ids, whole, text in zip(stems, encode(tok, stems), wholes, continuations, strict=True):
        if not stem_ids:
            raise UsageError(f"the prompt before {text!r} is empty: nothing to condition on")
        if not text.strip() or len(whole) <= len(stem_ids):
            raise UsageError(f"{text!r} has no token of its own after {stem!r}")
        pairs.append((whole[: len(stem_ids)], whole[len(stem_ids) :]))
    return pairs


def continuation_ids(tok: PreTrainedTokenizerBase, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Token ids of ``context`` and of ``continuation`` after it.

    The joined text is encoded and as many ids as the context alone has are cut off its front, the convention of
    EleutherAI's lm-evaluation-harness: the continuation is tokenised as it would be in running text.

    Returns:
        two id lists; together they are the encoding of the joined text.

    Raises:
        UsageError: the context is empty or the continuation adds no token.
    """
    return continuation_ids_batch(tok, [context], [continuation])[0]
