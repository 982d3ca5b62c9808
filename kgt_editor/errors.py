"""Errors a user can act on.

Every error that reaches a user is one line that names the thing and the remedy. The command-line scripts turn
these classes into exit codes: 2 for usage (the command or its files must change), 1 for failure (the command was
right, the run was not). Anything that is not a ``KgtError`` is a defect and keeps its traceback.
"""

from __future__ import annotations


class KgtError(Exception):
    """A run failed for a reason that can be named (exit code 1)."""

    exit_code = 1


class UsageError(KgtError):
    """The request itself is wrong: an unknown name, a bad file, an impossible size (exit code 2)."""

    exit_code = 2


class UnsupportedModelError(UsageError):
    """An editor cannot work on this model; the message says why and what it can work on."""


class NumericalError(KgtError):
    """A computation gave NaN or infinity; the message names where."""


def one_line(error: BaseException) -> str:
    """An error where there is room for a line: ours by its message, others with their type."""
    text = str(error) if isinstance(error, KgtError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())
