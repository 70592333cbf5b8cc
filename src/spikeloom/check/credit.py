"""Checks of credit where it is known: the head's, by its loss; and of weights that are shared."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spikeloom.base.errors import SpikeloomError, UnsupportedNet
from spikeloom.base.types import Batch
from spikeloom.check.nets import UNIT, Problem
from spikeloom.check.outcome import CheckSkipped, require
from spikeloom.check.prepared import DIRECT, GRAD, Prepared, Values, changed
from spikeloom.check.toy import Case, Toy
from spikeloom.heads.base import HEADS
from spikeloom.nets.execution import Execution
from spikeloom.nets.module.site import Site
from spikeloom.nets.ops import PLAIN, Ops
from spikeloom.nets.readout import Error, Loss, Objective
from spikeloom.nets.spec.grammar import parse

ROWS = (3, 70, 200, 9, 128)
"""Samples of the checks of the head."""

REDUCTIONS = ("count", "membrane", "weighted", "last")

SHARED = (("f6 [f6]x2 f2", "f6 [f6] [f6] f2"), ("c3 [c3]x2 f2", "c3 [c3] [c3] f2"))
"""A block that runs twice, and two blocks with the weights of one."""

SECOND = ("net.plan.synapses.2_0.weight", "net.plan.synapses.1_0.weight")
"""Weights of the last block, and of the one before it, which is the block that runs twice."""

MOST_STEPS = 10
"""Steps of which every choice is tried."""


class Noted:
    """An objective that notes the features it is asked about.

    Args:
        objective: whose answers are given.
    """

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self.steps: list[Tensor] = []
        self.trains: list[Tensor] = []

    def __call__(self, h: Tensor, ops: Ops = PLAIN) -> Loss:
        """Answer for the features of one step."""
        self.steps.append(h.detach())
        return self._objective(h, ops)

    def over(self, hs: Tensor, ops: Ops = PLAIN) -> Loss:
        """Answer for a train of features."""
        self.trains.append(hs.detach())
        return self._objective.over(hs, ops)

    def weights(self, steps: int) -> Sequence[float] | None:
        """Return the weights of steps, as the objective does."""
        return self._objective.weights(steps)

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites of the head."""
        return self._objective.sites

    def error(self, h: Tensor, ops: Ops = PLAIN) -> Error:
        """Answer with the error at the outputs."""
        (self.steps if h.dim() == 2 else self.trains).append(h.detach())
        return self._objective.error(h, ops)


class Known(NamedTuple):
    """Losses that the features of a batch have: of every step, and of the whole train.

    Args:
        each: at every step; none where a rule hands over whole trains alone.
        whole: of trains, and of features that were reduced before.
    """

    each: list[Loss]
    whole: list[Loss]


def own_logits(prepared: Prepared, where: str = "") -> None:
    """Require logits of the net's own forward pass, over all steps.

    A rule that draws noise has others with every draw; these must be what its objective answered.
    """
    if prepared.rule.facts.order == "equilibrium" and any(site.norm for site in prepared.net.sites):
        return  # the simulation that settles has norms with running statistics
    batch = prepared.sample
    objective = prepared.head.bind(batch.target, batch.rng)
    noted = Noted(objective)
    said = prepared.learn(batch, objective=noted).logits
    prepared.rewind()
    known = _known(objective, _forward(prepared, batch))
    require(
        _among(said, _means(known, _logits))
        or (draws(prepared, batch) and _among(said, _means(_heard(objective, noted), _logits))),
        f"{where}logits are not those of the net's own forward pass, averaged over T",
    )


def trains_the_head_by_its_loss(case: Case) -> None:
    """Loss and bias gradients of the head are those of its loss, whatever the head.

    That is the loss of the whole train as the head reduces it, or the mean of the steps' losses; a
    rule that learns at some steps gives each of them the weight 1/T. Samples count as their weights
    say. What hidden layers get is the rule's own affair.
    """
    if not case.rule.facts.needs_labels:
        raise CheckSkipped("it learns without labels; the head may learn by another rule")
    rows = torch.tensor(ROWS)
    for what, toy, weights in _heads(case):
        batch = toy.batch(rows=rows)
        objective = toy.head.bind(batch.target, batch.rng, weights)
        noted = Noted(objective)
        came: list[Values] = []

        def commit(toy: Toy = toy, came: list[Values] = came) -> None:
            came.append(toy.changes())
            toy.clear()

        report = toy.learn(batch, commit, noted)
        toy.rewind()
        known = _known(objective, _forward(toy, batch))
        if not _among(report.logits, _means(known, _logits)):
            known = _heard(objective, noted)
        _check_loss(report.loss, known, what)
        if not _biases(toy):
            continue
        direct = any(name.startswith("head.") for one in came for name in changed(one, DIRECT))
        if direct:
            _check_direct_changes(came, known, toy, what)
        else:
            _check_gradients(came, known, toy, what)


def credits_every_pass_of_shared_weights(case: Case) -> None:
    """A block that runs twice does not get the gradient of one pass alone, nor a mean of both.

    It is compared with two blocks that have its weights. Credit that a rule draws or sends back
    through weights of its own is another one in each of them, and then nothing is compared.
    """
    tried = False
    for texts in SHARED:
        edge = f'{{feedback = [{{source = 0, target = 0, layers = "{texts[0].split()[0]}"}}]}} '
        for before in ("", edge):
            specs = [parse(before + text, unit=UNIT) for text in texts]
            try:
                one, two = (Problem(case, spec, Execution(case.kernels)) for spec in specs)
                _share(one, two)
                one.learn()
                two.learn()
            except UnsupportedNet:
                continue
            tried = True
            require(
                not _falls_short(one.changes(), two.changes()),
                f"net '{texts[0]}': {SECOND[1]} does not get the sum over both passes of its block; "
                "give each pass its credit",
            )
            break
    if not tried:
        raise CheckSkipped("it refuses such nets")


def draws(prepared: Prepared, batch: Batch) -> bool:
    """Return whether logits change with the random streams of a batch."""
    other = Batch(batch.xs, batch.target, type(batch.rng)(0, 1, batch.rng.index), batch.number)
    logits = []
    for one in (batch, other):
        prepared.rewind()
        logits.append(prepared.learn(one).logits)
    prepared.rewind()
    return not torch.equal(*logits)


def _heads(case: Case) -> Iterator[tuple[str, Toy, Tensor | None]]:
    """Yield toys with every head and reduction, at T = 1, and with weights of samples."""
    options: list[tuple[str, dict[str, Any]]] = [
        (f"head {name}", {"head": HEADS.find(name)}) for name in HEADS.names()
    ]
    options += [(f"head softmax, reduce = '{kind}'", {"reduce": kind}) for kind in REDUCTIONS]
    options += [("T = 1", {"steps": 1}), ("weights of samples", {})]
    for what, given in options:
        try:
            toy = Toy(case, **given)
        except SpikeloomError:
            continue  # as the rule says: too few steps, or a reduction it cannot follow
        weights = torch.linspace(0.5, 2, len(ROWS)).double() if "weights" in what else None
        yield what, toy, weights


@torch.no_grad()
def _forward(prepared: Prepared, batch: Batch) -> Tensor:
    return prepared.net(batch.xs, rng=batch.rng)


def _known(objective: Objective, hs: Tensor) -> Known:
    return Known([objective(h) for h in hs], [objective.over(hs)])


def _heard(objective: Objective, noted: Noted) -> Known:
    """Return the losses of the features an objective was asked about."""
    whole = [objective.over(hs) for hs in noted.trains]
    each = [objective(h) for h in noted.steps]
    return Known(each, [*whole, *(each if len(each) == 1 else [])])


def _logits(loss: Loss) -> Tensor:
    return loss.logits


def _means(known: Known, pick: Callable[[Loss], Tensor]) -> list[Tensor]:
    """Return what whole trains gave and, where there are steps, the mean of what they gave."""
    found = [pick(loss).detach() for loss in known.whole]
    if known.each:
        found.append(torch.stack([pick(loss) for loss in known.each]).mean(0).detach())
    return found


def _among(value: Tensor, known: list[Tensor]) -> bool:
    near = (torch.allclose(value, one, rtol=1e-9, atol=1e-12) for one in known)
    return any(near)


def _check_loss(value: Tensor, known: Known, what: str) -> None:
    losses = _means(known, lambda loss: loss.value)
    words = " or ".join(f"{one:.6f}" for one in losses)
    require(
        _among(value, losses),
        f"{what}: the loss reported is {value:.6f}, that of the head is {words} (of the train as "
        "it is reduced, or the mean over all T steps); report the objective's own, summed with 1/T "
        "or objective.weights(T)",
    )


def _check_gradients(came: list[Values], known: Known, toy: Toy, what: str) -> None:
    """Require of each commit the gradient of a whole loss, or of some steps with 1/T each."""
    whole = [_gradient(loss, toy) for loss in known.whole]
    parts = [_gradient(loss, toy) / len(toy.xs) for loss in known.each[:MOST_STEPS]]
    if parts:
        choices = list(product((0.0, 1.0), repeat=len(parts)))
        whole += [*(torch.tensor(choices, dtype=parts[0].dtype) @ torch.stack(parts))]
    biases = _biases(toy)
    grads = [_flat(biases, [one.get(name + GRAD) for name in biases]) for one in came]
    require(any(bool(one.any()) for one in grads), f"{what}: biases of the head got no gradient")
    for one in grads:
        size = float(one.norm() / whole[0].norm())
        require(
            _among(one, whole),
            f"{what}: bias gradients of the head have {size:.4g} times the size of those of its "
            "loss; they must be those of the loss of the whole train, or of some steps with the "
            "weight 1/T each: look for a factor, a second backward pass, a mean taken twice, a "
            "loss that is not the objective's",
        )


def _check_direct_changes(came: list[Values], known: Known, toy: Toy, what: str) -> None:
    """Require of what is added to the head's maps that it goes down a loss of the batch."""
    head = {name + DIRECT: p for name, p in toy.parameters().items() if name.startswith("head.")}
    for one in came:
        named = {name: p for name, p in head.items() if name in one}
        losses = [*known.whole, *known.each] if named else []
        slopes = [_slope(loss, named, one) for loss in losses]
        require(
            not slopes or min(slopes) < 0,
            f"{what}: what is added to the head does not lower its loss; mind the sign: changes "
            "are added to weights, gradients are taken from them",
        )


def _slope(loss: Loss, named: dict[str, nn.Parameter], changes: Values) -> float:
    """Return how a loss begins to move with changes of the head."""
    p = [*named.values()]
    grads = torch.autograd.grad(loss.value, p, retain_graph=True, allow_unused=True)
    pairs = zip(named, grads, strict=True)
    return sum(float((changes[name] * grad).sum()) for name, grad in pairs if grad is not None)


def _biases(toy: Toy) -> dict[str, nn.Parameter]:
    own = {id(site.synapse.bias) for site in toy.head.sites}
    return {name: p for name, p in toy.parameters().items() if id(p) in own}


def _gradient(loss: Loss, toy: Toy) -> Tensor:
    biases = _biases(toy)
    grads = torch.autograd.grad(
        loss.value, [*biases.values()], retain_graph=True, allow_unused=True
    )
    return _flat(biases, grads)


def _flat(parameters: dict[str, nn.Parameter], grads: Sequence[Tensor | None]) -> Tensor:
    pairs = zip(parameters.values(), grads, strict=True)
    return torch.cat(
        [(torch.zeros_like(p) if g is None else g.detach()).flatten() for p, g in pairs]
    )


@torch.no_grad()
def _share(one: Problem, two: Problem) -> None:
    """Give all blocks of the second net the weights of the first net's."""
    weights = one.net.state_dict()
    for name, value in two.net.state_dict().items():
        value.copy_(weights[_first(name)])


def _first(name: str) -> str:
    """Return the name that a parameter of the last block has where one block runs twice."""
    return name.replace(".2_0.", ".1_0.")


def _falls_short(shared: Values, apart: Values) -> bool:
    """Return whether a shared weight got a multiple of one pass's gradient, or of their sum."""
    two = [name + how for how in (GRAD, DIRECT) for name in SECOND if name + how in apart]
    if len(two) != 2 or two[1] not in shared:
        return False
    found, first, second = shared[two[1]], apart[two[1]], apart[two[0]]
    if torch.allclose(found, first + second, rtol=1e-9, atol=1e-12):
        return False
    known = [one.flatten() for one in (first, second, first + second) if one.any()]
    cosines = [torch.cosine_similarity(found.flatten(), one, dim=0) for one in known]
    return not found.any() or any(abs(float(one)) > 1 - 1e-9 for one in cosines)
