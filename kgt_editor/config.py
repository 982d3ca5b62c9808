"""Hyperparameters: one frozen pydantic model per editor, read from EasyEdit's YAML files."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kgt_editor.errors import UsageError

_H = TypeVar("_H", bound="HParams")

_LARGEST = 2**31 - 1
_SHOWN = 80  # characters of a wrong value
_MOST_BYTES = 1_000_000  # of a YAML file; those of published editors have some thousand


class HParams(BaseModel):
    """The fields every editor's YAML shares (EasyEdit's names), and how they are read.

    A subclass adds its own fields with their defaults. Instances are frozen and refuse unknown keys.

    Attributes:
        alg_name: the method, e.g. ``"ROME"``; a subclass narrows it with ``Literal``.
        model_name: Hugging Face name or path the values were chosen for; informative, the model is loaded elsewhere.
        device: CUDA index or device name; informative, the model's own device is used.
        max_length: longest prompt in tokens.
        model_parallel: whether the model is spread over several devices.
        seed: seed of whatever an editor draws at random.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    # Keys of EasyEdit's YAMLs that mean nothing here: accepted and dropped, so that its files load unchanged.
    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset()

    alg_name: str
    model_name: str = ""
    device: int | str = 0
    max_length: int = Field(default=1024, ge=1, le=_LARGEST)
    model_parallel: bool = False
    seed: int = Field(default=0, ge=0, le=_LARGEST)

    @model_validator(mode="before")
    @classmethod
    def _drop_ignored(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        found = {key: value for key, value in values.items() if key not in cls.IGNORED_KEYS}
        own = cls.model_fields["alg_name"].default
        if isinstance(own, str) and str(found.get("alg_name")).upper() == own:  # EasyEdit writes AlphaEdit
            found["alg_name"] = own
        return found

    @classmethod
    def from_hparams(cls: type[_H], hparams_name_or_path: str | Path) -> _H:
        """Read a YAML file; the suffix may be left out, as in EasyEdit.

        Raises:
            UsageError: the file is missing or not YAML (with the line), a key is unknown or a value is wrong.
        """
        path = Path(hparams_name_or_path)
        if path.suffix not in (".yaml", ".yml"):
            path = path.with_name(path.name + ".yaml")
        return cls.build(read_yaml(path), str(path))

    @classmethod
    def build(cls: type[_H], values: Mapping[str, Any], source: str) -> _H:
        """Validate ``values``; ``source`` opens the error message.

        Raises:
            UsageError: an unknown key (with the nearest known ones) or a wrong value (with what is allowed).
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise UsageError(f"{source}: {cls._explain(error)}") from None

    def override(self: _H, values: Mapping[str, Any], source: str = "--set") -> _H:
        """A copy with some fields replaced; a string value is read as YAML (``"[3]"``, ``"1e-3"``, ``"true"``).

        Raises:
            UsageError: as for :meth:`build`, or a value that is not YAML.
        """
        parsed = {key: parse_value(value, f"{source} {key}") for key, value in values.items()}
        return self.build({**self.model_dump(), **parsed}, source)

    @classmethod
    def _explain(cls, error: ValidationError) -> str:
        # A misspelt key is also a missing one: its own name tells more.
        first, *others = sorted(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = sorted(cls.model_fields)
            near = difflib.get_close_matches(field, known, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known keys: {', '.join(known)}"
            text = f"unknown key '{field}' for {cls.__name__}; {hint}"
        elif first["type"] == "missing":
            text = f"key '{field}' is missing"
        else:
            text = f"'{field}' = {first['input']!r}: {first['msg']}" if field else first["msg"]
        return f"{text} (and {len(others)} more)" if others else text


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        UsageError: missing, unreadable, not YAML (with line and column) or not a mapping.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UsageError(f"{path}: {path.stat().st_size:,} bytes; a YAML file may have {_MOST_BYTES:,}")
        values = _load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UsageError(f"{path}{where}: not valid YAML: {error.problem or error.context}") from None
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UsageError(f"{path}: must hold 'key: value' lines, not {type(values).__name__}")
    return {str(key): value for key, value in values.items()}


def parse_value(value: Any, source: str) -> Any:
    """A string as YAML would type it; anything else as it is.

    Raises:
        UsageError: the string is not YAML.
    """
    if not isinstance(value, str):
        return value
    try:
        return _load(value)
    except (ValueError, RecursionError, yaml.YAMLError):
        raise UsageError(f"{source}: {value[:_SHOWN]!r} is not a YAML value") from None


class _Loader(yaml.SafeLoader):
    """Without aliases, a few of which can stand for a text that fills the memory."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(None, None, "aliases are not read here", event.start_mark)
        return super().compose_node(parent, index)


def _load(text: str) -> Any:
    """A YAML text's value.

    Raises:
        ValueError: a number has too many digits.
        RecursionError: it is nested too deeply.
        yaml.YAMLError: it is no YAML.
    """
    return yaml.load(text, _Loader)
