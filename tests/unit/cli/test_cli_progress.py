"""The bar and the lines: what they say, when, and that nothing stays behind."""

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console
from screen import Screen

from spikeloom.cli.progress import duration, epoch_line, watcher
from spikeloom.records.progress import SILENT, Progress, all_of
from spikeloom.records.run import EpochRecord

ENTRY = EpochRecord(epoch=0, loss=0.5, accuracy=0.9, val_accuracy=0.875, seconds=1.25)


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Watched:
    """A progress on a terminal or a file of some width, with its clock."""

    def __init__(self, *, terminal=False, width=80, **options) -> None:
        self.clock, self.file = Clock(), io.StringIO()
        self.console = Console(file=self.file, force_terminal=terminal, width=width)
        self.context = watcher(console=self.console, clock=self.clock, **options)

    def __enter__(self) -> "Watched":
        self.progress = self.context.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self.context.__exit__(*error)

    def run(self, seconds, steps=10, total=1000, **figures) -> None:
        """Advance evenly through a phase."""
        for _ in range(steps):
            self.clock.now += seconds / steps
            self.progress.advance(total // steps, **figures)

    @property
    def lines(self) -> list[str]:
        return self.file.getvalue().splitlines()

    def bar(self, width=80) -> str:
        """The live line at this moment, as plain text."""
        out = Console(file=io.StringIO(), width=width, color_system=None)
        out.print(self.progress.bar())
        assert isinstance(out.file, io.StringIO)
        return out.file.getvalue().strip("\n")


class TestLines:
    def test_an_epoch_is_one_line(self):
        with Watched() as one:
            one.progress.phase("epoch 1/2", 1000)
            one.run(9)
            one.progress.epoch(ENTRY)
        assert one.lines == ["epoch   1  loss 0.5000  train 90.00 %  val 87.50 %  1.2 s"]

    def test_a_later_stage_is_named(self):
        assert epoch_line(ENTRY.with_only(stage=1)).startswith("stage 2  epoch   1  loss")

    def test_a_long_phase_speaks_every_ten_seconds(self):
        with Watched() as one:
            one.progress.phase("decode cifar10", 1000, "files")
            one.run(40, steps=100, loss=0.5, accuracy=0.25)
        assert one.lines == [
            f"decode cifar10: {share} %, loss 0.5000, accuracy 25.0 %, 25 files/s, 0:{left} left"
            for share, left in ((25, 30), (50, 20), (75, 10))
        ]

    def test_time_left_is_the_whole_runs(self):
        with Watched() as one:
            one.progress.plan(5, done=1)
            one.progress.phase("epoch 2/5", 1000)
            one.run(20, steps=2)
            one.progress.epoch(ENTRY.with_only(epoch=1))
            one.progress.phase("epoch 3/5", 1000)
            one.run(24, steps=2)
        # 10 s are left of this epoch and 3 of 20 s come; then 3 are left, of which 12 s have passed
        assert one.lines[0].endswith("50 images/s, 1:10 left")
        assert one.lines[2].endswith("42 images/s, 0:48 left")

    def test_validation_counts_to_the_first_epoch(self):
        with Watched() as one:
            one.progress.plan(2)
            one.progress.phase("epoch 1/2", 1000)
            one.run(9)
            one.progress.phase("validation", 100)
            one.run(20, steps=2, total=100)
        assert one.lines[-1].endswith("0:39 left")  # 10 s here, 29 s for another epoch

    def test_what_an_earlier_process_did_is_no_speed(self):
        with Watched(verbose=True) as one:
            one.progress.phase("epoch 3/5", 1000, done=500)
            one.run(20, steps=2, total=200)
        assert one.lines == [
            "epoch 3/5: 60 %, 10 images/s, 0:40 left",
            "epoch 3/5: 70 %, 10 images/s, 0:30 left",
            "epoch 3/5: 200 images in 20.0 s, 10 images/s",
        ]

    def test_notes_and_warnings(self):
        with Watched() as one:
            one.progress.note("[bold]3 MB[/bold] :smile:")
            one.progress.warn("layer 0.0.0 is dead; " + "x" * 100)
        assert one.lines == [
            "[bold]3 MB[/bold] :smile:",
            "warning: layer 0.0.0 is dead; " + "x" * 100,
        ]

    def test_verbose_names_every_phase(self):
        with Watched(verbose=True) as one:
            one.progress.phase("epoch 1/1", 1000)
            one.run(2)
            one.progress.phase("costs", 0)
        assert one.lines == [
            "epoch 1/1: 1,000 images in 2.0 s, 500 images/s",
            "costs: 0.0 s",
        ]

    def test_without_epochs(self):
        with Watched(epochs=False) as one:
            one.progress.epoch(ENTRY)
        assert one.lines == []

    def test_quiet_is_silent(self):
        with watcher(quiet=True, console=Console(file=io.StringIO())) as progress:
            assert progress is SILENT

    def test_advance_without_a_phase_is_nothing(self):
        with Watched() as one:
            one.progress.advance(3)
        assert one.lines == []


class TestBar:
    def test_it_appears_when_a_chain_of_phases_lasts(self):
        with Watched(terminal=True) as one:
            one.progress.phase("epoch 1/9", 1000)
            one.run(0.9)
            assert one.bar() == ""
            one.progress.epoch(ENTRY)
            one.progress.phase("epoch 2/9", 1000)
            one.clock.now += 0.15
            assert one.bar().startswith("epoch 2/9 ")

    def test_a_short_phase_does_not_take_it_over(self):
        with Watched(terminal=True) as one:
            one.progress.phase("epoch 1/9", 1000)
            one.run(2)
            before = one.bar()
            assert before.startswith("epoch 1/9 ") and "500 images/s" in before
            one.progress.phase("validation", 100)
            one.clock.now += 0.1
            assert one.bar().startswith("epoch 1/9 ") and "500 images/s" in one.bar()
            one.clock.now += 0.11
            assert one.bar().startswith("validation ")

    def test_it_says_everything_in_80_columns(self):
        with Watched(terminal=True) as one:
            one.progress.plan(20)
            one.progress.phase("epoch 3/20", 60000)
            one.run(600, total=30000, loss=2.3026, accuracy=0.1234)
            bar = one.bar()
            assert len(bar) == 80
            for part in (" 50%", "loss 2.3026", "acc 12.3%", " 50 images/s", "6:30:00 left"):
                assert part in bar

    @pytest.mark.parametrize("width", [100, 80, 60, 40, 24, 10])
    def test_it_stays_one_line(self, width):
        with Watched(terminal=True, width=width) as one:
            one.progress.plan(20)
            one.progress.phase("stage 2/3, epoch 12/20", 60000)
            one.run(600, total=30000, loss=2.3026, accuracy=0.1234)
            bar = one.bar(width)
        assert len(bar) <= width and "\n" not in bar
        assert "left" in bar or width < 60

    def test_wide_terminals_show_the_time_spent(self):
        with Watched(terminal=True, width=120) as one:
            one.progress.phase("epoch 1/1", 1000)
            one.run(90, total=500)
            assert "6 images/s  1:30  1:30 left" in one.bar(120).replace("5.6", "6")

    def test_a_phase_of_unknown_length(self):
        with Watched(terminal=True) as one:
            one.progress.phase("costs", 0)
            one.clock.now += 5
            assert one.bar().startswith("costs ") and one.bar().endswith(" 0:05")
            one.progress.advance(7)
            assert "%" not in one.bar()

    def test_lines_stand_above_and_the_bar_is_gone(self):
        with Watched(terminal=True) as one:
            one.progress.phase("epoch 1/1", 1000)
            one.run(5, total=500)
            one.progress.live.refresh()
            one.progress.note("3 MB")
            one.progress.warn("dead")
            seen = Screen().feed(one.file.getvalue())
            assert seen.text[:2] == ["3 MB", "warning: dead"] and not seen.cursor
            assert seen.text[2].startswith("epoch 1/1 ") and len(seen.text) == 3
            assert "\x1b[33mepoch" not in one.file.getvalue()  # the warning's colour is its own
        seen = Screen().feed(one.file.getvalue())
        assert seen.text == ["3 MB", "warning: dead"] and seen.cursor

    def test_it_can_begin_again(self):
        with Watched(terminal=True, verbose=True) as one:
            for name in ("a", "b"):
                one.progress.phase(name, 10)
                one.run(5, total=10)
                one.progress.close()
                assert one.bar() == ""
        seen = Screen().feed(one.file.getvalue())
        assert seen.text == [
            "a: 10 images in 5.0 s, 2 images/s",
            "b: 10 images in 5.0 s, 2 images/s",
        ]
        assert seen.cursor

    @pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
    def test_an_error_leaves_the_terminal_whole(self, error):
        one = Watched(terminal=True)
        with pytest.raises(error), one:
            one.progress.phase("epoch 1/1", 1000)
            one.run(5, total=500)
            one.progress.live.refresh()
            raise error
        seen = Screen().feed(one.file.getvalue())
        assert seen.text == [] and seen.cursor


SCRIPT = """
import time
from spikeloom.records.run import EpochRecord
from spikeloom.cli.progress import watcher
with watcher() as progress:
    progress.note("first")
    progress.phase("epoch 1/1", 100)
    for _ in range(100):
        time.sleep({pause})
        progress.advance(1, loss=0.25)
    print("printed")
    progress.epoch(EpochRecord(**{entry}))
print("last")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("stop", [False, True])
def test_on_a_real_terminal(stop):
    import pty

    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80", "PYTHONPATH": package_path()}
    script = SCRIPT.format(entry=ENTRY.table(), pause=0.05 if stop else 0.015)
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env=environment,
    )
    os.close(theirs)
    text = ""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        try:
            text += os.read(ours, 1 << 16).decode()
        except OSError:  # the other end is closed
            break
        if stop and "loss 0.2500" in text:
            child.send_signal(2)  # as Ctrl-C does
            stop = False
    child.wait(600)
    os.close(ours)
    assert "epoch 1/1 " in text and "loss 0.2500" in text
    seen = Screen().feed(text)
    assert seen.cursor
    if child.returncode == 0:
        assert seen.text == ["first", "printed", epoch_line(ENTRY), "last"]
    else:
        assert seen.text == ["first"]
        assert child.stderr is not None and b"KeyboardInterrupt" in child.stderr.read()


def package_path() -> str:
    import spikeloom

    return str(Path(spikeloom.__file__).parents[1])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (59.6, "1:00"),
        (754, "12:34"),
        (3599.6, "1:00:00"),
        (86399, "23:59:59"),
        (183600, "2 d 3 h"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


class Recorder(Progress):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.heard: list[tuple] = []

    def __getattribute__(self, name):
        if name.startswith("_") or name == "heard":
            return super().__getattribute__(name)
        return lambda *args, **options: self.heard.append((name, args, options))


def tell(progress: Progress) -> None:
    progress.plan(3, done=1)
    progress.phase("epoch 1/3", 10, "files", done=2)
    progress.advance(4, loss=1.0)
    progress.epoch(ENTRY)
    progress.note("a")
    progress.inputs("c")
    progress.warn("b")
    progress.close()


def test_all_of_passes_everything_on():
    alone, one, other = Recorder(), Recorder(), Recorder()
    tell(alone)
    tell(all_of(one, other))
    assert [name for name, *_ in alone.heard] == [
        name for name, value in vars(Progress).items() if callable(value)
    ]
    plain = [(name, [*args, *options.values()]) for name, args, options in alone.heard]
    for heard in (one.heard, other.heard):
        told = [(name, [*args, *options.values()]) for name, args, options in heard]
        assert [name for name, _ in told] == [name for name, _ in plain]
        assert told[0] == ("plan", [3, 1]) and told[1][1] == ["epoch 1/3", 10, "files", 2]
        assert told[2:] == plain[2:]
    assert all_of(one) is one


def test_silence():
    tell(SILENT)
