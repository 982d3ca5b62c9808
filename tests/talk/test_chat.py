"""``kgt chat``: a conversation in a terminal, here through pipes."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from kgt_editor.__main__ import main

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
    assert [line.split()[0] for line in out[-7:]] == ["/fix", "/why", "/facts", "/undo", "/forget", "/help", "/quit"]


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
