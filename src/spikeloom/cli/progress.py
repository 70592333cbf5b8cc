"""What a long task looks like: a bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from spikeloom.cli.console import plain_console
from spikeloom.cli.stopping import imported
from spikeloom.records import units
from spikeloom.records.progress import SILENT, Progress
from spikeloom.tasks.metric import ACCURACY, named

if TYPE_CHECKING:
    from spikeloom.records.run import EpochRecord

Clock = Callable[[], float]

BAR_AFTER = 1.0
"""Seconds after which a chain of phases shows a bar; a shorter one would only flicker."""

SWITCH_AFTER = 0.2
"""Seconds after which a phase takes the bar over from the one before."""

BAR_WIDTH = 8
"""Least width of the bar itself; words give way to it."""

LINE_EVERY = 10.0
"""Seconds between two lines of one phase where there is no terminal."""


@contextmanager
def watcher(
    *,
    quiet: bool = False,
    verbose: bool = False,
    epochs: bool = True,
    console: Console | None = None,
    clock: Clock = time.monotonic,
) -> Iterator[Progress]:
    """Yield a progress for the console: a bar on a terminal, plain lines elsewhere.

    Nothing is left behind on the terminal however the block ends.

    Args:
        quiet: show nothing.
        verbose: also a line for every phase, with its seconds.
        epochs: show a line for every epoch.
        console: where to; standard output by default.
        clock: seconds that pass.
    """
    imported()
    if quiet:
        yield SILENT
        return
    console = console or plain_console()
    kind = _Terminal if console.is_terminal and not console.is_dumb_terminal else _Lines
    progress = kind(console, verbose=verbose, epochs=epochs, clock=clock)
    try:
        yield progress
    finally:
        progress.close()


@dataclass
class _Phase:
    name: str
    total: int
    unit: str
    start: float
    done: int = 0
    before: int = 0
    end: float | None = None
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def percent(self) -> str:
        """Part that is done; nothing where no total is known."""
        return f"{units.percent(min(1.0, self.done / self.total)):.0f}" if self.total > 0 else ""

    def seconds(self, now: float) -> float:
        """Time it has taken so far, or took."""
        return (now if self.end is None else self.end) - self.start

    def speed(self, now: float) -> float | None:
        """Units per second, None as long as it is not known."""
        done, seconds = self.done - self.before, self.seconds(now)
        return done / seconds if done > 0 and seconds > 0 else None


class _Lines(Progress):
    """Lines of text: notes, epochs, and every ten seconds how far a long phase is."""

    def __init__(self, console: Console, *, verbose: bool, epochs: bool, clock: Clock) -> None:
        self.console = console
        self.verbose = verbose
        self.epochs = epochs
        self.clock = clock
        self.start = clock()
        self._phase: _Phase | None = None
        self._said = 0.0
        self._left_epochs = 0
        self._epoch_start: float | None = None
        self._pace: float | None = None
        self._inputs: set[str] = set()

    def plan(self, epochs: int, done: int = 0) -> None:
        """Record how many epochs are planned."""
        self._left_epochs = epochs - done
        self._epoch_start = self._pace = None

    def phase(self, name: str, total: int, unit: str = "images", *, done: int = 0) -> None:
        """End the last phase and begin another."""
        self._end()
        now = self.clock()
        self._phase = _Phase(name, total, unit, now, done, before=done)
        self._said = now
        if self._left_epochs and self._epoch_start is None:
            self._epoch_start = now

    def advance(self, count: int, **figures: float) -> None:
        """Count units; say so where the last line is long ago."""
        phase, now = self._phase, self.clock()
        if phase is None:
            return
        phase.done += count
        phase.figures.update(figures)
        if now - self._said >= LINE_EVERY and phase.done < phase.total:
            self._said = now
            self._report(phase, now)

    def epoch(self, entry: "EpochRecord") -> None:
        """Print an epoch's metrics."""
        self._end()
        now = self.clock()
        if self._epoch_start is not None:
            self._pace = now - self._epoch_start
        self._epoch_start = now
        self._left_epochs = max(0, self._left_epochs - 1)
        if self.epochs:
            self._print(epoch_line(entry))

    def note(self, text: str) -> None:
        """Print a line."""
        self._print(text)

    def inputs(self, text: str) -> None:
        """Print a line, if it was not yet."""
        if text not in self._inputs:
            self._inputs.add(text)
            self._print(text)

    def warn(self, text: str) -> None:
        """Print a line that stands out."""
        self._print(f"warning: {text}", style="yellow")

    def close(self) -> None:
        """End the last phase."""
        self._end()

    def left(self, phase: _Phase, now: float) -> float | None:
        """Return the seconds to the end of the run, or of the phase where no run is planned.

        The epochs to come are taken to last as long as the last one did; in the first epoch, as
        long as it will if it ends with the present phase.
        """
        speed = phase.speed(now)
        rest = max(0, phase.total - phase.done) / speed if speed and phase.total else None
        if not self._left_epochs or self._epoch_start is None:
            return rest
        if self._pace is not None:
            return max(0.0, self._left_epochs * self._pace - (now - self._epoch_start))
        if rest is None:
            return None
        return rest + (self._left_epochs - 1) * (now - self._epoch_start + rest)

    def _report(self, phase: _Phase, now: float) -> None:
        parts = [f"{phase.percent} %", *_figures(phase), *_speed(phase, now)]
        left = self.left(phase, now)
        if left is not None:
            parts.append(f"{duration(left)} left")
        self._print(f"{phase.name}: {', '.join(parts)}")

    def _end(self) -> None:
        phase, self._phase = self._phase, None
        if phase is None:
            return
        phase.end = self.clock()
        if self.verbose:
            count, took = phase.done - phase.before, f"{phase.seconds(phase.end):.1f} s"
            took = f"{count:,} {phase.unit} in {took}" if count else took
            self._print(f"{phase.name}: {', '.join([took, *_speed(phase, phase.end)])}")

    def _print(self, text: str, style: str | None = None) -> None:
        self.console.print(Text(text, style=style or ""), soft_wrap=True)


class _Terminal(_Lines):
    """One live line below what is printed, empty until a chain of phases lasts."""

    def __init__(self, console: Console, *, verbose: bool, epochs: bool, clock: Clock) -> None:
        super().__init__(console, verbose=verbose, epochs=epochs, clock=clock)
        self._chain: float | None = None
        self._shown: _Phase | None = None
        self.live = Live(
            get_renderable=self.bar, console=console, transient=True, refresh_per_second=8
        )

    def phase(self, name: str, total: int, unit: str = "images", *, done: int = 0) -> None:
        """Begin a phase."""
        super().phase(name, total, unit, done=done)
        if self._chain is None:
            self._chain = self.clock()
            self.live.start()

    def close(self) -> None:
        """Take the bar away; the terminal is as before."""
        super().close()
        self._chain = self._shown = None
        self.live.stop()

    def bar(self) -> RenderableType:
        """Return the line as it is now; a phase that has just begun still shows the one before."""
        now, phase = self.clock(), self._phase
        if self._chain is None or now - self._chain < BAR_AFTER:
            return Group()
        if phase is not None and (self._shown is None or now - phase.start >= SWITCH_AFTER):
            self._shown = phase
        phase = self._shown
        if phase is None:
            return Group()
        line = Table.grid(padding=(0, 1), expand=True)
        line.add_column(no_wrap=True)
        line.add_column(ratio=1)
        line.add_column(no_wrap=True, justify="right")
        room = self.console.width - len(phase.name) - BAR_WIDTH - 3
        bar = ProgressBar(total=phase.total or None, completed=phase.done)
        line.add_row(Text(phase.name), bar, Text(self._beside(phase, now, room)))
        return line

    def _beside(self, phase: _Phase, now: float, room: int) -> str:
        """Return what stands beside the bar: as much of it as has room."""
        share = [f"{phase.percent:>3}%"] if phase.percent else []
        figures = [text.replace(ACCURACY.name, "acc") for text in _figures(phase, "")]
        speed, short = _speed(phase, now), _speed(phase, now, unit="")
        left = self.left(phase, now)
        end = [] if left is None else [f"{duration(left)} left"]
        spent = [duration(now - self.start)]
        for parts in (
            [*figures, *speed, *spent, *end],
            [*figures, *speed, *end],
            [*figures, *short, *end],
            [*figures[:1], *short, *end],
            [*short, *end],
            end,
        ):
            text = "  ".join([*share, *parts])
            if len(text) <= room:
                return text
        return "".join(share)

    def _report(self, phase: _Phase, now: float) -> None:
        """Say nothing: the bar does."""


def epoch_line(entry: "EpochRecord") -> str:
    """Return one line for an epoch's metrics; the number of a later stage stands in front."""
    stage = f"stage {entry.stage + 1}  " if entry.stage else ""
    return (
        f"{stage}epoch {entry.epoch + 1:3d}  loss {entry.loss:.4f}  "
        f"train {_score(entry, '')}  val {_score(entry, 'val_')}  {entry.seconds:.1f} s"
    )


def _score(entry: "EpochRecord", part: str) -> str:
    """Write the metric that decides; one that is no share comes with its name."""
    name = entry.judged[0]
    metric, value = named(name), entry[f"{part}{name}"]
    text = metric.written(metric.shown(value))
    return f"{text} {metric.unit}" if metric.unit else f"{name} {text}"


def duration(seconds: float) -> str:
    """Return a time as 0:07, 12:34, 1:02:03 or 2 d 3 h.

    Example:
        >>> duration(7), duration(3723), duration(183600)
        ('0:07', '1:02:03', '2 d 3 h')
    """
    whole = round(seconds)
    if whole >= 86400:
        return f"{whole // 86400} d {whole % 86400 // 3600} h"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _figures(phase: _Phase, space: str = " ") -> list[str]:
    """Return the means so far, e.g. ["loss 0.1234", "accuracy 97.1 %"]."""
    return [
        f"{name} {named(name).shown(value):.1f}{space}%"
        if named(name).unit == "%"
        else f"{name} {value:.4f}"
        for name, value in phase.figures.items()
    ]


def _speed(phase: _Phase, now: float, unit: str | None = None) -> list[str]:
    """Return e.g. ["1,234 images/s"], or nothing as long as it is not known."""
    speed = phase.speed(now)
    if speed is None:
        return []
    number = f"{speed:,.0f}" if speed >= 10 else f"{speed:.2g}"
    return [f"{number} {phase.unit if unit is None else unit}".rstrip() + "/s"]
