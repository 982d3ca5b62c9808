"""Talk to a language model in a terminal, and correct it: ``kgt chat --user ada``.

What is told is kept in a journal, the user's alone; the facts behind an answer stand under it.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from kgt_editor import commands
from kgt_editor.cli.person import add_person, journal_of, open_person
from kgt_editor.errors import KgtError, UsageError
from kgt_editor.folders import write_private
from kgt_editor.talk.lines import EVERYTHING, as_told, correction

if TYPE_CHECKING:
    from kgt_editor.talk.model import PersonalModel

PROGRAM = "kgt chat"
_MOST_LINES = 1_000


def build_parser(program: str = PROGRAM) -> argparse.ArgumentParser:
    """All options with their defaults."""
    parser = commands.Parser(prog=program, description=(__doc__ or "").splitlines()[0])
    add_person(parser.add_argument)
    return parser


def main(arguments: Sequence[str], program: str = PROGRAM) -> int:
    """Run the command and return its exit code: 0, 1 (failure) or 2 (usage)."""
    return commands.run(program, arguments, lambda rest: _chat(build_parser(program).parse_args(rest)))


def _chat(options: argparse.Namespace) -> int:
    console = Console(highlight=False, soft_wrap=True)
    journal = journal_of(options)
    with console.status(f"loading {options.model}"):
        me = open_person(options, journal, options.user)
    console.print(
        Text(f"{options.model} knows what {options.user} told it, and keeps it in {journal}. /help says more.")
    )
    with _lines_kept(options.user, journal, console.is_terminal) as forget_lines:
        Conversation(me, console, options.tokens, forget_lines).run()
    return 0


@contextmanager
def _lines_kept(user: str, journal: Path, terminal: bool) -> Iterator[Callable[[], None]]:
    """In a terminal the arrow keys bring back lines of before, of this user and journal; gives what forgets them."""
    if not terminal or find_spec("readline") is None:  # it is not there on Windows
        yield lambda: None
        return
    import readline

    name = hashlib.sha256(f"{journal.resolve()}\n{user}".encode()).hexdigest()[:16]
    lines = journal.with_name(f"lines-{name}")
    if lines.is_file():
        readline.read_history_file(lines)
    readline.set_history_length(_MOST_LINES)

    def forget() -> None:
        readline.clear_history()
        lines.unlink(missing_ok=True)

    try:
        yield forget
    finally:
        if readline.get_current_history_length():
            write_private(lines, "")
            readline.write_history_file(lines)


class Conversation:
    """Reads lines, asks and tells.

    Args:
        me: whom it is with.
        console: where the answers go.
        tokens: of an answer, at most.
        forget_lines: is called when everything is forgotten.
    """

    def __init__(
        self, me: PersonalModel, console: Console, tokens: int, forget_lines: Callable[[], None] = lambda: None
    ) -> None:
        self._me, self._console, self._tokens, self._forget_lines = me, console, tokens, forget_lines
        #: Word -> what it does with the rest of the line, and its line of help.
        self._words: dict[str, tuple[Callable[[str], None], str]] = {
            "/fix": (
                self._fix,
                "ANSWER [| SUBJECT]: what the last answer should be; 'no, ANSWER' does the same",
            ),
            "/read": (self._read, "TEXT: keep what it says, sentence by sentence, under everybody it names"),
            "/why": (self._why, "the facts behind the last answer"),
            "/facts": (self._facts, "all that was told"),
            "/undo": (self._undo, "[NUMBER]: take back what was told last, or the fact with that number"),
            "/export": (self._export, "FILE: write all that was told into a file, as JSON"),
            "/forget": (self._forget, "everything: delete all that was told, for good"),
            "/help": (self._help, "this list"),
            "/quit": (self._quit, "leave, as Ctrl-D does"),
        }

    def run(self) -> None:
        """Until the lines end. Ctrl-C ends an answer, or a line that was begun, and not the conversation."""
        while True:
            try:
                line = input("> " if self._console.is_terminal else "").strip()
                if line:
                    self.say(line)
            except EOFError:
                return
            except KeyboardInterrupt:
                self._console.print()

    def say(self, line: str) -> None:
        """One line of the user's."""
        word, _, rest = line.partition(" ")
        try:
            if word in self._words:
                self._words[word][0](rest.strip())
            elif word.startswith("/"):
                raise UsageError(f"no {word} here; /help lists what there is")
            elif self._me.answered and (right := correction(line)):
                self._fix(right)
            else:
                self._ask(line)
        except KgtError as error:
            self._console.print(Text(str(error), "red"))

    def _ask(self, question: str) -> None:
        answer = self._me.ask(question, self._tokens, self._write)
        self._console.print()
        for fact in answer.facts:
            self._below(fact.triple.line)

    def _write(self, part: str) -> None:
        self._console.print(Text(commands.printable(part)), end="")

    def _fix(self, given: str) -> None:
        answer, _, subject = (part.strip() for part in given.partition("|"))
        self._below(str(self._me.correct(answer, subject or None)))

    def _read(self, text: str) -> None:
        for line in str(self._me.read(text)).splitlines():
            self._below(line)

    def _why(self, _: str) -> None:
        facts = self._me.why()
        for fact in facts:
            said = fact.feedback
            told = "of the base graph"
            if said:
                told = "read" if said.query == said.answer else f"told: {as_told(said.query, said.answer)}"
            self._below(f"{fact.triple.line} ({told}; bears on the question with {fact.relevance:.2f})")
        if not facts:
            self._below("no fact: the model answered by itself")

    def _facts(self, _: str) -> None:
        facts = self._me.facts()
        for fact in facts:
            self._below(str(fact))
        if not facts:
            self._below("nothing was told yet")

    def _undo(self, number: str) -> None:
        if number and not (number.isascii() and number.isdigit() and len(number) < 10):
            raise UsageError(f"/undo takes a number of /facts, not {number!r}")
        edit = self._me.undo(int(number) if number else None)
        self._below(f"taken back: {as_told(edit.query, edit.answer)}")

    def _export(self, file: str) -> None:
        if not file:
            raise UsageError("/export takes the name of a file")
        write_private(Path(file), self._me.export())
        self._below(f"written: {file}")

    def _forget(self, what: str) -> None:
        if what != EVERYTHING:
            raise UsageError(f"/forget cannot be taken back: say '/forget {EVERYTHING}' to mean it")
        self._me.forget()
        self._forget_lines()
        self._below("all is forgotten")

    def _help(self, _: str) -> None:
        for word, (_do, what) in self._words.items():
            self._below(f"{word:<8}{what}")

    def _quit(self, _: str) -> None:
        raise EOFError

    def _below(self, text: str) -> None:
        self._console.print(Text(f"  {commands.printable(text)}", "dim"))
