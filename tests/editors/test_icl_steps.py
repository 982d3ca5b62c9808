"""MeLLo: a question taken apart, one remembered fact a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from kgt_editor.editors.icl import ICLHParams, apply_icl_to_model, steps
from kgt_editor.editors.icl.steps import StepwiseLM
from kgt_editor.errors import KgtError
from kgt_editor.lm.contrast import Context
from kgt_editor.lm.scoring import score_targets

LM = tuple[Any, Any]
REQUESTS = [
    {"prompt": "The founder of {} is", "subject": "Brun & Sons", "target_new": "Ada Castrel"},
    {"prompt": "Ada Castrel was born in", "subject": "Ada Castrel", "target_new": "Tarsil"},
    {"prompt": "Ada Castrel lives in", "subject": "Ada Castrel", "target_new": "Quin"},
]
QUESTION = "Where was the founder of Brun & Sons born?"


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> str:
    """Examples that fit the context of a tiny model."""
    monkeypatch.setattr(steps, "_examples", lambda: "Question: Who?\nStep: Who?\nGuess: Otto\n\n")
    return steps._examples()


def stepwise(lm: LM, requests: Sequence[dict[str, str]] = REQUESTS, **settings: Any) -> StepwiseLM:
    hparams = ICLHParams.build({"retrieval": "steps", "fact_mark": "{fact}.", **settings}, "test")
    model = apply_icl_to_model(*lm, list(requests), hparams)[0]
    assert isinstance(model, StepwiseLM)
    return model


def scripted(monkeypatch: pytest.MonkeyPatch, *turns: str) -> list[str]:
    """Lets a model write these, one after the other; what it was given is listed."""
    given: list[str] = []

    def continued(self: StepwiseLM, texts: Sequence[str]) -> list[str]:
        (text,) = texts
        given.append(text)
        return [turns[min(len(given), len(turns)) - 1]]

    monkeypatch.setattr(StepwiseLM, "_continued", continued)
    return given


def test_each_step_is_given_the_fact_that_its_question_is_closest_to(
    monkeypatch: pytest.MonkeyPatch, tiny_gpt2: LM, short: str
) -> None:
    model = stepwise(tiny_gpt2)
    given = scripted(
        monkeypatch,
        " Who is the founder of Brun & Sons?\nGuess: Otto\nFact:",
        " Ada Castrel\nStep: Where was Ada Castrel born?\nGuess: Norra\nFact:",
        " Tarsil\nFinal answer:",
    )
    (context,) = model.contexts([QUESTION])
    written = (
        f"Question: {QUESTION}\nStep: Who is the founder of Brun & Sons?\nGuess: Otto\n"
        "Fact: The founder of Brun & Sons is Ada Castrel.\nAnswer: Ada Castrel\n"
        "Step: Where was Ada Castrel born?\nGuess: Norra\nFact: Ada Castrel was born in Tarsil.\n"
        "Answer: Tarsil\nFinal answer:"
    )
    assert context == Context(short + written, 1.0)
    model.contexts([QUESTION])
    assert len(given) == 3  # thought about once
    assert model.score_targets([QUESTION], ["Quin"]) == score_targets(*tiny_gpt2, [context.text], ["Quin"])
    model.remember([])
    apply_icl_to_model(model, tiny_gpt2[1], REQUESTS[:1], model.hparams)
    model.contexts([QUESTION])
    assert len(given) > 3  # and anew when more is known


def test_it_ends_after_as_many_steps_as_are_allowed(monkeypatch: pytest.MonkeyPatch, tiny_gpt2: LM) -> None:
    given = scripted(monkeypatch, " And what then?\nGuess: no idea\nFact:")
    (context,) = stepwise(tiny_gpt2, steps=2).contexts([QUESTION])
    assert len(given) == 3  # two steps and the answer to the last
    assert context.text.endswith("\nAnswer: And what then?\nFinal answer:")
    assert context.text[len(steps._examples()) :].count("Fact:") == 2


def test_a_model_that_follows_no_form_still_answers(tiny_lm: LM, short: str) -> None:
    model = stepwise(tiny_lm, steps=1, step_tokens=8)
    questions = [QUESTION, "Where does Ada Castrel live?"]
    contexts = model.contexts(questions)
    for question, context in zip(questions, contexts, strict=True):
        assert context.text.startswith(f"{short}Question: {question}\nStep:")
        assert context.text.endswith("\nFinal answer:")
    assert len(model.answer_many(questions, 4)) == 2


def test_without_anything_remembered_it_is_the_plain_model(tiny_gpt2: LM) -> None:
    model = stepwise(tiny_gpt2, requests=[])
    assert model.contexts([QUESTION]) == [Context(QUESTION, 0.0)]
    assert model.prefixes([QUESTION]) == [Context("", 0.0)]


def test_what_it_cannot_do_is_refused(tiny_gpt2: LM) -> None:
    with pytest.raises(KgtError, match="forward takes no question apart; use answer"):
        stepwise(tiny_gpt2).prefixes([QUESTION])
    with pytest.raises(KgtError, match="more than the model's 256 tokens; lower steps or step_tokens"):
        stepwise(tiny_gpt2).contexts([QUESTION])
