"""Checks of execution: kernels and layouts change no result, and optimizers see the gradient."""

import inspect
from collections.abc import Iterable
from functools import partial
from itertools import cycle
from typing import Any, get_args

import torch
from torch import nn

from spikeloom.base.autograd import lies_like
from spikeloom.check.credit import own_logits
from spikeloom.check.nets import LAYERS, Problem, on_net
from spikeloom.check.outcome import ALSO, Places, agree, require
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


def computes_the_same_however_it_is_executed(case: Case) -> Places:
    """Kernels, layouts, and a copy of a constant input give the reference's results, to rounding.

    Compared are loss, logits, every change, the weights after the optimizer's step and every
    buffer, for every kind of layer. The logits must be the net's own, and a rule that reaches all
    layers of a plain net must reach them here.
    """
    rule = case.rule.facts
    reached = rule.needs_labels and rule.order != "equilibrium" and reaches_every_layer(case)
    return [(name, partial(_same, case, name, reached)) for name in LAYERS]


def _same(case: Case, name: str, reached: bool) -> Places | None:
    trained = on_net(case, name, _results, REFERENCE)
    if trained is None:
        return None
    problem, expected = trained
    if reached:
        problem.require_movement(expected)
    problem.rewind()
    own_logits(problem)
    ways = [(how, False) for how in OTHERS] + [(REFERENCE, True)]
    return [
        (
            ALSO.join((name, *_words(how), *["copied input"] * copied)),
            partial(_agrees, problem, expected, how, copied),
        )
        for how, copied in ways
    ]


def _agrees(problem: Problem, expected: Values, how: Execution, copied: bool) -> None:
    problem.rewind()
    problem.net.execution = how
    todo = "ask for no kernels, layout or copies; keep tensors as Ops say"
    agree(_results(problem, copied=copied), expected, "the reference's results", todo)


def moves_weights_by_their_gradients(case: Case) -> Places:
    """A step of each of the library's optimizers is torch's plain one on the same gradient.

    Fused optimizers read memory, not strides: a gradient in another layout than its weight's moves
    other weights than its own.
    """
    ways = cycle((how, name) for how in (REFERENCE, *OTHERS) for name in OPTIMIZERS)
    for net, (how, optimizer) in zip(LAYERS, ways, strict=False):
        what = ALSO.join((net, *_words(how), optimizer))
        yield what, partial(_follow, case, net, optimizer, how)


def _words(how: Execution) -> tuple[str, str]:
    return f"{how.kernels} kernels", f"layout {how.layout}"


def _results(problem: Problem, *, copied: bool = False) -> Values:
    found = problem.update(problem.batch(copied=copied))
    return found | {name: one.double().clone() for name, one in problem.net.named_buffers()}


def _plain(
    optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter]
) -> torch.optim.Optimizer:
    """Return an optimizer with the same settings in torch's plain form, one tensor at a time."""
    kind = type(optimizer)
    settings: dict[str, Any] = optimizer.defaults | {"fused": False, "foreach": False}
    known = inspect.signature(kind).parameters
    return kind(parameters, **{name: one for name, one in settings.items() if name in known})


def _follow(case: Case, net: str, optimizer: str, how: Execution) -> None:
    on_net(case, net, partial(_train_beside, optimizer), how)


def _train_beside(name: str, problem: Problem) -> None:
    """Train two batches, with a plain optimizer on copies of weights and gradients beside it."""
    named = problem.parameters()
    settings = Optimizer.model_validate({"name": name, "lr": 0.01, "weight_decay": 0.1})
    optimizer = make_optimizer(settings, named.values())
    copies = {key: nn.Parameter(one.detach().clone().contiguous()) for key, one in named.items()}
    twin = _plain(optimizer, copies.values())

    def commit() -> None:
        for key, one in named.items():
            grad, copy = one.grad, copies[key]
            came = f"strides {None if grad is None else grad.stride()} of {tuple(one.stride())}"
            todo = "set it with base.autograd.add_gradient"
            laid = grad is None or lies_like(grad, one)
            require(laid, f"{key}.grad", "the layout of the weight", came, todo)
            with torch.no_grad():
                copy.copy_(one)
            copy.grad = None if grad is None else grad.detach().clone().contiguous()
        optimizer.step()
        twin.step()
        moved = {key: p.detach() for key, p in named.items()}
        right = {key: p.detach() for key, p in copies.items()}
        todo = "leave .grad a plain tensor that nobody else holds"
        agree(moved, right, "torch's plain step", todo, rtol=1e-11, atol=1e-13)
        problem.clear()

    for number in range(2):
        problem.learn(problem.batch(number), commit, moved=named)
