"""The limits: the ReLU net of the same shape, which has no neurons to compute."""

from functools import partial

import torch
from torch import Tensor, nn

from spikeloom.bench.contender import (
    CONTENDERS,
    Contender,
    Layout,
    Step,
    Task,
    by_steps,
    folded,
    torch_step,
)


def _folded(task: Task, *, layout: Layout) -> Step:
    """All T * B images at once."""
    task = Task(task.workload, task.precision, layout)
    xs, y = task.workload.data()
    net, x, steps = task.module(nn.ReLU), folded(task, xs), len(xs)
    return torch_step(task, net, lambda: net(x).unflatten(0, (steps, -1)).mean(0), y)


def _looped(task: Task, *, layout: Layout) -> Step:
    """T passes of B images, their graph kept."""
    task = Task(task.workload, task.precision, layout)
    xs, y = task.workload.data()
    net, parts = task.module(nn.ReLU), by_steps(task, xs)

    def logits() -> Tensor:
        return torch.stack([net(part) for part in parts]).mean(0)

    return torch_step(task, net, logits, y)


def _single(task: Task) -> Step:
    """One pass of B images."""
    xs, y = task.workload.data()
    net, x = task.module(nn.ReLU), xs[0].clone()
    return torch_step(task, net, lambda: net(x), y)


def _register() -> None:
    ways = {"fold": (_folded, "T*B images at once"), "loop": (_looped, "T passes of B images")}
    layouts: dict[str, Layout] = {"": "contiguous", "-cl": "channels-last"}
    for way, (build, about) in ways.items():
        for suffix, layout in layouts.items():
            words, step = f"ReLU net, {about}, {layout}", partial(build, layout=layout)
            contender = Contender("floor", words, step, images=bool(suffix))
            CONTENDERS.register(f"ann-{way}{suffix}")(contender)
    single = Contender("floor", "ReLU net, one pass of B images", _single, online=True)
    CONTENDERS.register("ann-single")(single)


_register()
