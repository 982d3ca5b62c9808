"""EasyEdit's YAMLs: where a method's lies, and whether the files that it names are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kgt_editor.editors.base import file_stems
from kgt_editor.editors.easyedit import statistics
from kgt_editor.editors.easyedit.loading import require
from kgt_editor.errors import UsageError

PREFIX = "easyedit"


def find_yaml(algorithm: str, model_name: str, hparams_dir: Path, asked: Path | None = None) -> Path:
    """EasyEdit's YAML of a method for a model.

    It is ``asked`` or lies in that folder; without one, in ``<hparams_dir>/easyedit`` (ours, for the testbed models)
    or else in the clone's own ``hparams``. There it is ``<METHOD>/<model>.yaml``, as in
    :func:`~kgt_editor.editors.base.resolve_hparams`; the case and hyphens of the folder do not matter, EasyEdit's own
    are not always the method's.

    Raises:
        UsageError: there is none.
    """
    if asked is not None and asked.is_file():
        return asked
    roots = [hparams_dir / PREFIX, require().parent / "hparams"] if asked is None else [asked]
    folders, stems = folders_of(roots, algorithm), file_stems(model_name)
    if (found := in_folders(folders, stems)) is not None:
        return found
    others = sorted(path for folder in folders for path in folder.glob("*.yaml"))
    remedy = f"copy one of {', '.join(path.name for path in others)} there" if others else "write one"
    wanted = (folders[0] if folders else roots[0] / algorithm) / f"{stems[0]}.yaml"
    raise UsageError(f"editor '{PREFIX}:{algorithm}' has no hyperparameters for '{model_name}': no {wanted}; {remedy}")


def folders_of(roots: Sequence[Path], algorithm: str) -> list[Path]:
    return [
        folder
        for root in roots
        if root.is_dir()
        for folder in sorted(root.iterdir())
        if folder.is_dir() and _plain(folder.name) == _plain(algorithm)
    ]


def in_folders(folders: Sequence[Path], stems: Sequence[str]) -> Path | None:
    for folder in folders:
        for stem in stems:
            for path in sorted(folder.glob("*.yaml")):
                if path.stem.lower() == stem.lower():
                    return path
    return None


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def check_files(name: str, values: Mapping[str, Any]) -> None:
    if "archive" in values and not (values["archive"] and Path(values["archive"]).exists()):
        raise UsageError(
            f"editor '{name}' needs a trained archive, and there is no {values['archive']}: train it with EasyEdit's "
            f"EditTrainer and name it with --set {name}.archive=FILE"
        )
    folder = values.get("stats_dir")
    if values.get("mom2_adjustment") and not statistics.wanted(values) and not (folder and Path(folder).is_dir()):
        raise UsageError(
            f"editor '{name}' needs statistics of {values.get('mom2_dataset', 'wikipedia')}, and there is no folder "
            f"{folder}: --set {name}.mom2_dataset={statistics.TRAINING} counts them over the training records, or name "
            f"one with --set {name}.stats_dir=DIR (into an empty one EasyEdit downloads and computes)"
        )
