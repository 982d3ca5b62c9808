"""Compare model editors: ``python benchmarks/compare.py --editors kgt,rome,mend``; the same as ``kgt compare``."""

from __future__ import annotations

import sys

from kgt_editor.cli.compare import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
