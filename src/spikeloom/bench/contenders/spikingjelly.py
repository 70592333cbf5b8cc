"""SpikingJelly: the same equation and the same slope, in both of its step modes."""

from functools import partial
from importlib import import_module
from typing import Literal

import torch
from torch import Tensor, nn

from spikeloom.bench.contender import Step, Task, by_steps, folded, register_peer, torch_step

PACKAGE = "spikingjelly.activation_based"

Mode = Literal["m", "s"]


def _step(task: Task, *, mode: Mode) -> Step:
    functional, layer, neuron, surrogate = (
        import_module(f"{PACKAGE}.{part}")
        for part in ("functional", "layer", "neuron", "surrogate")
    )
    xs, y = task.workload.data()
    steps = len(xs)

    def lif() -> nn.Module:
        return neuron.LIFNode(
            tau=2.0,
            decay_input=False,
            v_reset=None,
            detach_reset=True,
            surrogate_function=surrogate.ATan(alpha=2.0),
            step_mode=mode,
        )

    net = task.module(lif)
    if mode == "m":
        kinds = neuron.LIFNode
        net = nn.Sequential(
            *[one if isinstance(one, kinds) else layer.SeqToANNContainer(one) for one in net]
        )
    whole = folded(task, xs).unflatten(0, (steps, -1))
    parts = by_steps(task, xs)

    def logits() -> Tensor:
        functional.reset_net(net)
        if mode == "m":
            return net(whole).mean(0)
        return torch.stack([net(part) for part in parts]).mean(0)

    return torch_step(task, net, logits, y)


_MODES: dict[Mode, str] = {"m": "layer by layer", "s": "step by step"}

for _mode, _words in _MODES.items():
    _build = partial(_step, mode=_mode)
    register_peer(f"spikingjelly-{_mode}", f"SpikingJelly, {_words}", _build, "spikingjelly")
