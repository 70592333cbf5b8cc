"""Sinabs: the same equation, batch before time, exponential slope."""

import math
from importlib import import_module

from torch import Tensor

from spikeloom.bench.contender import Step, Task, folded, register_peer, torch_step


def _step(task: Task) -> Step:
    sinabs, layers = import_module("sinabs"), import_module("sinabs.layers")
    xs, y = task.workload.data()
    size = task.workload.batch
    net = task.module(
        lambda: layers.LIFSqueeze(
            tau_mem=1 / math.log(2),
            batch_size=size,
            norm_input=False,
            spike_fn=sinabs.activation.SingleSpike,
        )
    )
    x = folded(task, xs.transpose(0, 1))

    def logits() -> Tensor:
        sinabs.reset_states(net)
        return net(x).unflatten(0, (size, -1)).mean(1)

    return torch_step(task, net, logits, y)


register_peer("sinabs", "Sinabs, layer by layer", _step, "sinabs")
