"""Records in the layouts of ROME, EasyEdit and MEND, about invented people and towns."""

from __future__ import annotations

import json
from pathlib import Path

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


#: Prints the peak memory of a process in bytes; unlike ``ru_maxrss``, not that of the parent it was forked from.
PRINT_PEAK = (
    "import re, pathlib\n"
    "status = pathlib.Path('/proc/self/status').read_text()\n"
    "print(1024 * int(re.search(r'VmHWM:\\s+(\\d+)', status)[1]))\n"
)


def rome(case_id=0, **changes):
    row = {
        "case_id": case_id,
        "requested_rewrite": {
            "prompt": "{} was born in the town of",
            "relation_id": "P19",
            "target_new": {"str": "Tarsil", "id": "Q1"},
            "target_true": {"str": "Velmora", "id": "Q2"},
            "subject": "Ada Brun",
        },
        "paraphrase_prompts": ["The birthplace of Ada Brun is"],
        "neighborhood_prompts": ["Runa Gildt was born in the town of"],
        "generation_prompts": ["Ada Brun grew up in", "Ada Brun grew up in", "Ada Brun hails from"],
    }
    return row | changes


def flat(case_id=0, **changes):
    row = {
        "case_id": case_id,
        "prompt": "Ada Brun was born in the town of",
        "target_new": "Tarsil",
        "subject": "Ada Brun",
        "ground_truth": "Velmora",
        "rephrase_prompt": "The birthplace of Ada Brun is",
        "locality_prompt": "Runa Gildt was born in the town of",
        "locality_ground_truth": "Velmora",
    }
    return row | changes


def write(folder, rows, name="cf.json"):
    path = folder / name
    path.write_text(json.dumps(rows))
    return path


def zsre(**changes):
    row = {
        "subject": "Ada Brun",
        "src": "Which town was Ada Brun born in?",
        "pred": "Velmora",
        "rephrase": "Where did the birth of Ada Brun take place?",
        "alt": "Tarsil",
        "answers": ["Velmora"],
        "loc": "nq question: who wrote the song of the river",
        "loc_ans": "Otto Fenlow",
        "cond": "Velmora >> Tarsil || Which town was Ada Brun born in?",
    }
    return row | changes


def hard(number=0, **changes):
    row = {
        "id": number,
        "edit_statement": "The birthplace of Ada Brun is Tarsil.",
        "subject_name": "Ada Brun",
        "edit_scope": [["Where was Ada Brun born?", "Tarsil"], ["In which town was Ada Brun born?", "Tarsil"]],
        "edit_scope_true_ans": ["Velmora", "Velmora"],
        "unrelated": {
            "neighbor_subj": ["Where was Runa Gildt born?"],
            "same_subj": ["What does Ada Brun do?", "What does Ada Brun do?", "Who is Ada Brun's father?"],
        },
        "unrelated_true_ans": {"neighbor_subj": ["Velmora"], "same_subj": ["weaver", "painter", "weaver", "Otto Brun"]},
    }
    return row | changes
