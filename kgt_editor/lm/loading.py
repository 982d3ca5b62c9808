"""Language models by name: the shipped testbed models, random weights in a known shape, any Hugging Face causal LM."""

from __future__ import annotations

import importlib.util
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
DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")


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


def weights_bytes(name: str, dtype: str = "float32") -> int:
    """Bytes of a model's weights, counted on its configuration alone.

    Raises:
        UsageError: as :func:`load_model`.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    if name.startswith(shapes.PREFIX):
        model = shapes.random_model(name, torch.device("meta"), getattr(torch, dtype))
    else:
        try:
            config = AutoConfig.from_pretrained(model_source(name))
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
        except (OSError, ValueError) as error:
            raise _not_loadable(name, error) from None
    return sum(value.numel() * value.element_size() for value in model.parameters())


def check_placement(device: str, device_map: str | None) -> None:
    """Find out that a model cannot be laid where it is wanted.

    Raises:
        UsageError: an unknown device or map, a map beside a device, or no accelerate.
    """
    if device_map is None:
        resolve_device(device)
        return
    if device_map not in DEVICE_MAPS:
        raise UsageError(f"unknown device map '{device_map}'; known: {', '.join(DEVICE_MAPS)}")
    if device != "auto":
        raise UsageError(f"--device-map {device_map} chooses the devices itself: leave --device {device} out")
    if importlib.util.find_spec("accelerate") is None:
        raise UsageError(f"--device-map {device_map} needs accelerate: pip install 'kgt_editor[large]'")


def load_model(
    name: str, device: str = "auto", dtype: str = "float32", device_map: str | None = None
) -> tuple[Any, Any]:
    """Load a causal language model and its tokenizer, in evaluation mode.

    Args:
        name: a shipped model (:func:`known_models`), a folder, a Hugging Face name, or ``shape:`` and a key of
            :data:`kgt_editor.lm.shapes.SHAPES`.
        device: see :func:`resolve_device`.
        dtype: ``float32``, ``float16`` or ``bfloat16``.
        device_map: one of :data:`DEVICE_MAPS`: accelerate spreads the blocks over the GPUs, and what does not fit there
            over main memory. Only editors that leave the weights alone can work on such a model.

    Returns:
        model and tokenizer; the tokenizer has a pad token.

    Raises:
        UsageError: unknown model, device, dtype or map.
    """
    if dtype not in DTYPES:
        raise UsageError(f"unknown dtype '{dtype}'; known: {', '.join(DTYPES)}")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    check_placement(device, device_map)
    target = resolve_device(device)
    if name.startswith(shapes.PREFIX):
        if device_map is not None:
            raise UsageError(f"--device-map {device_map}: the weights of '{name}' are made on one device; leave it out")
        _, tok = load_model(_SHAPES_TOKENIZER, "cpu")
        return shapes.random_model(name, target, getattr(torch, dtype)), tok
    source = model_source(name)
    try:
        tok = AutoTokenizer.from_pretrained(source)
        model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=getattr(torch, dtype), device_map=device_map)
    except (OSError, ValueError) as error:
        raise _not_loadable(name, error) from None
    if tok.pad_token_id is None:
        if tok.eos_token is None:
            raise UsageError(f"the tokenizer of '{name}' has neither a pad nor an end-of-text token")
        tok.pad_token = tok.eos_token
    return (model if device_map else model.to(target)).eval(), tok


def _not_loadable(name: str, error: Exception) -> UsageError:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    shipped = ", ".join(known_models()) or "none"
    return UsageError(
        f"model '{name}' is neither shipped ({shipped}) nor loadable as a folder or Hugging Face name: {reason}"
    )
