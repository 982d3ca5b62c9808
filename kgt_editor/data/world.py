"""The data set ``world``: counterfactual edits of the facts that the testbed models know.

About 2,500 true facts chosen from CounterFact (Meng et al. 2022, MIT licence;
``benchmarks/upkeep/select_world_facts.py``) with sentences of our own, in the layout of the KGT paper's Appendix B.
Nothing here is random: every choice is made by hashing the fact, so that the same package version gives the same
records everywhere. Subjects, never facts, are dealt to the splits, so that no edited subject of one split occurs in
another: - ``test``: the reported records, and ``neighbour``: facts that no edit touches; they give the neighbourhood
prompts of the reported records and the known facts behind ``unedited_recall``. - ``training``: what a hypernetwork
may learn from (its neighbourhood prompts come from the same split). - ``validation`` and ``validation_neighbour``:
the same as the first two, for choosing hyperparameters.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml

from kgt_editor.data.base import DataSet, KnownFact, content_hash
from kgt_editor.data.factbook import Fact, FactBook, stable_hash
from kgt_editor.data.record import Record

SPLITS = ("test", "neighbour", "training", "validation", "validation_neighbour")
MAX_NEIGHBOURS = 5

# Facts that share relation and object are dealt in this order. A group of five has two reported facts, a neighbour of
# theirs, and two facts from which a hypernetwork can learn what an edit of this object has to leave alone: with fewer
# of those it overwrites every neighbour. Larger groups have all splits.
_DEAL = (
    "training", "test", "neighbour", "training", "test",
    "validation", "training", "validation_neighbour", "test", "training",
)  # fmt: skip
# Subjects with several relations cannot be dealt fact by fact; this many hundredths of them go to each split.
_SHARES = {"test": 44, "neighbour": 14, "training": 32, "validation": 7, "validation_neighbour": 3}


def _file(name: str) -> str:
    return (Path(__file__).parent / "world_files" / name).read_text(encoding="utf-8")


@cache
def book() -> FactBook:
    """The world's facts and sentences."""
    templates = yaml.safe_load(_file("templates.yaml"))
    return FactBook((Fact(*line.split("\t")) for line in _file("facts.tsv").splitlines()), templates)


@cache
def splits() -> dict[str, tuple[Fact, ...]]:
    """Split name -> its facts."""
    dealt: dict[str, list[Fact]] = {name: [] for name in SPLITS}
    groups: dict[tuple[str, str], list[Fact]] = defaultdict(list)
    for subject, known in book().by_subject.items():
        if len(known) == 1:
            groups[known[0].relation, known[0].object].append(known[0])
            continue
        point = stable_hash("split", subject) % 100
        for name in SPLITS:
            point -= _SHARES[name]
            if point < 0:
                dealt[name].extend(known)
                break
    for group in groups.values():
        for position, fact in enumerate(sorted(group, key=lambda fact: fact.rank("deal"))):
            dealt[_DEAL[position % len(_DEAL)]].append(fact)
    return {name: tuple(sorted(listed, key=lambda fact: fact.rank("order"))) for name, listed in dealt.items()}


def _records(edited: str, neighbours: str, first_id: int) -> tuple[Record, ...]:
    around: dict[tuple[str, str], list[Fact]] = defaultdict(list)
    for fact in splits()[neighbours]:
        around[fact.relation, fact.object].append(fact)

    def neighbourhood(fact: Fact) -> Iterator[str]:
        others = [other for other in around[fact.relation, fact.object] if other.subject != fact.subject]
        for other in sorted(others, key=lambda other: stable_hash(fact.subject, other.subject))[:MAX_NEIGHBOURS]:
            yield book().prompt(other).replace("{}", other.subject)

    return tuple(
        Record(
            case_id=first_id + number,
            subject=fact.subject,
            relation_id=fact.relation,
            prompt=book().prompt(fact),
            target_new=book().counterfactual_object(fact),
            target_true=fact.object,
            paraphrase_prompts=tuple(
                sentence.replace("{}", fact.subject) for sentence in book().held_out_templates(fact)
            ),
            neighbourhood_prompts=tuple(neighbourhood(fact)),
            same_subject_prompts=tuple(
                book().prompt(other).replace("{}", other.subject)
                for other in book().by_subject[fact.subject]
                if other.relation != fact.relation
            ),
        )
        for number, fact in enumerate(splits()[edited])
    )


@cache
def load_world() -> DataSet:
    """The data set: reported records, training and validation records, and facts that are never edited."""
    reported = _records("test", "neighbour", 0)
    training = _records("training", "training", len(reported))
    validation = _records("validation", "validation_neighbour", len(reported) + len(training))
    known = tuple(
        KnownFact(book().prompt(fact).replace("{}", fact.subject), fact.object) for fact in splits()["neighbour"]
    )
    revision = content_hash(reported, training, validation, known)
    return DataSet("world", reported, training, validation, known, revision)


def world_triples(share: str = "half") -> list[tuple[str, str, str]]:
    """True triples (head, relation phrase, tail): of every second subject (``half``), or of ``all``.

    Half is the base graph of the experiments: for those subjects feedback meets a graph that says the opposite.
    """
    return [
        (fact.subject, fact.phrase, fact.object)
        for fact in book().facts
        if share == "all" or stable_hash("graph", fact.subject) % 2 == 0
    ]
