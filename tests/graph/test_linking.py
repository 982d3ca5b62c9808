"""Which entity a text is about."""

from __future__ import annotations

import time

import pytest

from kgt_editor.graph.linking import head_for, link, matches
from kgt_editor.graph.names import MAX_WORDS, HeadIndex

BASE = HeadIndex(["Paris", "Paris Hilton", "mother tongue", "dog", "St. Louis", "Danielle Darrieux", "AC/DC", "apple"])


NONE = HeadIndex()


@pytest.mark.parametrize(
    ("text", "head"),
    [
        ("The mother of Paris Hilton is", "Paris Hilton"),
        ("Parisians like", None),
        ("The hotdog is", None),
        ("My DOG likes", "dog"),
        ("The mother tongue of Danielle Darrieux is", "Danielle Darrieux"),
        ("St. Louis's river is", "St. Louis"),
        ("AC/DC was founded in", "AC/DC"),
        ("paris hilton lives in", "Paris Hilton"),
        ("", None),
    ],
)
def test_the_longest_head_on_word_boundaries_wins(text: str, head: str | None) -> None:
    index = HeadIndex(head for head in ["Paris", "Paris Hilton", "dog", "St. Louis", "Danielle Darrieux", "AC/DC"])
    assert link(text, NONE, index) == head


def test_exact_case_wins_over_folded_case() -> None:
    index = HeadIndex(["apple", "Apple"])
    assert link("Apple was founded in", NONE, index) == "Apple"
    assert link("an apple is a", NONE, index) == "apple"
    assert [match.exact for match in matches("The DOG and the dog are", NONE, HeadIndex(["dog"]))] == [False, True]


def test_the_users_own_entity_wins() -> None:
    assert link("The mother tongue of Rex is", HeadIndex(["Rex"]), BASE) == "Rex"
    assert link("Paris Hilton likes", HeadIndex(["Paris"]), BASE) == "Paris Hilton"


@pytest.mark.parametrize("target", ["Paris", "Paris Hilton", "Danielle Darrieux", "dog"])
def test_a_target_behind_the_prompt_changes_nothing(target: str) -> None:
    personal = HeadIndex(["Paris", "Paris Hilton"])
    assert link(f"The dog lives with {target}", personal, BASE, joined=True) == "dog"
    assert link(f"Nobody knows {target}", personal, BASE, joined=True) is None
    assert link(f"Nobody knows {target}", personal, BASE) == target


def test_matches_say_where_they_stand() -> None:
    text = "The dog of Paris"
    paris, dog = matches(text, NONE, BASE)
    assert [text[m.start : m.end] for m in (dog, paris)] == ["dog", "Paris"]
    assert (dog.exact, dog.at_end, paris.at_end) == (True, False, True)
    assert (dog.own, dog.alias) == (False, False)


def test_ambiguous_names_are_reported_with_scores() -> None:
    base = HeadIndex(["apple", "Apple", "Bobby"])
    base.add("Robert", "Bob")
    base.add("Bobby", "Bob")
    assert [match.head for match in matches("An APPLE a day", NONE, base)] == ["apple", "Apple"]
    assert [match.head for match in matches("An Apple a day", NONE, base)] == ["Apple"]
    found = matches("apple is what bob eats", HeadIndex(["Robert"]), base)
    assert [match.head for match in found] == ["Robert", "apple"]
    assert [match.alias for match in found] == [True, False]
    assert found[0].score > found[1].score
    assert [match.head for match in matches("where does bob live", NONE, base)] == ["Robert", "Bobby"]


def test_an_alias_leads_to_its_head() -> None:
    index = HeadIndex(["New York City"])
    index.add("New York City", "the Big Apple")
    assert link("Who lives in the big apple now?", index, NONE) == "New York City"
    index.discard("New York City", "the Big Apple")
    assert link("Who lives in the big apple now?", index, NONE) is None
    assert link("Who lives in New York City now?", index, NONE) == "New York City"


def test_heads_come_and_go() -> None:
    index = HeadIndex()
    for head in ("New York City", "York", "york", "York", "!?"):
        index.add(head)
    assert link("New York City has", index, NONE) == "New York City"
    index.discard("New York City")
    index.discard("unknown")
    assert link("New York City has", index, NONE) == "York"
    index.discard("York")
    assert link("New York City has", index, NONE) == "york"
    index.discard("york")
    assert link("New York City has", index, NONE) is None


def test_letters_may_be_composed_or_not() -> None:
    composed, apart = "Caf\u00e9 Noir", "Cafe\u0301 Noir"
    assert link(f"Where is {apart} now?", HeadIndex([composed]), NONE) == composed
    assert link(f"Where is {composed} now?", HeadIndex([apart]), NONE) == apart


def test_a_clause_is_no_name() -> None:
    clause = " ".join(["word"] * (MAX_WORDS + 1))
    assert link(f"{clause} is", HeadIndex([clause]), NONE) is None
    assert link(f"{clause} is", HeadIndex([clause[5:]]), NONE) == clause[5:]


@pytest.mark.parametrize("text", ["", "   ", "?!", "\ud800 dog", "\x00", "a" * 100_000, "dog " * 20_000])
def test_any_text_can_be_linked(text: str) -> None:
    assert link(text, BASE, NONE) == ("dog" if "dog" in text else None)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Beyoncé", "Where was Beyonce born?"),
        ("Beyonce", "Where was Beyoncé born?"),
        ("Jean-Pierre Papin", "Where was Jean Pierre Papin born?"),
        ("Jean Pierre Papin", "Where was Jean-Pierre Papin born?"),
        ("Jean\u2010Pierre Papin", "Where was Jean-Pierre Papin born?"),
        ("Conan O'Brien", "Where was Conan O\u2019Brien born?"),
        ("Conan O\u2019Brien", "Where was Conan O'Brien born?"),
        ("Danielle Darrieux", "Danielle Darrieux's mother tongue is"),
        ("Danielle Darrieux", "Danielle Darrieux\u2019s mother tongue is"),
        ("my dog", "What do my dogs eat?"),
        ("my dogs", "What does my dog eat?"),
        ("sports car", "Where are sports cars built?"),
        ("Zürich city guide", "Which Zurich city guides are sold?"),
    ],
)
def test_other_spellings_lead_to_a_name(name: str, text: str) -> None:
    assert link(text, HeadIndex([name]), NONE) == name
    loose = matches(text, HeadIndex([name]), NONE)[0]
    aliased = HeadIndex()
    aliased.add("somebody", name)
    assert link(text, aliased, NONE) == "somebody"
    assert not loose.exact or "Darrieux" in name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Pari", "Paris is in"),
        ("Jame", "Where does James live?"),
        ("Mars", "where is a mar now"),
        ("wood", "Does Woods play?"),
    ],
)
def test_a_capitalised_word_keeps_its_number(name: str, text: str) -> None:
    assert link(text, HeadIndex([name]), NONE) is None
    assert link(text, NONE, HeadIndex([name])) is None


def test_the_closest_spelling_of_a_stretch_counts_whoever_has_it() -> None:
    own, base = HeadIndex(["Beyonce", "cat"]), HeadIndex(["Beyoncé", "cats"])
    assert link("Where is Beyoncé now?", own, base) == "Beyoncé"
    assert link("Where are the cats now?", own, base) == "cats"
    both = HeadIndex(["Beyonce", "Beyoncé", "beyoncé"])
    assert [match.head for match in matches("Where is Beyoncé now?", both, NONE)] == ["Beyoncé"]
    assert link("Where is Beyonce now?", both, NONE) == "Beyonce"
    spelled, loose = matches("What do my dogs and my cat eat?", HeadIndex(["my dog", "my cat"]), NONE)
    assert (spelled.head, loose.head) == ("my cat", "my dog")


def test_a_dropped_name_is_found_by_no_spelling() -> None:
    index = HeadIndex(["Beyoncé", "Beyonce", "my dog"])
    index.discard("Beyoncé")
    assert link("Where is Beyoncé now?", index, NONE) == "Beyonce"
    index.discard("Beyonce")
    index.discard("my dog")
    assert matches("Where are Beyoncé, Beyonce, my dogs, my dog now?", index, NONE) == []


def test_the_head_that_a_subjects_facts_belong_under() -> None:
    own, base = HeadIndex(["I", "my dog", "Rex"]), HeadIndex(["Paris", "dog"])
    own.add("Rex", "the king")
    said = {
        "me": "I",
        "The user": "I",
        "I": "I",
        "MY DOG": "my dog",
        "the king": "Rex",
        "paris": "Paris",
        "dogs": "dog",
    }
    assert {subject: head_for(subject, own, base) for subject in said} == said
    for subject in ("Ada Brun", "Paris Hilton", "my native language", "what", ""):
        assert head_for(subject, own, base) == subject
    assert head_for("me", base, base) == "me"


@pytest.mark.parametrize(
    "text", ["dog Paris ", "Dog. ", "I am Rex. My dog ", '"', "Rex is mine ", "Paris de ", "dogs-"]
)
def test_a_long_text_takes_no_more_than_its_length(text: str) -> None:
    own, base = HeadIndex(["dog", "I", "Rex"]), HeadIndex(["dog", "Paris", "dog Paris"])

    def seconds(length: int) -> float:
        """Of this process alone, and the better of two: other processes and collected garbage do not count."""
        taken = []
        for _ in range(2):
            start = time.process_time()
            matches(text * length, own, base)
            taken.append(time.process_time() - start)
        return min(taken)

    assert seconds(3000) < 40 * seconds(300) + 0.2  # ten times as long; a hundred times the time would be squares


@pytest.mark.parametrize(
    ("head", "text"),
    [
        ("दिल्ली", "दिल्ली कहाँ है?"),
        ("ကိုကြီး", "ကိုကြီး ဘယ်မှာလဲ"),
        ("שָׁלוֹם", "מַה אוֹמֵר שָׁלוֹם הַיּוֹם"),
        ("می‌خواهم", "او می‌خواهم گفت"),
    ],
)
def test_signs_that_belong_to_a_letter_are_a_part_of_the_word(head: str, text: str) -> None:
    names = HeadIndex([head])
    (match,) = matches(text, names, HeadIndex())
    assert (match.head, match.of(text)) == (head, head)
    part = head[: len(head) // 2]
    assert matches(text, HeadIndex([part]), HeadIndex()) == []


def test_a_head_that_is_a_mere_function_word_takes_no_question() -> None:
    names = HeadIndex(["the", "it", "Ada Brun", "The Who"])
    found = [
        match.head for match in matches("The mother tongue of the wife of Ada Brun, what is it?", names, HeadIndex())
    ]
    assert found == ["Ada Brun"]
    assert [match.head for match in matches("When did The Who split up?", names, HeadIndex())] == ["The Who"]
