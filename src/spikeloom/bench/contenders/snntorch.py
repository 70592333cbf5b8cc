"""snnTorch: `Leaky` with reset by subtraction, which it applies one step late."""

from importlib import import_module

import torch
from torch import Tensor, nn

from spikeloom.bench.contender import Step, Task, by_steps, register_peer, torch_step


def _step(task: Task) -> Step:
    snn, surrogate = import_module("snntorch"), import_module("snntorch.surrogate")
    xs, y = task.workload.data()
    slope = surrogate.atan(alpha=2.0)
    net = task.module(lambda: snn.Leaky(beta=0.5, spike_grad=slope, init_hidden=True))
    neurons: list[nn.Module] = [one for one in net if isinstance(one, snn.Leaky)]
    parts = by_steps(task, xs)

    def logits() -> Tensor:
        for one in neurons:
            one.reset_mem()  # pyright: ignore[reportCallIssue]
        return torch.stack([net(part) for part in parts]).mean(0)

    return torch_step(task, net, logits, y)


register_peer("snntorch", "snnTorch, step by step", _step, "snntorch")
