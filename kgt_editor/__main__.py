"""The command ``kgt``, and ``python -m kgt_editor``: one word says which of the command lines is meant."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

#: Word -> module with ``main(arguments, program)``, and what it does. A module is imported when its word is given: some
#: of them need seconds for torch.
COMMANDS = {
    "chat": ("kgt_editor.cli.chat", "talk to a language model, and correct it"),
    "serve": ("kgt_editor.cli.serve", "the same on a page in the browser"),
    "mcp": ("kgt_editor.cli.mcp", "the same for a program that speaks the Model Context Protocol"),
    "compare": ("kgt_editor.cli.compare", "compare model editors on one model and data set"),
    "report": ("kgt_editor.cli.report", "tables, figures and a page from runs"),
    "paper": ("kgt_editor.cli.paper", "run the cells behind the paper's tables and figures, and render them"),
    "calibrate": ("kgt_editor.cli.calibrate", "choose KGT's settings for a model on validation records"),
    "graph": ("kgt_editor.cli.graph", "base graphs, and what users told their personal graphs"),
    "data": ("kgt_editor.cli.data", "check a data file, fetch CounterFact, build its extension"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; 2 where there is no such command."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return 0 if words else 2
    if words[0] not in COMMANDS:
        close = get_close_matches(words[0], COMMANDS, 1)
        meant = f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(COMMANDS)}"
        print(f"kgt: no command '{words[0]}'{meant}", file=sys.stderr)
        return 2
    code: int = import_module(COMMANDS[words[0]][0]).main(words[1:], program=f"kgt {words[0]}")
    return code


def _usage() -> str:
    listed = [f"  {name:<11}{what}" for name, (_, what) in COMMANDS.items()]
    head = ["usage: kgt COMMAND ...", "", "Knowledge Graph Tuning as a model editor.", ""]
    return "\n".join([*head, *listed, "", "'kgt COMMAND --help' says more."])


if __name__ == "__main__":
    sys.exit(main())
