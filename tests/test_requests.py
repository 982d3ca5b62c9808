"""Edit requests in every form that is read."""

from __future__ import annotations

from typing import Any

import pytest

from kgt_editor.errors import UsageError
from kgt_editor.requests import EditRequest


def request(**changes: Any) -> EditRequest:
    return EditRequest.parse({"prompt": "Ada Brun lives in", "subject": "Ada Brun", "target_new": "Tarsil", **changes})


def test_the_subject_may_be_filled_in_or_not() -> None:
    assert request(prompt="{} lives in ").prompt == request().prompt == "Ada Brun lives in"


@pytest.mark.parametrize(("given", "read"), [(" Velmora ", "Velmora"), (None, ""), (["Velmora"], "")])
def test_the_old_answer_is_read_where_it_is_a_text(given: Any, read: str) -> None:
    assert request(ground_truth=given).ground_truth == read
    assert request().ground_truth == ""


@pytest.mark.parametrize(
    ("prompt", "subject", "before"),
    [
        ("Ada Brun lives in", "Ada Brun", "Ada Brun"),
        ("The town of Ada Brun", "Ada Brun", "The town of Ada Brun"),
        ("The Artist called Art is", "Art", "The Artist called Art"),
        ("The Hyrynsalmis speak", "Hyrynsalmi", "The Hyrynsalmi"),
        ("France's capital is not Fran's, it is", "Fran", "France's capital is not Fran"),
        ("\u6771\u4eac\u306f", "\u6771\u4eac", "\u6771\u4eac"),  # of a script without spaces
        ("\uc11c\uc6b8\uc740", "\uc11c\uc6b8", "\uc11c\uc6b8"),
    ],
)
def test_the_subject_is_found_as_a_whole_word_where_it_can_be(prompt: str, subject: str, before: str) -> None:
    assert prompt[: request(prompt=prompt, subject=subject).subject_end] == before


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"subject": "Milo", "case_id": 7}, "case 7: the subject 'Milo' is not in its prompt 'Ada Brun lives in'"),
        ({"target_new": ""}, "'target_new' must be a text"),
        ({"target_new": None}, "'target_new' must be a text"),
        ({"prompt": " "}, "'prompt' must be a text"),
        ({"prompt": "{} lives in", "subject": ""}, "is not in its prompt"),
        ({"prompt": "The capital of France is", "subject": "Fran"}, "'Fran' is only a part of a word of its prompt"),
        ({"prompt": "The capital of France is", "subject": "ance"}, "only a part of a word"),
        (
            {
                "prompt": "The capital of \u0424\u0440\u0430\u043d\u0446\u0438\u044f is",
                "subject": "\u0424\u0440\u0430\u043d",
            },
            "only a part of a word",
        ),
        ({"prompt": "Andre\u0301 lives in", "subject": "Andre"}, "only a part of a word"),
        ({"prompt": "In 19901 it", "subject": "1990"}, "only a part of a word"),
    ],
)
def test_bad_requests_are_one_clear_line(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match) as caught:
        request(**changes)
    assert "\n" not in str(caught.value)


def test_romes_form_of_an_answer_is_read() -> None:
    found = request(target_new={"str": " Tarsil"}, ground_truth={"str": "Velmora"})
    assert (found.target_new, found.ground_truth) == ("Tarsil", "Velmora")


@pytest.mark.parametrize(
    ("given", "relations"),
    [
        ({}, ()),
        ({"relation_id": "P19"}, ("P19",)),
        ({"relations": "lives in", "relation_id": "P19"}, ("lives in",)),
        ({"relations": ["lives in", "dwells in"]}, ("lives in", "dwells in")),
        ({"relation_id": 19}, ()),
        ({"relations": ["lives in", None]}, ("lives in",)),
    ],
)
def test_the_user_may_name_relations(given: dict[str, Any], relations: tuple[str, ...]) -> None:
    assert request(**given).relations == relations


def test_editors_that_need_a_subject_say_so() -> None:
    assert request().with_subject() == request()
    with pytest.raises(UsageError, match="case 3: field 'subject' is missing"):
        request(subject="", case_id=3).with_subject()
