"""Checks of form: what a rule must keep to, whatever it computes."""

import dataclasses
import random
import traceback
from functools import partial
from typing import Any, get_args, get_type_hints

import numpy as np
import torch
from torch import Tensor

from spikeloom.base.citation import Citation
from spikeloom.base.errors import SpikeloomError
from spikeloom.base.torch_private import TorchDispatchMode, hooked
from spikeloom.check.credit import own_logits
from spikeloom.check.outcome import CheckFailed, CheckSkipped, Places, agree, listed, place, require
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
    todo = "put @dataclass(frozen=True) before it"
    require(dataclasses.is_dataclass(rule), "the class", "a frozen dataclass", "none", todo)
    equal = rule == dataclasses.replace(rule)
    require(equal, "the class", "equal rules for equal options", f"others for {rule}", todo)
    try:
        rule.anything = 1
    except AttributeError:
        return
    raise CheckFailed("the class", "a frozen dataclass", "one that is not frozen", todo)


def has_complete_facts(case: Case) -> None:
    """`facts` names title, source and laws; the docstring has a Source section."""
    kind, told = type(case.rule), case.rule.facts
    facts: Any = getattr(kind, "facts", None)
    of_class = isinstance(facts, RuleFacts)
    require(of_class, "facts", "a RuleFacts on the class", repr(facts), "write one")
    same = isinstance(told, RuleFacts) and (told.title, told.source) == (facts.title, facts.source)
    require(same, "refined", "title and source of the class", told, "leave them")
    source, laws = facts.source, get_type_hints(RuleFacts)
    cited = isinstance(source, Citation)
    named = cited and bool(source.authors and source.title and 1900 < source.year < 2100)
    documented, known = "Source" in (kind.__doc__ or ""), "the full name"
    require(len(facts.title) > 5, "facts.title", known, f"'{facts.title}'", "write it out")
    require(named, "facts.source", "a Citation with authors, title, year", source, "write one")
    for law in ("order", "memory"):
        came, known = getattr(told, law), get_args(laws[law])
        require(came in known, f"facts.{law}", f"one of {', '.join(known)}", came, "choose one")
    require(documented, "the docstring", "a section 'Source:'", "none", "write one")


def keeps_type_and_device(case: Case) -> Places:
    """Loss, logits and changes have the weights' type and device; nothing is rounded between."""
    for dtype in (torch.float64, torch.float32):
        yield str(dtype).removeprefix("torch."), partial(_keeps_type, case, dtype)
    if case.kernels == "reference":  # operations inside a kernel are not seen
        yield "operations", partial(_rounds_nothing, case)


def _keeps_type(case: Case, dtype: torch.dtype) -> None:
    toy = Toy(case, dtype=dtype)
    report = toy.learn()
    toy.require_changes()
    found = {"loss": report.loss, "logits": report.logits, **toy.parameters(), **toy.changes()}
    for name, value in found.items():
        kept = (value.dtype, value.device) == (dtype, toy.xs.device)
        todo = "compute and keep it as the weights are"
        came = f"{value.dtype} on {value.device} where weights are {dtype}"
        require(kept, name, "type and device of the weights", came, todo)


def _rounds_nothing(case: Case) -> None:
    toy = Toy(case)
    with _Roundings(case) as seen:
        toy.learn()
    came, todo = f"a shorter type at {listed(seen.places, 1)}", "compute in the type of the weights"
    require(not seen.places, "float64", "no rounding", came, todo)


def commits_as_often_as_it_says(case: Case) -> Places:
    """`learn` calls `commit` exactly `commits(T)` times, each time with something to change."""
    return [(f"T = {steps}", partial(_commits, case, steps)) for steps in (1, T)]


def _commits(case: Case, steps: int) -> None:
    try:
        toy = Toy(case, steps=steps)
    except SpikeloomError:
        if steps == 1:
            return  # a rule that chooses among several steps
        raise
    calls: list[set[str]] = []
    toy.learn(commit=lambda: calls.append(set(toy.changes())))
    said, todo = toy.rule.commits(len(toy.xs)), "call commit as often as commits(T) says"
    require(said >= 1, "commits(T)", "an update per batch at least", said, todo)
    came = f"{len(calls)} calls at T = {len(toy.xs)} where commits says {said}"
    require(len(calls) == said, "commit", "commits(T) calls", came, todo)
    todo = "call it when gradients or updates are there"
    require(all(calls), "commit", "something to change", "a call before any gradient", todo)


def adds_gradients_and_never_zeroes(case: Case) -> None:
    """`learn` adds to what is in `.grad`, and moves weights through `commit` alone."""
    toy = Toy(case)
    before = toy.weights()
    toy.learn()
    toy.require_changes()
    alone = toy.changes()
    toy.rewind()
    expected = dict(alone)
    for name, p in toy.parameters().items():
        if name + DIRECT not in alone:  # what a rule changes itself has no gradient
            p.grad = torch.ones_like(p)
            expected[name + GRAD] = 1 + alone.get(name + GRAD, torch.zeros_like(p))
    toy.learn()
    todo = "hand changes to commit(updates=...)"
    agree(toy.weights(), before, "weights that learn moves by commit alone", todo, rtol=0, atol=0)
    todo = "add to .grad, never replace it"
    agree(
        toy.stepped(), toy.stepped(expected), "sums with what was there", todo, rtol=0, atol=1e-12
    )


def reports_what_it_saw(case: Case) -> None:
    """The report has one finite loss and the logits of the whole sequence, without a graph."""
    toy = Toy(case)
    report = toy.learn()
    for name, value, shape in (
        ("loss", report.loss, ()),
        ("logits", report.logits, (len(toy.target), 2)),
    ):
        came, todo = f"shape {tuple(value.shape)}, not {shape}", "report the objective's"
        require(value.shape == shape, name, "one loss, and logits [B, K]", came, todo)
        toy.require_finite({name: value})
        require(not value.requires_grad, name, "no graph", "one", "detach it")
    toy.rewind()
    own_logits(toy)


def is_deterministic_and_leaves_the_world_alone(case: Case) -> None:
    """Same seed, same changes; input, modes and torch's own random state stay as they were."""
    found = []
    for seed in range(2):
        toy = Toy(case)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            before, batch = _world(toy), toy.batch(copy=True)
            xs = batch.xs.clone()
            toy.learn(batch)
            after = _world(toy)
        after |= {INPUT: torch.equal(batch.xs, xs) and batch.xs.grad is None}
        for what, value in before.items():
            subject, todo = what
            require(value == after[what], subject, "the state before learn", "another", todo)
        found.append(toy.stepped())
    todo = "draw from batch.rng alone; torch's own generator had another seed"
    agree(found[1], found[0], "the same in two equal runs", todo, rtol=0, atol=0)


INPUT = ("the input", "change no input in place, and give it no gradient")


def _world(toy: Toy) -> dict[tuple[str, str], Any]:
    """Return what learning must leave as it is, by its name and what to do if it does not."""
    own, todo = "own random generator", "draw from batch.rng"
    modules = [*toy.net.modules(), *toy.head.modules()]
    return {
        (f"torch's {own}", todo): torch.random.get_rng_state().tolist(),
        (f"numpy's {own}", todo): str(np.random.get_state()),  # noqa: NPY002
        (f"Python's {own}", todo): random.getstate(),
        ("torch.is_grad_enabled", "switch gradients on again"): torch.is_grad_enabled(),
        ("the mode of net and head", "leave train mode on"): [one.training for one in modules],
        ("requires_grad", "leave it True"): [p.requires_grad for p in toy.parameters().values()],
        ("the net", "leave nothing there; what a rule keeps is its memory"): [
            (sorted(vars(one)), hooked(one)) for one in modules
        ],
        INPUT: True,
    }


def is_linear_in_the_batch_where_it_says_so(case: Case) -> None:
    """The change by a batch is the mean of its samples' changes."""
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
    todo = "divide sums by the batch, mix no samples, or say linear_in_batch=False"
    agree(whole, toy.stepped(mean), "the mean over samples", todo, rtol=1e-12, atol=1e-14)


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
    todo = "keep what the rule remembers in the Memory of prepare"
    agree(second.weights(), whole.weights(), "the same after resuming", todo, rtol=0, atol=0)


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
