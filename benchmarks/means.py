"""What single means of speed bring, each beside the same step without it.

Usage: python benchmarks/means.py chunks|memory|norms [--rounds 7] [--threads 2]

chunks: convolutions of conv and VGG-11 on T*B images at once, and in chunks of time, alone.
memory: a BPTT step in processes that keep freed memory or not, back to back and after a pause.
norms: step and evaluation of the conv net with and without batch norm, and of the ReLU net.

Medians of interleaved rounds; ms.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from spikeloom.base.allocator import SETTING, keep_memory
from spikeloom.base.types import Batch
from spikeloom.heads.softmax import Softmax
from spikeloom.meters.clock import Timing, stopwatch
from spikeloom.meters.peak import peak_allocated
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.spec.grammar import parse
from spikeloom.neurons.leaky import LIF
from spikeloom.report.table import to_markdown
from spikeloom.rules.ann import Ann
from spikeloom.rules.bptt import Bptt

NET = "c64 c128 P c256 P f256 f10"
SHAPE, STEPS, BATCH = (3, 32, 32), 8, 16
CONVOLUTIONS = {  # channels in and out, side, T, B
    "conv 1": (3, 64, 32, 8, 16),
    "conv 2": (64, 128, 32, 8, 16),
    "conv 3": (128, 256, 16, 8, 16),
    "vgg 2": (64, 128, 32, 6, 32),
    "vgg 4": (256, 256, 16, 6, 32),
    "vgg 6": (512, 512, 8, 6, 32),
    "vgg 8": (512, 512, 4, 6, 32),
}
PAUSE = 3.0

Rows = list[list[str]]


class Training:
    """A BPTT step of the conv net, or its evaluation; or the ReLU net's on T x B images."""

    def __init__(
        self, text: str = NET, *, low: bool, learns: bool = True, spiking: bool = True
    ) -> None:
        torch.manual_seed(0)
        spec = parse(text, unit=LIF(detach_reset=True))
        self.net = SpikingNet(spec if spiking else spec.as_ann(), SHAPE)
        self.rule = Bptt() if spiking else Ann()
        self.head = Softmax.of(self.net)
        self.net.train(learns)
        self.low, self.learns = low, learns
        parameters = [*self.net.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.SGD(parameters, lr=1e-5)
        xs, targets = (torch.rand(STEPS, BATCH, *SHAPE) < 0.2).float(), torch.randint(10, (BATCH,))
        if not spiking:
            xs, targets = xs.flatten(0, 1).unsqueeze(0), targets.repeat(STEPS)
        self.batch = Batch.of(xs, targets)

    def commit(self) -> None:
        """Update."""
        self.optimizer.step()
        self.optimizer.zero_grad()

    def __call__(self) -> None:
        """Run once."""
        objective = self.head.bind(self.batch.target, self.batch.rng)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.low):
            if self.learns:
                self.rule.learn(self.net, self.batch, objective, self.commit)
            else:
                with torch.no_grad():
                    self.net(self.batch.xs)


def interleaved(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, str]:
    """Return the milliseconds of each call in words, see `figure`."""
    for call in calls.values():
        call(), call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(stopwatch(call))
    return {name: figure(Timing(tuple(each))) for name, each in times.items()}


def figure(timing: Timing) -> str:
    """Write median milliseconds with the quartiles; a time in doubt is no figure."""
    if timing.doubt:
        return "-"
    low, high = (f"{1000 * end:.1f}" for end in timing.quartiles)
    return f"{1000 * timing.median:.1f}({low}..{high})"


def chunks(rounds: int) -> Rows:
    """Time convolutions in chunks of time."""
    rows = [["convolution", "steps at once", "forward", "backward"]]
    for name, (before, after, side, steps, batch) in CONVOLUTIONS.items():
        ahead: dict[str, Callable[[], object]] = {}
        back: dict[str, Callable[[], object]] = {}
        for size in sorted({1, steps // 3, steps // 2, steps}):
            x = torch.rand(size * batch, before, side, side)
            x = x.contiguous(memory_format=torch.channels_last)
            weight = torch.rand(after, before, 3, 3).contiguous(memory_format=torch.channels_last)
            grad = torch.ones_like(torch.conv2d(x, weight, None, 1, 1))
            wanted = [before > 3, True, False]
            turns = steps // size
            ahead[str(size)] = lambda x=x, w=weight, n=turns: [
                torch.conv2d(x, w, None, 1, 1) for _ in range(n)
            ]
            back[str(size)] = lambda x=x, w=weight, g=grad, n=turns, wanted=wanted: [
                torch.ops.aten.convolution_backward(
                    g, x, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, wanted
                )
                for _ in range(n)
            ]
        first, second = interleaved(ahead, rounds), interleaved(back, rounds)
        rows += [[name, size, first[size], second[size]] for size in ahead]
    return rows


def memory(rounds: int) -> Rows:
    """Time a step in processes of both kinds."""
    rows = [["products", "freed memory", "back to back", "after a pause", "resident MB"]]
    for low in ("fp32", "bf16"):
        for kind in ("keep", "system"):
            command = [sys.executable, __file__, "child", "--rounds", str(rounds), "--low", low]
            command += ["--threads", str(torch.get_num_threads())]
            done = subprocess.run(
                command, env=clean() | {SETTING: kind}, capture_output=True, text=True, check=True
            )
            rows.append([low, kind, *done.stdout.split()])
    return rows


def clean() -> dict[str, str]:
    """Return the environment without settings of malloc."""
    return {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}


def child(rounds: int, low: str) -> None:
    """Print the figures of one process."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step = Training(low=low == "bf16")
    for _ in range(8):
        step()
    close = [stopwatch(step) for _ in range(2 * rounds)]
    apart = []
    for _ in range(rounds):
        time.sleep(PAUSE)
        apart.append(stopwatch(step))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{figure(Timing(tuple(close)))} {figure(Timing(tuple(apart)))} {grown:.0f}")


def norms(rounds: int) -> Rows:
    """Time step and evaluation with and without norms, of the spiking net and of the ReLU net."""
    texts = {"none": NET, "batch_all": '{default = {norm = "batch_all"}} ' + NET}
    rows = [["products", "net", "norm", "step", "peak MB", "evaluation", "peak MB"]]
    for low in (False, True):
        kinds = {(kind, norm): text for kind in ("LIF", "ReLU") for norm, text in texts.items()}
        found = []
        for learns in (True, False):
            calls = {
                " ".join(key): Training(text, low=low, learns=learns, spiking=key[0] == "LIF")
                for key, text in kinds.items()
            }
            times = interleaved(dict(calls), rounds)
            peaks = {name: f"{peak_allocated(calls[name]) / 1e6:.0f}" for name in calls}
            found.append({name: (times[name], peaks[name]) for name in calls})
        for kind, norm in kinds:
            cells = [cell for each in found for cell in each[f"{kind} {norm}"]]
            rows.append(["bf16" if low else "fp32", kind, norm, *cells])
    return rows


def main() -> None:
    """Print the table of one means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tables = {"chunks": chunks, "memory": memory, "norms": norms}
    parser.add_argument("means", choices=[*tables, "child"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--low", default="fp32", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.means == "memory":
        print(to_markdown(memory(chosen.rounds)))
        return
    keep_memory()
    if chosen.means == "child":
        child(chosen.rounds, chosen.low)
    else:
        print(to_markdown(tables[chosen.means](chosen.rounds)))


if __name__ == "__main__":
    main()
