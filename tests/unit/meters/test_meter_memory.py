import pytest
import torch
from metering import bernoulli, dyadic_net, operations_of

from spikeloom.base.errors import ConfigError
from spikeloom.meters.energy import INT32, EnergyTable, strict_energy
from spikeloom.meters.memory import EnergyMemory, memory_accesses
from spikeloom.nets.spec.grammar import parse

KB = 1024


@pytest.mark.parametrize(
    ("size", "price"),
    [
        (0, 0),
        (4 * KB, 5),
        (8 * KB, 10),
        (20 * KB, 15),
        (32 * KB, 20),
        (528 * KB, 60),
        (1024 * KB, 100),
        (10**9, 100),
    ],
)
def test_price_is_piecewise_linear_and_clamped(size, price):
    assert EnergyMemory().price(size) == pytest.approx(price)


def test_points_must_rise():
    with pytest.raises(ConfigError, match="rising"):
        EnergyMemory(((0, 0.0), (0, 1.0)))


def test_bounds_by_hand():
    """One linear layer, 4 -> 2, one input spike in each of 3 steps."""
    net = dyadic_net("{default = {bias = false}} f2 f2", (4,))
    xs = torch.tensor([1.0, 0, 0, 0]).expand(3, 1, 4).clone()
    flat = EnergyMemory(((0, 7.0),))
    bounds = memory_accesses(operations_of(net, xs), INT32, flat)
    assert bounds.lower == 2 * 7 * 2 * 3  # read and write, 2 neurons, 3 steps
    assert bounds.upper == 3 * 7 * 2 * 3  # weight, read, write; 2 accumulates, 3 steps
    silent = memory_accesses(operations_of(net, 0 * xs), INT32, flat)
    assert silent.lower == silent.upper == bounds.lower


def test_buffer_sizes_follow_the_word_width():
    net = dyadic_net("{default = {bias = false}} f64 f2", (16,))
    record = operations_of(net, bernoulli(2, 1, 16))
    half = EnergyTable("fp16", 1.5, 0.4, 16)
    wide, narrow = (memory_accesses(record, table) for table in (INT32, half))
    assert wide.lower == pytest.approx(2 * narrow.lower)  # linear below 8 kB
    assert wide.lower == pytest.approx(64 * 2 * 2 * 10 * 256 / (8 * KB))


def test_memory_narrows_the_gap():
    spec = parse("c8 P c8 f6 f3")
    net, ann = dyadic_net(spec, (1, 8, 8)), dyadic_net(spec.as_ann(), (1, 8, 8))
    xs = torch.randint(0, 255, (1, 3, 1, 8, 8)) / 256
    ours = operations_of(net, bernoulli(2, 3, 1, 8, 8, p=0.1))
    theirs = operations_of(ann, xs)
    plain = [strict_energy(one).snn for one in (ours, theirs)]
    bounds = [memory_accesses(one) for one in (ours, theirs)]
    snn, relu = zip(plain, bounds, strict=True)
    assert snn[1].lower <= snn[1].upper and relu[1].lower <= relu[1].upper
    low = (relu[0] + relu[1].lower) / (snn[0] + snn[1].lower)
    high = (relu[0] + relu[1].upper) / (snn[0] + snn[1].upper)
    assert relu[0] / snn[0] > max(low, high)
