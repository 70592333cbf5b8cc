"""Checks of company: every unit, surrogate, head and encoder, and the nets a rule names."""

from contextlib import suppress
from functools import partial

import torch
from torch import Tensor

from spikeloom.base.errors import ShapeError, SpikeloomError, UnsupportedNet
from spikeloom.base.seeding import SampleRng
from spikeloom.base.types import Batch
from spikeloom.check.nets import MAPS
from spikeloom.check.outcome import CheckFailed, CheckSkipped, Places, require
from spikeloom.check.prepared import Prepared
from spikeloom.check.toy import Case, Toy, reaches_every_layer
from spikeloom.encoders import ENCODERS
from spikeloom.encoders.base import Encoder
from spikeloom.heads.base import HEADS, Head
from spikeloom.heads.softmax import Softmax
from spikeloom.nets.execution import Execution
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.spec.grammar import parse
from spikeloom.neurons.base import UNITS, Unit
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.surrogate import SURROGATES
from spikeloom.rules.base import Trial

UPDATES = 12
"""Within which a loss must fall."""


def works_with_every_unit(case: Case) -> Places:
    """Changes are finite and reach every layer with every neuron; trained ones may be refused."""
    reached = reaches_every_layer(case)
    for name in UNITS.names():
        kind = UNITS.find(name)
        yield name, partial(_healthy, case, reached, kind())
        for quantity in getattr(kind, "learnable", ()):
            unit = kind(learn=(quantity,))  # pyright: ignore[reportCallIssue]
            yield f"{name} with a trained {quantity}", partial(_healthy, case, reached, unit, True)


def works_with_every_surrogate(case: Case) -> Places:
    """Changes are finite and reach every layer with every surrogate slope."""
    reached = reaches_every_layer(case)
    for name in SURROGATES.names():
        unit = LIF(alpha=0.5, surrogate=SURROGATES.find(name)())
        yield name, partial(_healthy, case, reached, unit)


def works_with_every_head(case: Case) -> Places:
    """The loss of every head falls within a few updates; without weights it needs the body's."""
    reached = reaches_every_layer(case)
    return [(name, partial(_lowers, case, reached, HEADS.find(name))) for name in HEADS.names()]


def works_with_every_encoder(case: Case) -> Places:
    """Loss and changes are finite with every encoder."""
    return [(name, partial(_encodes, case, ENCODERS.find(name)())) for name in ENCODERS.names()]


def trains_the_nets_it_names(case: Case) -> Places:
    """Every net of `trials.trained` is accepted and gives a finite loss."""
    if not case.rule.trials.trained:
        raise CheckSkipped("trials.trained is empty")
    return [(f"net '{one.net}'", partial(_trains, case, one)) for one in case.rule.trials.trained]


def refuses_what_it_says(case: Case) -> Places:
    """Every net and option of `trials.refused` ends in the error announced, not in training."""
    if not case.rule.trials.refused:
        raise CheckSkipped("trials.refused is empty")
    for one in case.rule.trials.refused:
        what = f"net '{one.net}', T = {one.steps}, options {dict(one.options)}"
        yield what, partial(_refuses, case, one)


def _lowers(case: Case, reached: bool, head: type[Head]) -> None:
    toy = Toy(case, head=head)
    if not (toy.head.sites or reached):
        return
    healthy(toy, reached)
    if not case.rule.facts.needs_labels:
        return
    rows = toy.rows[::4]
    before = toy.learn(toy.batch(rows=rows)).loss.item()
    toy.clear()
    toy.train(UPDATES, rows=rows)
    after = toy.learn(toy.batch(rows=rows)).loss.item()
    came, todo = f"{before:.3f}, then {after:.3f}", "mind the sign and size of the changes"
    require(after < before, "the loss", f"less after {UPDATES} updates", came, todo)


def _encodes(case: Case, encoder: Encoder) -> None:
    toy = Toy(case)
    rng = SampleRng(0, 0, toy.rows)
    loss = toy.learn(Batch(_encoded(encoder, toy.xs, rng), toy.target, rng)).loss
    toy.require_finite({"the loss": loss, **toy.changes()})


def _trains(case: Case, trial: Trial) -> None:
    prepared = _prepared(case, trial)
    prepared.require_finite({"the loss": prepared.learn().loss})


def _refuses(case: Case, trial: Trial) -> None:
    try:
        _prepared(case, trial)
    except SpikeloomError as refusal:
        _is_about(case, refusal)
        said = trial.refusal in str(refusal)
        todo = "say the same in both"
        require(said, "a refusal", f"'{trial.refusal}' in it", f"'{refusal}'", todo)
    else:
        todo = "refuse it in prepare, or take it out of trials.refused"
        raise CheckFailed("prepare", "a refusal as trials say", "none", todo)


def _is_about(case: Case, refusal: Exception) -> None:
    where = f"rules.{case.name}"
    said = str(refusal).startswith((f"{where}:", f"{where}."))
    require(said, "a refusal", f"'{where}' at its start", f"'{refusal}'", "write it there")


def _prepared(case: Case, trial: Trial) -> Prepared:
    net = SpikingNet(parse(trial.net), MAPS, execution=Execution(case.kernels))
    generator = torch.Generator().manual_seed(0)
    xs = torch.rand(trial.steps, 2, *MAPS, generator=generator)
    batch = Batch(xs, torch.tensor([0, 1]), SampleRng(0, 0, torch.arange(2)))
    return Prepared(type(case.rule)(**trial.options), net, Softmax.of(net), batch)


def _healthy(case: Case, reached: bool, unit: Unit, refusable: bool = False) -> None:
    try:
        toy = Toy(case, unit=unit)
    except UnsupportedNet as refusal:
        if not refusable:
            raise
        _is_about(case, refusal)
    else:
        healthy(toy, reached)


def healthy(toy: Toy, reached: bool) -> None:
    """Require a finite loss and finite changes everywhere, not zero where the rule reaches all."""
    loss = toy.learn().loss
    toy.require_finite({"the loss": loss, **toy.changes()})
    toy.require_changes()
    if reached:
        toy.require_movement()
    toy.clear()


def _encoded(encoder: Encoder, xs: Tensor, rng: SampleRng) -> Tensor:
    """Return the train of the still samples.

    An encoder of trains gets them with their time, one of pictures with a row for every step.
    """
    trains = xs.transpose(0, 1)
    for x in (xs[0], trains):
        with suppress(ShapeError):
            return encoder.encode(x, len(xs), rng)
    return encoder.encode(trains.unsqueeze(1), len(xs), rng)
