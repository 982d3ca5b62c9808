"""Function words, common words and the first person in entity linking."""

from __future__ import annotations

import pytest

from kgt_editor.graph.linking import link, matches
from kgt_editor.graph.names import HeadIndex

NONE = HeadIndex()
FUNCTION = ["what", "is", "this", "in", "of", "the", "as", "it"]


THINGS = ["dog", "dogs", "my dog", "knife", "book", "house", "wood", "friend", "paris", "france", "native speaker"]


FRAMES = ["language", "city", "country", "capital", "speaker", "name", "find", "eat", "feed", "like", "tell", "use"]


COMMON = HeadIndex([*FUNCTION, *THINGS, *FRAMES])


OWN = HeadIndex(["my dog", "I", "Danielle Darrieux"])


@pytest.mark.parametrize(
    "text", ["My dog likes", "MY DOG LIKES", "my dog likes", "What should I feed my dog", "my dogs"]
)
def test_the_users_my_dog_is_found_wherever_it_stands(text: str) -> None:
    assert link(text, OWN, COMMON) == "my dog"


@pytest.mark.parametrize("head", ["I", "i", "me", "Me", "myself", "my", "mine", "the user", "The user", "user"])
@pytest.mark.parametrize(
    "text", ["my native language is", "What language do I speak?", "I'm from", "tell me: what is mine"]
)
def test_the_first_person_leads_to_what_the_user_said_of_themself(head: str, text: str) -> None:
    assert link(text, HeadIndex([head, "Rex"]), COMMON) == head
    assert link(text, HeadIndex(["Rex"]), HeadIndex([head])) is None
    assert link(f"{text}, not Rex's", HeadIndex([head, "Rex"]), COMMON) == "Rex"


@pytest.mark.parametrize(
    "text",
    [
        "Apple A5 is my favourite",
        "It ran. The Loner is my favourite",
        "The wife of Napoleon I was",
        "I.R.S. Records was founded",
        "Peter I Island is part of",
        "Italy, i.e. the land",
        "Is it in the city?",
    ],
)
def test_who_speaks_is_not_who_the_text_is_about(text: str) -> None:
    assert link(text, HeadIndex(["I"]), NONE) is None


def test_of_several_names_for_themself_the_first_of_the_table_counts() -> None:
    assert link("Where was I born?", HeadIndex(["user", "me"]), NONE) == "me"
    found = matches("Yesterday I fed my dog", OWN, NONE)
    assert [(match.head, match.exact, match.alias) for match in found] == [("my dog", True, False), ("I", True, False)]
    assert [match.alias for match in matches("Where was my home?", OWN, NONE)] == [True]


@pytest.mark.parametrize(
    "text",
    [
        "Michel Rocard is a native speaker of",
        "Rocard is a native speaker of",
        "The city where Michel Rocard lives is",
        "What language does Michel Rocard speak in the house?",
        "iPad is a use of",
        "Dog Star is in the city of",
        "The city of Paris Hilton is",
        "Where is Ås in the house",
        "What is this of?",
        "what in the",
    ],
)
def test_a_common_word_is_no_name_that_the_base_graph_does_not_know(text: str) -> None:
    assert link(text, NONE, COMMON) is None


@pytest.mark.parametrize(
    ("text", "head"),
    [
        ("What can a dog do?", "dog"),
        ("A knife is used for", "knife"),
        ("You can find a book in a", "book"),
        ("Dogs can", "dogs"),
        ("Knives are", "knife"),
        ("Houses can", "house"),
        ("Which language is spoken in France?", "france"),
        ("The capital of France is", "france"),
        ("what is the capital of france", "france"),
        ("The capital of", "capital"),
        ("Name the capital of France", "france"),
        ("Tell me what my DOG eats", "my dog"),
        ("Paris is the capital of", "paris"),
        ("A friend likes a house where", "friend"),
        ("Houses is", None),
        ("The name of Woods is", None),
        ("THE KNIFE IS", "knife"),
    ],
)
def test_questions_about_common_things_find_them(text: str, head: str | None) -> None:
    assert link(text, NONE, COMMON) == head


def test_a_user_may_name_anything_by_any_word() -> None:
    own = HeadIndex(["The Who", "IT", "dog"])
    assert link("Where did The Who play?", own, COMMON) == "The Who"
    assert link("Is IT done in the city?", own, COMMON) == "IT"
    assert link("Is it the one who is done?", own, NONE) is None
    assert link("Michel Rocard has a dog that", own, COMMON) == "dog"


def test_case_tells_names_from_words_where_the_writer_uses_it() -> None:
    own, base = HeadIndex(["Apple"]), HeadIndex(["apple"])
    assert link("Is an apple red?", own, base) == "apple"
    assert link("is apple a firm?", own, base) == "Apple"
    assert link("Is Apple a firm?", own, base) == "Apple"


def test_a_longer_name_around_the_users_counts_where_it_is_capitalised() -> None:
    base = HeadIndex(["Paris Hilton", "paris hotel", "in paris"])
    assert link("Who is Paris Hilton?", HeadIndex(["Paris"]), base) == "Paris Hilton"
    assert link("Which paris hotel is best?", HeadIndex(["Paris"]), base) == "Paris"
    assert link("Which hotel in Paris is best?", HeadIndex(["Paris"]), base) == "Paris"
    people = HeadIndex(["Ada Brun", "Ada", "Velmora", "Austria-Hungary", "velmora"])
    assert link("Where is Doctor Ada Brun from?", NONE, people) == "Ada Brun"
    assert link("Where is Doctor Ada from?", NONE, people) is None


def test_a_base_graph_that_capitalises_names_knows_them_beside_unknown_ones() -> None:
    base = HeadIndex(["Ada Brun", "Velmora", "Austria-Hungary", "John King, USA", "milan", "critic"])
    assert link("Critics classify Ada Brun as", NONE, base) == "Ada Brun"
    assert link("Development of Velmora was led by", NONE, base) == "Velmora"
    assert link("Geographers place Austria-Hungary in", NONE, base) == "Austria-Hungary"
    assert link("Viewers watched John King, USA on", NONE, base) == "John King, USA"
    assert link("Reviewers of West Velmora say", NONE, base) is None
    assert link("Critics of Rocard place Milan in", NONE, base) is None
