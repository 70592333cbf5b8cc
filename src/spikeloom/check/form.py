"""Checks of form: what a rule must keep to, whatever it computes."""

import dataclasses
from typing import Any, get_args, get_type_hints

import torch

from spikeloom.base.citation import Citation
from spikeloom.base.errors import SpikeloomError
from spikeloom.check.outcome import CheckFailed, CheckSkipped, require
from spikeloom.check.toy import RATE, Case, T, Toy
from spikeloom.rules.base import RuleFacts

FEW = (3, 70, 200, 9)
"""Rows of a small batch."""


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
    """Loss, logits and every gradient have the weights' type and device."""
    for dtype in (torch.float64, torch.float32):
        toy = Toy(case, dtype=dtype)
        report = toy.learn()
        for name, value in (("loss", report.loss), ("logits", report.logits)):
            require(value.dtype == dtype, f"{name} is {value.dtype} where weights are {dtype}")
        for name, p in toy.parameters().items():
            require(p.dtype == dtype, f"{name} became {p.dtype}, it was {dtype}")
            if p.grad is None:
                raise CheckFailed(f"{name} has no .grad after learn")
            kept = p.grad.dtype == dtype and p.grad.device == p.device
            require(kept, f"{name}.grad is {p.grad.dtype} on {p.grad.device}, the weight {dtype}")


def commits_as_often_as_it_says(case: Case) -> None:
    """`learn` calls `commit` exactly `commits(T)` times, with gradients in place each time."""
    for steps in (1, T):
        try:
            toy = Toy(case, steps=steps)
        except SpikeloomError:
            if steps == 1:
                continue  # a rule that chooses among several steps
            raise
        calls: list[set[str]] = []
        toy.learn(commit=lambda toy=toy, calls=calls: calls.append(set(toy.grads())))
        said = toy.rule.commits(len(toy.xs))
        require(said >= 1, f"commits({steps}) is {said}; a rule updates at least once per batch")
        require(
            len(calls) == said,
            f"commit was called {len(calls)} times at T = {len(toy.xs)}, commits() says {said}",
        )
        require(all(calls), "commit was called before any gradient was there")


def adds_gradients_and_never_zeroes(case: Case) -> None:
    """`learn` adds to what is in `.grad` and moves no weight itself."""
    toy = Toy(case)
    weights = {name: p.detach().clone() for name, p in toy.parameters().items()}
    toy.learn()
    alone = toy.grads()
    toy.rewind()
    missing = sorted(set(weights) - set(alone))
    require(not missing, f"no .grad after learn: {', '.join(missing)}")
    for p in toy.parameters().values():
        p.grad = torch.ones_like(p)
    toy.learn()
    for name, part in toy.grads().items():
        added = torch.allclose(part, 1 + alone[name], rtol=1e-13, atol=1e-13)
        require(added, f"{name}.grad was replaced; learn must add to it")
    for name, p in toy.parameters().items():
        require(torch.equal(p, weights[name]), f"{name} changed without a commit")


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
    with torch.no_grad():
        logits = torch.stack([toy.head.logits(h) for h in toy.net(toy.xs)]).mean(0)
    same = torch.allclose(report.logits, logits, rtol=0, atol=1e-12)
    require(same, "logits are not those of the net's own forward pass, averaged over T")


def is_deterministic_and_leaves_the_world_alone(case: Case) -> None:
    """Same seed, same gradients; input, modes and torch's own random state stay as they were."""
    found = []
    for _ in range(2):
        toy = Toy(case)
        before, batch = torch.random.get_rng_state(), toy.batch(copy=True)
        xs = batch.xs.clone()
        toy.learn(batch)
        drawn = not torch.equal(torch.random.get_rng_state(), before)
        require(not drawn, "torch's own generator was used; draw from batch.rng")
        require(torch.equal(batch.xs, xs), "the input was changed in place")
        require(batch.xs.grad is None, "the input got a gradient")
        require(torch.is_grad_enabled(), "gradients were left switched off")
        require(toy.net.training and toy.head.training, "net or head was left in eval mode")
        for name, p in toy.parameters().items():
            require(p.requires_grad, f"{name} was left with requires_grad = False")
        found.append(toy.grads())
    for name, part in found[0].items():
        require(torch.equal(part, found[1][name]), f"{name}.grad differs between two equal runs")


def is_linear_in_the_batch_where_it_says_so(case: Case) -> None:
    """The gradient of a batch is the mean of its samples' gradients."""
    if not case.rule.facts.linear_in_batch:
        raise CheckSkipped("facts.linear_in_batch is False")
    toy = Toy(case)
    rows = torch.tensor(FEW)
    toy.learn(toy.batch(rows=rows))
    whole = toy.grads()
    toy.clear()
    for row in rows:
        toy.rewind()
        toy.learn(toy.batch(rows=row[None]))
    for name, part in toy.grads().items():
        same = torch.allclose(part / len(FEW), whole[name], rtol=1e-12, atol=1e-14)
        require(same, f"{name}.grad is not the mean over samples; or say linear_in_batch=False")


def resumes_to_the_bit(case: Case) -> None:
    """Four updates, saved and loaded, and four more give the weights of eight at a stretch."""
    whole = Toy(case)
    whole.train(8)
    first = Toy(case)
    optimizer = first.train(4)
    second = Toy(case, seed=9)
    second.net.load_state_dict(first.net.state_dict())
    second.head.load_state_dict(first.head.state_dict())
    second.memory = second.memory.with_values_of(first.memory)
    again = torch.optim.Adam(second.parameters().values(), RATE)
    again.load_state_dict(optimizer.state_dict())
    second.train(4, first=4, optimizer=again)
    for name, p in whole.parameters().items():
        same = torch.equal(p, second.parameters()[name])
        require(same, f"{name} differs after resuming; keep it in the Memory of prepare")
