"""``python -m kgt_editor.calibrate``, the same as ``kgt calibrate``."""

from __future__ import annotations

import sys

from kgt_editor.cli.calibrate import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
