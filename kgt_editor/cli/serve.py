"""A page in the browser on which people talk to a language model and see what it knows of them: ``kgt serve``.

It listens to this machine alone. The address printed for a user has a token behind its #, new with every start; whoever
has the address is that user.
"""

from __future__ import annotations

import argparse
import os
import secrets
import socket
from collections.abc import Sequence
from importlib.util import find_spec

from rich.console import Console

from kgt_editor import commands
from kgt_editor.cli.person import add_person, journal_of, open_person
from kgt_editor.errors import KgtError, UsageError

PROGRAM = "kgt serve"
PORT = 8377


def build_parser(program: str = PROGRAM) -> argparse.ArgumentParser:
    """All options with their defaults."""
    parser = commands.Parser(prog=program, description=(__doc__ or "").splitlines()[0])
    add_person(parser.add_argument, several=True)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen to (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=PORT, help="0 takes a free one (default: %(default)s)")
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6 and int(text) < 1 << 16):
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 65535, not '{text}'")
    return int(text)


def main(arguments: Sequence[str], program: str = PROGRAM) -> int:
    """Serve until Ctrl-C; return the exit code: 0, 1 (failure) or 2 (usage)."""
    return commands.run(program, arguments, lambda rest: _serve(build_parser(program).parse_args(rest)))


def _serve(options: argparse.Namespace) -> int:
    if any(find_spec(name) is None for name in ("starlette", "uvicorn")):
        raise UsageError("needs the packages starlette and uvicorn: pip install 'kgt_editor[serve]'")
    import uvicorn

    from kgt_editor.talk.web import Page

    console = Console(highlight=False, soft_wrap=True)
    users = list(dict.fromkeys(options.user or ["user"]))
    with _listening(options.host, options.port) as listener:  # before the model is loaded: a port may be taken
        journal = journal_of(options)
        with console.status(f"loading {options.model}"):
            people = {secrets.token_urlsafe(24): open_person(options, journal, user) for user in users}
        host, port = listener.getsockname()[:2]
        named = f"[{host}]" if ":" in host else host
        page = Page(people, options.model, options.tokens, ("127.0.0.1", "localhost", "[::1]", named))
        for token, me in people.items():
            console.print(f"{me.user}: http://{named}:{port}/#token={token}", markup=False)
        console.print(f"What is told is kept in {journal}. Ctrl-C ends it.", markup=False)
        config = uvicorn.Config(page.app(), log_level="warning", timeout_graceful_shutdown=2)
        uvicorn.Server(config).run(sockets=[listener])
    return 0


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        UsageError: there is no such address.
        KgtError: somebody else has the port.
    """
    try:
        ((family, *_), *_) = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return socket.create_server((host, port), family=family)
    except socket.gaierror:
        raise UsageError(f"--host {host}: no such address") from None
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise KgtError(f"{host}:{port}: {reason}; give another --host or --port, 0 for a free one") from None
