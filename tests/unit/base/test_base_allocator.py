"""Freed memory is kept where that is asked for and the system's allocator can."""

import os
import platform
import subprocess
import sys

import pytest

GLIBC = platform.libc_ver()[0] == "glibc"
ASK = "from spikeloom.base.allocator import keep_memory, memory_kept; "
AGAIN = """
import resource, torch
def touch():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(min(touch() for _ in range(32)) < 64)
"""


def answer(code, **variables):
    names = ("MALLOC_", "SPIKELOOM_ALLOCATOR", "GLIBC_TUNABLES", "THP_")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(names)}
    done = subprocess.run(
        [sys.executable, "-c", ASK + code],
        env=clean | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.skipif(not GLIBC, reason="another C library")
def test_a_block_of_64_megabytes_is_touched_once():
    small = {"THP_MEM_ALLOC_ENABLE": "0"}  # with large pages there is little to count
    assert answer("print(keep_memory())" + AGAIN, **small) == ["True", "True"]
    assert answer(AGAIN, SPIKELOOM_ALLOCATOR="system", **small) == ["False"]


@pytest.mark.parametrize(
    "own",
    [
        {"SPIKELOOM_ALLOCATOR": "system"},
        {"MALLOC_TRIM_THRESHOLD_": "1000000"},
        {"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"},
    ],
    ids=["off", "malloc", "tunables"],
)
def test_own_settings_come_first(own):
    assert answer("print(keep_memory(), memory_kept())", **own) == ["False", "False"]


@pytest.mark.skipif(not GLIBC, reason="another C library")
def test_children_keep_it_too():
    child = "import os, subprocess, sys; keep_memory(); print(memory_kept()); sys.stdout.flush(); "
    child += f"subprocess.run([sys.executable, '-c', {ASK + 'print(memory_kept())'!r}])"
    assert answer(child) == ["True", "True"]
