"""What a configuration says about long texts, which a sample of short ones does not show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kgt_editor.lm.layers import text_config

# Names under which configurations say how far back a token can look, in tokens.
_WINDOWS = (
    "sliding_window",
    "sliding_window_size",
    "attention_window",
    "attention_window_size",
    "attention_chunk_size",
    "window_size",
    "local_attention",
    "local_attention_window_len",
    "index_topk",
)
# Of the kinds of layers, those that look back over all tokens; if there are no others, a window is not in use.
_UNLIMITED = {"full_attention", "attention"}
# Words in the names of kinds that are, in whole or in part, a recurrence or a convolution.
_RECURRENT = ("linear", "mamba", "conv", "recurrent", "hybrid")
_OTHERS = (
    "layer_types",
    "layers_block_type",
    "floor_scale",
    "rope_parameters",
    "rope_scaling",
    "original_max_position_embeddings",
    "max_position_embeddings",
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What changes with the length of a text, and what never reads a tree.

    Attributes:
        window: most tokens that every layer sees at once; None where there is no window.
        switch: tokens of a text beyond which LongRoPE has other rotary frequencies for all that is in a pass.
        recurrent: kinds of layers that mix tokens without a mask.
    """

    window: int | None
    switch: int | None
    recurrent: tuple[str, ...]


def limits_of(config: Any) -> Limits:
    """The limits of a text model's configuration; None has none."""
    kinds = _kinds(config)
    recurrent = tuple(sorted(kind for kind in kinds if any(word in kind for word in _RECURRENT)))
    return Limits(_window(config, kinds), _switch(config), recurrent)


def attention_window(model: Any) -> int | None:
    """Most tokens that every layer of ``model`` sees at once; None where there is no window."""
    return limits_of(text_config(model)).window


def fingerprint(config: Any) -> tuple[Any, ...]:
    """What the limits are made of: equal as long as they are."""
    own = getattr(config, "__dict__", {})
    return tuple(own.get(name) for name in _WINDOWS + _OTHERS)


def _kinds(config: Any) -> set[str]:
    named = (_value(config, name) for name in ("layer_types", "layers_block_type"))
    return next(({str(kind) for kind in kinds} for kinds in named if kinds), set())


def _window(config: Any, kinds: set[str]) -> int | None:
    found = []
    if not kinds or not kinds <= _UNLIMITED:
        layers = _value(config, "per_layer_config") or ()
        layers = list(layers.values()) if isinstance(layers, dict) else list(layers)
        found = [_value(part, name) for part in [config, *layers] for name in _WINDOWS]
    found.append(_value(config, "floor_scale"))  # Llama 4 scales attention by places in the row beyond this
    # True is a setting, not a size.
    return min((size for size in found if type(size) is int and size > 0), default=None)


def _switch(config: Any) -> int | None:
    rope = _value(config, "rope_parameters") or _value(config, "rope_scaling")
    kinds = [rope, *rope.values()] if isinstance(rope, dict) else []  # one for all layers, or one for each type
    for kind in (kind for kind in kinds if isinstance(kind, dict)):
        if kind.get("rope_type", kind.get("type")) == "longrope":
            limit = kind.get("original_max_position_embeddings")
            limit = limit or _value(config, "original_max_position_embeddings")
            return limit if isinstance(limit, int) else None
    return None


def _value(config: Any, name: str) -> Any:
    """A setting, None where there is none: where layers differ, a configuration refuses to name one for all."""
    try:
        return getattr(config, name, None)
    except Exception:
        return None
