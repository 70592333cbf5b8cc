"""Checks of company: every unit, surrogate, head and encoder, and the nets a rule names."""

from contextlib import suppress

import torch
from torch import Tensor

from spikeloom.base.errors import ShapeError, SpikeloomError, UnsupportedNet
from spikeloom.base.seeding import SampleRng
from spikeloom.base.types import Batch
from spikeloom.check.nets import MAPS
from spikeloom.check.outcome import CheckFailed, CheckSkipped, require
from spikeloom.check.prepared import Prepared
from spikeloom.check.toy import Case, Toy, reaches_every_layer
from spikeloom.encoders import ENCODERS
from spikeloom.encoders.base import Encoder
from spikeloom.heads.base import HEADS
from spikeloom.heads.softmax import Softmax
from spikeloom.nets.execution import Execution
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.spec.grammar import parse
from spikeloom.neurons.base import UNITS
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.surrogate import SURROGATES
from spikeloom.rules.base import Trial

UPDATES = 12
"""Within which a loss must fall."""


def works_with_every_unit(case: Case) -> None:
    """Gradients are finite and reach every layer with every neuron; trained ones may be refused."""
    reached = reaches_every_layer(case)
    for name in UNITS.names():
        kind = UNITS.find(name)
        _healthy(Toy(case, unit=kind()), f"unit {name}", reached)
        for quantity in getattr(kind, "learnable", ()):
            unit = kind(learn=(quantity,))  # pyright: ignore[reportCallIssue]
            try:
                toy = Toy(case, unit=unit)
            except UnsupportedNet as refusal:
                _is_about(case, refusal)
                continue
            _healthy(toy, f"unit {name} with a trained {quantity}", reached)


def works_with_every_surrogate(case: Case) -> None:
    """Gradients are finite and reach every layer with every surrogate slope."""
    reached = reaches_every_layer(case)
    for name in SURROGATES.names():
        unit = LIF(alpha=0.5, surrogate=SURROGATES.find(name)())
        _healthy(Toy(case, unit=unit), f"surrogate {name}", reached)


def works_with_every_head(case: Case) -> None:
    """The loss of every head falls within a few updates; without weights it needs the body's."""
    reached = reaches_every_layer(case)
    for name in HEADS.names():
        toy = Toy(case, head=HEADS.find(name))
        if not (toy.head.sites or reached):
            continue
        _healthy(toy, f"head {name}", reached)
        if not case.rule.facts.needs_labels:
            continue
        rows = toy.rows[::4]
        before = toy.learn(toy.batch(rows=rows)).loss.item()
        toy.clear()
        toy.train(UPDATES, rows=rows)
        after = toy.learn(toy.batch(rows=rows)).loss.item()
        require(after < before, f"head {name}: the loss went from {before:.3f} to {after:.3f}")


def works_with_every_encoder(case: Case) -> None:
    """Loss and gradients are finite with every encoder."""
    for name in ENCODERS.names():
        toy = Toy(case)
        rng = SampleRng(0, 0, toy.rows)
        xs = _encoded(ENCODERS.find(name)(), toy.xs, rng)
        loss = toy.learn(Batch(xs, toy.target, rng)).loss
        require(bool(torch.isfinite(loss)), f"encoder {name}: the loss is not finite")
        _finite(toy, f"encoder {name}")


def trains_the_nets_it_names(case: Case) -> None:
    """Every net of `trials.trained` is accepted and gives a finite loss."""
    trained = case.rule.trials.trained
    if not trained:
        raise CheckSkipped("trials.trained is empty")
    for trial in trained:
        loss = _try(case, trial)
        require(bool(torch.isfinite(loss)), f"net '{trial.net}': the loss is not finite")


def refuses_what_it_says(case: Case) -> None:
    """Every net and option of `trials.refused` ends in the error announced, not in training."""
    refused = case.rule.trials.refused
    if not refused:
        raise CheckSkipped("trials.refused is empty")
    for trial in refused:
        what = f"net '{trial.net}', T = {trial.steps}, options {dict(trial.options)}"
        try:
            _try(case, trial, learn=False)
        except SpikeloomError as refusal:
            _is_about(case, refusal)
            said = trial.refusal in str(refusal)
            require(said, f"{what}: the error must say '{trial.refusal}', it says '{refusal}'")
        else:
            raise CheckFailed(f"{what}: must be refused, was accepted")


def _is_about(case: Case, refusal: Exception) -> None:
    where = f"rules.{case.name}"
    said = str(refusal).startswith((f"{where}:", f"{where}."))
    require(said, f"a refusal must start with '{where}', got '{refusal}'")


def _try(case: Case, trial: Trial, *, learn: bool = True) -> Tensor:
    rule = type(case.rule)(**trial.options)
    net = SpikingNet(parse(trial.net), MAPS, execution=Execution(case.kernels))
    head = Softmax.of(net)
    generator = torch.Generator().manual_seed(0)
    xs = torch.rand(trial.steps, 2, *MAPS, generator=generator)
    batch = Batch(xs, torch.tensor([0, 1]), SampleRng(0, 0, torch.arange(2)))
    prepared = Prepared(rule, net, head, batch)
    return prepared.learn().loss if learn else xs


def _healthy(toy: Toy, what: str, reached: bool) -> None:
    """Require a finite loss and finite gradients everywhere, not zero where the rule reaches."""
    loss = toy.learn().loss
    require(bool(torch.isfinite(loss)), f"{what}: the loss is not finite")
    _finite(toy, what)
    missing = toy.missing()
    require(not missing, f"{what}: no .grad after learn: {', '.join(missing)}")
    idle = toy.idle_layers() if reached else []
    require(not idle, f"{what}: layers {', '.join(idle)} got a gradient of zeros")
    toy.clear()


def _finite(toy: Toy, what: str) -> None:
    for name, part in toy.grads().items():
        require(bool(torch.isfinite(part).all()), f"{what}: {name}.grad is not finite")


def _encoded(encoder: Encoder, xs: Tensor, rng: SampleRng) -> Tensor:
    """Return the train of the still samples.

    An encoder of trains gets them with their time, one of pictures with a row for every step.
    """
    trains = xs.transpose(0, 1)
    for x in (xs[0], trains):
        with suppress(ShapeError):
            return encoder.encode(x, len(xs), rng)
    return encoder.encode(trains.unsqueeze(1), len(xs), rng)
