"""Which methods a clone of EasyEdit has, and what each of them can be set to."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from functools import cache
from typing import Any

from kgt_editor.editors.easyedit.loading import load
from kgt_editor.errors import UsageError


def hparams_of(apply: Any) -> Any:
    """The hyperparameter class of a method: what its apply function is annotated with."""
    return inspect.signature(apply).parameters["hparams"].annotation


@cache
def inventory(folder: str) -> dict[str, list[str]]:
    """The methods of the EasyEdit in ``folder`` and the fields of their hyperparameters, found out by a process of its
    own: importing EasyEdit here would count as memory of every other row.

    Raises:
        UsageError: it cannot be imported.
    """
    done = subprocess.run([sys.executable, "-m", __name__], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UsageError(last.removeprefix("kgt_editor.errors.UsageError: "))
    found: dict[str, list[str]] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _describe() -> dict[str, list[str]]:
    return {
        name: sorted(getattr(hparams_of(apply), "__dataclass_fields__", {}))
        for name, apply in load().algorithms.items()
    }


if __name__ == "__main__":
    print(json.dumps(_describe()))
