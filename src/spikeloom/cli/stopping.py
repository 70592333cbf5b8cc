"""Ctrl-C and SIGTERM: the first asks to stop, the second stops at once."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer


def speaks() -> bool:
    """Whether this process talks to the user: the first one of those that share a run does."""
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Give a function that says whether the user asked to stop.

    Inside the block the first signal only sets the flag; another one interrupts as usual.
    """
    asked = False

    def ask(number: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        if speaks():
            typer.echo("\nstopping after this batch; press again to stop at once.", err=True)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, ask) for number in numbers]
    try:
        yield lambda: asked
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
