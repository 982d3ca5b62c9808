"""The neurons that a relation's facts share, and that an edit of one of them is to leave alone (Dai et al. 2022).

Section 5: a neuron that shows up for many facts of a relation stands for the relation, not for the fact; writing to it
moves all of them. The paper leaves out those that more than a tenth of the relation's other facts have.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from kgt_editor.data.record import Record
from kgt_editor.editors import cache
from kgt_editor.editors.base import Progress
from kgt_editor.editors.kn.attribution import Neuron
from kgt_editor.requests import EditRequest

#: Goes up when what lies in the cache changes its meaning.
VERSION = "1"
KIND = "kn-shared"

Shared = Mapping[str, frozenset[Neuron]]


def facts_by_relation(records: Iterable[Record], most: int) -> dict[str, list[EditRequest]]:
    """Up to ``most`` facts of every relation that is named, as requests; of each subject the first."""
    found: dict[str, dict[str, EditRequest]] = defaultdict(dict)
    for record in records:
        if record.relation and len(found[record.relation]) < most:
            found[record.relation].setdefault(record.subject, EditRequest.parse(record.request()))
    return {relation: list(requests.values()) for relation, requests in found.items()}


def shared_by_relation(
    facts: Mapping[str, Sequence[EditRequest]],
    neurons_of: Callable[[EditRequest], Iterable[Neuron]],
    share: float,
    key: Sequence[str],
    progress: Progress | None = None,
) -> dict[str, frozenset[Neuron]]:
    """Relation -> the neurons of more than ``share`` of its facts; kept in the user's cache folder.

    Args:
        facts: see :func:`facts_by_relation`.
        neurons_of: a fact's knowledge neurons; none where none pass the thresholds.
        share: 0..1.
        key: everything, besides the facts and the share, that the result depends on.
        progress: told of every fact.
    """
    asked = [f"{name}\t{one.prompt}\t{one.ground_truth}" for name, some in facts.items() for one in some]
    entry = cache.text_hash(VERSION, str(share), *key, *asked)
    with cache.alone(KIND, entry):
        kept = cache.load(KIND, entry)
        if kept is None:
            kept, done = {}, 0
            for relation, requests in facts.items():
                counts: Counter[Neuron] = Counter()
                for request in requests:
                    counts.update(set(neurons_of(request)))
                    done += 1
                    if progress is not None:
                        progress("KN: neurons that facts share", done, len(asked))
                common = sorted(neuron for neuron, count in counts.items() if count > share * len(requests))
                kept[relation] = torch.tensor(common, dtype=torch.long).view(-1, 2)
            cache.save(KIND, entry, kept)
    return {relation: _neurons(rows) for relation, rows in kept.items()}


def _neurons(rows: Tensor) -> frozenset[Neuron]:
    return frozenset((int(layer), int(index)) for layer, index in rows.tolist())
