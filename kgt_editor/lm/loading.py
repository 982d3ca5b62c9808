"""Language models by name: the shipped testbed models, random weights in a known shape, any Hugging Face causal LM."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgt_editor.errors import UsageError
from kgt_editor.lm import shapes

if TYPE_CHECKING:  # torch and transformers take seconds to import, and listing the models needs neither
    import torch

MODELS_DIR = Path(__file__).resolve().parent.parent / "testbed" / "models"
# A model with random weights reads what it is given through this one's tokenizer.
_SHAPES_TOKENIZER = "testbed-gpt2"
DTYPES = ("float32", "float16", "bfloat16")


def known_models() -> dict[str, str]:
    """The shipped models, each with one line about it."""
    return {folder.parent.name: _describe(folder.parent) for folder in sorted(MODELS_DIR.glob("*/config.json"))}


def _describe(folder: Path) -> str:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    layers = config.get("num_hidden_layers", config.get("n_layer"))
    width = config.get("hidden_size", config.get("n_embd"))
    return f"{config['model_type']} architecture, {layers} layers of width {width}, trained from scratch on the world"


def model_source(name: str) -> str:
    """What ``from_pretrained`` is given for ``name``: the shipped folder, or the name or path itself.

    Raises:
        UsageError: a testbed name that is not shipped, or a folder without a config.json.
    """
    known = known_models()
    if name in known:
        return str(MODELS_DIR / name)
    if name.startswith("testbed-"):
        raise UsageError(f"unknown model '{name}'; shipped ones: {', '.join(known) or 'none'}")
    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():
        raise UsageError(f"model folder {name} has no config.json: it is not a saved Hugging Face model")
    return name


def resolve_device(device: str = "auto") -> torch.device:
    """``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UsageError: an unknown device, or CUDA where there is none.
    """
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError:
        raise UsageError(f"unknown device '{device}'; known: auto, cpu, cuda, cuda:N") from None
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device '{device}': this machine has {torch.cuda.device_count()} CUDA devices; use cpu")
    return found


def check_model(name: str) -> None:
    """Find out that a model cannot be had without loading its weights.

    Raises:
        UsageError: as :func:`load_model`.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache
    from transformers import AutoConfig

    if name.startswith(shapes.PREFIX):
        shapes.config(name)
        return
    source = model_source(name)
    try:
        if not Path(source).is_dir() and not isinstance(try_to_load_from_cache(source, "config.json"), str):
            HfApi().model_info(source, timeout=10)  # asked once, where from_pretrained would try again and again
        AutoConfig.from_pretrained(source)
    except Exception as error:  # the hub's client raises its HTTP library's errors, which share no base class
        raise _not_loadable(name, error) from None


def load_model(name: str, device: str = "auto", dtype: str = "float32") -> tuple[Any, Any]:
    """Load a causal language model and its tokenizer, in evaluation mode.

    Args:
        name: a shipped model (:func:`known_models`), a folder, a Hugging Face name, or ``shape:`` and a key of
            :data:`kgt_editor.lm.shapes.SHAPES`.
        device: see :func:`resolve_device`.
        dtype: ``float32``, ``float16`` or ``bfloat16``.

    Returns:
        model and tokenizer; the tokenizer has a pad token.

    Raises:
        UsageError: unknown model, device or dtype.
    """
    if dtype not in DTYPES:
        raise UsageError(f"unknown dtype '{dtype}'; known: {', '.join(DTYPES)}")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    target = resolve_device(device)
    if name.startswith(shapes.PREFIX):
        _, tok = load_model(_SHAPES_TOKENIZER, "cpu")
        return shapes.random_model(name, target, getattr(torch, dtype)), tok
    source = model_source(name)
    try:
        tok = AutoTokenizer.from_pretrained(source)
        model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=getattr(torch, dtype))
    except (OSError, ValueError) as error:
        raise _not_loadable(name, error) from None
    if tok.pad_token_id is None:
        if tok.eos_token is None:
            raise UsageError(f"the tokenizer of '{name}' has neither a pad nor an end-of-text token")
        tok.pad_token = tok.eos_token
    return model.to(target).eval(), tok


def _not_loadable(name: str, error: Exception) -> UsageError:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    shipped = ", ".join(known_models()) or "none"
    return UsageError(
        f"model '{name}' is neither shipped ({shipped}) nor loadable as a folder or Hugging Face name: {reason}"
    )
