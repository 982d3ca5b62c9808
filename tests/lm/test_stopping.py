"""When an answer is over."""

from __future__ import annotations

from typing import Any

import torch
from lm.test_contrast import Beside

from kgt_editor.lm.prompted import PromptedLM
from kgt_editor.lm.stopping import BehindFirstLine

LM = tuple[Any, Any]


def texts(*rows: str) -> torch.LongTensor:
    return torch.tensor([[ord(letter) for letter in row] for row in rows])  # type: ignore[return-value]


def test_a_row_ends_behind_its_first_line_that_holds_something() -> None:
    stop = BehindFirstLine(lambda ids: "".join(map(chr, ids)))
    assert stop(texts("Q\n?a", "Q\n?\n"), None).tolist() == [False, False]  # the prompt's own line does not count
    assert stop(texts("Q\n?a\n", "Q\n?\n\n"), None).tolist() == [True, False]
    assert stop(texts("Q\n?a\nb", "Q\n?\n\nc"), None).tolist() == [True, False]


def test_nothing_is_written_behind_the_line_of_an_answer(tiny_lm: LM, monkeypatch: Any) -> None:
    model = Beside(*tiny_lm)
    model.answer("Ada Brun was born in", 1)  # how the model's texts may be put together is found out
    steps: list[int] = []
    monkeypatch.setattr(PromptedLM, "_text", lambda self, ids: "ab\ncd"[: len(ids)])
    tiny_lm[0].register_forward_hook(lambda *_: steps.append(1))
    assert model.answer("Ada Brun was born in", 16) == "ab"
    assert len(steps) == 3  # the line break is the third token
