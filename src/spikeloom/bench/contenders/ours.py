"""This library: every rule on the spiking net, as `spikeloom train` runs it."""

from functools import partial

import torch
from torch import Tensor

from spikeloom.base.types import Batch
from spikeloom.bench.contender import CONTENDERS, LEARNING_RATE, Contender, Step, Task
from spikeloom.nets.execution import Execution
from spikeloom.rules.base import LearningRule
from spikeloom.rules.bptt import Bptt
from spikeloom.rules.commit import OwnLoop
from spikeloom.rules.dsr import Dsr
from spikeloom.rules.ide import Ide
from spikeloom.rules.ottt import Ottt
from spikeloom.rules.sltt import Sltt
from spikeloom.rules.spide import Spide


def _step(task: Task, *, rule: LearningRule, execution: Execution | None = None) -> Step:
    """One call of `learn` with plain SGD at each commit."""
    net, head = task.workload.spiking(feedback=rule.facts.order == "equilibrium")
    net.execution = Execution() if execution is None else execution
    xs, y = task.workload.data()
    batch = Batch.of(xs, y)
    memory = rule.prepare(net, head.sites, batch)
    parameters = [*net.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=LEARNING_RATE)

    def step() -> None:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch.clear_autocast_cache()  # it may hold copies of the weights as they were

    commit = OwnLoop(rule, memory, step, net, head)

    def call() -> Tensor:
        with task.autocast():
            return rule.learn(net, batch, head.bind(y, batch.rng), commit).loss

    return Step(call, lambda: net.backend)


_RULES: dict[str, tuple[LearningRule, str]] = {
    "bptt": (Bptt(), "backpropagation through time"),
    "sltt": (Sltt(), "spatial learning through time"),
    "sltt-k2": (Sltt(k_steps=2), "SLTT, 2 of T steps"),
    "ottt-a": (Ottt(), "online training through time, one update"),
    "ottt-o": (Ottt(update="online"), "online training through time, an update at every step"),
    "dsr": (Dsr(), "differentiation on spike representation"),
    "ide": (Ide(), "implicit differentiation; the first layer feeds itself besides"),
    "spide": (Spide(), "IDE by 100 steps of spikes back; the first layer feeds itself besides"),
}

_SAVING = partial(_step, rule=Bptt(), execution=Execution(memory="saving"))
CONTENDERS.register("bptt-saving")(
    Contender("ours", "backpropagation through time, storing less", _SAVING, saving=True)
)

for _name, (_rule, _about) in _RULES.items():
    _online = _rule.facts.memory == "constant"
    _contender = Contender("ours", _about, partial(_step, rule=_rule), online=_online)
    CONTENDERS.register(_name)(_contender)
