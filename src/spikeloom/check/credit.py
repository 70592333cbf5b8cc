"""Checks of credit where it is known: the head's, by its loss; and of weights that are shared."""

from collections.abc import Iterable
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spikeloom.base.errors import SpikeloomError, UnsupportedNet
from spikeloom.base.types import Batch
from spikeloom.check.nets import UNIT, Problem
from spikeloom.check.outcome import CheckSkipped, Places, require
from spikeloom.check.prepared import DIRECT, GRAD, Prepared, Values, changed, taken
from spikeloom.check.toy import Case, Toy
from spikeloom.heads.base import HEADS
from spikeloom.nets.execution import Execution
from spikeloom.nets.ops import PLAIN, Ops
from spikeloom.nets.readout import Error, Loss, Objective
from spikeloom.nets.spec.grammar import parse
from spikeloom.rules.base import RuleReport

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
    """Answers as an objective does, and notes the features it is asked about."""

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self.weights, self.sites = objective.weights, objective.sites
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

    def error(self, h: Tensor, ops: Ops = PLAIN) -> Error:
        """Answer with the error at the outputs."""
        (self.steps if h.dim() == 2 else self.trains).append(h.detach())
        return self._objective.error(h, ops)


class Known(NamedTuple):
    """Losses that the features of a batch have: of steps, and of the whole train."""

    each: list[Loss]
    whole: list[Loss]


def own_logits(prepared: Prepared) -> None:
    """Require logits of the net's own forward pass, over all steps.

    A rule that draws noise has others with every draw; these must be what its objective answered.
    """
    if prepared.rule.facts.order == "equilibrium" and any(site.norm for site in prepared.net.sites):
        return  # the simulation that settles has norms with running statistics
    batch = prepared.sample
    objective = prepared.head.bind(taken(prepared.head, batch.target), batch.rng)
    noted = Noted(objective)
    report = prepared.learn(batch, objective=noted)
    prepared.rewind()
    hs = _forward(prepared, batch)
    own = _said(report, _known(objective, hs, [hs])) or (
        draws(prepared, batch) and _said(report, _known(objective, noted.steps, noted.trains))
    )
    todo = "report what the objective answered, averaged over T"
    require(own, "logits", "those of the net's own forward pass", "others", todo)


def trains_the_head_by_its_loss(case: Case) -> Places:
    """Loss and bias gradients of the head are those of its loss, whatever the head.

    That is the loss of the whole train as the head reduces it, or the mean of the steps' losses; a
    rule that learns at some steps gives each of them the weight 1/T. Samples count as their weights
    say. Of a head that the rule changes itself, the change must lower the loss. What hidden layers
    get is the rule's own affair.
    """
    if not case.rule.facts.needs_labels:
        raise CheckSkipped("it learns without labels; the head may learn by another rule")
    options: list[tuple[str, dict[str, Any]]] = [
        *((f"head {name}", {"head": HEADS.find(name)}) for name in HEADS.names()),
        *((f"head softmax, reduce = '{kind}'", {"reduce": kind}) for kind in REDUCTIONS),
        ("T = 1", {"steps": 1}),
        ("weights of samples", {"weights": torch.linspace(0.5, 2, len(ROWS)).double()}),
    ]
    return [(what, partial(_trains_the_head, case, **given)) for what, given in options]


def _trains_the_head(case: Case, weights: Tensor | None = None, **given: Any) -> None:
    try:
        toy = Toy(case, **given)
    except SpikeloomError:
        return  # as the rule says: too few steps, or a reduction it cannot follow
    batch = toy.batch(rows=torch.tensor(ROWS))
    objective = toy.head.bind(taken(toy.head, batch.target), batch.rng, weights)
    noted = Noted(objective)
    came: list[Values] = []

    def commit() -> None:
        came.append(toy.changes())
        toy.clear()

    report = toy.learn(batch, commit, noted)
    toy.rewind()
    hs = _forward(toy, batch)
    known = _known(objective, hs, [hs])
    if not _said(report, known):
        known = _known(objective, noted.steps, noted.trains)
    losses = [loss.value for loss in known.whole]
    words = f"{report.loss:.6f} where it is {' or '.join(f'{one:.6f}' for one in losses)}"
    expected = "the head's loss of the reduced train, or the mean over all T steps"
    todo = "report the objective's own, summed with 1/T or objective.weights(T)"
    require(_among(report.loss, losses), "the loss reported", expected, words, todo)
    head = {name: p for name, p in toy.parameters().items() if name.startswith("head.")}
    direct = {name for one in came for name in changed(one, DIRECT)} & head.keys()
    biases = {name: p for name, p in head.items() if name.endswith(".bias")}
    for one in came if direct else ():
        _require_descent(one, known, {name: head[name] for name in direct})
    if biases and not direct:
        _require_gradients(came, known, biases, len(toy.xs))


def credits_every_pass_of_shared_weights(case: Case) -> Places:
    """A block that runs twice does not get the gradient of one pass alone, nor a mean of both.

    It is compared with two blocks that have its weights. Credit that a rule draws or sends back
    through weights of its own is another one in each of them, and then nothing is compared.
    """
    problems = {once: _shared(case, once, apart) for once, apart in SHARED}
    if not any(problems.values()):
        raise CheckSkipped("it refuses such nets")
    return [(net, partial(_adds_passes_up, *both)) for net, both in problems.items() if both]


def _shared(case: Case, text: str, apart: str) -> tuple[Values, Values] | None:
    """Return the changes of a net with a block that runs twice, and of one with two blocks."""
    edge = f'{{feedback = [{{source = 0, target = 0, layers = "{text.split()[0]}"}}]}} '
    for before in ("", edge):
        specs = [parse(before + one, unit=UNIT) for one in (text, apart)]
        try:
            one, two = (Problem(case, spec, Execution(case.kernels)) for spec in specs)
            _share(one, two)
            one.learn()
            two.learn()
        except UnsupportedNet:
            continue
        return one.changes(), two.changes()
    return None


def _adds_passes_up(shared: Values, apart: Values) -> None:
    expected, todo = "the sum over both passes of its block", "give each pass its credit"
    require(not _falls_short(shared, apart), SECOND[1], expected, "another one", todo)


def draws(prepared: Prepared, batch: Batch) -> bool:
    """Return whether logits change with the random streams of a batch."""
    other = Batch(batch.xs, batch.target, type(batch.rng)(0, 1, batch.rng.index), batch.number)
    logits = []
    for one in (batch, other):
        prepared.rewind()
        logits.append(prepared.learn(one).logits)
    prepared.rewind()
    return not torch.equal(*logits)


@torch.no_grad()
def _forward(prepared: Prepared, batch: Batch) -> Tensor:
    return prepared.net(batch.xs, rng=batch.rng)


def _known(objective: Objective, steps: Iterable[Tensor], trains: Iterable[Tensor]) -> Known:
    """Return the losses of features: of steps, of whole trains, and the mean over all steps."""
    each, whole = [objective(h) for h in steps], [objective.over(hs) for hs in trains]
    if each:
        logits, values = (torch.stack(parts) for parts in zip(*each, strict=True))
        whole.append(Loss(logits.mean(0), values.mean(0)))
    return Known(each, whole)


def _among(value: Tensor, known: Iterable[Tensor]) -> bool:
    return any(torch.allclose(value, one, rtol=1e-9, atol=1e-12) for one in known)


def _said(report: RuleReport, known: Known) -> bool:
    """Return whether the logits reported are among the known ones."""
    return _among(report.logits, [loss.logits for loss in known.whole])


def _require_gradients(
    came: list[Values], known: Known, biases: dict[str, nn.Parameter], steps: int
) -> None:
    """Require of each commit the gradient of a whole loss, or of some steps with 1/T each."""
    whole = [_flat(_slopes(loss, biases)) for loss in known.whole]
    parts = [_flat(_slopes(loss, biases)) / steps for loss in known.each[:MOST_STEPS]]
    zeros = {name + GRAD: torch.zeros_like(p) for name, p in biases.items()}
    grads = [_flat([one.get(name, zero) for name, zero in zeros.items()]) for one in came]
    if parts:
        choices = list(product((0.0, 1.0), repeat=len(parts)))
        whole += [*(torch.tensor(choices, dtype=parts[0].dtype) @ torch.stack(parts))]
    expected = "the bias gradients of its loss: of the train, or of some steps with the weight 1/T"
    todo = (
        "look for a factor, a second backward pass, a mean taken twice, a loss that is not the "
        "objective's"
    )
    require(any(bool(one.any()) for one in grads), "the head", expected, "none", todo)
    for one in grads:
        size = f"{float(one.norm() / whole[0].norm()):.4g} times their size"
        require(_among(one, whole), "the head", expected, size, todo)


def _require_descent(changes: Values, known: Known, head: dict[str, nn.Parameter]) -> None:
    """Require of what is added to the head's maps that it goes down a loss of the batch."""
    moved = [changes.get(name + DIRECT, torch.zeros_like(p)) for name, p in head.items()]

    def slope(loss: Loss) -> float:
        return sum(float((x * g).sum()) for x, g in zip(moved, _slopes(loss, head), strict=True))

    slopes = [slope(loss) for loss in (*known.whole, *known.each)]
    todo = "mind the sign: updates are added to weights, an optimizer takes gradients from them"
    came = f"one that rises by {max(slopes):.3g}"
    require(min(slopes) <= 0, "updates of the head", "a loss that falls with them", came, todo)


def _slopes(loss: Loss, parameters: dict[str, nn.Parameter]) -> list[Tensor]:
    p = [*parameters.values()]
    grads = torch.autograd.grad(loss.value, p, retain_graph=True, allow_unused=True)
    pairs = zip(p, grads, strict=True)
    return [torch.zeros_like(one) if grad is None else grad for one, grad in pairs]


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([one.flatten() for one in tensors])


@torch.no_grad()
def _share(one: Problem, two: Problem) -> None:
    """Give all blocks of the second net the weights of the first net's."""
    weights = one.net.state_dict()
    for name, value in two.net.state_dict().items():
        value.copy_(weights[name.replace(".2_0.", ".1_0.")])


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
