"""Chains of facts: which one a question is answered with, where none is looked for, and how its end is read."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from kgt_editor.errors import UsageError
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.store import MemoryGraph
from kgt_editor.graph.triple import Triple
from kgt_editor.kgt import walk
from kgt_editor.kgt.hparams import KGTHyperParams
from kgt_editor.kgt.model import KGEnhancedLM
from kgt_editor.lm.scoring import TargetScore, score_targets

LM = tuple[Any, Any]
WROTE = Triple("Nightfall", "was written by", "Ada Brun")
FILMED = Triple("Nightfall", "was filmed by", "Runa Gildt")
BORN = Triple("Ada Brun", "was born in", "Tarsil")
SPEAKS = Triple("Ada Brun", "speaks the language", "Quin")
MAYOR = Triple("Tarsil", "has the mayor", "Milo Castrel")
BACK = Triple("Milo Castrel", "knows", "Nightfall")
BASE = [WROTE, FILMED, BORN, SPEAKS, MAYOR, BACK]
FAR = "Where was the one born by whom Nightfall was written?"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A model to which a question is the likelier the more of its words the facts have; gives the prompts it saw."""
    seen: list[str] = []

    def words(text: str) -> set[str]:
        return set(re.findall(r"\w{3,}", text.casefold())) - {"facts", "question", "what", "the", "was", "where"}

    def score(lm: Any, tok: Any, prompts: Sequence[str], targets: Sequence[str], **_: Any) -> list[TargetScore]:
        seen.extend(prompts)
        found = []
        for prompt, target in zip(prompts, targets, strict=True):
            fits, idle = words(target) & words(prompt), words(prompt) - words(target)
            found.append(TargetScore(10.0 * len(fits) - len(idle), 1, False))
        return found

    monkeypatch.setattr(walk, "score_targets", score)
    return seen


def reader(lm: LM, *base: Triple, **settings: Any) -> KGEnhancedLM:
    hparams = KGTHyperParams.build({"hops": 4, "reading": "repeat", **settings}, "test")
    return KGEnhancedLM(*lm, PersonalGraph(MemoryGraph(base or BASE)), hparams)


def unrelated(monkeypatch: pytest.MonkeyPatch, model: KGEnhancedLM, log_prob: float = -3.0) -> None:
    """No triple bears on a question by itself."""
    monkeypatch.setattr(model.retrieval.walk, "_bearing", lambda query, head, own: [-9.0] * len(own))
    monkeypatch.setattr(
        model.retrieval, "bearings", lambda asked: [[log_prob] * len(one.stored) for one in asked], raising=True
    )


def test_the_chain_that_explains_the_question_is_taken(
    monkeypatch: pytest.MonkeyPatch, tiny_lm: LM, asked: list[str]
) -> None:
    model = reader(tiny_lm)
    unrelated(monkeypatch, model)
    (fact,) = model.explain(FAR)
    assert (*fact.through, fact.triple) == (WROTE, BORN)
    assert 0.5 < fact.probability < 1
    # Only the question's own entity has its name.
    assert "Facts: Nightfall was written by X. X was born in Y. Question: what is Y? " in asked


def test_a_chain_may_go_on_but_not_back(monkeypatch: pytest.MonkeyPatch, tiny_lm: LM, asked: list[str]) -> None:
    model = reader(tiny_lm)
    unrelated(monkeypatch, model)
    (fact,) = model.explain("Who is the mayor of the town in which the one by whom Nightfall was written was born?")
    assert (*fact.through, fact.triple) == (WROTE, BORN, MAYOR)
    assert not any("knows" in prompt for prompt in asked), "from the mayor back to Nightfall"


@pytest.mark.parametrize(
    ("settings", "base", "query"),
    [
        ({"hops": 1}, BASE, FAR),
        ({}, [WROTE, FILMED], FAR),  # nothing leads on
        ({}, BASE, "By whom was Nightfall written?"),  # one triple says it all
        ({"hop_gain": 25.0}, BASE, FAR),  # two words more are not enough
    ],
)
def test_otherwise_no_chain_is_read(
    monkeypatch: pytest.MonkeyPatch,
    tiny_gpt2: LM,
    asked: list[str],
    settings: dict[str, Any],
    base: list[Triple],
    query: str,
) -> None:
    model = reader(tiny_gpt2, *base, **settings)
    unrelated(monkeypatch, model)
    assert all(not fact.through for fact in model.explain(query))
    if settings.get("hops") == 1 or len(base) == 2:
        assert asked == [], "what cannot change the answer costs no pass"


@pytest.mark.parametrize(("bearing", "chain"), [(0.5, True), (0.99, True), (0.99999, False), (1.0, False)])
def test_the_more_a_triple_bears_on_the_question_the_more_a_chain_must_explain(
    monkeypatch: pytest.MonkeyPatch, tiny_gpt2: LM, asked: list[str], bearing: float, chain: bool
) -> None:
    """The chain beats the best triple by 10 nats; the log odds of .99 are 4.6, those of .99999 are 11.5."""
    model = reader(tiny_gpt2)
    unrelated(monkeypatch, model, log_prob=math.log(bearing))
    assert bool(model.explain(FAR)[0].through) == chain
    assert bool(asked) == (bearing < 1), "for a question that is stored word for word nothing is looked for"


def test_the_users_word_counts_before_the_base_graphs(
    monkeypatch: pytest.MonkeyPatch, tiny_gpt2: LM, asked: list[str]
) -> None:
    model = reader(tiny_gpt2)
    unrelated(monkeypatch, model)
    told = Triple("Nightfall", "was written by", "Milo Castrel")
    model.graph.add(told, "Nightfall was written by", "Milo Castrel")
    model.graph.add(Triple("Milo Castrel", "was born in", "Velmora"), "Milo Castrel was born in", "Velmora")
    (fact,) = model.explain(FAR)
    assert (fact.through, fact.triple.tail) == ((told,), "Velmora")
    # A base triple in other words that answers the same question goes, too.
    other = Triple("Nightfall", "has the author", "Ada Brun")
    again = reader(tiny_gpt2, other, BORN)
    again.graph.add(told, "Nightfall was written by", "Milo Castrel")
    monkeypatch.setattr(again.retrieval.walk, "_bearing", lambda query, head, own: [-0.1] * len(own))
    assert again.retrieval.walk._options("Nightfall", FAR) == [told]


def test_the_end_of_a_chain_is_read_as_the_question_that_it_answers(
    monkeypatch: pytest.MonkeyPatch, tiny_lm: LM, asked: list[str]
) -> None:
    model = reader(tiny_lm)
    unrelated(monkeypatch, model)
    near = model.reasoning_prompt("Ada Brun was born in", BORN)
    (context,) = model.contexts([FAR])
    assert (context.text, context.plain, context.weight) == (near, "Ada Brun was born in", 1.0)
    direct = reader(tiny_lm, BORN)
    monkeypatch.setattr(direct.retrieval, "bearings", lambda asked: [[0.0] * len(one.stored) for one in asked])
    assert model.answer(FAR) == direct.answer("Ada Brun was born in")
    found, wanted = (one.score_targets([text], ["Tarsil"])[0] for one, text in
                     ((model, FAR), (direct, "Ada Brun was born in")))  # fmt: skip
    assert found.log_prob == pytest.approx(wanted.log_prob, abs=1e-5)
    tok = tiny_lm[1]
    ids = [torch.tensor([tok(text).input_ids]) for text in (FAR, "Ada Brun was born in")]
    written = [
        one.generate(some, max_new_tokens=4)[0, some.shape[1] :] for one, some in zip((model, direct), ids, strict=True)
    ]
    assert written[0].tolist() == written[1].tolist()


def test_named_relations_are_followed(tiny_gpt2: LM, asked: list[str]) -> None:
    model = reader(tiny_gpt2, guard="retrieval", hops=1)
    model.name_relations(FAR, ["was written by", "P19"])
    (fact,) = model.explain(FAR)
    assert (*fact.through, fact.triple) == (WROTE, BORN)
    assert asked == []
    model.name_relations(FAR, ["was written by", "P27"])
    assert all(not fact.through for fact in model.explain(FAR)), "the graph does not go on there"
    model.name_relations(FAR, [])
    assert "P19" not in str(model.retrieval._named)


def test_summing_over_triples_knows_no_chains() -> None:
    with pytest.raises(UsageError, match="leave hops at 1"):
        KGTHyperParams.build({"inference": "marginal", "contrast": 0.0, "guard": "retrieval", "hops": 2}, "test")


def test_the_found_chain_is_the_likeliest_of_all(monkeypatch: pytest.MonkeyPatch, tiny_lm: LM) -> None:
    """With a real (random) model, against every chain written out by hand."""
    near = ["Facts: Nightfall was written by X.", "Facts: Nightfall was filmed by X."]
    deeper = [f"{near[0]} X was born in Y.", f"{near[0]} X speaks the language Y."]
    deepest = [f"{deeper[0]} Y has the mayor Z."]
    prompts = [f"{text} Question: what is {text[-2]}? " for text in (*near, *deeper, *deepest)]
    likely = [score.log_prob for score in score_targets(*tiny_lm, prompts, [FAR] * len(prompts))]
    alone = score_targets(*tiny_lm, ["Facts: Nightfall is X. Question: what is X? "], [FAR])[0].log_prob
    best = max(range(len(near), len(prompts)), key=lambda index: likely[index])
    finder = reader(tiny_lm).retrieval.walk
    bar = likely[best] - max(likely[: len(near)])  # what the best chain has over the best triple
    monkeypatch.setattr(walk, "_LEAST_GAIN", -math.inf)
    (found,) = finder.find([(FAR, "Nightfall", bar - 1e-3)])
    assert found is not None
    assert found.chain == ((WROTE, BORN), (WROTE, SPEAKS), (WROTE, BORN, MAYOR))[best - len(near)]
    assert found.probability == pytest.approx(torch.tensor(likely).softmax(0)[best].item(), rel=1e-3)
    assert finder.find([(FAR, "Nightfall", bar + 1e-3)]) == [None]
    monkeypatch.setattr(walk, "_LEAST_GAIN", likely[best] - alone + 1e-3)
    assert finder.find([(FAR, "Nightfall", bar - 1.0)]) == [None]


def test_what_follows_from_a_triple_is_read_where_nothing_else_bears(
    monkeypatch: pytest.MonkeyPatch, tiny_lm: LM, asked: list[str]
) -> None:
    model = reader(tiny_lm, BORN, consequences=True)
    married = Triple("Ada Brun", "is married to", "Milo Castrel")
    model.graph.add(married, "Ada Brun is married to", "Milo Castrel")
    derived = Triple("Milo Castrel", "is married to", "Ada Brun")
    near = {"Milo Castrel is married to": -0.01, "Ada Brun was born in": -0.1}
    monkeypatch.setattr(
        model.retrieval, "bearings", lambda asked: [[near.get(text, -9.0) for text in one.stored] for one in asked]
    )
    (fact,) = model.explain("Who is the wife of Milo Castrel?")
    assert (fact.triple, fact.through, fact.feedback) == (derived, (married,), None)
    (context,) = model.contexts(["Who is the wife of Milo Castrel?"])
    assert (context.plain, context.weight) == ("Milo Castrel is married to", 1.0)
    assert "Milo Castrel is married to Ada Brun" in context.text
    # A triple of the graph that bears on the question comes first, and the flag turns it off.
    assert model.explain("Where was Ada Brun, the wife of Milo Castrel, born?")[0].triple == BORN
    without = model.with_graph(model.graph)
    without.retrieval.hparams = without.hparams.model_copy(update={"consequences": False})
    monkeypatch.setattr(without.retrieval, "bearings", model.retrieval.bearings)
    assert without.explain("Who is the wife of Milo Castrel?") == []


def test_a_question_the_other_way_round_is_no_consequence(monkeypatch: pytest.MonkeyPatch, tiny_gpt2: LM) -> None:
    model = reader(tiny_gpt2, BORN, consequences=True)
    model.graph.add(Triple("Dacia Sandero", "company that makes … is", "Toyota"), "Dacia Sandero is made by", "Toyota")
    model.graph.add(Triple("Nightfall", "was written by", "Ada Brun"), "Nightfall was written by", "Ada Brun")
    near = {"Ada Brun is the author of": -0.3, "Ada Brun was written by": -0.1}
    monkeypatch.setattr(
        model.retrieval, "bearings", lambda asked: [[near.get(text, -9.0) for text in one.stored] for one in asked]
    )
    assert all(not fact.through for fact in model.explain("Ada Brun was written by"))
    near["Ada Brun is the author of"] = -0.05
    assert model.explain("Ada Brun has written")[0].through == (Triple("Nightfall", "was written by", "Ada Brun"),)
