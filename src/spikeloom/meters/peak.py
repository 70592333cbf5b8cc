"""Peak memory of a call."""

import gc
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.autograd.profiler import profile

from spikeloom.base.errors import ConfigError


@contextmanager
def _uncollected() -> Iterator[None]:
    """Switch the garbage collector off, so that what it frees, and when, does not matter.

    A collection before the call would do as well, and walks through every object of torch: several
    of them are a tenth of a small training.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _silence() -> Iterator[None]:
    """Drop what the profiler's native code prints to standard error when it starts and stops."""
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def peak_allocated(call: Callable[[], object], device: torch.device | str = "cpu") -> int:
    """Return the peak of tensor memory during a call, in bytes above its start.

    On CUDA this is the caching allocator's peak of used bytes; its process-wide peak statistics
    are reset. On the CPU it is the running sum of the allocator's events, to the byte. Run the
    call once before, so that what is made once (gradients, optimizer state) is there at the start.

    Not seen: scratch memory that oneDNN, MKL or cuDNN take by themselves. On the CPU the release
    of memory that was taken before the call is not seen either, so a call that frees such memory
    gets an upper bound. It cannot run inside another profiler.

    Args:
        call: what to measure.
        device: where it allocates.

    Raises:
        ConfigError: another device than a CPU or a CUDA device.
    """
    where = torch.device(device)
    if where.type == "cuda":
        gc.collect()
        torch.cuda.synchronize(where)
        torch.cuda.reset_peak_memory_stats(where)
        before = torch.cuda.memory_allocated(where)
        call()
        torch.cuda.synchronize(where)
        return torch.cuda.max_memory_allocated(where) - before
    if where.type != "cpu":
        raise ConfigError.of("meters.peak", "a cpu or cuda device", f"'{where}'", "measure there")
    return highest(allocations(call))


def allocations(call: Callable[[], object]) -> list[int]:
    """Return what a call takes from the CPU's allocator and gives back, in bytes, in order.

    A release is negative. The order of events does not depend on the batch size as long as the
    same operators run, so the events of two sizes can be matched one by one. Objects that refer to
    each other in a circle are not freed during the call.

    Args:
        call: what to watch; it cannot run inside another profiler.

    Example:
        >>> allocations(lambda: torch.ones(8))
        [32, -32]
    """
    watched = profile(use_cpu=True, profile_memory=True)
    with _silence():
        watched.__enter__()
    try:
        with _uncollected():
            call()
    finally:
        with _silence():
            watched.__exit__(None, None, None)
    assert watched.kineto_results is not None
    events: list[Any] = watched.kineto_results.events()
    changes = [event for event in events if event.name() == "[memory]"]
    changes.sort(key=lambda event: event.start_ns())
    return [change.nbytes() for change in changes]


def highest(changes: Iterable[float]) -> int:
    """Return the highest running sum of changes, 0 at least.

    Example:
        >>> highest([3, 4, -5, 1])
        7
    """
    used = peak = 0.0
    for change in changes:
        used += change
        peak = max(peak, used)
    return round(peak)
