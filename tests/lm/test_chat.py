"""The user's last message among the marks of common chat templates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from chat_templates import CHATML

from kgt_editor.lm import chat

WithTemplate = Callable[[str], Any]
LLAMA3 = (
    "<s>{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "<s>{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "<s>{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }}</s>{% endif %}{% endfor %}"
)
TURNS = [
    {"role": "user", "content": "Hi."},
    {"role": "assistant", "content": "Hello, user."},
    {"role": "user", "content": "What does Ada Brun speak?"},
]


@pytest.mark.parametrize("template", [CHATML, LLAMA3, GEMMA, MISTRAL])
def test_the_last_message_is_found_and_replaced(with_template: WithTemplate, template: str) -> None:
    tok = with_template(template)
    text = tok.apply_chat_template(TURNS, tokenize=False, add_generation_prompt=True)
    turn = chat.last_turn(tok, text)
    assert turn is not None
    assert turn.content.strip() == TURNS[-1]["content"]
    assert turn.replaced(turn.content) == text
    again = chat.last_turn(tok, turn.replaced("Something else"))
    assert again is not None
    assert again.content.strip() == "Something else"
    assert chat.as_chat(tok, "Q", "begun").endswith("begun")
    assert chat.has_template(tok)


def test_plain_text_is_no_chat(tiny_llama: tuple[Any, Any], with_template: WithTemplate) -> None:
    assert chat.last_turn(with_template(CHATML), "The mother tongue of Ada Brun is") is None
    assert chat.last_turn(tiny_llama[1], "<|im_start|>user\nHi<|im_end|>") is None
    assert not chat.has_template(tiny_llama[1])


def test_a_template_that_refuses_a_lone_message_is_none(with_template: WithTemplate) -> None:
    assert not chat.has_template(with_template("{{ raise_exception('no') }}"))
