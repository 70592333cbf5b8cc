"""Checks of form: what a rule must keep to, whatever it computes."""

import dataclasses
import random
import traceback
from typing import Any, get_args, get_type_hints

import numpy as np
import torch
from torch import Tensor

from spikeloom.base.citation import Citation
from spikeloom.base.errors import SpikeloomError
from spikeloom.base.torch_private import TorchDispatchMode, hooked
from spikeloom.check.credit import own_logits
from spikeloom.check.outcome import CheckFailed, CheckSkipped, agree, place, require
from spikeloom.check.prepared import DIRECT, GRAD, RATE
from spikeloom.check.toy import Case, T, Toy
from spikeloom.rules.base import RuleFacts

FEW = (3, 70, 200, 9)
"""Rows of a small batch."""

HALF = 3
"""Updates before and after a rule is saved."""

SHORT = (torch.float32, torch.bfloat16, torch.float16)


def is_a_frozen_value(case: Case) -> None:
    """A rule is a frozen dataclass: equal options make equal rules, and nothing is set later."""
    rule: Any = case.rule
    require(dataclasses.is_dataclass(rule), "the class is no dataclass; put @dataclass before it")
    options = {part.name: getattr(rule, part.name) for part in dataclasses.fields(rule)}
    again = dataclasses.replace(rule)
    require(rule == again, f"two rules with the options {options} are not equal")
    try:
        rule.anything = 1
    except AttributeError:
        return
    raise CheckFailed("the dataclass is not frozen; write @dataclass(frozen=True)")


def has_complete_facts(case: Case) -> None:
    """`facts` names title, source and laws; the docstring has a Source section."""
    kind = type(case.rule)
    facts = getattr(kind, "facts", None)
    if not isinstance(facts, RuleFacts):
        raise CheckFailed(f"facts must be a RuleFacts on the class, got {facts!r}")
    told = case.rule.facts
    known = isinstance(told, RuleFacts) and (told.title, told.source) == (facts.title, facts.source)
    require(known, f"refined must return facts with the title and source of the class, got {told}")
    require(len(facts.title) > 5, f"facts.title must be the full name, got '{facts.title}'")
    source = facts.source
    require(isinstance(source, Citation), f"facts.source must be a Citation, got {source!r}")
    named = bool(source.authors and source.title and 1900 < source.year < 2100)
    require(named, f"facts.source must have authors, title and year, got {source!r}")
    hints = get_type_hints(RuleFacts)
    for field in ("order", "memory"):
        came, known = getattr(told, field), get_args(hints[field])
        require(came in known, f"facts.{field} must be one of {', '.join(known)}, got {came!r}")
    require("Source" in (kind.__doc__ or ""), "the docstring has no section 'Source:'")


def keeps_type_and_device(case: Case) -> None:
    """Loss, logits and gradients have the weights' type and device; nothing is rounded between."""
    for dtype in (torch.float64, torch.float32):
        toy = Toy(case, dtype=dtype)
        report = toy.learn()
        for name, value in (("loss", report.loss), ("logits", report.logits)):
            require(value.dtype == dtype, f"{name} is {value.dtype} where weights are {dtype}")
        missing = toy.missing()
        require(not missing, f"{', '.join(missing)} has no .grad after learn")
        for name, p in toy.parameters().items():
            require(p.dtype == dtype, f"{name} became {p.dtype}, it was {dtype}")
            kept = p.grad is None or (p.grad.dtype == dtype and p.grad.device == p.device)
            require(kept, f"{name}.grad is not {dtype} on {p.device}, as the weight is")
    if case.kernels == "reference":  # operations inside a kernel are not seen
        toy = Toy(case)
        with _Roundings(case) as seen:
            toy.learn()
        require(
            not seen.places,
            f"float64 was rounded to a shorter type at {', '.join(seen.places[:1])}; compute in "
            "the type of the weights",
        )


def commits_as_often_as_it_says(case: Case) -> None:
    """`learn` calls `commit` exactly `commits(T)` times, each time with something to change."""
    for steps in (1, T):
        try:
            toy = Toy(case, steps=steps)
        except SpikeloomError:
            if steps == 1:
                continue  # a rule that chooses among several steps
            raise
        calls: list[set[str]] = []
        toy.learn(commit=lambda toy=toy, calls=calls: calls.append(set(toy.changes())))
        said = toy.rule.commits(len(toy.xs))
        require(said >= 1, f"commits({steps}) is {said}; a rule updates at least once per batch")
        require(
            len(calls) == said,
            f"commit was called {len(calls)} times at T = {len(toy.xs)}, commits() says {said}",
        )
        require(all(calls), "commit was called before any gradient was there")


def adds_gradients_and_never_zeroes(case: Case) -> None:
    """`learn` adds to what is in `.grad`, and moves weights through `commit` alone."""
    toy = Toy(case)
    before = toy.weights()
    toy.learn()
    alone, missing = toy.changes(), toy.missing()
    require(not missing, f"no .grad after learn: {', '.join(missing)}")
    toy.rewind()
    expected = dict(alone)
    for name, p in toy.parameters().items():
        if name + DIRECT not in alone:  # what a rule changes itself has no gradient
            p.grad = torch.ones_like(p)
            expected[name + GRAD] = 1 + alone.get(name + GRAD, torch.zeros_like(p))
    toy.learn()
    agree(toy.weights(), before, "changed in learn, without a commit", rtol=0, atol=0)
    why = "was replaced; learn must add to it"
    agree(toy.stepped(), toy.stepped(expected), why, rtol=1e-13, atol=1e-13)


def reports_what_it_saw(case: Case) -> None:
    """The report has one finite loss and the logits of the whole sequence, without a graph."""
    toy = Toy(case)
    report = toy.learn()
    shape = (len(toy.target), 2)
    require(report.loss.shape == (), f"loss must be one number, got {tuple(report.loss.shape)}")
    require(
        report.logits.shape == shape,
        f"logits must be [B, K] = {shape}, got {tuple(report.logits.shape)}",
    )
    for name, value in (("loss", report.loss), ("logits", report.logits)):
        require(bool(torch.isfinite(value).all()), f"{name} is not finite")
        require(not value.requires_grad, f"{name} still has a graph; detach it")
    toy.rewind()
    own_logits(toy)


def is_deterministic_and_leaves_the_world_alone(case: Case) -> None:
    """Same seed, same gradients; input, modes and torch's own random state stay as they were."""
    found = []
    for seed in range(2):
        toy = Toy(case)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            before, batch = _world(toy), toy.batch(copy=True)
            xs = batch.xs.clone()
            toy.learn(batch)
            after = _world(toy)
        for what, value in before.items():
            require(value == after[what], what)
        require(torch.equal(batch.xs, xs), "the input was changed in place")
        require(batch.xs.grad is None, "the input got a gradient")
        for name, p in toy.parameters().items():
            require(p.requires_grad, f"{name} was left with requires_grad = False")
        found.append(toy.stepped())
    why = "differs between two equal runs; only the seed of torch's own generator was another"
    agree(found[1], found[0], why, rtol=0, atol=0)


def _world(toy: Toy) -> dict[str, Any]:
    """Return what learning must leave as it is, by what to say if it does not."""
    own = "own generator was used; draw from batch.rng"
    modules = [*toy.net.modules(), *toy.head.modules()]
    return {
        f"torch's {own}": torch.random.get_rng_state().tolist(),
        f"numpy's {own}": str(np.random.get_state()),  # noqa: NPY002
        f"Python's {own}": random.getstate(),
        "gradients were left switched off": torch.is_grad_enabled(),
        "net or head was left in eval mode": [one.training for one in modules],
        "something was left in the net; what a rule keeps is its memory": [
            (sorted(vars(one)), hooked(one)) for one in modules
        ],
    }


def is_linear_in_the_batch_where_it_says_so(case: Case) -> None:
    """The gradient of a batch is the mean of its samples' gradients."""
    if not case.rule.facts.linear_in_batch:
        raise CheckSkipped("facts.linear_in_batch is False")
    toy = Toy(case)
    rows = torch.tensor(FEW)
    toy.learn(toy.batch(rows=rows))
    whole, changes = toy.stepped(), toy.changes()
    mean = {name: torch.zeros_like(part) for name, part in changes.items()}
    for row in rows:
        toy.rewind()
        toy.learn(toy.batch(rows=row[None]))
        for name, part in toy.changes().items():
            mean[name] = mean.get(name, 0) + part / len(FEW)
    why = "is not the mean over samples; or say linear_in_batch=False"
    agree(whole, toy.stepped(mean), why, rtol=1e-12, atol=1e-14)


def resumes_to_the_bit(case: Case) -> None:
    """Updates, saved and loaded, and some more give the weights of all at a stretch.

    They are loaded where something else was learned before: nothing of that may stay.
    """
    whole, first, second = Toy(case), Toy(case), Toy(case, seed=9)
    rows = whole.rows[::4]
    whole.train(2 * HALF, rows=rows)
    optimizer = first.train(HALF, rows=rows)
    second.train(1, rows=whole.rows[1::8])
    second.net.load_state_dict(first.net.state_dict())
    second.head.load_state_dict(first.head.state_dict())
    second.remember(first.memory)
    again = torch.optim.Adam(second.parameters().values(), RATE)
    again.load_state_dict(optimizer.state_dict())
    second.train(HALF, first=HALF, optimizer=again, rows=rows)
    why = "differs after resuming; keep what the rule remembers in the Memory of prepare"
    agree(second.weights(), whole.weights(), why, rtol=0, atol=0)


class _Roundings(TorchDispatchMode):
    """Notes where values of float64 become shorter ones.

    Args:
        case: whose rule's lines are named.
    """

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.places: list[str] = []
        self._case = case

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation; note it if it rounds."""
        out = func(*args, **(kwargs or {}))
        long = [x for x in args if isinstance(x, Tensor) and x.dtype == torch.float64]
        if isinstance(out, Tensor) and out.dtype in SHORT and out.numel() > 1 and long:
            self.places.append(place(traceback.extract_stack()[:-1], self._case.rule))
        return out
