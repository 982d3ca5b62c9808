"""What an editor is, how editors are found, and where their hyperparameters lie.

An editor is one subclass of :class:`Editor`. Ours are named in :mod:`kgt_editor.editors.names`; anybody else's
package adds its own by an entry point of the group ``kgt_editor.editors`` (``name = module:Class``) or by calling
:func:`register`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kgt_editor.config import HParams
from kgt_editor.data.record import Record
from kgt_editor.editors.names import names as names
from kgt_editor.editors.names import register as register
from kgt_editor.editors.names import registry_of
from kgt_editor.editors.settings import Origin, find_file, find_hparams
from kgt_editor.editors.settings import file_stems as file_stems
from kgt_editor.editors.settings import resolve_hparams as resolve_hparams
from kgt_editor.errors import KgtError, UsageError
from kgt_editor.folders import shipped_hparams

Restore = Mapping[str, Tensor] | Callable[[], None]
Progress = Callable[[str, int, int], None]


class Editor(ABC):
    """Changes what a language model answers.

    Attributes:
        name: registered name, lower case; its upper case is the hyperparameter folder and EasyEdit's ``alg_name``.
        description: one line for ``--list``.
        hparams_class: type of ``hparams``.
        needs_hparams_file: whether hyperparameters are looked for in a YAML (False: the class's defaults are used).
        own_process: whether a cell has to run in a process of its own, because edits leave something behind.
        origin: where :meth:`create` found the hyperparameters; None where it did not look for any.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    hparams_class: ClassVar[type[HParams]]
    needs_hparams_file: ClassVar[bool] = True
    own_process: ClassVar[bool] = False
    origin: Origin | None = None

    def __init__(self, hparams: HParams) -> None:
        if not isinstance(hparams, self.hparams_class):
            raise UsageError(
                f"editor '{self.name}' takes {self.hparams_class.__name__}, not {type(hparams).__name__}; "
                f"load them with {self.hparams_class.__name__}.from_hparams(file)"
            )
        self.hparams = hparams

    @classmethod
    def create(
        cls, name: str, model_name: str, hparams_dir: str | Path, overrides: Mapping[str, str] | None = None
    ) -> Editor:
        """This editor with its hyperparameters for a model, see :func:`create_editor`."""
        origin = None
        if cls.needs_hparams_file:
            hparams, origin = find_hparams(cls.hparams_class, name, model_name, hparams_dir)
        elif ":" in name:
            raise UsageError(f"editor '{cls.name}' has no presets; write '{cls.name}' instead of '{name}'")
        else:
            hparams = cls.hparams_class(alg_name=cls.name.upper(), model_name=model_name)
        editor = cls(hparams.override(dict(overrides)) if overrides else hparams)
        editor.origin = origin
        return editor

    @classmethod
    def has_file(cls, name: str, model_name: str, hparams_dir: str | Path) -> bool:
        """Whether a folder holds this editor's hyperparameters for a model."""
        return find_file(name, model_name, hparams_dir) is not None

    def supports(self, model: nn.Module) -> tuple[bool, str]:
        """Whether this editor can work on ``model``; if not, the reason in one line."""
        return True, ""

    def prepare(  # noqa: B027 - most editors have nothing to prepare
        self, model: nn.Module, tok: Any, training: Sequence[Record], progress: Progress | None = None
    ) -> None:
        """Does what is needed once a model, outside the timed edits (a hypernetwork's training, statistics).

        ``progress(what, done, total)`` is called as it goes on.
        """

    @abstractmethod
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
        """Makes the edits of ``requests`` (EasyEdit's dictionaries, see ``Record.request``).

        Args:
            model: the model to edit, changed in place unless ``copy``.
            tok: its tokenizer.
            requests: one edit each.
            copy: edit a deep copy and leave ``model`` as it is.
            return_orig_weights: return what :func:`restore_model` needs (else the second value may be empty).
            keep_original_weight: EasyEdit's other name for the same wish; either of the two is enough.
            **kwargs: EasyEdit's extras (``train_ds``), ignored.

        Returns:
            The edited model, and ``{parameter name: original value}`` or a callable that undoes these edits.

        Raises:
            UnsupportedModelError: the model is none this editor can work on.
            UsageError: a request lacks a field or its subject is not in its prompt.
            NumericalError: the edit gave NaN or infinity; the model is left as it was.
        """

    def edit_details(self) -> dict[str, Any] | None:
        """What the last ``apply`` changed, as JSON values that a person can read; None where it changed weights.

        It goes into the run's records, outside the timed edit. ``outcome`` is one of
        :data:`kgt_editor.results.outcomes.OUTCOMES` and counted. KGT gives it with ``before`` and ``after``, P(a|q)
        of eq. 1, and ``triples``: ``triple``, ``change`` (added, removed or kept), ``retrieval`` and ``reasoning``
        probability; an editor that gives the same keys is shown the same way.
        """
        return None

    @classmethod
    def for_call(cls, model: nn.Module, tok: Any, hparams: Any, kwargs: Mapping[str, Any]) -> Editor:
        """The editor that a call of EasyEdit's form works with, see :func:`call_form`.

        With ``train_ds``, a list of Records, in the call it is prepared on them.
        """
        editor = cls(hparams)
        if kwargs.get("train_ds"):
            editor.prepare(model, tok, kwargs["train_ds"])
        return editor

    def save_state(self, model: nn.Module, folder: Path) -> bool:
        """Writes all that the edits of a sequence have changed, so that another process can go on after them.

        What :meth:`prepare` makes is no part of it. Editors that do not define this and :meth:`load_state` are edited
        as any other; where a run is interrupted, their cells begin with the first edit again.

        Args:
            model: what the last ``apply`` returned, or the base model where every edit failed.
            folder: an empty one, for files of this editor's choice.

        Returns:
            whether it was written; no, where this editor cannot be saved.
        """
        return False

    def load_state(self, model: nn.Module, tok: Any, folder: Path) -> nn.Module:
        """Makes the edits that :meth:`save_state` wrote, bit for bit, and returns the edited model.

        Args:
            model: the base model, changed in place where that is what ``apply`` does.
            tok: its tokenizer.
            folder: what :meth:`save_state` wrote.
        """
        raise NotImplementedError(f"editor '{self.name}' saves states but defines no load_state")


def call_form(cls: type[Editor]) -> Callable[..., tuple[nn.Module, Restore]]:
    """An editor as the function that EasyEdit's ``ALG_DICT`` holds, ``apply_<name>_to_model``."""

    def apply(
        model: nn.Module,
        tok: Any,
        requests: list[dict[str, Any]],
        hparams: HParams,
        copy: bool = False,
        return_orig_weights: bool = False,
        keep_original_weight: bool = False,
        **kwargs: Any,
    ) -> tuple[nn.Module, Restore]:
        editor = cls.for_call(model, tok, hparams, kwargs)
        return editor.apply(model, tok, requests, copy, return_orig_weights, keep_original_weight, **kwargs)

    apply.__name__ = apply.__qualname__ = f"apply_{cls.name}_to_model"
    apply.__module__ = cls.__module__
    apply.__doc__ = f"EasyEdit's call form of :class:`{cls.__name__}`; see ``Editor.apply``."
    return apply


def restore_model(model: nn.Module, restore: Restore) -> nn.Module:
    """Undoes the edits that returned ``restore``, bit for bit, and returns ``model``."""
    if callable(restore):
        restore()
        return model
    parameters = dict(model.named_parameters())
    unknown = sorted(set(restore) - set(parameters))
    if unknown:
        raise KgtError(f"cannot restore {unknown[0]}: the model has no such parameter; pass the model that was edited")
    with torch.no_grad():
        for name, value in restore.items():
            parameters[name].copy_(value)
    return model


def get_editor_class(name: str) -> type[Editor]:
    """The editor called ``name``; a preset behind a colon (``kgt:paper``) is left out of account.

    Raises:
        UsageError: an unknown name, or what is registered is no editor.
        KgtError: it cannot be imported.
    """
    base, registry = name.partition(":")[0], registry_of(name)
    found = registry.load(base)
    if not (isinstance(found, type) and issubclass(found, Editor)):
        raise UsageError(f"editor '{base}': {registry.target(base)} is no subclass of kgt_editor.editors.base.Editor")
    return found


def available() -> dict[str, type[Editor]]:
    """Every editor by name, ours first."""
    return {name: get_editor_class(name) for name in names()}


def create_editor(
    name: str,
    model_name: str,
    hparams_dir: str | Path | None = None,
    overrides: Mapping[str, str] | None = None,
    shipped: str | Path | None = None,
) -> Editor:
    """An editor (``rome``, ``kgt:paper``) with its hyperparameters for a model, ``overrides`` set on top.

    They are those of a YAML in ``hparams_dir`` (the package's where it is None), without one those of a YAML in
    ``shipped``, and without that either those that :mod:`kgt_editor.editors.defaults` derives from the model's
    architecture.

    Raises:
        UsageError: an unknown editor, preset or override; a broken YAML; a model that the editor cannot edit.
    """
    cls, asked = get_editor_class(name), Path(hparams_dir or shipped_hparams())
    folder = asked
    if shipped is not None and not cls.has_file(name, model_name, asked) and cls.has_file(name, model_name, shipped):
        folder = Path(shipped)
    return cls.create(name, model_name, folder, overrides)
