"""Total and free memory as every system tells them, or None: never a crash."""

import ctypes
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from spikeloom.base import memory
from spikeloom.base.memory import free_bytes, total_bytes
from spikeloom.bench.machine import memory_left

VM_STAT = """Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                                5000.
Pages active:                            200000.
Pages inactive:                            3000.
Pages speculative:                         2000.
Pages throttled:                              0.
Pages wired down:                        100000.
Pages purgeable:                            700.
"""


@pytest.fixture(autouse=True)
def no_container(monkeypatch):
    monkeypatch.setattr(memory, "within_container", lambda size: size)


class TestLinux:
    @pytest.fixture(autouse=True)
    def linux(self, monkeypatch, tmp_path):
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")

    def test_what_is_available(self, tmp_path):
        (tmp_path / "meminfo").write_text("MemTotal: 4000 kB\nMemAvailable:    1500 kB\nX: 1\n")
        assert free_bytes() == 1500 * 1024

    @pytest.mark.parametrize(
        "text", ["", "MemAvailable:\n", "MemAvailable: many kB\n", "MemTotal: 3 kB\n", "no table"]
    )
    def test_a_table_that_says_nothing(self, tmp_path, text):
        (tmp_path / "meminfo").write_text(text)
        assert free_bytes() is None

    def test_no_table(self):
        """As on the BSDs: total memory is known, and what is left of it is not."""
        assert free_bytes() is None and memory_left() == 1.0

    def test_a_container_has_less(self, tmp_path, monkeypatch):
        (tmp_path / "meminfo").write_text("MemAvailable: 1500 kB\n")
        monkeypatch.setattr(memory, "within_container", lambda size: min(size, 10**6))
        assert free_bytes() == 10**6

    def test_the_share_that_is_left(self, tmp_path, monkeypatch):
        (tmp_path / "meminfo").write_text("MemAvailable: 1500 kB\n")
        monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1500, "SC_PAGE_SIZE": 4096}.get)
        assert total_bytes() == 1500 * 4096 and memory_left() == 0.25

    @pytest.mark.parametrize("error", [ValueError, OSError, AttributeError])
    def test_a_system_that_tells_nothing(self, monkeypatch, error):
        def fail(name):
            raise error(name)

        monkeypatch.setattr(os, "sysconf", fail)
        assert total_bytes() is None and memory_left() == 1.0


class TestMac:
    @pytest.fixture(autouse=True)
    def mac(self, monkeypatch):
        monkeypatch.setattr(sys, "platform", "darwin")

    def told(self, monkeypatch, text):
        monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=text))

    def test_free_inactive_and_speculative_pages(self, monkeypatch):
        self.told(monkeypatch, VM_STAT)
        assert free_bytes() == 16384 * 10_000

    @pytest.mark.parametrize("text", ["", VM_STAT.split("\n", 1)[1], VM_STAT.splitlines()[0]])
    def test_another_answer(self, monkeypatch, text):
        self.told(monkeypatch, text)
        assert free_bytes() is None

    @pytest.mark.parametrize("error", [FileNotFoundError(), subprocess.TimeoutExpired("x", 1)])
    def test_no_answer(self, monkeypatch, error):
        def fail(*_, **__):
            raise error

        monkeypatch.setattr(subprocess, "run", fail)
        assert free_bytes() is None


class TestWindows:
    @pytest.fixture(autouse=True)
    def windows(self, monkeypatch):
        monkeypatch.setattr(sys, "platform", "win32")

    def kernel(self, monkeypatch, answer):
        library = SimpleNamespace(kernel32=SimpleNamespace(GlobalMemoryStatusEx=answer))
        monkeypatch.setattr(ctypes, "windll", library, raising=False)

    def test_physical_memory(self, monkeypatch):
        """The structure is that of the API: 64 bytes, with the sizes at 8 and 16."""

        def fill(pointer):
            raw = ctypes.cast(pointer, ctypes.POINTER(ctypes.c_uint64 * 8)).contents
            assert raw[0] & 0xFFFFFFFF == 64 == ctypes.sizeof(raw)
            raw[1], raw[2] = 16 * 10**9, 5 * 10**9
            return 1

        self.kernel(monkeypatch, fill)
        assert total_bytes() == 16 * 10**9 and free_bytes() == 5 * 10**9

    def test_a_refusal(self, monkeypatch):
        self.kernel(monkeypatch, lambda pointer: 0)
        assert total_bytes() is None and free_bytes() is None

    def test_no_such_function(self):
        """As on this system, where ctypes has no windll."""
        assert total_bytes() is None and free_bytes() is None


def test_this_machine_tells():
    if sys.platform == "linux":
        total, free = total_bytes(), free_bytes()
        assert total is not None and free is not None and 10_000_000 < free <= total
