"""``python -m kgt_editor.data``."""

from __future__ import annotations

import sys

from kgt_editor.cli.data import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], "python -m kgt_editor.data"))
