"""An editor whose process is killed in the midst of a run, as the system does when memory runs out."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from fake_editors import WeightEditor


class DyingEditor(WeightEditor):
    """As its base, killed the first time that it has made two edits; ``journal`` names a file that remembers that.

    It asks for a process of its own, as EasyEdit's methods do.
    """

    name = "dying"
    description = "is killed once"
    own_process = True
    edits = 0

    def apply(self, *args, return_orig_weights=False, **kwargs):
        found = super().apply(*args, return_orig_weights=return_orig_weights, **kwargs)
        died = Path(f"{self.hparams.journal}.died")
        self.edits += not return_orig_weights  # warm-up edits are undone
        if self.edits == 2 and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return found
