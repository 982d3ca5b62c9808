"""A scripted conversation of 200 corrections: ``python benchmarks/measure/corrections.py --model smollm2-135m``.

One user asks what the model cannot know of twenty people, and corrects every answer: "Where does my sister Ann live?",
"No, Oslo." The same is asked right after it, after fifty more lines, and at the end. Around each correction another
question about the same person, of which nothing was told yet, is asked before and after. A name of a fact's relation is
never given, and whom it is about neither. An answer counts where its first sentence has what was told, as whole words.

Writes <out>/corrections-<model>.json.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import track

from kgt_editor import PersonalModel, commands
from kgt_editor.editors.settings import file_stems
from kgt_editor.evaluation.generated import Written
from kgt_editor.lm.loading import resolve_device
from kgt_editor.results.statistics import wilson
from kgt_editor.runs.environment import environment

TOKENS = 16
LINES_LATER = 50
PEOPLE = (
    "my sister Ann", "my brother Tom", "my boss", "my neighbour", "my friend Lea", "my uncle Otto", "my cousin Ida",
    "my teacher", "my doctor", "my daughter Mia", "my son Max", "my grandmother", "my landlord", "my colleague Ruth",
    "my aunt Clara", "my nephew Ben", "my flatmate", "my coach", "my dentist", "my wife",
)  # fmt: skip
#: Questions about a person, and what may be told.
ASKED = {
    "Where does {} live?": "Oslo Lisbon Prague Quito Dakar Hanoi Bergen Malmö Ghent Turin Perth Lima Graz Bern Riga",
    "What does {} do for a living?": "carpenter,nurse,baker,pilot,plumber,farmer,judge,tailor,gardener,chemist,waiter",
    "What is {}'s favourite food?": "lentils,pancakes,sushi,olives,porridge,dumplings,mushrooms,couscous,cheese,plums",
    "Which language does {} speak at home?": "Danish Polish Turkish Greek Swahili Finnish Korean Dutch Welsh Basque",
    "Which instrument does {} play?": "cello,trumpet,harp,drums,oboe,banjo,organ,flute,accordion,viola,tuba,bassoon",
    "Where was {} born?": "Boston Cairo Vienna Kyoto Nairobi Athens Dublin Havana Warsaw Tunis Leeds Porto Basel Bonn",
    "Which sport does {} play?": "tennis,rugby,hockey,chess,golf,volleyball,cricket,handball,badminton,curling,squash",
    "What is {} allergic to?": "peanuts,pollen,cats,shellfish,latex,strawberries,wheat,penicillin,dust,eggs,celery",
    "What colour is {}'s car?": "green,yellow,silver,orange,purple,white,brown,turquoise,beige,black,pink,grey",
    "What does {} drink in the morning?": "cocoa,water,tea,buttermilk,espresso,juice,cider,lemonade,milk,broth,soda",
}
CONTROL = "How old is {}?"  # nothing is told of it


class Turn(NamedTuple):
    """A question, what the user says to its answer, and another question about the same person."""

    question: str
    answer: str
    other: str


def script(seed: int) -> list[Turn]:
    """Every question about every person once, in a shuffled order of people."""
    rng = random.Random(seed)
    questions = list(ASKED)
    turns = []
    for number, question in enumerate(questions):
        answers = ASKED[question].replace(",", " ").split()
        next_ = questions[number + 1] if number + 1 < len(questions) else CONTROL
        for person in rng.sample(PEOPLE, len(PEOPLE)):
            turns.append(Turn(question.format(person), rng.choice(answers), next_.format(person)))
    return turns


def measure(me: PersonalModel, turns: list[Turn]) -> dict[str, Any]:
    """How many of the corrections are stored and followed, and how many other answers stay."""
    counts = dict.fromkeys(("stored", "knew it before", "at once", "50 lines later", "at the end", "others kept"), 0)
    asked = dict.fromkeys(counts, len(turns)) | {"50 lines later": 0}
    open_: deque[tuple[int, Turn]] = deque()
    lines, missed = 0, []

    def follows(turn: Turn) -> bool:
        nonlocal lines
        lines += 1
        return Written(me.ask(turn.question, TOKENS).text, turn.answer).contains

    for turn in track(turns, "corrections"):
        before = me.ask(turn.other, TOKENS).text
        counts["knew it before"] += follows(turn)
        told = me.correct(turn.answer)
        lines += 2
        counts["stored"] += turn.answer in [triple.tail for triple in told.edit.added]
        followed = follows(turn)
        counts["at once"] += followed
        counts["others kept"] += me.ask(turn.other, TOKENS).text == before
        lines += 1
        if not followed:
            missed.append(f"{turn.question} {turn.answer}")
        open_.append((lines + LINES_LATER, turn))
        while open_ and open_[0][0] <= lines:
            asked["50 lines later"] += 1
            counts["50 lines later"] += follows(open_.popleft()[1])
    counts["at the end"] = sum(follows(turn) for turn in turns)
    shares = {
        what: {"share": counts[what] / of, "of": of, "interval": wilson(counts[what] / of, of)}
        for what, of in asked.items()
    }
    return {"corrections": len(turns), "shares": shares, "missed at once": missed}


def _work(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--first", type=commands.positive, metavar="N", help="corrections (default: all 200)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/real"))
    commands.add_placement(parser.add_argument)
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    me = PersonalModel(options.model, device=options.device, dtype=options.dtype)
    opened = time.perf_counter() - start
    found = {
        "model": options.model,
        "seed": options.seed,
        "seconds to open": opened,
        **measure(me, script(options.seed)[: options.first]),
        "environment": environment(resolve_device(options.device)),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"corrections-{file_stems(options.model)[0]}.json"
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print({what: round(one["share"], 3) for what, one in found["shares"].items()}, path)
    return 0


if __name__ == "__main__":
    sys.exit(commands.run("corrections.py", sys.argv[1:], _work))
