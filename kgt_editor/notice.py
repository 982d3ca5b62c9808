"""Lines for the user that are neither results nor errors."""

from __future__ import annotations

from functools import cache

from rich.console import Console
from rich.text import Text


@cache
def tell(text: str) -> None:
    """Print a line on stderr, once a process, however often it is said."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(Text(text))
