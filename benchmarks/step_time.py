"""How long is a training step of each rule, beside the ReLU net's?

Usage: python benchmarks/step_time.py [--rounds 15] [--threads 2]

All rules take turns in one process on the same batch. The floor is the ReLU net run once ("ann")
and the ReLU net on T x B samples ("ann x T"), which is what T passes without neurons cost. A step
is forward, backward and an AdamW update. Peak memory is the allocator's, above weights and input.
"""

import argparse
from dataclasses import dataclass

import torch

from spikeloom import LIF, Batch, Softmax, SpikingNet, parse
from spikeloom.meters.clock import time_interleaved
from spikeloom.meters.training import peak_allocated
from spikeloom.neurons.surrogate import Sigmoid
from spikeloom.report.table import to_markdown
from spikeloom.rules.ann import Ann
from spikeloom.rules.base import LearningRule
from spikeloom.rules.bptt import Bptt
from spikeloom.rules.ottt import Ottt
from spikeloom.rules.sltt import Sltt


@dataclass(frozen=True)
class Workload:
    """One net on one shape of input."""

    name: str
    text: str
    shape: tuple[int, ...]
    steps: int
    batch: int


WORKLOADS = (
    Workload("digits conv", "c16 c32 P f64 f10", (1, 8, 8), 4, 64),
    Workload("Fashion-MNIST conv", "c16 P c32 P f128 f10", (1, 28, 28), 6, 128),
    Workload("MLP", "f400 f10", (1, 28, 28), 6, 128),
)
RULES: dict[str, LearningRule] = {
    "bptt": Bptt(),
    "sltt": Sltt(),
    "sltt, K = 2": Sltt(k_steps=2),
    "ottt-a": Ottt(),
    "ottt-o": Ottt(update="online"),
}


class Step:
    """A training step, ready to be timed."""

    def __init__(self, work: Workload, rule: LearningRule, *, fold: bool = False) -> None:
        spec = parse(work.text, unit=LIF(alpha=0.5, surrogate=Sigmoid(4.0)))
        spiking = rule.facts.spiking
        self.rule = rule
        self.net = SpikingNet(spec if spiking else spec.as_ann(), work.shape)
        self.head = Softmax.of(self.net)
        parameters = [*self.net.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(parameters, lr=1e-4)
        count = work.batch * (work.steps if fold else 1)
        generator = torch.Generator().manual_seed(0)
        x = torch.rand((count, *work.shape), generator=generator)
        y = torch.randint(10, (count,), generator=generator)
        steps = work.steps if spiking else 1
        self.batch = Batch.of(x.expand(steps, *x.shape), y)

    def commit(self) -> None:
        """Update."""
        self.optimizer.step()
        self.optimizer.zero_grad()

    def __call__(self) -> None:
        """Learn from the batch once."""
        objective = self.head.bind(self.batch.target, self.batch.rng)
        self.rule.learn(self.net, self.batch, objective, self.commit)


def main() -> None:
    """Print one table per workload."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(
        f"torch {torch.__version__}, {args.threads} thread(s), {args.rounds} rounds, interleaved\n"
    )
    for work in WORKLOADS:
        steps = {"ann": Step(work, Ann()), "ann x T": Step(work, Ann(), fold=True)}
        steps |= {name: Step(work, rule) for name, rule in RULES.items()}
        times = time_interleaved(steps, args.rounds)
        floor = times["ann x T"].median
        rows = [("rule", "ms", "fastest", "slowest", "x (ann x T)", "peak MB")]
        for name, step in steps.items():
            time = times[name]
            rows.append(
                (
                    name,
                    f"{1e3 * time.median:.1f}",
                    f"{1e3 * time.fastest:.1f}",
                    f"{1e3 * time.slowest:.1f}",
                    f"{time.median / floor:.2f}",
                    f"{peak_allocated(step) / 1e6:.1f}",
                )
            )
        print(f"**{work.name}**: `{work.text}`, T = {work.steps}, batch {work.batch}\n")
        print(to_markdown(rows) + "\n")


if __name__ == "__main__":
    main()
