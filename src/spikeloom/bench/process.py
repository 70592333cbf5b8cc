"""A contender's process, as the main process sees it."""

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from threading import Timer
from typing import Any

import spikeloom.bench
from spikeloom.bench.contender import Layout, Precision
from spikeloom.bench.workloads import Workload

LIMIT = 900.0
"""Seconds after which a process that does not answer is ended."""

_PACKAGE = Path(spikeloom.bench.__file__).parents[1]

_START = """
import importlib.util, sys
where = sys.argv.pop(1)
spec = importlib.util.spec_from_file_location(
    "spikeloom", where + "/__init__.py", submodule_search_locations=[where]
)
sys.modules["spikeloom"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from spikeloom.bench.child import main
main()
"""
"""Finds this library by its folder: another interpreter must not import what lies beside it."""


class Refused(Exception):  # noqa: N818 - a row left out, not an error
    """The process cannot do what it was asked; the message says why."""


class Process:
    """One child.

    Args:
        python: interpreter; with torch and whatever the contender needs.
        threads: of every library in it.
        limit: seconds an answer may take.
    """

    def __init__(self, threads: int, python: str | None = None, *, limit: float = LIMIT) -> None:
        self.python = python or sys.executable
        self.limit = limit
        self._late = False
        self._errors = tempfile.TemporaryFile(  # noqa: SIM115 - open as long as the child
            "w+", encoding="utf-8", errors="replace"
        )
        count = str(threads)
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
        try:
            self._process = subprocess.Popen(
                [self.python, "-W", "ignore", "-c", _START, str(_PACKAGE), count],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                start_new_session=True,  # an interrupt is for whoever asks, who ends the children
                env={**os.environ, **dict.fromkeys(names, count)},
            )
        except OSError as error:
            self._errors.close()
            raise Refused(f"{self.python}: {error.strerror}") from None

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Ask for something and wait for the answer.

        Raises:
            Refused: the child says why not, or has ended.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        late = Timer(self.limit, self._end_late)
        late.start()
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            late.cancel()
        if not line:
            raise Refused(self._last_words())
        reply = json.loads(line)
        if "skip" in reply:
            raise Refused(reply["skip"])
        return reply

    def open(
        self,
        key: str,
        contender: str,
        workload: Workload,
        *,
        precision: Precision = "fp32",
        layout: Layout | None = "contiguous",
        timed: bool = True,
    ) -> dict[str, Any]:
        """Build a contender's step; see `bench.child.Host.open`."""
        work = workload.to_dict()
        facts = {"contender": contender, "precision": precision, "layout": layout, "timed": timed}
        return self.ask("open", key=key, workload=work, **facts)

    def close(self) -> None:
        """End the child."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # a question that a dead child never read
                    pipe.close()
        self._errors.close()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _end_late(self) -> None:
        self._late = True
        self._process.kill()

    def _last_words(self) -> str:
        code = self._process.wait()
        if self._late:
            return f"stopped, because it did not answer within {self.limit:g} s"
        if code < 0:
            return f"ended by signal {-code}" + (", perhaps out of memory" * (code == -9))
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().splitlines() if line.strip()]
        return (lines or [f"ended with code {code}"])[-1][:200]
