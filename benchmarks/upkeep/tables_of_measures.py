"""Tables of README and docs that are made from what the scripts of benchmarks/measure wrote."""

from __future__ import annotations

import json

from tables_common import RESULTS, read, share, table

RECALLED = ("edit_prompts", "paraphrase_prompts", "held_out")
COSTS = {
    "kgt_query / forward": "an edit (`query`: the relation in the user's words) / a forward pass of its prompt",
    "kgt_rank / forward": "an edit (`rank`) / that pass",
    "kgt_user / forward": "an edit (`kgt:user`: the user names the relation) / that pass",
    "kgt / its floor": "an edit / its floor: weights read once a pass, and the arithmetic of its tokens",
    "plain rank / kgt_rank": "the method run one prompt at a time / an edit",
    "one by one / batch": "32 users' edits one by one / together",
    "rome / kgt": "ROME / KGT",
    "ft / kgt": "FT / KGT",
    "mend / kgt": "MEND, once trained / KGT",
    "ke / kgt": "KE, once trained / KGT",
    "first token with a fact / plain first token": "first token of an answer with a fact / the plain model's",
    "first token with it, other words / plain first token": "the same, asked in other words",
    "first token without facts / plain first token": "first token without facts / the plain model's",
    "answer with a fact / plain answer": "an answer of 16 tokens with a fact / the plain model's",
    "answer with it, other words / plain answer": "the same, asked in other words",
    "answer without facts / plain answer": "an answer of 16 tokens without facts / the plain model's",
    "edit memory / inference memory": "peak memory of an edit / of inference",
}
# As files before schema version 3 name what is compared with KGT's own row.
_EARLIER = {
    "kgt / its floor": "kgt_rank / its floor",
    **{f"{name} / kgt": f"{name} / kgt_rank" for name in ("rome", "ft", "mend", "ke")},
}
KINDS = {
    "again": "the same query answered anew",
    "reworded": "the same in other words",
    "base": "the base graph says the opposite",
    "several": "several relations of one entity",
    "twice": "changed twice",
    "other_user": "a fact of another user",
    "undone": "taken back",
    "restated": "said twice",
}
CORRECTED = ("stored", "knew it before", "at once", "50 lines later", "at the end", "others kept")


def named() -> str:
    """How often ``rank`` names the relation of a query right, from ``benchmarks/measure/relations.py``."""
    rows = []
    for path in sorted(RESULTS.glob("real/relations-*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        rows.append([found["model"], str(found["records"]), *(share(found[f"top {k}"]) for k in (1, 3, 5))])
    return table(["model", "records", "named first", "among three", "among five"], rows)


def after() -> str:
    """What an edit costs after a long sequence, over what it costs a new user."""
    found = read("paper-scale", "edit-after-many.json")
    new, old = (f"{1000 * found['median_seconds'][name]:.0f} ms" for name in ("new_user", "this_user"))
    row = [f"{found['edits']:,}", f"{found['triples']:,}", old, new, f"{found['this_user / new_user']:.2f}"]
    return table(["edits before", "triples", "median edit", "of a new user", "ratio"], [row])


def conflicts(*asked: str) -> str:
    """What holds after conflicting feedback: for every model the variants asked, each ``VARIANT=SIZE``."""
    rows = []
    for model in ("testbed-gpt2", "testbed-llama"):
        for variant, _, size in (one.partition("=") for one in asked):
            kinds = read("conflicts", f"conflicts-{model}-{size}.json")["rows"][variant]["kinds"]
            label = "kgt" if variant == "default" else f"kgt:{variant}"
            for kind in [kind for kind in KINDS if kind in kinds]:
                one = kinds[kind]
                shares = [share(one[key]) for key in ("prompt", "paraphrase", "other_facts", "base_facts_lost")]
                changes = f"+{one['added_per_edit']:.2f} -{one['removed_per_edit']:.2f}"
                rows.append([f"`{label}`, {model}", KINDS[kind], *shares, changes])
    head = ["", "conflict", "prompt", "paraphrases", "other facts", "base facts lost", "triples an edit"]
    return table(head, rows)


def cost(*names: str) -> str:
    """Ratios of ``benchmarks/measure/edit_cost.py``, a column for each file."""
    files = [read("cost", f"{name}.json")["ratios"] for name in names]
    rows = []
    for key, label in COSTS.items():
        found = [ratios.get(key, ratios.get(_EARLIER.get(key, key))) for ratios in files]
        if any(value is not None for value in found):
            rows.append([label, *("-" if value is None else f"{value:.2f}" for value in found)])
    return table(["ratio of medians", *names], rows)


def users_together(name: str) -> str:
    """Edits a second of several users in the same forward passes, of ``benchmarks/measure/edit_cost.py``."""
    found = read("cost", f"{name}.json")["edits_per_second_of_users_together"]
    return table(["users together", *found], [["edits a second", *(f"{value:.1f}" for value in found.values())]])


def recall() -> str:
    """How many of the facts that each testbed was taught it recalls in CounterFact's words."""
    rows = []
    for path in sorted((RESULTS / "testbed").glob("recall-*.json")):
        report = json.loads(path.read_text(encoding="utf-8"))
        shares = [share(report["recall"][kind]["share"]) for kind in RECALLED]
        rows.append([report["model"], str(report["facts"]), *shares])
    return table(["model", "facts", "edit prompts", "paraphrase prompts", "held-out pairs"], rows)


def easyedit() -> str:
    """What EasyEdit itself reports of KGT, and the time of an edit there over that of an edit of ours."""
    rows = []
    for path in sorted((RESULTS / "easyedit").glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        for mode in ("sequential", "single"):
            shares = [share(found[mode][f"{name}_acc"]) for name in ("rewrite", "rephrase", "locality")]
            rows.append([found["model"], mode, str(found["edits"]), *shares, f"{found['easyedit / own']:.2f}"])
    head = ["model", "mode", "edits", "rewrite", "rephrase", "locality", "edit, EasyEdit / compare.py"]
    return table(head, rows)


def corrections() -> str:
    """What a scripted conversation of corrections gives, by model."""
    rows = []
    for path in sorted((RESULTS / "real").glob("corrections-*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        shares = [share(found["shares"][key]["share"]) for key in CORRECTED]
        rows.append([found["model"], str(found["corrections"]), *shares])
    return table(["model", "corrections", *CORRECTED], rows)


def told_apart() -> str:
    """How well each model's hidden states tell questions of kinds that were held out apart, by both comparisons."""
    rows = []
    for path in sorted((RESULTS / "real").glob("told-apart-*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        for name, label in (("plain", "mean of the states"), ("directions", "Fisher's directions")):
            one = found["rows"][name]
            shares = [share(one[key]) for key in ("area under the curve", "passing at 0.9", "passing at 0.75")]
            rows.append([found["model"], label, *shares])
    head = ["model", "compared by", "area under the curve", "others that pass where 9 of 10 rewordings do"]
    return table([*head, "where 3 of 4 do"], rows)
