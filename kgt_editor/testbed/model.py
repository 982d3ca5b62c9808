"""The two architectures of the testbed models."""

from __future__ import annotations

from typing import Any

from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

CONTEXT = 256
ARCHITECTURES = ("gpt2", "llama")


def build_model(arch: str, vocabulary: int, width: int, layers: int, heads: int, end_id: int) -> PreTrainedModel:
    """A fresh model: ``gpt2`` (Conv1D layers, tied head) or ``llama`` (Linear, grouped-query attention, untied)."""
    ends: dict[str, Any] = {"bos_token_id": end_id, "eos_token_id": end_id, "pad_token_id": end_id}
    if arch == "gpt2":
        gpt2 = GPT2Config(
            vocab_size=vocabulary, n_positions=CONTEXT, n_embd=width, n_layer=layers, n_head=heads,
            activation_function="gelu_pytorch_tanh", embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0, **ends,
        )  # fmt: skip
        return GPT2LMHeadModel(gpt2)
    llama = LlamaConfig(
        vocab_size=vocabulary, max_position_embeddings=CONTEXT, hidden_size=width, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads // 3, intermediate_size=width * 8 // 3,
        tie_word_embeddings=False, rms_norm_eps=1e-5, **ends,
    )  # fmt: skip
    return LlamaForCausalLM(llama)


def blocks(model: Any) -> list[Any]:
    """The transformer blocks, first to last."""
    return list(model.transformer.h if hasattr(model, "transformer") else model.model.layers)
