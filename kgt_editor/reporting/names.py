"""The names that tables and figures use: editors in their order, measures with their definitions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kgt_editor.results import outcomes

#: The rows of the paper's Tables 1-3 (arXiv 2405.19686), from top to bottom.
PAPER_ORDER = ("ft", "rome", "ke", "kn", "mend", "none", "kgt")
NO_EDIT = "none"

#: What stands where a measure has no value.
NOTHING = "\N{EN DASH}"

_LABELS = {NO_EDIT: "no edit", "locft": "LocFT-BF", "alphaedit": "AlphaEdit", "ultraedit": "UltraEdit"}

#: Editors that keep every edit, as text or as a triple, to read it or to tune on it again; the others see it once.
KEEP_EDITS = ("kgt", "icl", "oppu", "locft")


def editor_label(name: str) -> str:
    """How an editor is written: ``rome`` is ROME, ``kgt:paper`` is KGT (paper), ``none`` is no edit.

    A method of EasyEdit's is written as EasyEdit writes it: ``easyedit:WISE`` is WISE (EasyEdit).
    """
    base, _, preset = name.partition(":")
    if base == "easyedit" and preset:
        return f"{preset} (EasyEdit)"
    label = _LABELS.get(base, base.upper())
    return f"{label} ({preset})" if preset else label


def in_order(names: Iterable[str]) -> list[str]:
    """The paper's editors in the paper's order, others after them by name; a preset stands behind its editor."""

    def key(name: str) -> tuple[int, str, str]:
        base, _, preset = name.partition(":")
        return PAPER_ORDER.index(base) if base in PAPER_ORDER else len(PAPER_ORDER), base, preset

    return sorted(set(names), key=key)


@dataclass(frozen=True)
class Measure:
    """A column.

    Attributes:
        label: its heading.
        definition: one sentence for the note under the table.
        unit: ``share`` (0 to 1, shown in per cent), ``bits``, ``seconds``, ``mebibytes``, ``ratio`` or ``count``.
        better: ``high``, ``low``, or empty where no editor is best.
        spread: whether a 95 % interval goes with it.
    """

    label: str
    definition: str
    unit: str
    better: str = ""
    spread: bool = False


_GREEDY = "the greedy answer is, word for word,"
MEASURES = {
    "efficacy_score": Measure(
        "Efficacy",
        "share of edits after which the new answer is more probable than the true one",
        "share",
        "high",
        True,
    ),
    "paraphrase_score": Measure(
        "Paraphrase", "the same, asked in other words; the mean over an edit's paraphrases", "share", "high", True
    ),
    "neighbourhood_score": Measure(
        "Neighb. score",
        "share of prompts about other subjects with the same true answer whose true answer stays the more probable one",
        "share",
        "high",
        True,
    ),
    "unedited_recall": Measure(
        "Unedited recall",
        f"share of known facts that no edit touched for which {_GREEDY} theirs",
        "share",
        "high",
        True,
    ),
    "efficacy_accuracy": Measure(
        "Efficacy acc.", f"share of edit prompts for which {_GREEDY} the new one", "share", "high", True
    ),
    "paraphrase_accuracy": Measure(
        "Paraphr. acc.", f"share of paraphrases for which {_GREEDY} the new one", "share", "high", True
    ),
    "neighbourhood_accuracy": Measure(
        "Neighb. acc.", f"share of neighbourhood prompts for which {_GREEDY} the true one", "share", "high", True
    ),
    "same_subject_kept": Measure(
        "Subject kept",
        "share of other questions on the edited subject for which the first sentence of the greedy answer is still the "
        "one without any edit",
        "share",
        "high",
        True,
    ),
    "neighbourhood_kept": Measure(
        "Neighb. kept", "the same for the prompts about other subjects", "share", "high", True
    ),
    "efficacy_exact": Measure(
        "Efficacy, written",
        "share of edit prompts to which the model, with nothing of the answer given to it, writes the new answer and "
        "nothing else in its first sentence (exact match without case, accents, punctuation and articles)",
        "share",
        "high",
        True,
    ),
    "paraphrase_exact": Measure("Paraphr., written", "the same of the paraphrases", "share", "high", True),
    "efficacy_contained": Measure(
        "Efficacy, in text",
        "share of edit prompts whose written first sentence holds the new answer",
        "share",
        "high",
        True,
    ),
    "paraphrase_contained": Measure("Paraphr., in text", "the same of the paraphrases", "share", "high", True),
    "generation_entropy": Measure(
        "GE", "mean entropy of the bigrams and trigrams of texts written about the subject, in bits", "bits", "", True
    ),
    "reference_score": Measure(
        "RS",
        "cosine (TF-IDF, as a share) of those texts and what the data set says of subjects with the new answer",
        "share",
        "high",
        True,
    ),
    "portability_accuracy": Measure(
        "Portability acc.",
        "share of questions whose answer the edit changes too (aliases, reasoning, logical consequences) for which "
        f"{_GREEDY} the right one; the mean over an edit's questions",
        "share",
        "high",
        True,
    ),
    "portability_contained": Measure(
        "Portability, in text",
        "the same, the right answer or an alias in the written first sentence",
        "share",
        "high",
        True,
    ),
    "locality_accuracy": Measure(
        "Locality acc.",
        "the same of questions that the edit has nothing to do with, by their true answer",
        "share",
        "high",
        True,
    ),
    "locality_contained": Measure(
        "Locality, in text", "the same, in the written first sentence", "share", "high", True
    ),
    "held": Measure("Held", "edits that are stored and that the model answered when they were made", "count"),
    "not_followed": Measure("Not followed", "edits that are stored though the model still answered otherwise", "count"),
    "restated": Measure("Restated", "edits whose fact was in the graph already", "count"),
    "dropped": Measure("Dropped", "edits whose fact is not in the graph", "count"),
    "memory": Measure(
        "Memory",
        "highest memory while an edit ran, in MiB, over all seeds (of the device; on a CPU, of the process)",
        "mebibytes",
        "low",
    ),
    "edit_mean": Measure(
        "Latency", "mean wall time of an edit; preparation and failed edits are left out", "seconds", "low", True
    ),
    "edit_p50": Measure("Median edit", "median wall time of an edit", "seconds", "low"),
    "edit_p95": Measure("p95 edit", "time that 95 % of the edits stay under", "seconds", "low"),
    "first_tenth_p50": Measure("First tenth", "median time of the first tenth of the edits", "seconds", "low"),
    "last_tenth_p50": Measure("Last tenth", "median time of the last tenth of the edits", "seconds", "low"),
    "edit_forward_ratio": Measure(
        "Edit / forward", "median edit by the median forward pass of one edit prompt", "ratio", "low"
    ),
    "memory_inference_ratio": Measure(
        "Memory / infer.", "memory while an edit ran by that of plain inference on edit prompts", "ratio", "low"
    ),
    "preparation_seconds": Measure(
        "Preparation", "once a model, outside the edits: a hypernetwork's training, statistics", "seconds"
    ),
    "failed_edits": Measure(
        "Failed edits", "edits that raised an error, over all seeds; they count as not edited in every score", "count"
    ),
    "seeds": Measure("Seeds", "how many seeds are complete", "count"),
}

#: How a question of a kind is judged, and what of it its column says.
_JUDGED = {"greedy": ("", f"{_GREEDY} the right one"), "contains": (", in text", "the written first sentence has it")}


def kind_measures(kinds: Iterable[str]) -> list[str]:
    """The columns of other questions, by kind as a summary names them (``portability: Reasoning``)."""
    return [f"{judged}/{kind}" for kind in kinds for judged in _JUDGED]


def is_of_kind(name: str) -> bool:
    """Whether a column is one of :func:`kind_measures`."""
    return "/" in name and not name.endswith(("_low", "_high"))


def measure(name: str) -> Measure:
    """The measure behind a column's name, one of :data:`MEASURES` or of :func:`kind_measures`.

    Raises:
        KeyError: there is none.
    """
    judged, _, kind = name.partition("/")
    if not kind:
        return MEASURES[name]
    side, _, what = kind.partition(": ")
    label, how = _JUDGED[judged]
    definition = f"{side}, share of the data set's questions of this kind for which {how}; wordings of one count once"
    return Measure(what.replace("_", " ") + label, definition, "share", "high", True)


def explained(name: str) -> str:
    """A column's heading and what it means, as a sentence."""
    found = measure(name)
    return f"{found.label}: {found.definition}."


SCORES = ("efficacy_score", "paraphrase_score")
_WHERE_ASKED = (
    "same_subject_kept",
    "neighbourhood_kept",
    "efficacy_exact",
    "paraphrase_exact",
    "efficacy_contained",
    "paraphrase_contained",
    "generation_entropy",
    "reference_score",
    "portability_accuracy",
    "portability_contained",
    "locality_accuracy",
    "locality_contained",
)
MORE_SCORES = (
    "neighbourhood_score",
    "unedited_recall",
    "efficacy_accuracy",
    "paraphrase_accuracy",
    "neighbourhood_accuracy",
    *_WHERE_ASKED,
    "failed_edits",
    "held",
    "not_followed",
    "restated",
    "dropped",
    "seeds",
)
CASE_MEASURES = tuple(name for name in (*SCORES, *MORE_SCORES) if MEASURES[name].unit in ("share", "bits"))
SHARES = tuple(name for name in CASE_MEASURES if MEASURES[name].unit == "share")
#: What became of an edit, as runs write it, and the measure that counts it.
OUTCOMES = dict(zip(outcomes.OUTCOMES, ("held", "not_followed", "restated", "dropped"), strict=True))
#: In a table only where a run has them.
WHERE_KNOWN = (
    *_WHERE_ASKED,
    *OUTCOMES.values(),
)
COSTS = ("memory", "edit_mean")
MORE_COSTS = (
    "edit_p50",
    "edit_p95",
    "first_tenth_p50",
    "last_tenth_p50",
    "edit_forward_ratio",
    "memory_inference_ratio",
    "preparation_seconds",
    "failed_edits",
    "seeds",
)


def shown(name: str, value: float | None) -> str:
    """A measure's value as it is printed: per cent, s or ms, MiB; an en dash for none."""
    if value is None or value != value:
        return NOTHING
    unit = measure(name).unit
    if unit == "share":
        return f"{100 * value:.1f}"
    if unit == "seconds":
        return seconds(value)
    if unit == "mebibytes":
        return f"{value:,.0f} MiB"
    return f"{value:.2f}" if unit in ("ratio", "bits") else f"{value:.0f}"


def seconds(value: float) -> str:
    """Milliseconds below a second; three digits."""
    if value >= 1:
        return f"{value:.2f} s"
    digits = 0 if value >= 0.1 else 1 if value >= 0.01 else 2
    return f"{1000 * value:.{digits}f} ms"
