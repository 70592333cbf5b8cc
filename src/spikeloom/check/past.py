"""Check of the past: what came before a batch leaves no trace but what a rule says it remembers."""

from collections.abc import Callable
from functools import partial

import torch

from spikeloom.check.nets import Problem, on_net
from spikeloom.check.outcome import Places, agree
from spikeloom.check.prepared import Prepared, Values
from spikeloom.check.toy import Case, T, Toy
from spikeloom.nets.execution import Execution
from spikeloom.rules.ann import Ann
from spikeloom.rules.bptt import Bptt
from spikeloom.rules.memory import Memory

ROWS = (3, 70, 200, 9, 128)
BEFORE = (5, 66, 190)
KEEP = "keep what a batch leaves to the next in the rule's memory, all else ends with learn"


def starts_every_batch_anew(case: Case) -> Places:
    """An update depends on the batch, the weights and what the rule says it remembers alone.

    Not on earlier batches of another size and length, evaluations, other rules, other nets that the
    rule has trained, nor on running statistics that training does not read.
    """
    toy = Toy(case)
    toy.learn(toy.batch(rows=torch.tensor(BEFORE)))
    memory = toy.memory
    toy.rewind()
    expected = _update(toy, memory)
    for what, past in PASTS.items():
        yield f"after {what}", partial(_forgets, toy, memory, past, expected)
    if case.rule.facts.order != "equilibrium":  # simulated with running statistics
        yield "running statistics of norms", partial(_ignores_statistics, case)


def _forgets(toy: Toy, memory: Memory, past: Callable[[Toy], None], expected: Values) -> None:
    agree(_update(toy, memory, past), expected, "the same whatever came before", KEEP)


def _update(toy: Toy, memory: Memory, past: Callable[[Toy], None] | None = None) -> Values:
    """Update a rule that remembers something given, after something else has happened to it."""
    toy.rewind()
    if past is not None:
        past(toy)
        toy.restore()
        toy.clear()
    toy.remember(memory)
    return toy.update(toy.batch(rows=torch.tensor(ROWS)))


def _other_batch(toy: Toy) -> None:
    steps = T + 2 if toy.rule.facts.spiking else 1
    toy.learn(toy.batch(1, toy.rows[10:17], copy=True, steps=steps))


@torch.no_grad()
def _evaluation(toy: Toy) -> None:
    toy.net.eval()
    toy.head.eval()
    toy.accuracy()
    toy.net.train()
    toy.head.train()


def _other_rule(toy: Toy) -> None:
    other = Bptt() if toy.rule.facts.spiking else Ann()
    Prepared(other, toy.net, toy.head, toy.sample).update()


def _other_net(toy: Toy) -> None:
    other = Toy(Case("other", toy.rule), seed=9)
    other.rule = toy.rule
    other.prepare()
    other.update()
    toy.prepare()


PASTS: dict[str, Callable[[Toy], None]] = {
    "a batch of another size and length": _other_batch,
    "an evaluation": _evaluation,
    "another rule has trained the net": _other_rule,
    "the rule has trained another net": _other_net,
}


def _ignores_statistics(case: Case) -> None:
    trained = on_net(case, "batch_step", Problem.update, Execution(case.kernels))
    if trained is None:
        return
    problem, expected = trained
    problem.rewind()
    for one in problem.net.buffers():
        one += 1
    agree(problem.update(), expected, "the same whatever came before", KEEP)
