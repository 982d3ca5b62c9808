"""What a data set is, and the table of the known ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from kgt_editor.data.provenance import PROVENANCE
from kgt_editor.data.record import Record, UserHistory
from kgt_editor.data.same_subject import Question
from kgt_editor.errors import UsageError
from kgt_editor.registry import Registry


@dataclass(frozen=True, slots=True)
class KnownFact:
    """A fact no edit touches: ``answer`` should stay the greedy continuation of ``prompt``."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class DataSet:
    """Records in their roles; the four pools share no subject.

    Attributes:
        name: name in :func:`available`.
        records: the reported pool, from which :meth:`sample` draws.
        training: records hypernetworks may train on.
        validation: records to tune and warm up on.
        known_facts: facts that are never edited, for the recall of what should stay.
        revision: hash of the content, see :func:`content_hash`.
        skipped: records of the file that are no edits: reason and how many.
        skipped_prompts: prompts of the other records that judge nothing: reason and how many.
        histories: users' histories, in a data set of those.
        all_records: every edit of the file, where the pools are dealt from one; see :meth:`reaching`.
        orders: case numbers in an order of editing by seed; see :mod:`kgt_editor.data.order`.
    """

    name: str
    records: tuple[Record, ...]
    training: tuple[Record, ...] = ()
    validation: tuple[Record, ...] = ()
    known_facts: tuple[KnownFact, ...] = ()
    revision: str = ""
    skipped: Mapping[str, int] = field(default_factory=dict)
    skipped_prompts: Mapping[str, int] = field(default_factory=dict)
    histories: tuple[UserHistory, ...] = ()
    all_records: tuple[Record, ...] = ()
    orders: Mapping[int, Sequence[int]] = field(default_factory=dict)

    @property
    def everything(self) -> tuple[Record, ...]:
        """Every record there is, in whatever role."""
        return self.all_records or (*self.records, *self.training, *self.validation)

    def hashed(self) -> DataSet:
        """The same with the ``revision`` of its content."""
        pools = (self.records, self.training, self.validation, self.known_facts)
        return replace(self, revision=content_hash(*pools, *([self.histories] if self.histories else [])))

    def reaching(self, size: int) -> DataSet:
        """This data set where it reports ``size`` records, else the one that reports every record of its file.

        That one has none to train, tune or warm up on: they are all judged. Its known facts stay, as far as they are
        not edited.
        """
        if size <= len(self.records) or size > len(self.all_records):
            return self
        return replace(self, records=self.all_records, training=(), validation=()).hashed()

    def sample(self, size: int, seed: int) -> list[Record]:
        """The first ``size`` records in the order ``seed`` gives: sets of growing size are nested.

        The order is that of a hash of seed and case number, so no library's random generator can change it. Where
        ``orders`` has one for the seed, its cases come first.

        Raises:
            UsageError: ``size`` is below one or above the pool.
        """
        if not 1 <= size <= len(self.records):
            kept = f"{len(self.training)} for training, {len(self.validation)} for validation"
            whole = len(self.all_records)
            also = f"; or give {whole} and edit them all" if whole > len(self.records) else ""
            raise UsageError(
                f"size {size} is not between 1 and the {len(self.records)} reported records of '{self.name}' "
                f"(besides them it has {kept}, {len(self.known_facts)} known facts){also}"
            )
        places = {case: place for place, case in enumerate(self.orders.get(seed, ()))}

        def key(record: Record) -> tuple[int, str]:
            return places.get(record.case_id, len(places)), seeded_key(seed, str(record.case_id))

        return sorted(self.records, key=key)[:size]


def seeded_key(seed: int, text: str) -> str:
    """A sort key that shuffles the same way everywhere."""
    return hashlib.sha256(f"{seed}/{text}".encode()).hexdigest()


def content_hash(*pools: tuple[Record, ...] | tuple[KnownFact, ...] | tuple[UserHistory, ...]) -> str:
    """Twelve hexadecimal digits of the SHA-256 of the pools' content.

    Written item by item, so that a large data set is never held as one text. A record's later fields count only
    where they are filled: revisions in published results stay what they were.
    """
    digest = hashlib.sha256()
    encode = json.JSONEncoder(ensure_ascii=False).encode
    for number, pool in enumerate(pools):
        digest.update(b", [" if number else b"[[")
        for position, item in enumerate(pool):
            names = _HASHED[type(item)]
            content = {name: getattr(item, name) for name, always in names if always or getattr(item, name)}
            for name in _NESTED & content.keys():
                content[name] = [asdict(one) for one in content[name]]
            digest.update((", " if position else "").encode() + encode(content).encode())
        digest.update(b"]")
    digest.update(b"]" if pools else b"[]")
    return digest.hexdigest()[:12]


_NESTED = {"steps", "probes"}
_ALWAYS_HASHED = {
    "case_id", "subject", "relation_id", "prompt", "target_new", "target_true",
    "paraphrase_prompts", "neighbourhood_prompts", "answer", "user", "query", "gold", "profile",
}  # fmt: skip
_HASHED: dict[type, list[tuple[str, bool]]] = {
    kind: [(name, name in _ALWAYS_HASHED) for name in sorted(one.name for one in fields(kind))]
    for kind in (Record, KnownFact, UserHistory)
}


@dataclass(frozen=True)
class _Entry:
    target: str
    description: str
    file: Literal["none", "optional", "required"]
    downloads: bool = False
    questions: bool = False


_ENTRIES = {
    "world": _Entry(
        "kgt_editor.data.world:load_world", "real facts in our own sentences, which the testbed models know", "none"
    ),
    "counterfact": _Entry(
        "kgt_editor.data.counterfact:load_counterfact",
        "CounterFact in ROME's or EasyEdit's JSON: the file given with --data, or fetched from ROME's address",
        "optional",
        downloads=True,
        questions=True,
    ),
    "personal-conflicts": _Entry(
        "kgt_editor.data.personal_conflicts:load_personal_conflicts",
        "feedback that contradicts earlier feedback, the base graph or another user; more of it from ConceptNet's "
        "triples, given with --data",
        "optional",
    ),
    "counterfact-extension": _Entry(
        "kgt_editor.data.extension:load_extension",
        "the KGT paper's second data set, rebuilt with kgt data build-extension",
        "required",
        questions=True,
    ),
    "counterfact-hard": _Entry(
        "kgt_editor.data.counterfact_hard:load_counterfact_hard",
        "CounterFact as questions, with other questions on the edited subject (EREN), the file given with --data",
        "required",
    ),
    "knowedit": _Entry(
        "kgt_editor.data.knowedit:load_knowedit",
        "KnowEdit's ZsRE, wiki_counterfact or wiki_recent, with portability and locality, the file given with --data",
        "required",
    ),
    "qaedit": _Entry(
        "kgt_editor.data.qaedit:load_qaedit",
        "QAEdit, real questions for free generation (Yang et al. 2025), the file given with --data",
        "required",
    ),
    "mquake": _Entry(
        "kgt_editor.data.mquake:load_mquake",
        "MQuAKE, questions that follow from several edited facts (Zhong et al. 2023), the file given with --data; its "
        "unedited facts: kgt graph build --mquake",
        "required",
    ),
    "zsre": _Entry(
        "kgt_editor.data.zsre:load_zsre", "zsRE in MEND's and EasyEdit's JSON, the file given with --data", "required"
    ),
    "lamp": _Entry(
        "kgt_editor.data.lamp:load_lamp",
        "user histories (profile, query, gold) in LaMP's or OPPU's JSON, or a small sample; no edits to compare",
        "optional",
    ),
}


DATASETS = Registry("data set", "kgt_editor.datasets", {name: entry.target for name, entry in _ENTRIES.items()})


def available() -> dict[str, str]:
    """Every known data set with a line about it and one about its provenance.

    Entry points of the group ``kgt_editor.datasets`` are among them.
    """
    plugins = {name: f"from {target}" for name, target in DATASETS.plugins().items()}
    return {**plugins, **{name: f"{entry.description}\n{_provenance(name)}" for name, entry in _ENTRIES.items()}}


def _provenance(name: str) -> str:
    known = PROVENANCE[name]
    return f"licence: {known.licence}; {known.source}{'; ' * bool(known.paper)}{known.paper}"


def check_name(name: str) -> None:
    """Find out that there is no such data set.

    Raises:
        UsageError: the message names the nearest one.
    """
    DATASETS.target(name)


def load(
    name: str,
    data: str | Path | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    questions: Sequence[Question] = (),
    **kwargs: Any,
) -> DataSet:
    """Load a data set by name.

    Args:
        name: one of :func:`available`.
        data: the file of a data set that is read from one; it wins over any download.
        progress: told the bytes that a download has fetched, and those in all (None: not known).
        questions: other questions on the records' subjects, for a data set that takes some.
        kwargs: for the loader.

    Raises:
        UsageError: an unknown name, a missing or superfluous file, or a broken one.
        KgtError: a download failed.
    """
    entry = _ENTRIES.get(name)
    if entry is not None:
        if entry.file == "required" and data is None:
            raise UsageError(f"data set '{name}' is read from a file: give it with --data FILE (.json, .jsonl or .gz)")
        if entry.file == "none" and data is not None:
            raise UsageError(f"data set '{name}' is shipped with the package and takes no --data; leave it out")
        if entry.downloads and data is None:
            kwargs["progress"] = progress
    if questions:
        if entry is None or not entry.questions:
            takers = ", ".join(name for name, one in _ENTRIES.items() if one.questions)
            raise UsageError(f"data set '{name}' takes no questions from --same-subject; these do: {takers}")
        kwargs["questions"] = questions
    loader: Callable[..., DataSet] = DATASETS.load(name)
    return loader(**kwargs) if data is None else loader(data, **kwargs)
