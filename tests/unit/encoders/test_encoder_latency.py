import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeloom.base.errors import ConfigError, DataError
from spikeloom.encoders.latency import Latency

CURVES = ("linear", "log", "rc")
GREY = torch.arange(256, dtype=torch.float64) / 255

units = st.floats(0.0, 1.0)
lengths = st.integers(1, 400)


def encode(encoder: Latency, x: torch.Tensor, steps: int) -> torch.Tensor:
    return encoder.encode(x, steps, torch.Generator())


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("steps", [1, 2, 10, 300])
def test_one_spike_each_and_none_for_black(curve, steps):
    xs = encode(Latency(curve), GREY.expand(2, 256), steps)
    assert set(xs.unique().tolist()) <= {0.0, 1.0}
    count = xs.sum(0)
    assert count[:, 0].eq(0).all() and count[:, 1:].eq(1).all()


@pytest.mark.parametrize("curve", CURVES)
def test_black_fires_last_when_asked(curve):
    xs = encode(Latency(curve, silent_below=None), torch.zeros(1, 3), 6)
    assert xs[:, 0, 0].tolist() == [0, 0, 0, 0, 0, 1]
    assert xs.sum().item() == 3


def test_silence_reaches_up_to_and_includes_its_bound():
    xs = encode(Latency(silent_below=0.5), torch.tensor([[0.25, 0.5, 0.75]]), 5)
    assert xs.sum(0).tolist() == [[0.0, 0.0, 1.0]]


@given(a=units, b=units, steps=lengths, curve=st.sampled_from(CURVES))
@settings(max_examples=200)
def test_brighter_is_never_later(a, b, steps, curve):
    early, late = Latency(curve).times(torch.tensor([max(a, b), min(a, b)]).double(), steps)
    assert 0 <= early <= late <= steps - 1


@given(steps=st.integers(1, 2000))
@settings(max_examples=60)
def test_log_and_linear_agree_at_both_ends(steps):
    ends = torch.tensor([0.0, 1.0])
    for curve in ("linear", "log"):
        assert Latency(curve).times(ends, steps).tolist() == [steps - 1, 0]


def distance_to_tie(t: float) -> float:
    return abs(t - math.floor(t) - 0.5)


@pytest.mark.parametrize("steps", [2, 7, 60, 256])
def test_times_are_the_closed_forms(steps):
    """Against scalar arithmetic in Python, away from rounding ties."""
    last = steps - 1
    forms = {
        "linear": lambda x: last * (1 - x),
        "log": lambda x: last - math.log(math.expm1(last) * x + 1),
        "rc": lambda x: min(5.0 * math.log(x / (x - 0.03)), last) if x > 0.03 else last,
    }
    for curve, form in forms.items():
        times = Latency(curve, cutoff=0.03, tau=5.0).times(GREY, steps).tolist()
        for x, t in zip(GREY.tolist(), times, strict=True):
            if distance_to_tie(form(x)) > 1e-9:
                assert t == round(form(x)), (curve, x)


@pytest.mark.parametrize("steps", [90, 800, 5000])
def test_log_does_not_overflow(steps):
    """e^(T-1) leaves float32 at T = 90 and float64 at T = 711; the identity does not."""
    x = torch.tensor([0.0, 0.01, 0.5, 1.0])
    expected = [steps - 1, *(round(-math.log(v)) for v in (0.01, 0.5)), 0]
    assert Latency("log").times(x, steps).tolist() == expected


def test_worked_example_of_the_integrator():
    """With tau = 10 and theta = 0.5: 10 ln(1 / 0.5) = 6.93 and 10 ln(0.6 / 0.1) = 17.9."""
    times = Latency("rc", cutoff=0.5, tau=10.0).times(torch.tensor([1.0, 0.6, 0.5, 0.1]), 30)
    assert times.tolist() == [7, 18, 29, 29]


def test_half_types_get_float64_times():
    """In bfloat16, 1 - 3/1024 would round to 1 - 4/1024."""
    x = torch.tensor([3 / 1024], dtype=torch.bfloat16)
    assert Latency().times(x, 1025).tolist() == [1021]


@pytest.mark.parametrize("bad", [-0.001, 1.001, math.nan, math.inf])
def test_refuses_values_outside_the_unit_interval(bad):
    x = torch.tensor([[0.0, 1.0, bad]])
    with pytest.raises(
        DataError, match=r"^encoders.latency: expected x in \[0, 1\], got .*; set data.scale"
    ):
        encode(Latency(), x, 4)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("curve", "cubic"),
        ("cutoff", 0.0),
        ("cutoff", 1.0),
        ("tau", 0.0),
        ("tau", math.inf),
        ("silent_below", -0.1),
        ("silent_below", 1.0),
        ("silent_below", math.nan),
    ],
)
def test_refuses_fields_out_of_range(field, value):
    with pytest.raises(ConfigError, match=rf"^encoders.latency.{field}: expected .*, got .*; "):
        Latency(**{field: value})
