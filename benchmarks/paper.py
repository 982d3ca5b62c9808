"""The paper's tables and figures: ``python benchmarks/paper.py --profile testbed``; the same as ``kgt paper``."""

from __future__ import annotations

import sys

from kgt_editor.cli.paper import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
