"""A personal model for programs that speak the Model Context Protocol, over standard input and output: ``kgt mcp``.

    {"mcpServers": {"kgt": {"command": "kgt", "args": ["mcp", "--user", "ada"]}}}

is how most of them are told of it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from kgt_editor import commands
from kgt_editor.cli.person import add_person, journal_of, open_person
from kgt_editor.errors import UsageError

PROGRAM = "kgt mcp"


def build_parser(program: str = PROGRAM) -> argparse.ArgumentParser:
    """All options with their defaults."""
    parser = commands.Parser(prog=program, description=(__doc__ or "").splitlines()[0])
    add_person(parser.add_argument)
    return parser


def main(arguments: Sequence[str], program: str = PROGRAM) -> int:
    """Serve until the client closes standard input; return the exit code: 0, 1 (failure) or 2 (usage)."""
    return commands.run(program, arguments, lambda rest: _serve(build_parser(program).parse_args(rest)))


def _serve(options: argparse.Namespace) -> int:
    if find_spec("mcp") is None or find_spec("mcp.server.mcpserver") is None:
        raise UsageError("needs the package mcp, version 2 or later: pip install 'kgt_editor[mcp]'")
    from kgt_editor.talk.tools import server

    journal = journal_of(options)
    me = open_person(options, journal, options.user)
    print(f"{options.model} knows what {options.user} told it, and keeps it in {journal}", file=sys.stderr)
    server(me, options.tokens).run()
    return 0
