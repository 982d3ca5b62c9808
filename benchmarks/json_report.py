"""What the measuring scripts have in common: one JSON report, printed and kept, and errors as one line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kgt_editor.errors import KgtError


def report(measure: Callable[[], dict[str, Any]], out: Path | None) -> int:
    """Print what ``measure`` returns as JSON, write it to ``out`` too, and give the exit code."""
    try:
        text = json.dumps(measure(), indent=2) + "\n"
    except KgtError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return 0
