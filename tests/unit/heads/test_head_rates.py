"""The head on rates: scores are what the last population did."""

import pytest
import torch
import torch.nn.functional as F

from spikeloom.base.errors import ConfigError
from spikeloom.base.seeding import SampleRng
from spikeloom.check.battery import all_cases
from spikeloom.check.toy import Toy
from spikeloom.heads.rates import Rates
from spikeloom.heads.softmax import Softmax
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.spec.grammar import parse
from spikeloom.neurons.integrate_fire import IF

RNG = SampleRng(0, 0, torch.arange(4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reduce", ["mean", "count", "weighted", "last"])
def test_scores_are_rates(dtype, reduce):
    net = SpikingNet(parse("f8 [f3]"), (5,)).to(dtype)
    head = Rates.of(net, reduce=reduce)
    assert not list(head.parameters()) and head.sites == () and head.classes == 3
    hs = net(torch.rand(6, 4, 5, dtype=dtype, generator=torch.Generator().manual_seed(0)))
    target = torch.tensor([0, 1, 2, 0])
    logits, value = head.bind(target, RNG).over(hs)
    assert torch.equal(logits, head.reduced(hs)) and logits.dtype == dtype
    assert torch.equal(value, F.cross_entropy(logits, target))


def test_a_readout_belongs_to_another_head():
    with pytest.raises(ConfigError, match=r"got a readout f3; put it in brackets, \[f3\]"):
        Rates.of(SpikingNet("f8 f3", (5,)))
    with pytest.raises(ConfigError, match="one feature per class, got 5 features and 3 classes"):
        Rates(5, 3)


def test_the_relu_twin_ends_with_a_readout():
    twin = parse("f8 [f3]").as_ann()
    assert twin.readout is not None and twin.readout.out == 3 and len(twin.blocks) == 1
    assert Rates.baseline() is Softmax


def trained(seed=0):
    """Return a net with a last population, its input and labels."""
    net = SpikingNet(parse("f8 [f3]"), (5,), seed=seed).double()
    draw = torch.Generator().manual_seed(seed)
    return net, 2 * torch.rand(6, 4, 5, dtype=torch.float64, generator=draw)


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_squared_error_on_rates_by_loops(share):
    net, xs = trained()
    head, labels = Rates.of(net, mse=share, correct=0.75, wrong=0.125), [0, 1, 2, 0]
    hs = net(xs)
    logits, value = head.bind(torch.tensor(labels), RNG).over(hs)
    squares = 0.0
    for sample, label in enumerate(labels):
        for k in range(3):
            rate = sum(hs[t, sample, k].item() for t in range(6)) / 6
            squares += (rate - (0.75 if k == label else 0.125)) ** 2 / 12
    entropy = F.cross_entropy(logits, torch.tensor(labels)).item()
    assert value.item() == pytest.approx((1 - share) * entropy + share * squares, rel=1e-13)


def test_it_is_the_loss_of_snntorch_over_steps():
    """Its targets are whole counts, int(T r), and its loss is divided by T, not by T^2."""
    net, xs = trained()
    hs, labels = net(xs), torch.tensor([0, 1, 2, 0])
    counts, steps = hs.sum(0), len(hs)
    goal = torch.full_like(counts, int(steps * 0.125))
    goal[torch.arange(4), labels] = int(steps * 0.5)
    theirs = ((counts - goal) ** 2).mean() / steps
    head = Rates.of(net, mse=1.0, correct=3 / steps, wrong=0.0)
    assert (steps * head.bind(labels, RNG).over(hs).value).item() == pytest.approx(theirs.item())
    counting = Rates.of(net, mse=1.0, correct=3.0, wrong=0.0, reduce="count")
    assert counting.bind(labels, RNG).over(hs).value.item() / steps == pytest.approx(theirs.item())


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"mse": 1.5}, r"^head.rates.mse: expected a share in \[0, 1\], got 1.5"),
        ({"correct": 0.1, "wrong": 0.2}, r"^head.rates.correct: expected a target above that of"),
    ],
)
def test_options_out_of_range(options, line):
    with pytest.raises(ConfigError, match=line):
        Rates(3, 3, **options)


def cases():
    return [case for case in all_cases() if case.rule.facts.spiking]


@pytest.mark.parametrize("case", cases(), ids=str)
def test_every_rule_lowers_squared_error_on_rates(case):
    class Squared(Rates):
        @classmethod
        def of(cls, net, **options):
            return Rates.of(net, mse=1.0, correct=0.9, wrong=0.1, **options)

    # rules through rates: IF, whose rate their clamp is
    toy = Toy(case, head=Squared, unit=IF() if case.rule.loss_at == "end" else None)
    before = toy.learn().loss.item()
    assert all(grad.isfinite().all() for grad in toy.changes().values())
    toy.clear()
    toy.train(30)
    assert toy.learn().loss.item() < before
    scores = toy.head.reduced(toy.net(toy.xs))
    if case.rule.loss_at == "end":
        goal = torch.where(F.one_hot(toy.target, 2) == 1, 0.9, 0.1)
        assert toy.learn().loss.item() == pytest.approx(((scores - goal) ** 2).mean().item())


def test_the_relu_twin_takes_the_same_options():
    head = Rates.baseline()(3, 3, mse=1.0, correct=0.9, wrong=0.1)
    assert head.mix.correct == 0.9 and head.mix.share == 1.0
