"""Checks of execution: kernels and layouts change no result, and optimizers see the gradient."""

import inspect
from collections.abc import Iterable
from itertools import cycle
from typing import Any, get_args

import torch
from torch import nn

from spikeloom.base.autograd import lies_like
from spikeloom.check.credit import own_logits
from spikeloom.check.nets import Problem, nets_for
from spikeloom.check.outcome import agree, require
from spikeloom.check.prepared import Values
from spikeloom.check.toy import Case, reaches_every_layer
from spikeloom.nets.execution import Execution
from spikeloom.program.setup import make_optimizer
from spikeloom.program.stage import Optimizer

REFERENCE = Execution(kernels="reference", layout="rows")
OTHERS = (
    Execution(kernels="reference", layout="channels_last"),
    Execution(kernels="compiled", layout="rows", memory="saving", order="layer"),
    Execution(kernels="compiled", layout="channels_last"),
)
OPTIMIZERS = get_args(Optimizer.model_fields["name"].annotation)
"""Names of the library's optimizers."""


def computes_the_same_however_it_is_executed(case: Case) -> None:
    """Kernels, layouts, and a copy of a constant input give the reference's results, to rounding.

    Compared are loss, logits, every gradient, the weights after the optimizer's step and every
    buffer, for every kind of layer. The logits must be the net's own, and a rule that reaches all
    layers of a plain net must reach them here.
    """
    reached = case.rule.facts.order != "equilibrium" and reaches_every_layer(case)
    for problem, expected in nets_for(case, _results, REFERENCE):
        idle = problem.idle_layers(expected) if reached and problem.rule.facts.needs_labels else []
        words = f"layers {', '.join(idle)} got a gradient of zeros"
        require(not idle, f"net '{problem.name}': {words}")
        problem.rewind()
        own_logits(problem, f"net '{problem.name}': ")
        ways = [(how, False) for how in OTHERS] + [(REFERENCE, True)]
        for how, copied in ways:
            problem.rewind()
            problem.net.execution = how
            words = f"{how.kernels} kernels, layout {how.layout}" + ", copied input" * copied
            agree(
                _results(problem, copied=copied),
                expected,
                "differs from the reference's",
                f"net '{problem.name}', {words}: ",
            )


def moves_weights_by_their_gradients(case: Case) -> None:
    """A step of each of the library's optimizers is torch's plain one on the same gradient.

    Fused optimizers read memory, not strides: a gradient in another layout than its weight's moves
    other weights than its own.
    """
    ways = cycle((how, name) for how in (REFERENCE, *OTHERS) for name in OPTIMIZERS)

    def follow(problem: Problem) -> None:
        how, optimizer = way
        problem.net.execution = how
        words = f"{optimizer}, {how.kernels} kernels, layout {how.layout}"
        _follow(problem, optimizer, f"net '{problem.name}', {words}")

    way = next(ways)
    for _ in nets_for(case, follow):
        way = next(ways)


def _results(problem: Problem, *, copied: bool = False) -> Values:
    found = problem.update(problem.batch(copied=copied))
    return found | {name: one.double() for name, one in problem.buffers().items()}


def _plain(
    optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter]
) -> torch.optim.Optimizer:
    """Return an optimizer with the same settings in torch's plain form, one tensor at a time."""
    kind = type(optimizer)
    known = inspect.signature(kind).parameters
    settings: dict[str, Any] = {
        name: False if name in ("fused", "foreach") else value
        for name, value in optimizer.defaults.items()
        if name in known
    }
    return kind(parameters, **settings)


def _follow(problem: Problem, name: str, what: str) -> None:
    """Train two batches, with a plain optimizer on copies of weights and gradients beside it."""
    named = problem.parameters()
    settings = Optimizer.model_validate({"name": name, "lr": 0.01, "weight_decay": 0.1})
    optimizer = make_optimizer(settings, named.values())
    copies = {key: nn.Parameter(one.detach().clone().contiguous()) for key, one in named.items()}
    twin = _plain(optimizer, copies.values())

    def commit() -> None:
        for key, one in named.items():
            grad = one.grad
            require(
                grad is None or lies_like(grad, one),
                f"{what}: {key}.grad has strides {() if grad is None else grad.stride()}, its "
                f"weight {one.stride()}; set it with base.autograd.add_gradient",
            )
            with torch.no_grad():
                copies[key].copy_(one)
            copies[key].grad = None if grad is None else grad.detach().clone().contiguous()
        optimizer.step()
        twin.step()
        for key, one in named.items():
            same = torch.allclose(one, copies[key], rtol=1e-11, atol=1e-13)
            require(same, f"{what}: {key} differs from torch's plain step")
        optimizer.zero_grad()
        problem.direct.clear()

    for number in range(2):
        problem.learn(problem.batch(number), commit, moved=named)
