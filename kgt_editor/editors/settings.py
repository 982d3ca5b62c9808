"""Where an editor's hyperparameters for a model come from: a YAML, or else its architecture."""

from __future__ import annotations

import difflib
import glob
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from kgt_editor.config import HParams
from kgt_editor.editors import defaults
from kgt_editor.errors import UsageError
from kgt_editor.lm.shapes import PREFIX as SHAPE

_H = TypeVar("_H", bound=HParams)

# A file of hparams/<EDITOR>/ that serves a family of models: (marks found in a model's name, file name).
_FAMILIES = (
    (("llama-2", "llama2"), "llama-7b"),
    (("llama-3-8b", "llama3-8b", "llama-3.1-8b"), "llama3-8b"),
    (("gpt2-small",), "gpt2"),
    (("smollm2-135m",), "smollm2-135m"),
)
# How a GGUF file's name ends: it tells how the weights are kept, not which model they are.
_QUANTISED = re.compile(r"([.-](i?q\d\w*|b?f16|f32))?\.gguf$", re.IGNORECASE)


@dataclass(frozen=True)
class Origin:
    """Where hyperparameters come from.

    Attributes:
        path: the YAML; None where there is none.
        wanted: the YAML that was looked for first.
        derived: ``architecture, N blocks``, where they were derived from that.
        note: what somebody who uses them should know; empty where that is nothing.
    """

    path: Path | None
    wanted: Path
    derived: str = ""
    note: str = ""


def file_stems(model_name: str) -> list[str]:
    """What a YAML for a model may be called, its own name first, without the suffix."""
    own = (Path(model_name).name or model_name).removeprefix(SHAPE)
    stems = [own.removesuffix(".gguf"), _QUANTISED.sub("", own)]
    stems += [stem.lower() for stem in stems]
    stems += [stem for marks, stem in _FAMILIES if any(mark in model_name.lower() for mark in marks)]
    return list(dict.fromkeys(stems))


def find_file(name: str, model_name: str, hparams_dir: str | Path) -> Path | None:
    """As :func:`resolve_hparams`; None where there is no such file."""
    return next((path for path in _candidates(name, model_name, hparams_dir) if path.is_file()), None)


def _candidates(name: str, model_name: str, hparams_dir: str | Path) -> list[Path]:
    base, _, preset = name.partition(":")
    suffix = f".{preset}.yaml" if preset else ".yaml"
    return [Path(hparams_dir) / base.upper() / f"{stem}{suffix}" for stem in file_stems(model_name)]


def resolve_hparams(name: str, model_name: str, hparams_dir: str | Path) -> Path:
    """The YAML that holds an editor's hyperparameters for a model.

    The one rule: ``<hparams_dir>/<EDITOR>/<model>[.<preset>].yaml``, where ``<EDITOR>`` is the name in capitals,
    ``<preset>`` what follows a colon in it (``kgt:paper``), and ``<model>`` the last part of the model's name or path
    (``openai-community/gpt2-xl`` -> ``gpt2-xl``; of a GGUF file without its ending) or, where there is no such file,
    its family's: ``llama-7b`` for a name with Llama-2 in it, ``llama3-8b`` for Llama-3-8B.

    Raises:
        UsageError: there is no such file; names the file and how to make one.
    """
    found = find_file(name, model_name, hparams_dir)
    if found is not None:
        return found
    wanted = _candidates(name, model_name, hparams_dir)[0]
    others = sorted(path.name for path in wanted.parent.glob("*.yaml"))
    known = [preset for preset in presets(name.partition(":")[0], hparams_dir, model_name) if ":" in name]
    if near := difflib.get_close_matches(name, known, n=1):
        remedy = f"did you mean {near[0]}? Known for this model: {', '.join(known)}"
    elif known:
        remedy = f"known for this model: {', '.join(known)}; or write that file"
    elif others:
        remedy = f"copy one of {', '.join(others)} there and change it"
    else:
        remedy = f"there is no YAML in {wanted.parent}"
    raise UsageError(f"editor '{name}' has no hyperparameters for model '{model_name}': no {wanted}; {remedy}")


def presets(base: str, hparams_dir: str | Path, model_name: str | None = None) -> list[str]:
    """The presets of an editor: those that need no file, and those that have one for a model, or for any model."""
    folder = Path(hparams_dir) / base.upper()
    found = set(defaults.presets_of(base))
    for stem in ["*"] if model_name is None else map(glob.escape, file_stems(model_name)):
        names = (path.name.removesuffix(".yaml") for path in folder.glob(f"{stem}.*.yaml"))
        found |= {f"{base}:{name.rpartition('.')[2]}" for name in names}
    return sorted(found)


def find_hparams(hparams_class: type[_H], name: str, model_name: str, hparams_dir: str | Path) -> tuple[_H, Origin]:
    """An editor's hyperparameters for a model, and where they come from.

    A YAML wins (:func:`resolve_hparams`); a preset without one of its own is laid over the editor's. Without any, they
    are derived from the model's architecture, for the editors that :mod:`kgt_editor.editors.defaults` knows.

    Args:
        hparams_class: their type.
        name: the editor's name, which may carry a preset.
        model_name: as :func:`kgt_editor.lm.loading.load_model` takes it.
        hparams_dir: where the YAMLs lie.

    Raises:
        UsageError: a broken YAML; no YAML, and an editor or preset for which nothing can be derived, or a model that
            cannot be had.
        UnsupportedModelError: no YAML, and an architecture that the editor does not know.
    """
    wanted, path = _candidates(name, model_name, hparams_dir)[0], find_file(name, model_name, hparams_dir)
    if path is not None:
        hparams = hparams_class.from_hparams(path)
        return hparams, Origin(path, wanted, note=_about_another(path, hparams.model_name, model_name))
    base = name.partition(":")[0]
    if name in defaults.PRESETS and (path := find_file(base, model_name, hparams_dir)) is not None:
        # What was chosen for the model holds for its presets too, but for what a preset is about.
        hparams = hparams_class.from_hparams(path).override(defaults.PRESETS[name], f"editor '{name}'")
        return hparams, Origin(path, wanted, note=f"no {wanted}: '{name}' is {path} with the preset's values")
    if not defaults.covers(name):
        resolve_hparams(name, model_name, hparams_dir)  # raises, and says which files there are
    found = defaults.derive(name, model_name)
    values = {**found.values, "alg_name": name.partition(":")[0].upper(), "model_name": model_name}
    return hparams_class.build(values, f"editor '{name}'"), Origin(None, wanted, found.architecture, found.note)


def _about_another(path: Path, said: str, model_name: str) -> str:
    """A note where a YAML names another model than the one it is used for."""
    ours, theirs = ({stem.lower() for stem in file_stems(name)} for name in (model_name, said))
    if not said or ours & theirs:
        return ""
    return f"{path} says model_name {said}, not {model_name}; its values are used all the same"
