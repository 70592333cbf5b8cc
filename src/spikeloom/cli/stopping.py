"""Ctrl-C and SIGTERM: at once where nothing can be lost, else after the batch; then at once."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from spikeloom.cli import early
from spikeloom.cli.early import speaks
from spikeloom.cli.plain import say
from spikeloom.records.progress import Progress

PLAIN = "stopped."
BEFORE = "stopped before training began: nothing is lost, the same command begins again."
AT_ONCE = "stopped at once; `train --resume` or the same `compare` goes on from there."


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM interrupt the command as Ctrl-C does."""
    early.last_word = PLAIN
    if signal.getsignal(signal.SIGTERM) is early.end:
        yield  # the imports are still to come
        return
    with _handled(_interrupt):
        yield


def expect_training() -> None:
    """Take note that the command is to train, and has not begun."""
    early.last_word = BEFORE


def last_word() -> str:
    """Return what to say where a signal ended the command at once."""
    return early.last_word


def imported() -> None:
    """Take note that the imports are over: signals interrupt in the usual way, garbage goes."""
    early.collect()
    for number in early.NUMBERS:
        if signal.getsignal(number) is early.end:
            signal.signal(number, _interrupt)


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


class Stopper(Progress):
    """Whether the user asked to stop; told of a run's phases, so as to know what could be lost.

    It is asked before every batch. Until it is asked a second time in a run, nothing has been
    learned that is not on disk, and a signal ends the command at once; later the first one sets the
    flag only.
    """

    def __init__(self) -> None:
        self.asked = False
        self._polls = 0

    def __call__(self) -> bool:
        """Return the flag."""
        self._polls += 1
        return self.asked

    def plan(self, epochs: int, done: int = 0) -> None:
        """Take note of a run that begins; its folder is there."""
        self._polls = 0
        early.last_word = AT_ONCE

    def close(self) -> None:
        """Take note of a run that ended."""
        self._polls = 0

    def ask(self, number: int, frame: Any) -> None:
        """Handle a signal."""
        if self.asked or self._polls < 2:
            raise KeyboardInterrupt
        self.asked = True
        if speaks():
            say("\nstopping after this batch; press again to stop at once.", err=True)


@contextmanager
def stoppable() -> Iterator[Stopper]:
    """Give what says whether the user asked to stop; it is also to be told how the run goes on."""
    imported()
    stopper = Stopper()
    with _handled(stopper.ask):
        yield stopper


@contextmanager
def _handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Handle both signals so inside the block."""
    before = [signal.signal(number, handler) for number in early.NUMBERS]
    try:
        yield
    finally:
        for number, kept in zip(early.NUMBERS, before, strict=True):
            signal.signal(number, kept)
