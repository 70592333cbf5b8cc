"""Each slope in numbers, and the spike that uses it."""

import dataclasses
import math

import pytest
import torch

from spikeloom.base.errors import ConfigError
from spikeloom.neurons.spike import spike
from spikeloom.neurons.surrogate import (
    SURROGATES,
    Arctan,
    Exponential,
    FastSigmoid,
    Periodic,
    Rectangle,
    Sigmoid,
    Surrogate,
    Triangle,
)

F64 = torch.float64


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# surrogate, peak, slope at a point, integral from -L to L
TABLE = {
    "triangle": (
        Triangle(0.6, 0.5, relative=False),
        0.6,
        lambda u: 0.6 * max(0, 1 - abs(u) / 0.5),
        lambda end: 0.6 * 0.5,
    ),
    "rectangle": (
        Rectangle(1.5, 0.75),
        0.75,
        lambda u: 0.75 * (abs(u) <= 0.75),
        lambda end: 1.5 * 0.75,
    ),
    "sigmoid": (
        Sigmoid(3.0),
        0.75,
        lambda u: 3 * logistic(3 * u) * (1 - logistic(3 * u)),
        lambda end: 2 * logistic(3 * end) - 1,
    ),
    "arctan": (
        Arctan(3.0),
        1.5,
        lambda u: 1.5 / (1 + (math.pi / 2 * 3 * u) ** 2),
        lambda end: 2 / math.pi * math.atan(math.pi / 2 * 3 * end),
    ),
    "fast_sigmoid": (
        FastSigmoid(5.0, 1.5),
        1.5,
        lambda u: 1.5 / (1 + 5 * abs(u)) ** 2,
        lambda end: 1.5 * 2 / 5 * (1 - 1 / (1 + 5 * end)),
    ),
    "periodic": (
        Periodic(Triangle(0.6, 0.25, relative=False)),
        0.6,
        lambda u: 0.6 * max(0, 1 - abs(u - max(0, math.floor(u + 0.5))) / 0.25),
        lambda end: 0.6 * 0.25 * (0.5 + end),  # half a peak more at either end
    ),
    "exponential": (
        Exponential(5.0, 0.5),
        0.5,
        lambda u: 0.5 * math.exp(-5 * abs(u)),
        lambda end: 2 * 0.5 / 5 * (1 - math.exp(-5 * end)),
    ),
}


def test_the_table_covers_every_surrogate():
    assert set(TABLE) == set(SURROGATES.names())


@pytest.mark.parametrize("name", SURROGATES.names())
class TestEverySurrogate:
    def test_is_a_frozen_value(self, name):
        kind = SURROGATES.find(name)
        assert isinstance(kind(), Surrogate)
        assert kind() == kind() and hash(kind()) == hash(kind())
        with pytest.raises(AttributeError):
            kind().gamma = 1

    def test_slopes_are_those_of_the_formula_in_plain_numbers(self, name):
        surrogate, _, formula, _ = TABLE[name]
        u = torch.arange(-384, 385, dtype=F64) / 256
        expected = torch.tensor([formula(x) for x in u.tolist()], dtype=F64)
        assert torch.allclose(surrogate.slope(u, 1.0), expected, rtol=1e-13, atol=1e-15)

    def test_peak_at_the_threshold_and_evenness(self, name):
        surrogate, peak, _, _ = TABLE[name]
        # a periodic one has its peak again at every further threshold
        u = torch.arange(0, 129 if name == "periodic" else 513, dtype=F64) / 256
        right, left = surrogate.slope(u, 1.0), surrogate.slope(-u, 1.0)
        assert right[0].item() == pytest.approx(peak, rel=1e-15)
        assert torch.allclose(right, left, rtol=1e-14, atol=1e-15)
        assert bool((right.diff() <= 0).all()) and bool((right >= 0).all())

    def test_area(self, name):
        surrogate, _, _, area = TABLE[name]
        middle = (torch.arange(-(2**19), 2**19, dtype=F64) + 0.5) / 2**17  # [-4, 4], midpoints
        total = surrogate.slope(middle, 1.0).sum().item() / 2**17
        assert total == pytest.approx(area(4.0), rel=1e-8)

    def test_gradient_of_a_spike_is_slope_times_upstream(self, name):
        surrogate = TABLE[name][0]
        u = torch.linspace(-1.5, 1.5, 31, dtype=F64, requires_grad=True)
        upstream = torch.linspace(-2, 3, 31, dtype=F64)
        spike(u, surrogate).backward(upstream)
        assert torch.equal(u.grad, upstream * surrogate.slope(u.detach(), 1.0))

    def test_slope_leaves_its_argument_alone_and_keeps_its_type(self, name):
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            u = torch.linspace(-1, 1, 9, dtype=dtype)
            before = u.clone()
            assert TABLE[name][0].slope(u, 1.0).dtype == dtype
            assert torch.equal(u, before)

    @pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
    def test_fields_out_of_range_are_refused_by_name(self, name, value):
        kind = SURROGATES.find(name)
        fields = [one.name for one in dataclasses.fields(kind) if one.name != "relative"]
        assert fields
        for key in fields:
            with pytest.raises(ConfigError, match=rf"^neurons.{kind.__name__}.{key}: "):
                kind(**{key: value})


def test_triangle_measures_its_width_in_thresholds_as_in_panda_eq_4():
    v_th, v = 2.0, torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], dtype=F64)
    expected = [0.3 * max(0.0, 1 - abs(x - v_th) / v_th) for x in v.tolist()]
    slope = Triangle().slope(v - v_th, v_th)
    assert slope.tolist() == pytest.approx(expected, rel=1e-15)
    absolute = Triangle(0.3, 1.0, relative=False).slope(v - v_th, v_th)
    assert absolute.tolist() == pytest.approx([0, 0, 0.3, 0, 0, 0], abs=0)
    assert torch.equal(
        Triangle().slope(v - 1, 1.0), Triangle(relative=False).slope(v - 1, 1.0)
    )  # equal where v_th = 1


def test_relative_width_takes_one_threshold_per_channel():
    v_th = torch.tensor([0.5, 1.0, 2.0], dtype=F64).reshape(3, 1)
    u = torch.linspace(-2, 2, 9, dtype=F64).expand(3, 9)
    slope = Triangle(1.0).slope(u, v_th)
    for row, th in enumerate((0.5, 1.0, 2.0)):
        assert torch.equal(slope[row], Triangle(1.0).slope(u[row], th))


def test_sltt_triangle_has_the_open_support():
    u = torch.tensor([-1.0, -0.999, 0.0, 0.999, 1.0, 1.5], dtype=F64)
    slope = Triangle(1.0, 1.0).slope(u, 1.0)
    assert slope.tolist() == pytest.approx([0, 0.001, 1, 0.001, 0, 0], abs=1e-15)
    assert slope[0] == 0 and slope[4] == 0


def test_rectangle_includes_its_edges():
    u = torch.tensor([-0.5, 0.5, 0.5 + 2**-50, -0.5 - 2**-50], dtype=F64)
    assert Rectangle().slope(u, 1.0).tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("strict", [False, True])
def test_a_spike_is_a_step_that_includes_the_threshold_unless_strict(strict):
    u = torch.tensor([-1.0, -(2.0**-60), 0.0, 2.0**-60, 1.0], dtype=F64)
    expected = [0, 0, 0 if strict else 1, 1, 1]
    s = spike(u, Triangle(), strict=strict)
    assert s.tolist() == expected and s.dtype == u.dtype


def test_the_threshold_given_for_the_width_gets_no_gradient():
    u = torch.zeros(2, dtype=F64, requires_grad=True)
    v_th = torch.ones(2, dtype=F64, requires_grad=True)
    spike(u, Triangle(), v_th=v_th).sum().backward()
    assert v_th.grad is None and u.grad is not None


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("most", [None, 2])
def test_several_spikes_are_counted_by_levels(strict, most):
    v_th = 0.5
    u = torch.arange(-8, 17, dtype=F64) / 8
    expected = []
    for value in u.tolist():
        count = 0
        while value - count * v_th > 0 or (value == count * v_th and not strict):
            count += 1
        expected.append(float(count if most is None else min(count, most)))
    s = spike(u, Triangle(), v_th=v_th, strict=strict, most=most)
    assert s.tolist() == expected and max(expected) == (most or 5 - strict)
    single = spike(u, Triangle(), v_th=v_th, strict=strict)
    assert torch.equal(s.clamp(max=1), single)
    assert torch.equal(spike(u, Triangle(), v_th=torch.tensor(v_th), strict=strict, most=most), s)


def test_a_periodic_slope_has_its_peak_at_every_threshold():
    v_th = 0.5
    v = torch.arange(-16, 65, dtype=F64) / 32
    thresholds = [n * v_th for n in range(1, 6)]
    nearest = [min((x - th for th in thresholds), key=abs) for x in v.tolist()]
    base = Sigmoid(3.0)
    expected = base.slope(torch.tensor(nearest, dtype=F64), v_th)
    torch.testing.assert_close(Periodic(base).slope(v - v_th, v_th), expected, rtol=0, atol=1e-15)
    below = v < v_th  # there it is the base
    assert torch.equal(
        Periodic(base).slope(v - v_th, v_th)[below], base.slope(v - v_th, v_th)[below]
    )
    u = (v - v_th).requires_grad_()
    spike(u, Periodic(base), v_th=v_th, most=None).backward(torch.ones_like(v))
    torch.testing.assert_close(u.grad, expected, rtol=0, atol=1e-15)
