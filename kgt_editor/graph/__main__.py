"""``python -m kgt_editor.graph``."""

from __future__ import annotations

import sys

from kgt_editor.cli.graph import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], "python -m kgt_editor.graph"))
