"""EasyEdit's own methods, from a clone that the user has.

The clone is the folder in ``EASYEDIT_HOME``, or the one on ``PYTHONPATH``. Its packages import every method and, with
them, some thirty packages, seed the random generators and set up logging. The modules of a few methods need none of
that, so their parent packages are put in place empty.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

METHODS = ("rome", "ft", "kn", "memit", "alphaedit", "ultraedit")
PACKAGES = (
    *("easyeditor", "easyeditor.models", *(f"easyeditor.models.{name}" for name in METHODS)),
    *("easyeditor.trainer", "easyeditor.trainer.algs", "easyeditor.trainer.algs.malmen"),
)

# Imported by ROME's modules; used for nothing but counting the covariance on Wikipedia (datasets), or nothing at all.
UNUSED = ("datasets", "matplotlib", "matplotlib.style")


def clone_home() -> Path | None:
    """The clone's folder; None where there is none."""
    if os.environ.get("EASYEDIT_HOME"):
        return Path(os.environ["EASYEDIT_HOME"])
    spec = find_spec("easyeditor")
    return Path(spec.origin).parents[1] if spec and spec.origin else None


@contextmanager
def imported(home: Path, *modules: str) -> Iterator[list[ModuleType]]:
    """The clone's ``modules`` (``models.ft.ft_main``); afterwards ``sys.modules`` is what it was."""
    before = dict(sys.modules)
    for name in [name for name in sys.modules if name.split(".")[0] == "easyeditor"]:
        del sys.modules[name]
    for name in PACKAGES:
        package = ModuleType(name)
        package.__path__ = [str(home.joinpath(*name.split(".")))]
        sys.modules[name] = package
    missing = {name for name in UNUSED if name not in before and find_spec(name.split(".")[0]) is None}
    sys.modules.update({name: MagicMock(name=name) for name in missing})
    try:
        yield [importlib.import_module(f"easyeditor.{name}") for name in modules]
    finally:
        for name in set(sys.modules) - set(before):
            if name.split(".")[0] == "easyeditor" or name in missing:
                del sys.modules[name]
        sys.modules.update(before)
