"""H(q, a, K): written by the model, ranked from a vocabulary, or named by the user."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kgt_editor.errors import KgtError, UsageError
from kgt_editor.kgt import relations
from kgt_editor.lm import continuations, tree
from kgt_editor.requests import EditRequest

LM = tuple[Any, Any]
PROMPT = "Ada Brun was born in the town of Tarsil <relation>:"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" was born in <sep> died in <sep>", ["was born in", "died in"]),
        ("was born in<sep>died in", ["was born in", "died in"]),
        ("was born in <sep> <sep> . <sep> died in", ["was born in", "died in"]),
        ("was born in <sep> Was Born In <sep> died in", ["was born in", "died in"]),
        ("Tarsil <sep> tarsil <sep> Ada Brun <sep> was born in", ["was born in"]),
        ("Ada Brun was born in Tarsil <sep> died in", ["was born in", "died in"]),
        ("was born in\nand so on <sep> died in", ["was born in"]),
        ("word " * 200 + "<sep> died in", ["died in"]),
        ("endless" * 200 + "<sep> died in", ["died in"]),
        ("P103(native language) <sep> bornIn", ["has native language", "born in"]),
        ("a <sep> b <sep> c <sep> d", ["a", "b", "c"]),
        ("", []),
        (" <sep> <sep> ", []),
    ],
)
def test_what_the_model_wrote_is_cleaned(text: str, expected: list[str]) -> None:
    assert relations.parse(text, "Ada Brun", "Tarsil", 3) == expected


def plain_rank(model: Any, tok: Any, vocabulary: list[str]) -> list[str]:
    """By one forward pass a relation, the first token of the separator included."""
    scores = {}
    for relation in vocabulary:
        context = tok(PROMPT).input_ids
        bare = tok(f"{PROMPT} {relation}").input_ids
        ended = tok(f"{PROMPT} {relation} <sep>").input_ids[: len(bare) + 1]
        with torch.no_grad():
            log_probs = model(input_ids=torch.tensor([ended])).logits[0].log_softmax(-1)
        scores[relation] = sum(float(log_probs[i - 1, ended[i]]) for i in range(len(context), len(ended)))
    return sorted(vocabulary, key=lambda relation: -scores[relation])


def test_ranking_is_by_probability_with_the_separator(tiny_lm: LM) -> None:
    model, tok = tiny_lm
    vocabulary = ["was born in", "was", "was born in the town of", "speaks", "At home", "mother tongue"]
    expected = plain_rank(model, tok, vocabulary)
    assert relations.rank(model, tok, [PROMPT], [vocabulary], 6) == [expected]
    assert relations.rank(model, tok, [PROMPT], [vocabulary], 2) == [expected[:2]]
    assert relations.rank(model, tok, [PROMPT], [vocabulary], 20) == [expected]


def test_relations_are_tokenised_once_and_that_changes_nothing(tiny_lm: LM, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tok = tiny_lm
    vocabulary = ["was born in", "speaks", "died in"]
    relations.rank(model, tok, [PROMPT], [vocabulary], 3)
    encoded: list[str] = []
    encode_continuations = tree.encode_continuations

    def spy(tok: Any, prompt: str, continuations: list[str]) -> list[tree.Pair]:
        encoded.extend(continuations)
        return encode_continuations(tok, prompt, continuations)

    monkeypatch.setattr(tree, "encode_continuations", spy)
    other = "Milo Castrel was born in the town of Quindle <relation>:"
    context, continuations = relations._terminated(tok, other, vocabulary)
    assert encoded == ["was born in <sep>"]
    for relation, ids in zip(vocabulary, continuations, strict=True):
        whole = tok(f"{other} {relation} <sep>").input_ids
        assert context + ids == whole[: len(context) + len(ids)]


def test_a_tokenizer_that_looks_further_back_is_noticed(tiny_gpt2: LM) -> None:
    tok = tiny_gpt2[1]
    right = relations._terminated(tok, PROMPT, ["speaks", "died in"])
    relations._TOKENS[tok]["<relation>:", "speaks"] = [3, 3]
    assert relations._terminated(tok, PROMPT, ["speaks", "died in"]) == right


class _Writer(torch.nn.Module):
    """A stub whose generate writes a fixed text, or as much of it as the stopping criteria let it."""

    def __init__(self, tok: Any, text: str, positions: int = 256) -> None:
        super().__init__()
        self.place = torch.nn.Parameter(torch.zeros(1))
        self._ids = tok(text, add_special_tokens=False).input_ids
        self.config = type("Config", (), {"max_position_embeddings": positions})()

    def generate(self, input_ids: torch.Tensor, max_new_tokens: int, stopping_criteria: Any, **_: Any) -> torch.Tensor:
        for token in self._ids[:max_new_tokens]:
            input_ids = torch.cat([input_ids, torch.tensor([[token]])], dim=1)
            if bool(stopping_criteria(input_ids, None).all()):
                break
        self.written = input_ids.shape[1]
        return input_ids


def test_writing_stops_when_enough_is_written(tiny_gpt2: LM) -> None:
    tok = tiny_gpt2[1]
    text = "was born in <sep> died in <sep> speaks <sep> never read"
    writer = _Writer(tok, text)
    assert relations.generate(writer, tok, PROMPT, "Ada Brun", "Tarsil", 2) == ["was born in", "died in"]
    start = len(tok(PROMPT).input_ids)
    assert writer.written - start < len(tok(text).input_ids)
    assert relations.generate(_Writer(tok, "a\nb <sep> c"), tok, PROMPT, "Ada Brun", "Tarsil", 2) == ["a"]
    assert relations.generate(_Writer(tok, "a <sep> b</s> <sep> c"), tok, PROMPT, "x", "y", 5) == ["a", "b"]


def test_writing_by_a_real_model_gives_usable_relations_or_none(tiny_lm: LM) -> None:
    model, tok = tiny_lm
    found = relations.generate(model, tok, PROMPT, "Ada Brun", "Tarsil", 3)
    assert len(found) <= 3
    assert all(relation.strip() for relation in found)


def test_a_prompt_that_fills_the_context_is_refused(tiny_gpt2: LM) -> None:
    tok = tiny_gpt2[1]
    with pytest.raises(KgtError, match="shorten the query"):
        relations.generate(_Writer(tok, "a", positions=4), tok, PROMPT, "Ada Brun", "Tarsil", 1)
    with pytest.raises(KgtError, match="does not fit"):
        continuations.score_continuations(tiny_gpt2[0], tree.encode_continuations(tok, PROMPT * 20, ["a"]))


def asked(named: dict[str, Any]) -> EditRequest:
    return EditRequest.parse({"prompt": "Ada Brun was born in", "target_new": "Tarsil", **named})


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"relations": ["was born in", "was born in", "P20"]}, ["was born in", "died in"]),
        ({"relations": "bornIn"}, ["born in"]),
        ({"relation_id": "P103(native language)"}, ["has native language"]),
        ({"relations": ["a b", "c d", "e f"]}, ["a b", "c d"]),
    ],
)
def test_the_user_names_them(request_: dict[str, Any], expected: list[str]) -> None:
    assert relations.from_user(asked(request_), 2) == expected


@pytest.mark.parametrize("request_", [{}, {"relations": []}, {"relations": [" "]}, {"relation_id": ""}])
def test_a_user_who_names_none_is_told_so(request_: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="needs the relation"):
        relations.from_user(asked(request_), 1)
