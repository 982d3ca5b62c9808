"""Records the README's conversation with ``kgt chat`` as a picture: docs/images/chat.svg.

    python benchmarks/upkeep/record_chat.py

The lines are typed by this script, the answers are the model's.
"""

from __future__ import annotations

import io
import re
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from kgt_editor.cli.chat import Conversation
from kgt_editor.talk.model import PersonalModel

MODEL, USER = "smollm2-135m", "ada"
LINES = (
    "What does my dog eat?",
    "No, vegetables.",
    "What does my dog eat?",
    "What should I buy for my dog to eat?",
    "How old is my dog?",
    "/facts",
    "/undo 1",
)
OUT = Path(__file__).resolve().parents[2] / "docs" / "images" / "chat.svg"
WIDTH, TOKENS = 100, 18


def main() -> int:
    console = Console(record=True, width=WIDTH, file=io.StringIO(), highlight=False, force_terminal=True)
    with tempfile.TemporaryDirectory() as folder:
        conversation = Conversation(PersonalModel(MODEL, USER, Path(folder) / "journal.db"), console, TOKENS)
        for line in LINES:
            console.print(Text(f"> {line}", "bold"))
            conversation.say(line)
    drawn = console.export_svg(title=f"kgt chat --user {USER}    (SmolLM2-135M-Instruct)", unique_id="chat")
    # A picture asks nobody for its letters: the reader's own monospaced font will do.
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    OUT.write_text(drawn, encoding="utf-8")
    print(OUT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
