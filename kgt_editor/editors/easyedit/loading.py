"""Finding and importing EasyEdit (https://github.com/zjunlp/EasyEdit): the only place that does.

EasyEdit is no package: its users put a clone on PYTHONPATH, or name it in ``EASYEDIT_HOME``. Importing it pulls in
its multimodal half too, whose libraries the text editors never call; where such a one is not installed, an empty
module stands in for it while EasyEdit is imported and is gone afterwards.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import logging
import os
import random
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kgt_editor.errors import UsageError
from kgt_editor.folders import cache_folder

HOME = "EASYEDIT_HOME"
TRIED = "14cea824"  # the commit of EasyEdit that this was written for

# Import name: name on the package registry.
_NEEDED = {
    "datasets": "datasets",
    "einops": "einops",
    "higher": "higher",
    "hydra": "hydra-core",
    "matplotlib": "matplotlib",
    "nltk": "nltk",
    "omegaconf": "omegaconf",
    "openai": "openai",
    "pandas": "pandas",
    "peft": "peft",
    "PIL": "pillow",
    "regex": "regex",
    "scipy": "scipy",
    "sentence_transformers": "sentence-transformers",
    "sklearn": "scikit-learn",
}
_MULTIMODAL = {
    "av": "av",
    "cv2": "opencv-python-headless",
    "fairscale": "fairscale",
    "iopath": "iopath",
    "qwen_vl_utils": "qwen-vl-utils",
    "rouge": "rouge",
    "timm": "timm",
    "torchvision": "torchvision",
    "zhipuai": "zhipuai",
}
_MARKS = ("gpt", "llama", "baichuan", "chatglm", "internlm", "qwen", "mistral", "t5")


@dataclass(frozen=True)
class EasyEdit:
    """The parts of EasyEdit that ours touches.

    Attributes:
        path: where it was imported from.
        algorithms: its registry, method name to apply function; the very dictionary, not a copy.
        callable_restore: names whose second result undoes the edit by being called; the very set.
        batches: the class whose ``is_batchable_method`` says which methods take several requests a call.
    """

    path: Path
    algorithms: dict[str, Callable[..., Any]]
    callable_restore: set[str]
    batches: type[Any]


def find() -> Path | None:
    """The folder of the package ``easyeditor``, without importing it; None where there is none."""
    loaded = sys.modules.get("easyeditor")
    if loaded is not None and loaded.__file__:
        return Path(loaded.__file__).parent
    home = os.environ.get(HOME)
    if home:  # asked for by name, so it comes before whatever else lies on the path
        return Path(home) / "easyeditor" if (Path(home) / "easyeditor" / "__init__.py").is_file() else None
    spec = importlib.util.find_spec("easyeditor")
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def require() -> Path:
    """As :func:`find`, but missing is an error.

    Raises:
        UsageError: no EasyEdit.
    """
    found = find()
    if found is None:
        home = os.environ.get(HOME)
        where = f"{HOME} is {home}, which holds no folder easyeditor" if home else f"{HOME} is not set"
        raise UsageError(
            f"EasyEdit cannot be imported ({where}): git clone https://github.com/zjunlp/EasyEdit and name the clone "
            f"in {HOME} or PYTHONPATH"
        )
    return found


def missing_packages(wanted: dict[str, str] = _MULTIMODAL) -> list[str]:
    """Which of EasyEdit's packages are not installed, by their names on the registry."""
    return [package for name, package in wanted.items() if not _installed(name)]


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # somebody else's stand-in: in sys.modules without a spec
        return True


def load() -> EasyEdit:
    """Import EasyEdit, or take it as it was imported already; the caller's random numbers and logging stay.

    Warns, once, which multimodal packages are missing.

    Raises:
        UsageError: no EasyEdit, a broken one, missing packages, or one without the registry ours knows.
    """
    folder = require()
    if "easyeditor" not in sys.modules:
        _import(folder)
    registry = _attribute("easyeditor.util.alg_dict", "ALG_DICT", dict, folder)
    restore = _attribute("easyeditor.editors.utils", "CALLABLE_RESTORE_ALGS", set, folder)
    batches = _attribute("easyeditor.editors.batch_editor", "BatchEditor", type, folder)
    return EasyEdit(folder, registry, restore, batches)


def _import(folder: Path) -> None:
    import transformers.utils.import_utils as available

    missing = [name for name in _MULTIMODAL if not _installed(name)]
    for name in missing:  # transformers remembers its answer: asked now, it is the true one
        getattr(available, f"is_{name}_available", bool)()
    home = str(folder.parent)
    if home not in sys.path:
        sys.path.append(home)
    before = set(sys.modules)
    try:
        with _as_it_was(), _stand_ins(missing):
            importlib.import_module("easyeditor")
    except Exception as error:
        for name in set(sys.modules) - before:
            if name.partition(".")[0] == "easyeditor":
                del sys.modules[name]
        if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("easyeditor"):
            top = error.name.partition(".")[0]
            packages = missing_packages(_NEEDED | {top: _NEEDED.get(top, top)})
            raise UsageError(f"EasyEdit ({folder}) needs more packages: pip install {' '.join(packages)}") from None
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(f"EasyEdit ({folder}) is broken: {reason}; known to work: its commit {TRIED}") from error
    if missing:
        text = f"EasyEdit's multimodal editors will not work; they need: pip install {' '.join(missing_packages())}"
        warnings.warn(text, stacklevel=2)


def _attribute(module: str, name: str, kind: type, folder: Path) -> Any:
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        found = None
    if not isinstance(found, kind):
        raise UsageError(f"EasyEdit ({folder}) has no {module}.{name} any more; known to work: its commit {TRIED}")
    return found


def marked_name(name: str) -> str:
    """A name of a model by which EasyEdit can tell its kind, which it does by a mark in the name or path.

    Args:
        name: a folder, or a name on the hub.

    Returns:
        ``name`` itself where it holds a mark; else a link to the folder, in the cache folder, that begins with the
        model's type.

    Raises:
        UsageError: neither the name nor the type that the folder's config.json gives is one that EasyEdit knows, or
            the link cannot be made.
    """
    if _marked(name):
        return name
    folder = Path(name).absolute()
    try:
        kind = str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"])
    except (OSError, ValueError, KeyError, TypeError):
        kind = ""
    if not _marked(kind):
        raise UsageError(
            f"EasyEdit does not know the model '{name}': it tells a model's kind by its name or path, which must "
            f"contain one of {', '.join(_MARKS)}"
        )
    whose = hashlib.sha256(str(folder).encode()).hexdigest()[:8]  # two folders may have one name
    link = cache_folder() / "easyedit" / f"{kind}-{folder.name}-{whose}"
    try:
        if not link.is_dir():  # none yet, or one whose folder is gone
            link.parent.mkdir(parents=True, exist_ok=True)
            made = link.with_name(f"{link.name}.{os.getpid()}")
            made.symlink_to(folder, target_is_directory=True)
            made.replace(link)
    except OSError as error:
        raise UsageError(
            f"the model folder {folder} needs a link whose name tells EasyEdit the model's kind, and {link} cannot be "
            f"made ({error.strerror}): rename the folder to contain one of {', '.join(_MARKS)}"
        ) from None
    return str(link)


def _marked(name: str) -> bool:
    return any(mark in name.lower() for mark in _MARKS)


@contextmanager
def _as_it_was() -> Iterator[None]:
    """Puts back what importing EasyEdit changes: generators of random numbers, logging, the environment."""
    generators = random.getstate(), np.random.get_state(), torch.get_rng_state()
    on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    root, variables = logging.getLogger(), dict(os.environ)
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        random.setstate(generators[0])
        np.random.set_state(generators[1])
        torch.set_rng_state(generators[2])
        if on_gpu is not None:
            torch.cuda.set_rng_state_all(on_gpu)
        root.handlers[:] = handlers
        root.setLevel(level)
        os.environ.clear()
        os.environ.update(variables)


class _StandIn(types.ModuleType):
    """A module with any attribute asked for; each is a class, so that it can be a base class or a decorator."""

    __path__: list[str] = []  # noqa: RUF012 - the import system asks a package for it

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _StandInFinder:
    """Answers ``import`` for the missing packages and everything below them."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = frozenset(names)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.partition(".")[0] in self.names else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to run."""


@contextmanager
def _stand_ins(names: Sequence[str]) -> Iterator[None]:
    finder: Any = _StandInFinder(names)
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name, module in sys.modules.items() if isinstance(module, _StandIn)]:
            del sys.modules[name]
