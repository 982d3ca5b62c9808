from __future__ import annotations

import torch

from kgt_editor.errors import KgtError
from kgt_editor.evaluation.answers import can_say, say


def test_a_batch_says_what_each_prompt_alone_is_continued_with(tiny_lm):
    model, tok = tiny_lm
    prompts = ["Ada Brun was born in the town of", "The mother tongue of Milo Castrel is ", "Runa Gildt"]
    together = say(model, tok, prompts, max_new_tokens=5)
    assert together == [answer for prompt in prompts for answer in say(model, tok, [prompt], max_new_tokens=5)]
    ids = tok(prompts[0], return_tensors="pt").input_ids
    new = ids
    for _ in range(5):  # greedy by hand
        new = torch.cat([new, model(new).logits[:, -1:].argmax(-1)], dim=1)
        if new[0, -1] == tok.eos_token_id:
            break
    text = tok.decode(new[0, ids.shape[1] :], skip_special_tokens=True)
    assert together[0] == text.strip().split("\n")[0].strip()


def test_a_model_with_answers_of_its_own_is_asked_for_them():
    class Own:
        def answer(self, prompt, max_new_tokens):
            if prompt == "no":
                raise KgtError("too long")
            return f" {prompt}, {max_new_tokens}\nmore"

    assert say(Own(), None, ["a", "no"], max_new_tokens=3) == ["a, 3", None]
    assert say(object(), None, ["a"]) == [None]


def test_a_model_that_answers_many_at_once_is_asked_once_and_one_by_one_where_it_refuses_one():
    class Own:
        calls = 0

        def answer(self, prompt, max_new_tokens):
            if prompt == "no":
                raise KgtError("too long")
            return prompt

        def answer_many(self, prompts, max_new_tokens):
            self.calls += 1
            if "no" in prompts:
                raise KgtError("too long")
            return [f" {prompt}!\nmore" for prompt in prompts]

    own = Own()
    assert say(own, None, ["a", "b"]) == ["a!", "b!"]
    assert own.calls == 1
    assert say(own, None, ["a", "no"]) == ["a", None]
    assert say(own, None, []) == []
    del Own.answer
    assert say(own, None, ["a", "no"]) == [None, None]
    assert can_say(own)
    assert not can_say(object())
