"""Models of a well-known size with random weights: for time and memory, which do not depend on what a model knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kgt_editor.errors import UsageError

if TYPE_CHECKING:
    import torch

PREFIX = "shape:"

_GPT2 = {"model_type": "gpt2", "vocab_size": 50257, "n_positions": 1024}
_LLAMA = {"model_type": "llama", "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "hidden_size": 4096}

#: name -> config of the published model (Radford et al. 2019; Touvron et al. 2023; Dubey et al. 2024).
SHAPES: dict[str, dict[str, Any]] = {
    "gpt2-small": {**_GPT2, "n_embd": 768, "n_layer": 12, "n_head": 12},
    "gpt2-xl": {**_GPT2, "n_embd": 1600, "n_layer": 48, "n_head": 25},
    "llama-2-7b": {
        **_LLAMA, "vocab_size": 32000, "max_position_embeddings": 4096, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "intermediate_size": 11008,
    },
    "llama-3-8b": {
        **_LLAMA, "vocab_size": 128256, "max_position_embeddings": 8192, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,
    },
}  # fmt: skip


def config(name: str) -> dict[str, Any]:
    """The configuration of ``shape:<key of SHAPES>``.

    Raises:
        UsageError: an unknown shape.
    """
    shape = name.removeprefix(PREFIX)
    if shape not in SHAPES:
        raise UsageError(f"unknown shape '{name}'; known: {', '.join(PREFIX + known for known in SHAPES)}")
    return SHAPES[shape]


def random_model(name: str, device: torch.device, dtype: torch.dtype) -> Any:
    """A model of a shape, its weights drawn with seed 0 where it is to run, so that none is ever held twice.

    Args:
        name: ``shape:<key of SHAPES>``.
        device, dtype: of the weights.

    Raises:
        UsageError: an unknown shape.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    published = AutoConfig.for_model(**config(name))
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.random.fork_rng(), torch.device(device):
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(published)
    finally:
        torch.set_default_dtype(before)
    model.config.name_or_path = name
    return model.eval()
