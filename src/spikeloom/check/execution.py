"""Checks of execution: kernels and layouts change no result, and optimizers see the gradient."""

import inspect
from collections.abc import Iterable
from itertools import cycle
from typing import Any, get_args

import torch
from torch import Tensor, nn

from spikeloom.base.autograd import lies_like
from spikeloom.check.nets import Problem, specs_for
from spikeloom.check.outcome import require
from spikeloom.check.toy import Case
from spikeloom.nets.execution import Execution
from spikeloom.program.setup import make_optimizer
from spikeloom.program.stage import Optimizer

REFERENCE = Execution(kernels="reference", layout="rows")
OTHERS = (
    Execution(kernels="reference", layout="channels_last"),
    Execution(kernels="compiled", layout="rows", memory="saving"),
    Execution(kernels="compiled", layout="channels_last"),
)
OPTIMIZERS = get_args(Optimizer.model_fields["name"].annotation)
"""Names of the library's optimizers."""


def computes_the_same_however_it_is_executed(case: Case) -> None:
    """Kernels, layouts, and a copy of a constant input give the reference's results, to rounding.

    Compared are loss, logits, every gradient and every buffer, for every kind of layer.
    """
    for name, spec in specs_for(case):
        expected = _results(Problem(case, spec, REFERENCE))
        ways = [(how, False) for how in OTHERS] + [(REFERENCE, True)]
        for how, copied in ways:
            found = _results(Problem(case, spec, how, copied=copied))
            words = f"{how.kernels} kernels, layout {how.layout}" + ", copied input" * copied
            require(
                found.keys() == expected.keys(),
                f"net '{name}', {words}: other parameters have gradients than in the reference",
            )
            for key, value in expected.items():
                same = torch.allclose(found[key], value, rtol=1e-9, atol=1e-11)
                require(same, f"net '{name}', {words}: {key} differs from the reference's")


def moves_weights_by_their_gradients(case: Case) -> None:
    """A step of each of the library's optimizers is torch's plain one on the same gradient.

    Fused optimizers read memory, not strides: a gradient in another layout than its weight's moves
    other weights than its own.
    """
    ways = cycle((how, name) for how in (REFERENCE, *OTHERS) for name in OPTIMIZERS)
    for (name, spec), (how, optimizer) in zip(specs_for(case), ways, strict=False):
        what = f"net '{name}', {optimizer}, {how.kernels} kernels, layout {how.layout}"
        _follow(Problem(case, spec, how), optimizer, what)


def _results(problem: Problem) -> dict[str, Tensor]:
    report = problem.learn()
    found = {"the loss": report.loss, "the logits": report.logits}
    for name, one in problem.named_parameters().items():
        if one.grad is not None:
            found[f"{name}.grad"] = one.grad
    return found | {name: one.double() for name, one in problem.net.named_buffers()}


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
    named = problem.named_parameters()
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
            copies[key].grad = None if grad is None else grad.detach().clone().contiguous()
        optimizer.step()
        twin.step()
        for key, one in named.items():
            same = torch.allclose(one, copies[key], rtol=1e-11, atol=1e-13)
            require(same, f"{what}: {key} differs from torch's plain step")
        problem.net.project()
        problem.rule.project()
        with torch.no_grad():
            for key, one in named.items():
                copies[key].copy_(one)
        optimizer.zero_grad()

    for number in range(2):
        problem.learn(number, commit)
