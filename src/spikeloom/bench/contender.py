"""What a contender is, and the training step all torch nets here share."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from spikeloom.base.registry import Registry
from spikeloom.bench.workloads import Fire, Workload

CONTENDERS: Registry["Contender"] = Registry(
    "contender", "spikeloom.bench.contenders", ("kind", "about", "build")
)

Kind = Literal["floor", "ours", "peer"]
Precision = Literal["fp32", "bf16"]
Layout = Literal["contiguous", "channels-last"]

LEARNING_RATE = 1e-5
"""So small that rates stay what they are, however many steps are timed."""


@dataclass(frozen=True)
class Task:
    """What is built: a workload at a precision, in a layout of images.

    Args:
        workload: net, input and sizes.
        precision: "bf16" computes products in bfloat16 under torch's autocast.
        layout: of images and convolutions.
    """

    workload: Workload
    precision: Precision = "fp32"
    layout: Layout = "contiguous"

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Compute at the task's precision; standardised weights are made once per step."""
        low = self.precision == "bf16"
        with torch.autocast("cpu", torch.bfloat16, enabled=low), parametrize.cached():
            yield

    def laid_out(self, images: Tensor) -> Tensor:
        r"""Bring [N, \*shape] into the task's layout."""
        if self.layout == "channels-last" and images.dim() == 4:
            return images.contiguous(memory_format=torch.channels_last)
        return images.contiguous()

    def module(self, neuron: Callable[[], nn.Module]) -> nn.Sequential:
        """Return the workload's net in torch's modules, in the task's layout.

        Args:
            neuron: makes the module for each population.
        """
        layers = self.workload.layers()
        net = nn.Sequential(*[neuron() if isinstance(one, Fire) else one for one in layers])
        if self.layout == "channels-last":
            for parameter in net.parameters():
                if parameter.dim() == 4:
                    parameter.data = self.laid_out(parameter.data)
        return net


@dataclass(frozen=True)
class Step:
    """A training step, ready to be timed.

    Args:
        call: forward, backward and update on the same batch; returns the loss.
        backend: names the kernels in use; asked after the first steps.
    """

    call: Callable[[], Tensor]
    backend: Callable[[], str] = lambda: "torch"


@dataclass(frozen=True)
class Contender:
    """One participant of the benchmark.

    Args:
        kind: "floor" is the net without neurons, "ours" this library, "peer" another one.
        about: one line for the page.
        build: makes the step of a task.
        layouts: settings to choose from; where there are several, the fastest is measured.
        package: what must be importable; nothing for what comes with this library.
        images: takes part where the input is images only.
        online: its memory is compared with one pass of B samples instead of T*B.
        saving: a way of ours to spend time for memory.
    """

    kind: Kind
    about: str
    build: Callable[[Task], Step]
    layouts: tuple[Layout, ...] = ("contiguous",)
    package: str = ""
    images: bool = False
    online: bool = False
    saving: bool = False


def register_peer(name: str, about: str, build: Callable[[Task], Step], package: str) -> None:
    """Register another library, which is measured in its faster layout; see `Contender`."""
    layouts: tuple[Layout, ...] = get_args(Layout)
    CONTENDERS.register(name)(Contender("peer", about, build, layouts, package))


def torch_step(task: Task, net: nn.Module, logits: Callable[[], Tensor], target: Tensor) -> Step:
    """Build the step of a torch net: cross entropy, backward, plain SGD.

    Args:
        task: for its precision.
        net: whose parameters are trained.
        logits: the forward pass, reset of states included; [B, K], averaged over time.
        target: labels.
    """
    optimizer = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE)

    def call() -> Tensor:
        with task.autocast():
            scores = logits()
        loss = F.cross_entropy(scores.float(), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return Step(call)


def by_steps(task: Task, images: Tensor) -> Sequence[Tensor]:
    """Return the input of every step in the task's layout."""
    return [task.laid_out(one) for one in images.unbind(0)]


def folded(task: Task, images: Tensor) -> Tensor:
    r"""Return the input as [T * B, \*shape] in the task's layout."""
    return task.laid_out(images.flatten(0, 1))
