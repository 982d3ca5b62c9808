"""Choose the facts of the world from CounterFact's true facts (Meng et al. 2022, MIT licence).

    python benchmarks/upkeep/select_world_facts.py --data counterfact_rome_rebuilt.jsonl.gz

writes kgt_editor/data/world_files/facts.tsv (subject, relation, object). Run it only to change the world: the
shipped models know the facts of the file as it is.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import hashlib
import json
import re
from pathlib import Path

import yaml

WORLD = Path(__file__).resolve().parents[2] / "kgt_editor" / "data" / "world_files"
NAME = re.compile(r"[^\W_][\w .'&:,!-]*")


def order(*key: str) -> str:
    """A fixed pseudo-random sort key."""
    return hashlib.sha256("\t".join(key).encode()).hexdigest()


def select(rows: list[dict], relations: set[str], per_relation: int) -> list[tuple[str, str, str]]:
    """All usable facts of subjects with two relations or more, then others up to ``per_relation`` each.

    A fact is left out when its object already stands in its subject's name ("BMW M1" is made by BMW), when the
    names are long or hold unusual signs, or when the file gives two objects for one subject and relation.
    """
    answers: dict[tuple[str, str], set[str]] = collections.defaultdict(set)
    for row in rows:
        rewrite = row["requested_rewrite"]
        if rewrite["relation_id"] in relations:
            answers[rewrite["subject"], rewrite["relation_id"]].add(rewrite["target_true"]["str"])
    facts = [
        (subject, relation, next(iter(objects)))
        for (subject, relation), objects in answers.items()
        if len(objects) == 1
    ]
    facts = [
        (s, r, o)
        for s, r, o in facts
        if len(s) <= 28 and len(o) <= 20 and NAME.fullmatch(s) and NAME.fullmatch(o) and o.lower() not in s.lower()
    ]
    relations_of = collections.Counter(subject for subject, _, _ in facts)
    chosen = [fact for fact in facts if relations_of[fact[0]] > 1]
    singles = sorted((fact for fact in facts if relations_of[fact[0]] == 1), key=lambda fact: order(*fact))
    popular = collections.Counter((r, o) for _, r, o in facts)
    size = collections.Counter(r for _, r, _ in chosen)
    shared = collections.Counter((r, o) for _, r, o in chosen)
    ranked = []
    for subject, relation, object_ in singles:
        if popular[relation, object_] >= 3:  # an edit needs neighbours that share its true object
            rank = shared[relation, object_]
            ranked.append((rank // 5, -popular[relation, object_], rank, (subject, relation, object_)))
            shared[relation, object_] += 1
    for *_, fact in sorted(ranked):  # five subjects an object, the commonest objects first, then five more
        if size[fact[1]] < per_relation:
            chosen.append(fact)
            size[fact[1]] += 1
    return sorted(chosen, key=lambda fact: (fact[1], fact[2], fact[0]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="CounterFact in ROME's layout, .jsonl.gz")
    parser.add_argument("--per-relation", type=int, default=76)
    args = parser.parse_args()
    try:
        with gzip.open(args.data, "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
    except (OSError, EOFError, ValueError) as error:
        parser.error(f"{args.data} cannot be read as gzipped JSON lines: {error}")
    relations = set(yaml.safe_load((WORLD / "templates.yaml").read_text(encoding="utf-8")))
    facts = select(rows, relations, args.per_relation)
    missing = relations - {relation for _, relation, _ in facts}
    if missing:  # the shipped file stays as it is
        parser.error(f"{args.data} has no usable fact of {len(missing)} relations, such as {min(missing)}")
    with open(WORLD / "facts.tsv", "w", encoding="utf-8", newline="\n") as file:
        file.writelines("\t".join(fact) + "\n" for fact in facts)


if __name__ == "__main__":
    main()
