"""One record of an editing benchmark, whatever file it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kgt_editor.errors import UsageError


@dataclass(frozen=True, slots=True)
class Held:
    """What must hold: ``user``, asking ``prompt``, gets ``answer``."""

    user: str
    prompt: str
    answer: str


@dataclass(frozen=True, slots=True)
class Step:
    """One turn of one user.

    Attributes:
        user: who speaks; users share a base graph and nothing else.
        query: what the model was asked.
        answer: the user's answer; None takes the user's last edit in force back.
        holds: what every user of the record must be answered from now on.
    """

    user: str
    query: str
    answer: str | None
    holds: tuple[Held, ...] = ()


@dataclass(frozen=True, slots=True)
class UserHistory:
    """What a user wrote before, and a query whose answer should be theirs (LaMP, OPPU).

    Attributes:
        user: the user's id.
        query: what is asked now.
        gold: this user's answer.
        profile: earlier items, oldest first as in the file; their fields depend on the task.
    """

    user: str
    query: str
    gold: str
    profile: tuple[Mapping[str, str], ...]


@dataclass(frozen=True, slots=True)
class Probe:
    """A question beside the edit (KnowEdit, Zhang et al. 2024): what the edit has to carry along, or to leave alone.

    Attributes:
        kind: its benchmark's own name for it (``Subject_Aliasing``).
        prompt: the question.
        answers: what is right once the edit is made, any of them.
        carried: whether the edit is what makes them right (portability), or has nothing to do with them (locality).
        group: one question in several wordings, which counts as one and is answered where one of them is (MQuAKE);
            empty for a question of its own.
        needs: case numbers of the edits that the answer follows from; it is asked where they are all in force.
        relations: labels of the relations that lead from the subject to the answer; an editor to which the user names
            relations is told them.
    """

    kind: str
    prompt: str
    answers: tuple[str, ...]
    carried: bool
    group: str = ""
    needs: tuple[int, ...] = ()
    relations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """An edit and the prompts that judge it (CounterFact's fields, Meng et al. 2022, section 3.3).

    Attributes:
        case_id: number of the record in its data set.
        subject: head entity, as it stands in every prompt of the edit.
        relation_id: relation label such as ``"P103(native language)"``; empty where the file names none.
        prompt: edit prompt with ``{}`` in the subject's place; ends where the object follows.
        target_new: the user's answer.
        target_true: the answer before the edit; empty where the data set has none, and nothing is compared with it.
        paraphrase_prompts: other wordings of the same question, subject filled in.
        neighbourhood_prompts: prompts of *other* subjects whose true object is also ``target_true``.
        same_subject_prompts: questions on the edit's own subject that ask for something else.
        attribute_prompts: prompts of other subjects whose true object is ``target_new``; no metric here asks them.
        generation_prompts: starts of texts about the subject, whose continuation should fit the edit.
        target_new_id, target_true_id: Wikidata ids ("Q150"); empty where the file names none.
        pararel_idx: position of the fact in CounterFact's own source.
        kind: what sort of record it is, in a data set that has several.
        probes: other questions, by kind.
        steps: of a record that is told in several turns, all of them in order; ``target_new`` is the last answer given.
    """

    case_id: int
    subject: str
    relation_id: str
    prompt: str
    target_new: str
    target_true: str
    paraphrase_prompts: tuple[str, ...] = ()
    neighbourhood_prompts: tuple[str, ...] = ()
    attribute_prompts: tuple[str, ...] = ()
    generation_prompts: tuple[str, ...] = ()
    target_new_id: str = ""
    target_true_id: str = ""
    pararel_idx: int | None = None
    kind: str = ""
    steps: tuple[Step, ...] = ()
    same_subject_prompts: tuple[str, ...] = ()
    probes: tuple[Probe, ...] = ()

    def __post_init__(self) -> None:
        for name in ("subject", "prompt", "target_new"):
            if not getattr(self, name).strip():
                raise UsageError(f"record {self.case_id}: field '{name}' is empty")
        if self.prompt.count("{}") != 1:
            raise UsageError(
                f"record {self.case_id}: prompt {self.prompt!r} must hold '{{}}' exactly once, where the subject "
                f"{self.subject!r} belongs"
            )

    @property
    def query(self) -> str:
        """The edit prompt with the subject filled in, without surrounding space."""
        return self.prompt.replace("{}", self.subject).strip()

    @property
    def relation(self) -> str:
        """The Wikidata id in ``relation_id`` ("P103"), whatever label follows it; empty where there is none."""
        return self.relation_id.split("(", 1)[0]

    def request(self) -> dict[str, Any]:
        """The edit as one of EasyEdit's request dictionaries.

        The kind ``same_subject`` of its locality has no ``ground_truth``: it asks that the model's answers stay, not
        that they be true.
        """
        locality = {}
        if self.neighbourhood_prompts:
            truths = [self.target_true] * len(self.neighbourhood_prompts)
            locality["neighborhood"] = {"prompt": list(self.neighbourhood_prompts), "ground_truth": truths}
        if self.same_subject_prompts:
            locality["same_subject"] = {"prompt": list(self.same_subject_prompts), "ground_truth": []}
        portability: dict[str, dict[str, list[Any]]] = {}
        for probe in self.probes:
            listed = (portability if probe.carried else locality).setdefault(
                probe.kind, {"prompt": [], "ground_truth": []}
            )
            listed["prompt"].append(probe.prompt)
            listed["ground_truth"].append(probe.answers[0])
        return {
            "case_id": self.case_id,
            "prompt": self.query,
            "subject": self.subject,
            "relation_id": self.relation_id,
            "target_new": self.target_new,
            "ground_truth": self.target_true,
            "rephrase_prompt": self.paraphrase_prompts[0] if self.paraphrase_prompts else None,
            "locality": locality,
            "portability": portability,
        }
