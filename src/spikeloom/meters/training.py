"""What training costs: products executed forward and backward, and peak memory."""

import gc
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.autograd.profiler import profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from spikeloom.base.errors import ConfigError


@dataclass(frozen=True)
class TrainingOperations:
    """Dense multiply-accumulates one call executed.

    Args:
        forward: outside of autograd's backward pass.
        backward: inside of it, recomputed activations included.
    """

    forward: int
    backward: int

    @property
    def total(self) -> int:
        """Both together."""
        return self.forward + self.backward

    def per_sample(self, samples: int) -> tuple[float, float]:
        """Return forward and backward operations per training sample.

        Raises:
            ConfigError: no samples.
        """
        if samples < 1:
            raise ConfigError(
                f"meters.training: expected 1 sample or more, got {samples}; pass the batch size."
            )
        return self.forward / samples, self.backward / samples


class _Products(TorchDispatchMode):
    """Counts products by torch's own formulas; the running autograd node tells the phase."""

    def __init__(self) -> None:
        super().__init__()
        self.forward = 0
        self.backward = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        formula = flop_registry.get(getattr(func, "_overloadpacket", None))
        if formula is None:
            # a composite operator, as linear under inference_mode, hides products inside
            if hasattr(func, "decompose") and func is not torch.ops.prim.device.default:
                with self:
                    out = func.decompose(*args, **kwargs)
                if out is not NotImplemented:
                    return out
            return func(*args, **kwargs)
        out = func(*args, **kwargs)
        macs = formula(*args, **kwargs, out_val=out) // 2
        if torch._C._current_autograd_node() is None:
            self.forward += macs
        else:
            self.backward += macs
        return out


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


def count_operations(call: Callable[[], object]) -> TrainingOperations:
    """Count the dense multiply-accumulates of matrix products and convolutions in a call.

    Zero operands count, since the hardware multiplied them; so does padding. Elementwise work
    (units, traces, losses, the optimizer) does not. What a rule computes by hand outside
    autograd's backward pass counts as forward.

    Args:
        call: e.g. one `learn` of a rule on one batch.

    Source:
        formulas of torch.utils.flop_counter (two flops per multiply-accumulate).

    Example:
        >>> w = torch.ones(3, 4, requires_grad=True)
        >>> count_operations(lambda: (torch.ones(2, 3) @ w).sum().backward())
        TrainingOperations(forward=24, backward=24)
    """
    mode = _Products()
    with mode:
        call()
    return TrainingOperations(mode.forward, mode.backward)


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
        raise ConfigError(
            f"meters.training: expected a cpu or cuda device, got '{where}'; measure there."
        )
    return highest(allocations(call))


def allocations(call: Callable[[], object]) -> list[int]:
    """Return what a call takes from the CPU's allocator and gives back, in bytes, in order.

    A release is negative. The order of events does not depend on the batch size as long as the
    same operators run, so the events of two sizes can be matched one by one.

    Args:
        call: what to watch; it cannot run inside another profiler.

    Example:
        >>> allocations(lambda: torch.ones(8))
        [32, -32]
    """
    gc.collect()
    watched = profile(use_cpu=True, profile_memory=True)
    with _silence():
        watched.__enter__()
    try:
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
