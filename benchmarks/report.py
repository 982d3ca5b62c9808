"""Tables 1-3, Figures 3-4 and report.html from runs: ``python benchmarks/report.py results/<run>``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # pandas and matplotlib are enough, uninstalled

from kgt_editor.cli.report import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
