"""What a user told: order, replaced answers, and BM25 that a visible answer cannot steer."""

from __future__ import annotations

from kgt_editor.editors.memory import Feedback, Memory

ADA = Feedback("The mother tongue of Ada Brun is", "Ada Brun", "Norrish", "f1")
MILO = Feedback("The mother tongue of Milo Castrel is", "Milo Castrel", "Old Velmoran", "f2")
INES = Feedback("Ines Dorwald was born in the town of", "Ines Dorwald", "Tarsil", "f3")


def test_a_new_answer_takes_the_place_of_the_old_one_and_is_the_newest() -> None:
    memory = Memory([ADA, MILO])
    again = Feedback(ADA.prompt.upper(), "Ada Brun", "Tarsi", "f4")
    memory.add([again])
    assert memory.feedback == (MILO, again)
    memory.add([INES, Feedback(INES.prompt, "Ines Dorwald", "Quindle", "f5")])
    assert [item.fact for item in memory.feedback] == ["f2", "f4", "f5"]
    assert len(memory) == 3


def test_the_closest_feedback_is_found_in_memories_of_any_size() -> None:
    for told in ([ADA, MILO], [MILO, ADA], [INES, ADA, MILO]):
        memory = Memory(told)
        assert memory.closest("At home Ada Brun spoke", 1) == [ADA]
        assert memory.closest("At home, MILO Castrel spoke", 1) == [MILO]
    assert Memory([ADA]).closest("At home Ada Brun spoke", 3) == [ADA]


def test_what_is_found_keeps_its_order_and_what_shares_no_word_is_left_out() -> None:
    memory = Memory([MILO, INES, ADA])
    assert memory.closest("The mother tongue of Milo Castrel is", 2) == [MILO, ADA]
    assert memory.closest("Ines", 3) == [INES]
    assert memory.closest("Nothing bears here", 3) == []
    assert Memory().closest("Ada", 3) == []


def test_of_equally_close_feedback_the_newer_is_taken() -> None:
    twin = Feedback("Of mother tongue Ada Brun is the", "Ada Brun", "Quin", "f4")
    assert Memory([ADA, twin]).closest("Ada Brun", 1) == [twin]
    assert Memory([twin, ADA]).closest("Ada Brun", 1) == [ADA]


def test_feedback_put_back_is_what_is_searched() -> None:
    memory = Memory([ADA])
    before = memory.feedback
    memory.add([MILO])
    assert memory.closest("Milo Castrel", 1) == [MILO]
    memory.feedback = before
    assert memory.closest("Milo Castrel", 1) == []


def test_an_answer_in_the_text_does_not_call_up_the_feedback_that_holds_it() -> None:
    memory = Memory([ADA, INES])
    assert memory.closest("Somebody answered Norrish", 2) == []


def test_a_target_joined_to_its_prompt_chooses_nothing() -> None:
    """Two rows with the same prompt and different targets are answered with the same facts."""
    memory = Memory([ADA, MILO, INES])
    prompt = "The best friend of Ines Dorwald is called"
    by_prompt = memory.closest(prompt, 1)
    assert by_prompt == [INES]
    for target in ("Milo Castrel", "Ada Brun", "Nobody"):
        assert memory.closest(f"{prompt} {target}", 1, joined=True) == by_prompt
    # Without the guard the target would have chosen.
    assert memory.closest(f"{prompt} Milo Castrel Milo Castrel", 1) == [MILO]
    assert memory.closest("Milo Castrel", 1, joined=True) == []


def test_prompts_without_words_are_remembered_too() -> None:
    odd = Feedback("?!", "", "yes", "f6")
    assert Memory([odd, ADA]).closest("Ada Brun", 2) == [ADA]
    assert Memory([odd]).closest("Ada Brun", 2) == []
