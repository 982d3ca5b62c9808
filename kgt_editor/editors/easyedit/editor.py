"""A method of EasyEdit as an editor of ours: the row ``easyedit:WISE`` is ``ALG_DICT["WISE"]``.

The hyperparameters are EasyEdit's own YAML, read by EasyEdit's own class. The edits are made as its ``BaseEditor``
makes them: one request a call, always on the plain model. Its methods keep state in their modules (a hypernetwork, a
cache of context texts, a history), so a cell of such a row runs in a process of its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor, nn

from kgt_editor.config import HParams, parse_value, read_yaml
from kgt_editor.data.record import Record
from kgt_editor.editors.base import Editor, Progress, Restore, file_stems, restore_model
from kgt_editor.editors.easyedit import statistics
from kgt_editor.editors.easyedit.inventory import hparams_of, inventory
from kgt_editor.editors.easyedit.loading import HOME, load, marked_name, require
from kgt_editor.editors.easyedit.scoring import OneByOne
from kgt_editor.editors.easyedit.yamls import PREFIX, check_files, find_yaml, folders_of, in_folders
from kgt_editor.editors.settings import Origin
from kgt_editor.errors import KgtError, UnsupportedModelError, UsageError
from kgt_editor.lm.layers import check_in_one_place, device_of
from kgt_editor.lm.loading import model_source

_UNFIT = {
    "DINM": "edits answers to unsafe questions, which no data set here has",
    "DPO": "needs a second, rejected answer, which no data set here has",
    "DeepEdit-Api": "edits a service, not a model",
    "FT-Api": "edits a service, not a model",
    "IKE": "returns texts to put in front of a prompt, not a model",
    "KGT": "is ours: write 'kgt'",
}
# What these give back to undo an edit with is not all that they have changed.
_NO_UNDO = ("ULTRAEDIT", "SimIE")
# EasyEdit pads on the right for these methods on Llama and leaves the tokenizer's own side for GPT-2.
_PAD_RIGHT = ("ROME", "MEMIT", "EMMET", "EAMET", "R-ROME", "AlphaEdit", "CORE", "SPHERE")


class EasyEditHParams(HParams):
    """A YAML of EasyEdit's, as it is.

    Attributes:
        values: all its keys, with ``--set`` applied.
        base_values: those of the method that this one builds on (SimIE's ``base_method``), which EasyEdit reads beside
            it; None where it builds on none.
    """

    values: dict[str, Any]
    base_values: dict[str, Any] | None = None


class EasyEditEditor(Editor):
    """One of EasyEdit's methods."""

    name = PREFIX
    description = f"easyedit:NAME is that method of EasyEdit (WISE, GRACE, LoRA, ...); needs a clone of it in {HOME}"
    hparams_class = EasyEditHParams
    own_process = True
    hparams: EasyEditHParams

    def __init__(self, hparams: EasyEditHParams) -> None:
        super().__init__(hparams)
        self._base: nn.Module | None = None
        self._returned: nn.Module | None = None
        self._theirs: Any = None
        self._tok: Any = None
        self._elsewhere: list[str] = []
        self._statistics: tempfile.TemporaryDirectory[str] | None = None

    @classmethod
    def create(
        cls, name: str, model_name: str, hparams_dir: str | Path, overrides: Mapping[str, str] | None = None
    ) -> EasyEditEditor:
        """See :func:`kgt_editor.editors.base.create_editor`; EasyEdit itself is not imported into this process.

        Raises:
            UsageError: no EasyEdit or a broken one; no such method, or one that edits no model; no YAML, one of
                another method or a key its class has not; a trained archive or statistics that are not there.
        """
        algorithm = name.partition(":")[2]
        known = inventory(str(require()))
        if algorithm not in known:
            near = [other for other in known if other.lower() == algorithm.lower()]
            hint = f"did you mean '{PREFIX}:{near[0]}'? " if near else ""
            raise UsageError(f"EasyEdit has no method '{algorithm}'; {hint}known: {', '.join(known)}")
        if algorithm in _UNFIT:
            raise UsageError(f"editor '{name}' cannot be a row: EasyEdit's {algorithm} {_UNFIT[algorithm]}")
        changes = dict(overrides or {})
        asked = changes.pop("hparams", None)
        path = find_yaml(algorithm, model_name, Path(hparams_dir), None if asked is None else Path(asked))
        values = read_yaml(path)
        if values.get("alg_name") != algorithm:
            raise UsageError(f"{path}: alg_name is {values.get('alg_name')!r}, so this is not a YAML of {algorithm}")
        for key, value in changes.items():
            if key not in {*values, *known[algorithm]}:
                fields = ", ".join(sorted({*values, *known[algorithm]}))
                raise UsageError(f"--set {name}.{key}: EasyEdit's {algorithm} has no such key; known: {fields}")
            values[key] = parse_value(value, f"--set {name}.{key}")
        check_files(name, values)
        values["model_name"] = marked_name(model_source(model_name))
        base_values = None
        if (base := values.get("base_method")) is not None:
            base_values = read_yaml(find_yaml(str(base), model_name, Path(hparams_dir)))
            check_files(name, base_values)
            base_values["model_name"] = values["model_name"]
        hparams = EasyEditHParams(alg_name=algorithm, model_name=model_name, values=values, base_values=base_values)
        editor = cls(hparams)
        editor.origin = Origin(path, path)
        return editor

    @classmethod
    def has_file(cls, name: str, model_name: str, hparams_dir: str | Path) -> bool:
        """Whether a folder of ours has a YAML of the method for a model."""
        folder = Path(hparams_dir) / PREFIX
        return (
            folder.is_dir()
            and in_folders(folders_of([folder], name.partition(":")[2]), file_stems(model_name)) is not None
        )

    def supports(self, model: nn.Module) -> tuple[bool, str]:
        """Any that lies in one place; what a method cannot edit it says itself."""
        try:
            check_in_one_place(model)
        except UnsupportedModelError as error:
            return False, str(error)
        return True, ""

    def prepare(self, model: nn.Module, tok: Any, training: Sequence[Record], progress: Progress | None = None) -> None:
        """Keeps texts on other matters, which WISE wants beside each request, and counts statistics if asked to.

        Raises:
            UsageError, NumericalError: as :func:`~kgt_editor.editors.easyedit.statistics.write_moments`.
        """
        self._elsewhere = [f"{record.query} {record.target_true}" for record in training if record.target_true]
        if statistics.wanted(self.hparams.values) and self._statistics is None:
            self._statistics = tempfile.TemporaryDirectory(prefix="easyedit-statistics-")
            folder = Path(self._statistics.name)
            statistics.write_moments(model, tok, self.hparams.values, training, folder, progress)

    def apply(
        self,
        model: nn.Module,
        tok: Any,
        requests: list[dict[str, Any]],
        copy: bool = False,
        return_orig_weights: bool = False,
        keep_original_weight: bool = False,
        **kwargs: Any,
    ) -> tuple[nn.Module, Restore]:
        """One call of the method a request.

        Raises:
            KgtError: the method raised an error, whichever it was.
        """
        if model is not self._returned:
            self._base = deepcopy(model) if copy else model
        assert self._base is not None
        apply = load().algorithms[self.hparams.alg_name]
        self._set_up(tok, apply, sequential=not return_orig_weights)
        edited: Any = self._base
        undo: list[Restore | None] = []
        before = self._weights() if return_orig_weights and self.hparams.alg_name in _NO_UNDO else None
        for request in requests:
            theirs = deepcopy(request)
            number = len(self._elsewhere) and hash_of(request["prompt"]) % len(self._elsewhere)
            theirs["loc_prompt"] = self._elsewhere[number] if self._elsewhere else request["subject"]
            try:
                edited, weights = apply(
                    self._base,
                    self._tok,
                    [theirs],
                    self._theirs,
                    copy=False,
                    return_orig_weights=True,
                    keep_original_weight=False,
                    train_ds=None,
                )
            except Exception as error:
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                raise KgtError(f"EasyEdit's {self.hparams.alg_name} failed: {reason}") from error
            undo.append(weights)
        edited.eval()
        base = self._base

        def restore() -> None:
            while undo:
                _undo(edited, base, undo.pop())
            if before is not None:
                restore_model(base, before)
                self._theirs = None  # which SimIE keeps the edits in

        self._returned = edited if edited is base else OneByOne(edited, tok)
        return self._returned, restore

    def _weights(self) -> dict[str, Tensor]:
        assert self._base is not None
        return {name: weight.detach().clone() for name, weight in self._base.named_parameters()}

    def _set_up(self, tok: Any, apply: Any, sequential: bool) -> None:
        """EasyEdit's hyperparameters and tokenizer, as its ``BaseEditor`` sets them up."""
        if self._theirs is None:
            assert self._base is not None
            with tempfile.TemporaryDirectory() as folder:
                path = self._write(Path(folder) / self.hparams.alg_name, self.hparams.values)
                if self.hparams.base_values is not None:
                    self._write(Path(folder) / self.hparams.values["base_method"], self.hparams.base_values)
                self._theirs = hparams_of(apply).from_hparams(str(path))
            self._tok = deepcopy(tok)
            self._tok.pad_token_id = self._tok.eos_token_id
            self._tok.padding_side = "right" if self.hparams.alg_name in _PAD_RIGHT else "left"
            if self._statistics is not None:
                kept = Path(self._statistics.name)
                statistics.write_projection(self._base, self._tok, self._theirs, apply, kept)
        self._theirs.sequential_edit = sequential  # WISE starts anew at every edit unless it is told

    def _write(self, folder: Path, values: Mapping[str, Any]) -> Path:
        """A YAML as EasyEdit reads it, with what only the cell knows: the device, and where statistics lie."""
        assert self._base is not None
        place = device_of(self._base)
        known: dict[str, Any] = {"device": place.index or 0 if place.type == "cuda" else str(place)}
        if self._statistics is not None:
            known["stats_dir"] = self._statistics.name
        folder.mkdir()
        path = folder / "hparams.yaml"
        path.write_text(yaml.safe_dump({**values, **known}), encoding="utf-8")
        return path


def hash_of(text: str) -> int:
    """The same number for the same text in every process."""
    return int.from_bytes(text.encode("utf-8"), "big") % 1_000_003


def _undo(edited: Any, base: nn.Module, weights: Any) -> None:
    """What EasyEdit's ``restore_after_edit`` does, told by what there is rather than by the method's name."""
    if callable(weights):
        weights()
    elif hasattr(edited, "unload"):  # an adapter of peft's
        edited.unload()
        if hasattr(base, "peft_config"):
            del base.peft_config
    elif weights:
        restore_model(base, weights)
