"""Compare model editors: ``python benchmarks/compare.py --editors kgt,rome,mend``."""

from __future__ import annotations

import sys
from pathlib import Path

from kgt_editor.evaluation.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path(__file__).resolve().parent.parent / "hparams"))
