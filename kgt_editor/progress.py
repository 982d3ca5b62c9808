"""How work that takes long says how it gets on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: Called with the stage, how much of it is done, and how much there is in all.
Advance = Callable[[str, int, int], None]
#: Called with a line that a person should read.
Note = Callable[[str], None]


def quiet(*_: Any) -> None:
    """Progress and notes that nobody wants."""
