"""A tiny model with random weights for every architecture that is tested, with windows shorter than the prompts.

As a program it writes the table of docs/architectures.md: ``PYTHONPATH=. python tests/lm/architectures.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

from kgt_editor.lm.batching import way_and_reason
from kgt_editor.lm.limits import attention_window

PAGE = Path(__file__).resolve().parents[2] / "docs" / "architectures.md"

VOCABULARY = 400  # that of the tests' tokenizer
WINDOW = 20

# What configurations are given where they have it.
_SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "n_embd": 32, "n_layer": 4, "n_head": 4,
    "n_inner": 48, "initializer_range": 0.2, "max_position_embeddings": 256, "n_positions": 256,
    "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "num_experts": 4, "num_local_experts": 4,
    "n_routed_experts": 4, "num_experts_per_tok": 2, "kv_lora_rank": 16, "q_lora_rank": 16, "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8, "v_head_dim": 8, "sliding_window": WINDOW, "attention_chunk_size": WINDOW,
    "mamba_d_state": 8, "mamba_d_conv": 4, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1,
    "mamba_chunk_size": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}  # fmt: skip
_IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_MIXED = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
_LINEAR = ["linear_attention", "full_attention", "linear_attention", "full_attention"]
# The name of an architecture (model type, a dot and a variant where there are several) -> what it needs besides.
_SPECIAL: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1, 3], "mamba_expand": 2},
    "codegen": {"rotary_dim": 4},
    "cohere2": {"layer_types": _MIXED},
    "deepseek_v2": {"first_k_dense_replace": 1, "head_dim": 8, "num_key_value_heads": 4},
    "deepseek_v3": {"first_k_dense_replace": 1, "n_group": 1, "topk_group": 1, "num_key_value_heads": 4},
    "exaone4": {"layer_types": _MIXED},
    "falcon.rotary": {"alibi": False, "new_decoder_architecture": False},
    "falcon.alibi": {"alibi": True, "new_decoder_architecture": False},
    "falcon_h1": {"mamba_d_ssm": 64},
    "falcon_mamba": {"state_size": 8, "intermediate_size": 64},
    "gemma2": {"layer_types": _MIXED},
    "gemma3_text": {"layer_types": _MIXED},
    "glm4_moe": {"first_k_dense_replace": 1, "n_group": 1, "topk_group": 1},
    "gpt_neo": {"num_layers": 4, "num_heads": 4, "attention_types": [[["global", "local"], 2]], "window_size": WINDOW},
    "gpt_oss": {"layer_types": _MIXED},
    "gptj": {"rotary_dim": 4},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 2, "mamba_expand": 2, "shared_intermediate_size": 16},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_dt_rank": 4, "use_mamba_kernels": False},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2, "num_dense_layers": 1},
    "llama4_text": {
        "layer_types": ["chunked_attention", "full_attention"] * 2, "no_rope_layers": [1, 0, 1, 0],
        "intermediate_size_mlp": 48, "num_experts_per_tok": 1,
    },
    "mamba": {"state_size": 8, "intermediate_size": 64},
    "mamba2": {"state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 16},
    "minimax": {"layer_types": _LINEAR, "block_size": 16},
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 4, "max_seq_len": 256},
    "nemotron_h": {
        "layers_block_type": ["mamba", "attention", "mlp", "mamba"], "ssm_state_size": 8, "mamba_num_heads": 8,
        "mamba_head_dim": 8, "n_groups": 1, "chunk_size": 16,
    },
    "olmo3": {"layer_types": _MIXED},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "phi3.longrope": {
        "original_max_position_embeddings": 24, "max_position_embeddings": 256,
        "rope_parameters": {
            "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4,
        },
    },
    "qwen2": {"use_sliding_window": False},
    "qwen2.sliding": {"use_sliding_window": True, "layer_types": _MIXED},
    "qwen3_next": {"layer_types": _LINEAR},
    "recurrent_gemma": {
        "attention_window_size": WINDOW, "lru_width": 32, "block_types": ["recurrent", "attention"],
        "w_init_variance_scale": 1.0,
    },
    "smollm3": {"no_rope_layers": [1, 0, 1, 0]},
    "zamba2": {
        "layers_block_type": ["mamba", "hybrid"] * 2, "n_mamba_heads": 8, "mamba_headdim": 8,
        "mamba_ngroups": 1,
    },
}  # fmt: skip

#: The architectures that every run of the tests builds: every kind of layer, and the commonest models.
COMMON = (
    "gpt2", "gpt_neo", "gpt_neox", "gptj", "openai-gpt", "opt", "bloom", "mpt", "falcon.rotary", "falcon.alibi",
    "llama", "llama4_text", "mistral", "mixtral", "qwen2", "qwen2.sliding", "qwen3", "qwen3_moe", "qwen3_next",
    "gemma", "gemma2", "gemma3_text", "phi", "phi3", "phi3.longrope", "olmo", "olmo2", "olmo3", "cohere", "cohere2",
    "gpt_oss", "deepseek_v3", "glm4", "granite", "granitemoehybrid", "starcoder2", "stablelm", "smollm3",
    "recurrent_gemma", "jamba", "mamba", "mamba2", "lfm2", "falcon_h1", "bamba",
)  # fmt: skip
#: Those that the slow tests build besides.
FURTHER = (
    "apertus", "arcee", "biogpt", "codegen", "ctrl", "deepseek_v2", "diffllama", "doge", "ernie4_5", "exaone4",
    "falcon_mamba", "glm", "glm4_moe", "gpt_bigcode", "granitemoe", "helium", "jetmoe", "lfm2_moe", "minimax",
    "ministral", "modernbert-decoder", "nemotron", "nemotron_h", "olmo_hybrid", "olmoe", "persimmon", "qwen2_moe",
    "qwen3_5_text", "rwkv", "seed_oss", "xglm", "zamba2",
)  # fmt: skip


def build(name: str, dtype: torch.dtype = torch.float32, **changed: Any) -> Any:
    """A tiny model, its weights drawn with seed 0, in evaluation mode.

    Args:
        name: a model type of transformers, a dot and a variant behind it where there are several.
        dtype: of the weights.
        **changed: settings of the configuration that are not to be what they are here.

    Raises:
        ValueError: this version of transformers has no such architecture.
    """
    kind = name.split(".")[0]
    fields = AutoConfig.for_model(kind)
    own = {**_SPECIAL.get(name, {}), **changed}
    # A property says what follows from other settings.
    settings = {
        key: value
        for key, value in _SMALL.items()
        if hasattr(fields, key) and not isinstance(getattr(type(fields), key, None), property)
    }
    config = AutoConfig.for_model(kind, **{**settings, **_IDS, **own})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
        # Some initialise all vectors alike, so that nothing would show of what is mixed.
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


def row(name: str) -> str:
    """The architecture's line in the table."""
    model = build(name)
    window = attention_window(model)
    short, why = way_and_reason(model, WINDOW)
    long, why_long = way_and_reason(model, 2 * WINDOW)
    reason = "; ".join(dict.fromkeys(part for told in (why, why_long) for part in told.split("; ") if part))
    return f"| {name} | {short.value} | {long.value} | {'yes' if window else ''} | {reason} |"


def table() -> list[str]:
    """The whole table, headed by the version of transformers that it holds for."""
    head = "| architecture | within a window | beyond it | has a window | why no tree |"
    return [
        f"transformers {transformers.__version__}, windows of {WINDOW} tokens:",
        "",
        head,
        "|---|---|---|---|---|",
        *(row(name) for name in sorted(COMMON + FURTHER)),
    ]


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    start, end = "<!-- table -->\n", "\n<!-- end of table -->"
    before, rest = text.split(start)
    PAGE.write_text(before + start + "\n".join(table()) + end + rest.split(end)[1], encoding="utf-8")
