"""Is the loader ever the bottleneck? Its time per batch beside that of a training step.

Usage: python benchmarks/loader.py [--rounds 40] [--batch 128] [--threads 1]

CIFAR-10 from the cache of decoded pictures, in random order. Loading is gathering rows of the
memory-mapped file, crop, flip and cutout, the move to the device, and scaling. Cold means that the
operating system was asked to forget the file first. The consumers are small; the ReLU net is the
hungriest a user can have. Loading and learning take turns in one process.
"""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spikeloom import LIF, Batch, Softmax, SpikingNet, load_data, parse
from spikeloom.base.seeding import SampleRng
from spikeloom.data import Samples, Scaling
from spikeloom.data.augment import Augment
from spikeloom.data.cache import data_cache
from spikeloom.meters.clock import Timing, time_interleaved
from spikeloom.neurons.surrogate import Sigmoid
from spikeloom.report.table import to_markdown
from spikeloom.rules.ann import Ann
from spikeloom.rules.base import LearningRule
from spikeloom.rules.bptt import Bptt

AUGMENT = Augment(crop=4, flip=True, cutout=8)
MEAN, STD = (0.491, 0.482, 0.447), (0.245, 0.243, 0.260)  # given, so that nothing reads the file


@dataclass
class Loader:
    """Hands out batches as a training loop would."""

    samples: Samples
    batch: int
    device: torch.device

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.order = torch.randperm(len(self.samples), generator=generator).split(self.batch)
        self.turn = 0

    def index(self) -> Tensor:
        """Return the next batch's samples."""
        self.turn = (self.turn + 1) % (len(self.order) - 1)
        return self.order[self.turn]

    def parts(self) -> dict[str, Callable[[], object]]:
        """Return each part of the work alone, and the whole."""
        rng = SampleRng(0, 0, self.index(), "train")
        stored = self.samples.raw(rng.index)[0].to(self.device)
        scaling = self.samples.scaling
        return {
            "gather": lambda: self.samples.raw(self.index()),
            "draw": lambda: rng.stream_for("augment").numbers(5),
            "augment (with draw)": lambda: AUGMENT.apply(stored, rng, scaling),
            "scale": lambda: scaling.apply(stored, torch.float32),
            "all": self,
            "all but augment": lambda: self.samples.take(self.index()),
        }

    def __call__(self) -> Tensor:
        """Load one batch."""
        index = self.index()
        x, _ = self.samples.raw(index)
        rng = SampleRng(0, 0, index, "train")
        x = AUGMENT.apply(x.to(self.device), rng, self.samples.scaling)
        return self.samples.scaling.apply(x, torch.float32)


class Step:
    """A training step on pictures that are in memory, T = 4 where it spikes."""

    def __init__(self, text: str, rule: LearningRule, batch: int) -> None:
        spec = parse(text, unit=LIF(alpha=0.5, surrogate=Sigmoid(4.0)))
        spiking = rule.facts.spiking
        self.rule = rule
        self.net = SpikingNet(spec if spiking else spec.as_ann(), (3, 32, 32))
        self.head = Softmax.of(self.net)
        parameters = [*self.net.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(parameters, lr=1e-4)
        generator = torch.Generator().manual_seed(0)
        x = torch.rand((batch, 3, 32, 32), generator=generator)
        y = torch.randint(10, (batch,), generator=generator)
        self.batch = Batch.of(x.expand(4 if spiking else 1, *x.shape), y)

    def commit(self) -> None:
        """Update."""
        self.optimizer.step()
        self.optimizer.zero_grad()

    def __call__(self) -> None:
        """Learn from the batch once."""
        objective = self.head.bind(self.batch.target, self.batch.rng)
        self.rule.learn(self.net, self.batch, objective, self.commit)


def forget() -> None:
    """Ask the operating system to drop the decoded pictures from its memory."""
    for file in data_cache().glob("cifar10-*/pixels.npy"):
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def first_batches(batch: int, device: torch.device, count: int = 40) -> list[float]:
    """Return the seconds of the first batches after `forget`."""
    load_data("cifar10")  # decoded now at the latest
    forget()
    samples = load_data("cifar10").train
    loader = Loader(Samples(samples.store, samples.y, SCALING, samples.rows), batch, device)
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        loader()
        seconds.append(time.perf_counter() - start)
    return seconds


SCALING = Scaling(255.0, MEAN, STD)


def main() -> None:
    """Print the parts of loading, then its share of a step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(
        f"torch {torch.__version__}, {device}, {args.threads} thread(s), CIFAR-10, batch "
        f"{args.batch}, {args.rounds} rounds\n"
    )
    cold = first_batches(args.batch, device)
    samples = load_data("cifar10").train
    samples = Samples(samples.store, samples.y, SCALING, samples.rows)
    samples.x.sum()  # warm from here on
    loader = Loader(samples, args.batch, device)
    times = time_interleaved(loader.parts(), args.rounds)
    rows = [("loading a batch", "us", "quartiles", "images / s")]
    for name, one in [*times.items(), ("all, cold", Timing(tuple(cold)))]:
        rows.append((name, *figure(one, 1e6, 0), speed(one, args.batch)))
    print(to_markdown(rows) + "\n")

    steps = {}
    for text in ("c16 P c32 P f10", "f400 f10", "f10"):
        steps[f"`{text}`, ReLU"] = Step(text, Ann(), args.batch)
        steps[f"`{text}`, BPTT, T = 4"] = Step(text, Bptt(), args.batch)
    times = time_interleaved({"load": loader, **steps}, args.rounds)
    load = times.pop("load")
    rows = [("training step", "ms", "quartiles", "images / s", "loading, % of both")]
    for name, one in times.items():
        known = not (load.doubt or one.doubt)
        share = f"{100 * load.median / (load.median + one.median):.1f}" if known else "-"
        rows.append((name, *figure(one, 1e3, 2), speed(one, args.batch), share))
    print(to_markdown(rows))


def figure(timing: Timing, scale: float, digits: int) -> tuple[str, str]:
    """Write a time and its quartiles; one in doubt is no figure."""
    if timing.doubt:
        return "-", "-"
    low, high = (f"{scale * end:.{digits}f}" for end in timing.quartiles)
    return f"{scale * timing.median:.{digits}f}", f"{low}..{high}"


def speed(timing: Timing, batch: int) -> str:
    """Write the images per second."""
    return "-" if timing.doubt else f"{batch / timing.median:,.0f}"


if __name__ == "__main__":
    main()
