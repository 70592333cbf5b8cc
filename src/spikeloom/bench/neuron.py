"""The neuron alone, beside the time that streaming its bytes takes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from spikeloom.bench.workloads import UNIT
from spikeloom.kernels.source.jit import compiler
from spikeloom.meters.clock import time_interleaved
from spikeloom.neurons.module import Neuron

SHAPE = (8, 16, 128, 32, 32)
"""[T, B, C, H, W] of the population."""

STREAMS = 5
"""Tensors that must pass at least: currents, spikes; currents again, gradients in and out."""


def bytes_moved(shape: tuple[int, ...]) -> int:
    """Return the least a forward and a backward pass have to move, in float32.

    Forward reads currents and writes spikes; backward reads currents (from which potentials are
    computed again) and the gradient of the spikes, and writes the gradient of the currents.

    Example:
        >>> bytes_moved((2, 1, 10))
        400
    """
    return STREAMS * 4 * torch.Size(shape).numel()


def measure_neuron(shape: tuple[int, ...], rounds: int) -> dict[str, Any]:
    """Time the neuron's forward and backward pass and a copy of as much memory, in turn.

    Returns:
        Seconds of each round: "neuron", "forward", "stream" (the least bytes at the rate of a copy
        into memory that is already there); the bytes; the backend.
    """
    generator = torch.Generator().manual_seed(0)
    currents = (torch.randn(shape, generator=generator) * 1.2).requires_grad_()
    grads = torch.randn(shape, generator=generator)
    neuron, target = Neuron(UNIT), torch.empty(shape)

    def both() -> Tensor:
        return torch.autograd.grad(neuron(currents), currents, grads)[0]

    def copy() -> Tensor:
        return target.copy_(grads)

    calls: dict[str, Callable[[], Tensor]] = {
        "neuron": both,
        "forward": lambda: neuron(currents),
        "stream": copy,
    }
    for call in calls.values():
        call()
    timed = time_interleaved(calls, rounds)
    times = {name: list(timing.times) for name, timing in timed.items()}
    copies = STREAMS / 2  # a copy reads one tensor and writes one
    times["stream"] = [copies * seconds for seconds in times["stream"]]
    return {**times, "bytes": bytes_moved(shape), "backend": compiler()}
