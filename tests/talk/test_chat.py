"""``kgt chat``: a conversation in a terminal, here through pipes."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kgt_editor.__main__ import main
from kgt_editor.graph.export import import_
from kgt_editor.graph.journal import Journal
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.store import MemoryGraph

TONGUE = "The mother tongue of Zanwick Alder is"


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Says lines, and returns what was answered."""

    def said(*lines: str, arguments: tuple[str, ...] = ()) -> list[str]:
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        given = ["chat", "--model", "testbed-gpt2", "--tokens", "4", "--journal", str(tmp_path / "chat.db"), *arguments]
        assert main(given) == 0
        first, *rest = capsys.readouterr().out.splitlines()
        assert str(tmp_path / "chat.db") in first
        return rest

    return said


def test_a_correction_is_followed_shown_and_taken_back(say) -> None:
    (before,) = say(TONGUE)
    assert not before.startswith("French")
    out = say(TONGUE, "No, French.", TONGUE, "/why", "/facts", "/undo 1", TONGUE, "/facts", "/undo")
    assert out[0] == before
    assert out[1].startswith("  Zanwick Alder | ")
    assert out[1].endswith(" | French")
    assert out[2].startswith("French")
    assert out[3] == out[1]
    assert f"told: {TONGUE} -> French; bears on the question with" in out[4]
    assert f"({TONGUE} -> French, " in out[5]
    assert out[6:] == [
        f"  taken back: {TONGUE} -> French",
        before,
        "  nothing was told yet",
        "the last edit cannot be undone: the journal holds no such edit",
    ]


def test_facts_are_there_the_next_time_and_nobody_elses(say) -> None:
    say(TONGUE, "/fix French | Zanwick Alder", arguments=("--user", "ada"))
    assert say(TONGUE, arguments=("--user", "ada"))[0].startswith("French")
    assert say("/facts", "/why") == ["  nothing was told yet", "nothing was asked yet: ask a question first, or tell "
                                     "both question and answer"]  # fmt: skip
    said = say("/forget", "/forget everything", "/facts", arguments=("--user", "ada"))
    assert "say '/forget everything' to mean it" in said[0]
    assert said[1:] == ["  all is forgotten", "  nothing was told yet"]


def test_what_cannot_be_done_is_a_line_and_the_conversation_goes_on(say) -> None:
    out = say("/fix French", "/dance", "/undo x", "no, French", TONGUE, "/fix ", "/help", "/quit", "never read")
    assert out[0].startswith("nothing was asked yet")
    assert out[1] == "no /dance here; /help lists what there is"
    assert out[2] == "/undo takes a number of /facts, not 'x'"
    assert "an answer is missing: it is empty" in out
    words = ["/fix", "/read", "/why", "/facts", "/undo", "/export", "/forget", "/help", "/quit"]
    assert [line.split()[0] for line in out[-len(words) :]] == words


def test_ctrl_c_ends_a_line_and_not_the_conversation(say, monkeypatch: pytest.MonkeyPatch) -> None:
    from kgt_editor.talk.model import PersonalModel

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(PersonalModel, "ask", interrupted)
    assert say(TONGUE, "/facts") == ["", "  nothing was told yet"]


def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "letter.db").write_text("Dear Ada")
    for arguments, told in (
        (["--model", "testbed-gpt9"], "testbed-gpt9"),
        (["--model", "testbed-gpt2", "--journal", str(tmp_path / "letter.db")], "letter.db"),
        (["--model", "testbed-gpt2", "--user", " "], "a user needs a name"),
        (["--tokens", "0"], "--tokens"),
    ):
        assert main(["chat", *arguments]) == 2
        error = capsys.readouterr().err.strip()
        assert told in error
        assert "\n" not in error


def test_what_was_told_goes_into_a_file_for_its_owner_alone(say, tmp_path: Path) -> None:
    file = tmp_path / "told.json"
    out = say(TONGUE, "No, French.", "/export", f"/export {file}", f"/export {tmp_path / 'none' / 'told.json'}")
    assert out[2:4] == ["/export takes the name of a file", f"  written: {file}"]
    assert "cannot be written: No such file or directory" in out[4]
    assert file.stat().st_mode & 0o777 == 0o600
    graph = PersonalGraph(MemoryGraph(), Journal(tmp_path / "other.db"), "user")
    import_(graph, file.read_text(encoding="utf-8"))
    assert [edit.answer for edit in graph.journal] == ["French"]


def test_lines_of_before_are_kept_in_a_terminal_and_forgotten(tmp_path: Path) -> None:
    pty, readline = pytest.importorskip("pty"), pytest.importorskip("readline")
    assert readline is not None
    arguments = ["chat", "--model", "testbed-gpt2", "--tokens", "4", "--journal", str(tmp_path / "chat.db")]
    for lines, kept in (
        (f"{TONGUE}\n/facts\n/quit\n", [TONGUE, "/facts", "/quit"]),
        ("/forget everything\n/quit\n", []),
    ):
        here, there = pty.openpty()
        command = [sys.executable, "-m", "kgt_editor", *arguments]
        with subprocess.Popen(command, stdin=there, stdout=there, stderr=there, close_fds=True) as process:
            os.close(there)
            os.write(here, lines.encode())
            with contextlib.suppress(OSError):  # the terminal is closed at the end
                while os.read(here, 4096):
                    pass
            assert process.wait(60) == 0
        os.close(here)
        files = list(tmp_path.glob("lines-*"))
        said = [line for file in files for line in file.read_text(encoding="utf-8").splitlines() if line[0] != "_"]
        assert said[: len(kept)] == kept
        assert TONGUE not in said[len(kept) :]
        assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
