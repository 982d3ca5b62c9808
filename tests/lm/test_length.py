"""How much text a model can read."""

from __future__ import annotations

from architectures import build
from torch import nn
from transformers import Gemma3Config, Gemma3TextConfig

from kgt_editor.lm.length import max_positions


def test_the_limit_of_a_multimodal_model_is_that_of_its_text() -> None:
    model = nn.Linear(1, 1)
    model.config = Gemma3Config(text_config=Gemma3TextConfig(max_position_embeddings=77).to_dict())  # type: ignore[assignment]
    assert max_positions(model) == 77
    assert max_positions(build("mpt")) == 256
