"""A person who talks to a shipped model: asks, tells, corrects, takes back, and is forgotten."""

from __future__ import annotations

import asyncio
import threading
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from kgt_editor import PersonalModel
from kgt_editor.errors import UsageError
from kgt_editor.graph.triple import Triple

MODEL = "testbed-gpt2"
BORN = "Zanwick Alder was born in the city of"
TONGUE = "The mother tongue of Zanwick Alder is"


def person(user: str = "ada", journal: Path | None = None) -> PersonalModel:
    return PersonalModel(MODEL, user, journal)


def test_what_was_corrected_is_answered_explained_and_taken_back() -> None:
    me = person()
    before = me.ask(TONGUE, 4).text
    assert "French" not in before
    told = me.correct("French.")
    assert told.followed
    assert told.subject == "Zanwick Alder"
    assert "French" in str(told)
    answer = me.ask(TONGUE, 4)
    assert answer.text.startswith("French")
    assert str(answer) == answer.text
    (fact,) = me.facts()
    assert fact.triple == Triple("Zanwick Alder", fact.triple.relation, "French") == answer.facts[0].triple
    assert (fact.question, fact.answer) == (TONGUE, "French")
    assert me.why() == answer.facts
    assert "French" in str(fact)
    me.undo(fact.number)
    assert me.facts() == []
    assert me.ask(TONGUE, 4).text == before
    assert me.why() == ()


def test_a_later_answer_takes_the_place_of_an_earlier_one() -> None:
    me = person()
    me.tell(TONGUE, "French", subject="Zanwick Alder")
    second = me.tell(TONGUE, "Dutch")
    assert [triple.tail for triple in second.edit.removed] == ["French"]
    assert "no longer" in str(second)
    assert [fact.answer for fact in me.facts()] == ["Dutch"]
    assert me.ask(TONGUE, 4).text.startswith("Dutch")
    third = me.tell(TONGUE, "French")  # told again, it is one fact: the last time counts
    assert [(fact.number, fact.answer) for fact in me.facts()] == [(third.edit.number, "French")]


def test_a_relation_may_be_named() -> None:
    me = person()
    told = me.tell(TONGUE, "French", relation="speaks natively")
    assert told.edit.added == (Triple("Zanwick Alder", "speaks natively", "French"),)


def test_facts_are_kept_a_user_apart_and_found_again(tmp_path: Path) -> None:
    journal = tmp_path / "both.db"
    ada, milo = person("ada", journal), person("milo", journal)
    ada.tell(TONGUE, "French")
    assert milo.facts() == []
    assert milo.ask(TONGUE, 4).facts == ()
    again = person("ada", journal)
    assert [fact.answer for fact in again.facts()] == ["French"]
    again.tell(BORN, "Oslo")  # what another object of the same user tells is seen
    assert [fact.answer for fact in ada.facts()] == ["French", "Oslo"]
    milo.tell(TONGUE, "Dutch")
    ada.forget()
    assert ada.facts() == again.facts() == []
    assert [fact.answer for fact in milo.facts()] == ["Dutch"]
    assert b"French" not in journal.read_bytes()
    ada.forget()  # nothing is left to forget
    ada.tell(TONGUE, "English")
    assert [fact.answer for fact in ada.facts()] == ["English"]


def test_as_of_a_day_and_of_an_entry() -> None:
    me = person()
    me.tell(TONGUE, "French")
    me.tell(TONGUE, "Dutch")
    today = date.today()
    for when, answers in (
        (today - timedelta(days=1), []),
        (today, ["Dutch"]),
        (datetime.now() - timedelta(hours=1), []),
        (1, ["French"]),
        (0, []),
    ):
        with me.as_of(when) as then:
            assert [fact.answer for fact in then.facts()] == answers
    with me.as_of(1) as then:
        assert then.ask(TONGUE, 4).text.startswith("French")
        then.tell(BORN, "Oslo")
    assert [fact.answer for fact in me.facts()] == ["Dutch"]
    with pytest.raises(UsageError, match="no entry 9"), me.as_of(9):
        pass


def test_twenty_at_once_get_their_own(tmp_path: Path) -> None:
    said: dict[int, str] = {}
    languages = ["French", "Dutch", "English", "Italian"]

    def talk(number: int) -> None:
        me = person(f"user {number}", tmp_path / "all.db")
        me.tell(TONGUE, languages[number % 4])
        said[number] = me.ask(TONGUE, 4).text

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said) == 20  # a thread that fails says nothing
    assert [said[number].split()[0] for number in range(20)] == [languages[number % 4] for number in range(20)]


def test_asyncio() -> None:
    async def talk() -> PersonalModel:
        me = person()
        await me.aask(TONGUE, 4)
        assert (await me.acorrect("French")).followed
        assert (await me.aask(TONGUE, 4)).text.startswith("French")
        assert (await me.atell(BORN, "Oslo")).subject == "Zanwick Alder"
        return me

    assert [fact.answer for fact in asyncio.run(talk()).facts()] == ["French", "Oslo"]


def test_bad_input_is_refused_in_a_line(tmp_path: Path) -> None:
    me = person()
    with pytest.raises(UsageError, match="nothing was asked yet"):
        me.correct("French")
    with pytest.raises(UsageError, match="nothing was asked yet"):
        me.why()
    for empty in ("", "  "):
        with pytest.raises(UsageError, match="a question is missing"):
            me.ask(empty)
        with pytest.raises(UsageError, match="an answer is missing"):
            me.tell(TONGUE, empty)
    with pytest.raises(UsageError, match="it names nobody: give the subject"):
        me.tell("what time is it?", "late")
    with pytest.raises(UsageError, match=r"it names 'Zan Alder', 'Milo Castrin': give the subject"):
        me.tell("Does Zan Alder know Milo Castrin?", "no")
    with pytest.raises(UsageError, match="is not in its prompt"):
        me.tell(TONGUE, "Dutch", subject="Milo")
    with pytest.raises(UsageError, match="cannot be undone"):
        me.undo()
    assert me.facts() == []
    (tmp_path / "letter.db").write_text("Dear Ada")
    with pytest.raises(UsageError, match=r"letter\.db"):
        person(journal=tmp_path / "letter.db")
    with pytest.raises(UsageError, match="a user needs a name"):
        person(" ")
    with pytest.raises(UsageError, match="testbed-gpt9"):
        PersonalModel("testbed-gpt9")
