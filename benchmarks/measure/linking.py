"""Measure which entity a text is linked to: ``python benchmarks/measure/linking.py --data DIR``.

DIR holds CounterFact in ROME's layout and ConceptNet as head, relation, tail, weight. Five questions are answered:

- neighbourhood: a user without facts asks about CounterFact's neighbours. Which words of the base graph are they linked
  to? Nothing or the subject is right; a part of the subject or a word elsewhere is wrong.
- own: the user's graph holds the subjects of all records. Do queries and paraphrases find their subject?
- first_person: the user has said something about themself only. How many of these texts, none in their voice, find it?
- world: the testbed's base graph, which capitalises names, and no fact of the user's. Do queries find their subject?
- conceptnet: questions of ConceptNet's own kind, with no fact of the user's. Do they find what they ask about?
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

import kgt_editor.data
from kgt_editor.commands import json_report
from kgt_editor.data.world import load_world
from kgt_editor.errors import UsageError
from kgt_editor.graph.build import build
from kgt_editor.graph.conceptnet import read_lines, tsv_rows
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.store import MemoryGraph
from kgt_editor.graph.stored import StoredGraph
from kgt_editor.graph.triple import Triple
from kgt_editor.kgt.base import base_graph

COUNTERFACT = "counterfact_rome_rebuilt.jsonl.gz"
CONCEPTNET = ("conceptnet4_en.tsv.gz", "conceptnet_cn100k.tsv.gz")
SENTENCES = Path(kgt_editor.data.__file__).parent / "conflict_files" / "conceptnet.yaml"
EXAMPLES = {
    "What can a dog do?": "dog",
    "A knife is used for": "knife",
    "You can find a book in a": "book",
    "What do dogs eat?": "dog",
    "Dogs can": "dog",
    "What are knives used for?": "knife",
}


def read_counterfact(path: Path) -> list[dict[str, Any]]:
    """Every record of CounterFact, in ROME's layout."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None


def prompts_of(records: list[dict[str, Any]]) -> dict[str, set[str]]:
    """The query prompts of each relation, with {} for the subject."""
    found: dict[str, set[str]] = {}
    for record in records:
        rewrite = record["requested_rewrite"]
        found.setdefault(rewrite["relation_id"], set()).add(rewrite["prompt"])
    return found


def subject_of(text: str, prompts: Iterable[str]) -> str | None:
    """What stands in the gap of the longest of the prompts that ``text`` was made with."""
    gaps = [prompt.split("{}") for prompt in prompts]
    found = [text[len(a) : len(text) - len(b)] for a, b in gaps if text.startswith(a) and text.endswith(b)]
    return min(filter(None, found), key=len, default=None)


def verdict(head: str | None, subject: str | None) -> str:
    """What a neighbourhood prompt's link is."""
    if head is None:
        return "nothing"
    if subject is None:
        return "subject unknown"
    if head.casefold() == subject.casefold():
        return "subject"
    return "part of the subject" if head.casefold() in subject.casefold() else "elsewhere"


def neighbourhood(records: list[dict[str, Any]], prompts: dict[str, set[str]], base: StoredGraph) -> dict[str, Any]:
    """Links of the neighbourhood prompts into a base graph."""
    graph = PersonalGraph(base)
    counts: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    taken = 0.0
    for record in records:
        for text in record["neighborhood_prompts"]:
            start = time.perf_counter()
            head = graph.link(text)
            taken += time.perf_counter() - start
            said = verdict(head, subject_of(text, prompts[record["requested_rewrite"]["relation_id"]]))
            counts[said] += 1
            if head is not None and said != "subject":
                wrong[head] += 1
    total = sum(counts.values())
    return {
        "prompts": total,
        "linked_to": dict(counts.most_common()),
        "wrong_share": sum(wrong.values()) / total,
        "commonest_wrong": dict(wrong.most_common(15)),
        "link_us": taken / total * 1e6,
    }


def texts(record: dict[str, Any]) -> dict[str, list[str]]:
    """Texts about a record's subject."""
    rewrite = record["requested_rewrite"]
    return {
        "query": [rewrite["prompt"].format(rewrite["subject"])],
        "paraphrase": record["paraphrase_prompts"] + record["generation_prompts"],
    }


def own(records: list[dict[str, Any]], base: MemoryGraph | StoredGraph) -> dict[str, Any]:
    """Links of queries and paraphrases where the user's graph has all subjects."""
    graph = PersonalGraph(base)
    subjects = dict.fromkeys(record["requested_rewrite"]["subject"] for record in records)
    graph.commit("", "", [Triple(subject, "is", "known") for subject in subjects])
    found: dict[str, Any] = {}
    for kind in ("query", "paraphrase"):
        pairs = [(text, record["requested_rewrite"]["subject"]) for record in records for text in texts(record)[kind]]
        right = sum(graph.link(text) == subject for text, subject in pairs)
        found[kind] = {"texts": len(pairs), "linked_to_the_subject": right / len(pairs)}
    return found


def first_person(records: list[dict[str, Any]]) -> dict[str, Any]:
    """How many texts about others are linked to the user themself."""
    graph = PersonalGraph(MemoryGraph())
    graph.commit("My native language is", "French", [Triple("I", "speak", "French")])
    listed = [text for record in records for listed in texts(record).values() for text in listed]
    listed += [text for record in records for text in record["neighborhood_prompts"]]
    found = [text for text in listed if graph.link(text) is not None]
    return {"texts": len(listed), "linked": len(found), "examples": found[:5]}


def world() -> dict[str, Any]:
    """Links of the world's queries and paraphrases into its base graph, where that has the subject."""
    base = base_graph("world")
    graph, heads = PersonalGraph(base), set(base.heads())
    pairs = [
        (text, record.subject)
        for record in load_world().records
        for text in (record.prompt.format(record.subject), *record.paraphrase_prompts)
        if record.subject in heads
    ]
    right = sum(graph.link(text) == subject for text, subject in pairs)
    return {"texts": len(pairs), "linked_to_the_subject": right / len(pairs)}


def conceptnet(base: StoredGraph, count: int, seed: int = 0) -> dict[str, Any]:
    """Links of questions about a base graph's own entities, of one or two words."""
    graph = PersonalGraph(base)
    sentences = yaml.safe_load(SENTENCES.read_text(encoding="utf-8"))
    heads = [head for head in base.heads() if head.isascii() and len(head.split()) <= 2 and head.islower()]
    rng = random.Random(seed)
    found: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for head in rng.sample(heads, min(count, len(heads))):
        # Entities that are no function words and have what the sentence asks for.
        relations = [phrase for phrase in sentences if any(z.relation == phrase for z in base.triples_from(head, 64))]
        if not relations:
            continue
        text = rng.choice(sentences[rng.choice(relations)]).format(head)
        linked = graph.link(text)
        found["the entity" if linked == head else "nothing" if linked is None else "another word"] += 1
        if linked not in (head, None):
            wrong[linked] += 1
    examples = {text: [graph.link(text), head] for text, head in EXAMPLES.items()}
    return {
        "questions": sum(found.values()),
        "linked_to": dict(found.most_common()),
        "commonest_wrong": dict(wrong.most_common(15)),
        "examples": {text: linked for text, (linked, _) in examples.items()},
        "examples_right": sum(linked == head for linked, head in examples.values()),
    }


def measure(data: Path, count: int) -> dict[str, Any]:
    """All five measures."""
    every = read_counterfact(data / COUNTERFACT)
    records, prompts = every[:count], prompts_of(every)
    found: dict[str, Any] = {
        "records": len(records),
        "own": {"no base graph": own(records, MemoryGraph())},
        "first_person": first_person(records),
        "world": world(),
        "neighbourhood": {},
        "conceptnet": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        for name in CONCEPTNET:
            out = Path(folder) / f"{name}.db"
            build(tsv_rows(read_lines(data / name), Counter()), out)
            base = StoredGraph(out)
            found["neighbourhood"][name] = neighbourhood(records, prompts, base)
            found["own"][name] = own(records, base)
            found["conceptnet"][name] = conceptnet(base, count)
            base.close()
    return found


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help=f"folder with {COUNTERFACT}, {' and '.join(CONCEPTNET)}"
    )
    parser.add_argument("--records", type=int, default=2000, metavar="N", help="CounterFact's first (%(default)s)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the report here too")
    options = parser.parse_args()
    return json_report(lambda: measure(options.data, options.records), options.out)


if __name__ == "__main__":
    sys.exit(main())
