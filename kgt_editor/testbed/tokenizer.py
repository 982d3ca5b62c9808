"""The testbeds' tokenizer: byte-level BPE trained on the words it has to read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from kgt_editor.data.factbook import FactBook
from kgt_editor.graph.relations import WIKIDATA_PHRASES
from kgt_editor.kgt.templates import SEPARATOR, Templates
from kgt_editor.testbed.model import CONTEXT
from kgt_editor.testbed.recipes import Recipe

END = "<|endoftext|>"
MARKS = ("<question>:", "<facts>:", "<answer>:", "<query>:", "<subject>:", "<object>:", "<relation>:", SEPARATOR)


def _texts(book: FactBook, more: Iterable[str]) -> Iterator[str]:
    """What the merges are learned from: objects most often, so that nearly all of them become one token."""
    for names in book.objects.values():
        for name in names:
            yield from [name] * 60
    for sentences in book.templates.values():
        yield from [sentence.replace("{}", "") for sentence in sentences] * 10
    yield from list(WIKIDATA_PHRASES.values()) * 30
    templates = Templates()
    for text in (templates.extract, templates.retrieve, templates.reasoning, templates.prefix):
        for mark in (*MARKS, "{K}", "{e_q}", "{e_a}", "{q}", "{a}", "{z}"):
            text = text.replace(mark, " ")
        yield from [text] * 60
    for subject in book.by_subject:
        yield from [subject] * 3
    yield from more


def train_tokenizer(
    book: FactBook, vocabulary: int = Recipe.vocabulary, more: Iterable[str] = ()
) -> PreTrainedTokenizerFast:
    """Train the tokenizer on a book's words, and on ``more`` texts; the same texts give the same one.

    Leading space is normalised ("X" and " X" are the same tokens), so a name is the same ids wherever it stands.
    The marks of the templates (``<question>:``, ``<sep>``) are single tokens. There is no BOS.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Strip(left=True, right=False), normalizers.Prepend(" ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(MARKS),
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(book, more), trainer)
    # The space before a mark belongs to the mark, so that "... speaking <facts>:" has no lone space token.
    tokenizer.add_tokens([AddedToken(mark, lstrip=True, normalized=False) for mark in MARKS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=END,
        clean_up_tokenization_spaces=False,
        add_prefix_space=True,  # the same once more, for GPT2Tokenizer, which drops the normaliser (EasyEdit loads it)
        model_max_length=CONTEXT,
    )


def piece_encoder(tokenizer: PreTrainedTokenizerFast) -> Callable[[str], tuple[int, ...]]:
    """Encode pieces of running text: " French" and "." give the tokens they have in "... speaks French."."""
    plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    plain.normalizer = normalizers.NFC()

    @cache
    def encode(piece: str) -> tuple[int, ...]:
        return tuple(plain.encode(piece, add_special_tokens=False).ids)

    return encode
