"""The prompts in which a fact is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from chat_templates import CHATML

from kgt_editor.errors import UsageError
from kgt_editor.graph.entry import Edit
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.store import MemoryGraph
from kgt_editor.graph.triple import Triple
from kgt_editor.kgt.hparams import KGTHyperParams
from kgt_editor.kgt.model import KGEnhancedLM
from kgt_editor.kgt.reader import Reader
from kgt_editor.kgt.templates import Templates
from kgt_editor.lm import causal
from kgt_editor.lm.tokens import encode
from kgt_editor.lm.writing import write

WithTemplate = Callable[[str], Any]
TEMPLATES = Templates()
TRIPLE = Triple("Ada Brun", "has native language", "Quin")
TOLD = Edit(1, "The mother tongue of Ada Brun is", "Quin", added=(TRIPLE,))
CLOZE, QUESTION = "Ada Brun speaks", "What does Ada Brun speak?"
SENTENCE = "The mother tongue of Ada Brun is Quin."


def reader(tok: Any, form: str, fact: str = "sentence") -> Reader:
    return Reader(tok, TEMPLATES, form, fact)


def test_as_printed_the_answer_stands_behind_the_mark(tiny_llama: tuple[Any, Any]) -> None:
    found = reader(tiny_llama[1], "paper", "triple").prompt(CLOZE, TRIPLE, TOLD)
    assert found == TEMPLATES.reasoning.format(q=CLOZE, z="Ada Brun has native language Quin")


def test_repeat_goes_on_with_the_users_text_but_answers_a_question(tiny_llama: tuple[Any, Any]) -> None:
    repeat = reader(tiny_llama[1], "repeat")
    assert repeat.prompt(CLOZE, TRIPLE, TOLD) == f"{TEMPLATES.reasoning.format(q=CLOZE, z=SENTENCE)} {CLOZE}"
    assert repeat.prompt(QUESTION, TRIPLE, TOLD) == TEMPLATES.reasoning.format(q=QUESTION, z=SENTENCE)
    # Joined to a target, the stored question's own prompt is the same in both.
    assert repeat.prefix(TRIPLE, TOLD) + TOLD.query == repeat.prompt(TOLD.query, TRIPLE, TOLD)


@pytest.mark.parametrize("form", ["stored", "chat"])
def test_what_stands_in_front_depends_on_the_fact_alone(with_template: WithTemplate, form: str) -> None:
    own = reader(with_template(CHATML), form)
    ahead = own.prefix(TRIPLE, TOLD)
    assert SENTENCE in ahead
    assert own.prompt(CLOZE, TRIPLE, TOLD) == ahead + CLOZE
    assert own.prompt(QUESTION, TRIPLE, TOLD) == f"{ahead}{QUESTION} Answer:"


def test_a_fact_stands_in_the_prompt_as_often_as_its_feedback_says(tiny_llama: tuple[Any, Any]) -> None:
    twice = replace(TOLD, told=2)
    assert reader(tiny_llama[1], "repeat").written(TRIPLE, twice) == f"{SENTENCE} {SENTENCE}"
    line = "Ada Brun has native language Quin"
    assert reader(tiny_llama[1], "repeat", "triple").written(TRIPLE, twice) == f"{line}. {line}"


def test_a_fact_of_the_base_graph_is_written_as_a_triple(tiny_llama: tuple[Any, Any]) -> None:
    assert reader(tiny_llama[1], "repeat").written(TRIPLE, None) == "Ada Brun has native language Quin"
    # A triple whose tail is not what the user answered is no sentence of the user's.
    other = Triple("Ada Brun", "speaks", "Tarsi")
    assert reader(tiny_llama[1], "repeat").written(other, TOLD) == "Ada Brun speaks Tarsi"


def test_a_chat_keeps_its_form(with_template: WithTemplate) -> None:
    tok = with_template(CHATML)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]
    text = tok.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    for form in ("repeat", "stored", "chat", "paper"):
        found = reader(tok, form).prompt(text, TRIPLE, TOLD)
        assert found.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n")
        assert found.endswith(f"{QUESTION}<|im_end|>\n<|im_start|>assistant\n")
        assert SENTENCE in found


def test_a_chat_with_two_system_turns_keeps_both(with_template: WithTemplate) -> None:
    tok = with_template(CHATML)
    turns = [
        ("system", "Be brief."),
        ("system", "Be kind."),
        ("user", "Hello."),
        ("assistant", "Hi."),
        ("user", QUESTION),
    ]
    messages = [{"role": role, "content": content} for role, content in turns]
    text = tok.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    found = reader(tok, "chat").prompt(text, TRIPLE, TOLD)
    before, after = text.split(QUESTION)
    assert found.startswith(before)
    assert found.endswith(QUESTION + after)
    assert SENTENCE in found[len(before) :]


def test_chat_needs_a_template(tiny_llama: tuple[Any, Any]) -> None:
    with pytest.raises(UsageError, match="chat template"):
        reader(tiny_llama[1], "chat")


def test_a_chat_comes_out_of_generate_with_its_marks(
    tiny_llama: tuple[Any, Any], with_template: WithTemplate, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tok = tiny_llama[0], with_template("<s>" + CHATML)
    model.resize_token_embeddings(len(tok))
    text = tok.apply_chat_template([{"role": "user", "content": QUESTION}], tokenize=False, add_generation_prompt=True)
    assert encode(tok, [text])[0].count(tok.bos_token_id) == 1
    asked: list[list[int]] = []
    graph = PersonalGraph(MemoryGraph(()))
    personal = KGEnhancedLM(model, tok, graph, KGTHyperParams(guard_midpoint=-1.0))
    ids = torch.tensor(encode(tok, [text]))
    model.register_forward_pre_hook(lambda _, __, given: asked.append(given["input_ids"][0].tolist()), with_kwargs=True)
    personal.generate(ids, max_new_tokens=1)
    assert asked[0] == ids[0].tolist()  # an empty graph changes nothing
    graph.commit(TOLD.query, TOLD.answer, [TRIPLE])
    read: list[str] = []

    def spy(lm: Any, pad: int, rows: Any, *rest: Any, **settings: Any) -> Any:
        read.extend(tok.decode(row.text) for row in rows)
        return write(lm, pad, rows, *rest, **settings)

    monkeypatch.setattr(causal, "write", spy)
    personal.generate(ids, max_new_tokens=1)
    (text,) = read
    assert SENTENCE in text
    assert text.count("<|im_start|>") == 2
    assert text.count("<s>") == 1
