"""Runs of one process or two as forks of this one: each is spared its imports.

With Lightning these take longer than the training. A second process waits from the beginning, and
starts when Lightning would start it by a command, with the environment that Lightning gives it.
"""

import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace


class Fork:
    """A forked process with what a test and Lightning ask of `subprocess.Popen`.

    Args:
        work: what it does; its result is the exit code.
    """

    def __init__(self, work: Callable[[], int]) -> None:
        self.returncode: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            code = 70
            try:
                code = work()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0
            except BaseException:  # whatever it is, the child must not return into pytest
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, seconds: float) -> int:
        deadline = time.monotonic() + seconds
        while (code := self.poll()) is None:
            assert time.monotonic() < deadline, "it does not end"
            time.sleep(0.02)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Pair(Fork):
    """A fork that is given a second one when it asks Lightning for two processes.

    Args:
        work: what each does.
        folder: they work in.
    """

    def __init__(self, work: Callable[[], int], folder: Path) -> None:
        from lightning.fabric.strategies.launchers import subprocess_script  # once, for both

        self._out, self._err = (tempfile.TemporaryFile("w+") for _ in range(2))  # noqa: SIM115

        def first() -> int:
            os.chdir(folder)
            for number, file in enumerate((self._out, self._err), start=1):
                os.dup2(file.fileno(), number)
            sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
            read, write = os.pipe()

            def second() -> int:
                os.close(write)
                with os.fdopen(read) as told:
                    environment = told.read()  # until the first process says so, or is gone
                if not environment:
                    return 0
                os.environ |= json.loads(environment)
                return work()

            waiting = Fork(second)
            os.close(read)

            def launched(command: object, env: dict[str, str], cwd: object = None) -> Fork:
                os.write(write, json.dumps(env).encode())
                os.close(write)
                return waiting

            subprocess_script.subprocess = SimpleNamespace(Popen=launched)
            return work()

        super().__init__(first)

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Wait for the end; return what both printed, and what they said of errors."""
        self.wait(timeout)
        for file in (self._out, self._err):
            file.seek(0)
        return self._out.read(), self._err.read()
