"""What the package's command lines have in common: exit codes, one-line errors, and numbers above zero."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from kgt_editor.errors import KgtError, UsageError

INTERRUPTED = 130
_LARGEST = 2**63 - 1  # what SQLite can hold
_DIGITS = 100
_MOST_SHOWN = 200  # characters of a path


class Parser(argparse.ArgumentParser):
    """Arguments whose errors are one line and exit code 2, raised for :func:`run` to print."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def add_placement(add: Callable[..., Any]) -> None:
    """Adds the options that say where a language model runs, and in which number format, with a parser's ``add``."""
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    add("--dtype", choices=("float32", "float16", "bfloat16"), default="float32", help="default: %(default)s")


def positive(text: str) -> int:
    """An argument's type: a whole number above zero, of no more than 63 bits."""
    if not text.isascii() or not text.isdigit() or not text.strip("0"):
        raise argparse.ArgumentTypeError(f"must be a whole number above zero, not '{text}'")
    if len(text) > _DIGITS or int(text) > _LARGEST:
        raise argparse.ArgumentTypeError(f"must be {_LARGEST} at most")
    return int(text)


def run(
    program: str, arguments: Sequence[str], work: Callable[[list[str]], int], interrupted: str = "interrupted"
) -> int:
    """Do ``work`` and return its exit code, or 1 (failure), 2 (usage) or 130 (interrupted) with a line on stderr.

    ``--debug`` may stand anywhere among the arguments; it lets the traceback through and is not handed on.

    Args:
        program: what the lines on stderr begin with.
        arguments: without the program's name.
        work: is given the arguments.
        interrupted: what is said after Ctrl-C.
    """
    debug = "--debug" in arguments
    try:
        _check_given(arguments)
        code = work([word for word in arguments if word != "--debug"])
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever reads has read enough, as in  | head -1
        _close_stdout()
        return 0
    except OSError as error:
        if debug or not (error.filename or error.errno in (errno.ENOSPC, errno.EIO)):
            raise
        named = "the output cannot be written" if error.filename is None else _short(str(error.filename))
        if error.filename is None:
            _close_stdout()
        print(f"{program}: {named}: {error.strerror}", file=sys.stderr)
        return 1
    except KgtError as error:
        if debug:
            raise
        print(f"{program}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        if debug:
            raise
        print(f"{program}: {interrupted}", file=sys.stderr)
        return INTERRUPTED


def _check_given(arguments: Sequence[str]) -> None:
    """Refuse an empty argument: as a path it would be the folder one is in."""
    for before, word in zip(["", *arguments], arguments, strict=False):
        if not word or (word.startswith("--") and word.endswith("=")):
            raise UsageError(f"{word.rstrip('=') or before or 'an argument'}: empty; give it a value or leave it out")


def _short(path: str) -> str:
    return printable(path if len(path) <= _MOST_SHOWN else f"{path[:_MOST_SHOWN]}...")


def _close_stdout() -> None:
    """What is still to be printed goes nowhere, so that Python does not fail over it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def printable(text: str) -> str:
    """The text without anything that a terminal would obey: control characters are written as escapes."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def json_report(measure: Callable[[], dict[str, Any]], out: Path | None) -> int:
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
