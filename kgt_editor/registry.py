"""Things that go by a name and are imported when they are first asked for: editors, data sets."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from typing import Any

from kgt_editor.errors import KgtError, UsageError


class Registry:
    """Names and where what they name lies; other packages add theirs by an entry point or :meth:`register`.

    Args:
        what: the word for one of them in messages, as ``editor``.
        group: of the entry points (``name = module:attribute``).
        builtin: name -> ``module:attribute``; no other package can take these names.
    """

    def __init__(self, what: str, group: str, builtin: Mapping[str, str]) -> None:
        self.what, self.group = what, group
        self._builtin = dict(builtin)
        self._registered: dict[str, str] = {}

    def register(self, name: str, target: str) -> None:
        """Add one under ``name``; ``target`` is ``module:attribute``.

        Raises:
            UsageError: the target has another form, or the name is taken.
        """
        if ":" not in target:
            raise UsageError(f"{self.what} '{name}': {target!r} must have the form 'module:attribute'")
        if name in self._builtin or self._registered.get(name, target) != target:
            raise UsageError(f"{self.what} '{name}' is registered already; choose another name")
        self._registered[name] = target

    def plugins(self) -> dict[str, str]:
        """Those of other packages: name -> ``module:attribute``."""
        return {point.name: point.value for point in entry_points(group=self.group)} | self._registered

    def names(self) -> list[str]:
        """All names, ours first."""
        return list(self._builtin) + sorted(set(self.plugins()) - set(self._builtin))

    def target(self, name: str) -> str:
        """Where ``name`` lies, as ``module:attribute``.

        Raises:
            UsageError: an unknown name; the message names the nearest one.
        """
        if name in self._builtin:
            return self._builtin[name]
        plugins = self.plugins()
        if name not in plugins:
            known = self.names()
            raise UsageError(f"unknown {self.what} '{name}'; {did_you_mean(name, known)}known: {', '.join(known)}")
        return plugins[name]

    def load(self, name: str) -> Any:
        """What ``name`` names, imported.

        Raises:
            UsageError: an unknown name.
            KgtError: it cannot be imported.
        """
        target = self.target(name)
        module, _, attribute = target.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise KgtError(f"{self.what} '{name}' ({target}) cannot be imported: {error}") from error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``did you mean 'kgt'? ``, or nothing where no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean '{near[0]}'? " if near else ""
