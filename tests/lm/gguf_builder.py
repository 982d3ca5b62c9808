"""A Llama and its tokenizer written as a GGUF file, as llama.cpp's converter writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter, TokenType
from torch import Tensor

_LAYERS = {
    "attn_output": "self_attn.o_proj",
    "attn_v": "self_attn.v_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def _interleaved(weight: Tensor, heads: int) -> np.ndarray:
    """Queries and keys in llama.cpp's order: a head's halves, which rotate together, one row of each in turn."""
    out, width = weight.shape
    return weight.numpy().reshape(heads, 2, out // heads // 2, width).swapaxes(1, 2).reshape(out, width)


def write_gguf(path: Path, model: Any, tok: Any, architecture: str = "llama") -> Path:
    """Write ``model`` (a Llama in float32) to ``path``; ``architecture`` is what the file says it is."""
    config, weights = model.config, {name: value.detach() for name, value in model.state_dict().items()}
    writer = GGUFWriter(path, architecture)
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    backend = json.loads(tok.backend_tokenizer.to_str())
    special = set(tok.all_special_tokens)
    tokens = tok.convert_ids_to_tokens(range(len(tok)))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL if token in special else TokenType.NORMAL for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in backend["model"]["merges"]])
    writer.add_bos_token_id(tok.bos_token_id)
    writer.add_eos_token_id(tok.eos_token_id)
    writer.add_pad_token_id(tok.pad_token_id)
    if tok.chat_template is not None:
        writer.add_chat_template(tok.chat_template)
    writer.add_tensor("token_embd.weight", weights["model.embed_tokens.weight"].numpy())
    writer.add_tensor("output_norm.weight", weights["model.norm.weight"].numpy())
    writer.add_tensor("output.weight", weights["lm_head.weight"].numpy())
    for number in range(config.num_hidden_layers):
        block = f"model.layers.{number}"
        for theirs, ours in _LAYERS.items():
            writer.add_tensor(f"blk.{number}.{theirs}.weight", weights[f"{block}.{ours}.weight"].numpy())
        for theirs, heads in (("q", config.num_attention_heads), ("k", config.num_key_value_heads)):
            weight = weights[f"{block}.self_attn.{theirs}_proj.weight"]
            writer.add_tensor(f"blk.{number}.attn_{theirs}.weight", _interleaved(weight, heads))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
