"""What takes long while a model is loaded, said on stderr."""

from __future__ import annotations

import logging
import sys

STEPS = logging.getLogger("grandrounds.policy")


class Told(logging.Handler):
    """One line for each step: "Unpacking model.gguf …"."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print it above a bar or panel, which has put a stream of its own in the place of stderr."""
        print(f"{record.getMessage()} …", file=sys.stderr, flush=True)


def tell_steps() -> None:
    """From now on say what takes long."""
    STEPS.setLevel(logging.INFO)
    if not any(isinstance(one, Told) for one in STEPS.handlers):
        STEPS.addHandler(Told())
