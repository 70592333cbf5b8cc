"""Ctrl-C and SIGTERM: at once where nothing can be lost, else after the batch; then at once."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer

from spikeloom.train.progress import Progress

NUMBERS = (signal.SIGINT, signal.SIGTERM)

PLAIN = "stopped."
BEFORE = "stopped before training began: nothing is lost, the same command begins again."
AT_ONCE = "stopped at once; `train --resume` or the same `compare` goes on from there."


class _Signals:
    """What signals did in the present call of the command.

    Args:
        came: one was to end the command at once. An import that swallows the exception, or turns it
            into another, must not go on as if nothing had been.
        last_word: what to say at the end then.
    """

    def __init__(self) -> None:
        self.came = False
        self.last_word = PLAIN

    def end(self, number: int, frame: Any) -> None:
        """Handle a signal by ending the command."""
        self.came = True
        raise KeyboardInterrupt


_signals = _Signals()


def speaks() -> bool:
    """Whether this process talks to the user: the first one of those that share a run does."""
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Let either signal end the command at once; give a function that says whether one did."""
    _signals.came, _signals.last_word = False, PLAIN
    with _handled(_signals.end):
        yield lambda: _signals.came


def expect_training() -> None:
    """Take note that the command is to train, and has not begun."""
    _signals.last_word = BEFORE


def last_word() -> str:
    """Return what to say where a signal ended the command at once."""
    return _signals.last_word


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
        _signals.last_word = AT_ONCE

    def close(self) -> None:
        """Take note of a run that ended."""
        self._polls = 0

    def ask(self, number: int, frame: Any) -> None:
        """Handle a signal."""
        if self.asked or self._polls < 2:
            _signals.end(number, frame)
        self.asked = True
        if speaks():
            typer.echo("\nstopping after this batch; press again to stop at once.", err=True)


@contextmanager
def stoppable() -> Iterator[Stopper]:
    """Give what says whether the user asked to stop; it is also to be told how the run goes on.

    Raises:
        KeyboardInterrupt: a signal came before.
    """
    if _signals.came:
        raise KeyboardInterrupt
    stopper = Stopper()
    with _handled(stopper.ask):
        yield stopper


@contextmanager
def _handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Handle both signals so inside the block."""
    before = [signal.signal(number, handler) for number in NUMBERS]
    try:
        yield
    finally:
        for number, kept in zip(NUMBERS, before, strict=True):
            signal.signal(number, kept)
