"""An order of editing of the records whose subjects other questions are known about, for ``compare.py --order``.

    python benchmarks/upkeep/same_subject_order.py --data counterfact.json --facts pararel_facts.jsonl --out order.json

Few records of CounterFact have such questions: a run over all of them says little about *same subject kept*. Writes
``{"0": [case numbers]}``: of each subject one reported record, drawn with seed 0; says how many questions that are.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

from kgt_editor.data import base as data_base
from kgt_editor.data.extension import read_questions
from kgt_editor.errors import KgtError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CounterFact")
    parser.add_argument("--facts", type=Path, required=True, help="more facts, as PARAREL's")
    parser.add_argument("--size", type=int, default=100, help="records (default %(default)s)")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    try:
        data = data_base.load("counterfact", args.data, questions=read_questions(args.facts))
    except KgtError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    by_subject = {record.subject: record for record in data.records if record.same_subject_prompts}
    records = random.Random(0).sample(list(by_subject.values()), min(args.size, len(by_subject)))
    args.out.write_text(json.dumps({"0": [record.case_id for record in records]}) + "\n", encoding="utf-8")
    questions = sum(len(record.same_subject_prompts) for record in records)
    print(f"{len(records)} records of {len(by_subject)} subjects, {questions} questions: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
