"""While libraries are imported: a signal ends the process at once, and nothing is collected.

An exception would have to pass through their foreign code, which swallows it, turns it into another
or aborts. Nothing is open yet that would have to be closed. Only the standard library is imported
here, so that this is the first thing the command does.
"""

import gc
import os
import signal
from typing import Any

NUMBERS = (signal.SIGINT, signal.SIGTERM)

last_word = "stopped."
"""What is said at the end."""


def speaks() -> bool:
    """Whether this process talks to the user: the first one of those that share a run does."""
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"


def end(number: int, frame: Any) -> None:
    """Handle a signal by the end of the process, with one line and exit code 130."""
    if speaks():
        os.write(2, f"{last_word}\n".encode())
    os._exit(130)


def begin() -> None:
    """Let either signal end this process at once, until somebody handles it otherwise.

    Garbage is not collected before `collect`: what libraries define is never garbage, and looking
    through it again and again takes a sixth of a small training.
    """
    gc.disable()
    for number in NUMBERS:
        signal.signal(number, end)


def collect() -> None:
    """Collect garbage from now on, of what is made from now on."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
