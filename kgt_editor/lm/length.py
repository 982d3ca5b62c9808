"""How much text a model can read, and the one refusal of what is longer."""

from __future__ import annotations

from typing import Any

from kgt_editor.errors import UsageError
from kgt_editor.lm.layers import text_config

_SHOWN = 60  # characters of a text that is too long


def max_positions(model: Any) -> int | None:
    """Most tokens the model can read, where the configuration of its text part says so."""
    config = text_config(model)
    # MPT calls it max_seq_len; attribute maps of the configurations cover other names.
    value = getattr(config, "max_position_embeddings", None) or getattr(config, "max_seq_len", None)
    return value if isinstance(value, int) else None


def check_length(model: Any, tokens: int, text: str = "") -> None:
    """Refuse what the model cannot read.

    Args:
        model: the language model.
        tokens: of the text with what is expected behind it.
        text: shown in the message.

    Raises:
        UsageError: ``tokens`` are more than its context has.
    """
    limit = max_positions(model)
    if limit is not None and tokens > limit:
        shown = f" ({text[:_SHOWN]!r}...)" if text else ""
        raise UsageError(
            f"a prompt of {tokens} tokens does not fit the model's context of {limit}{shown}: shorten the query, the "
            "answer or the facts, or use a model with a longer context"
        )
