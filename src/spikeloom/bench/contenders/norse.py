"""Norse: `LIFBoxCell`, with half the threshold since it halves its input; SuperSpike slope."""

from importlib import import_module

import torch
from torch import Tensor

from spikeloom.bench.contender import Step, Task, by_steps, register_peer, torch_step


def _step(task: Task) -> Step:
    norse, reset = import_module("norse.torch"), import_module("norse.torch.functional.reset")
    xs, y = task.workload.data()
    setting = norse.LIFBoxParameters(
        tau_mem_inv=torch.as_tensor(500.0),
        v_th=torch.as_tensor(0.5),
        reset_method=reset.reset_subtract,
    )
    net = norse.SequentialState(*task.module(lambda: norse.LIFBoxCell(setting)))
    parts = by_steps(task, xs)

    def logits() -> Tensor:
        state, outs = None, []
        for part in parts:
            out, state = net(part, state)
            outs.append(out)
        return torch.stack(outs).mean(0)

    return torch_step(task, net, logits, y)


register_peer("norse", "Norse, step by step", _step, "norse")
