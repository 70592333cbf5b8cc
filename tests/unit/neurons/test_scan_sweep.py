"""All options of all units at random: one kernel for each, which takes time."""

import pytest
import torch
import trainpairs as kit
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from spikeloom.neurons.base import UNITS
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.surrogate import SURROGATES

pytestmark = [kit.needs_compiler, pytest.mark.slow]
STATEFUL = [name for name in UNITS.names() if UNITS.find(name).stateful]
WITHIN = settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=[Phase.explicit, Phase.generate],  # each smaller example would be compiled, too
)
NUMBERS = st.floats(0.25, 2.0)


@st.composite
def units(draw):
    """Draw any registered unit with any value of its fields."""
    kind = UNITS.find(draw(st.sampled_from(STATEFUL)))
    fields = {
        "v_th": draw(NUMBERS),
        "reset": draw(st.sampled_from(["soft", "hard", "none"])),
        "order": draw(st.sampled_from(["after_fire", "next_step"])),
        "fires": draw(st.sampled_from([">=", ">"])),
        "fire_fraction": draw(st.sampled_from([1.0, 0.5, 0.8])),
        "detach_reset": draw(st.booleans()),
        "v_reset": draw(st.sampled_from([0.0, -0.3, 0.1])),
        "refractory": draw(st.integers(0, 2)),
        "beta": draw(st.sampled_from([0.0, 0.3, 0.9])),
        "scale_current": draw(st.booleans()),
        "surrogate": SURROGATES.find(draw(st.sampled_from(SURROGATES.names())))(),
        "learn": tuple(name for name in kind.learnable if draw(st.booleans())),
        "v_min": draw(st.sampled_from([None, -0.3, -1.0])),
        "v_init": draw(st.sampled_from([0.0, -0.3, 0.4])),
    }
    if draw(st.booleans()):
        fields |= {"max_spikes": draw(st.sampled_from([None, 2, 5])), "reset": "soft"}
        fields["refractory"] = 0
        fields["learn"] = tuple(name for name in fields["learn"] if name != "v_th")
    if issubclass(kind, LIF):
        fields["alpha"] = draw(st.floats(0.05, 0.95))
        fields["scale_input"] = draw(st.booleans())
    return kind(**fields)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@WITHIN
@given(unit=units(), data=st.data(), seed=st.integers(0, 999))
def test_any_unit_on_any_train(unit, dtype, data, seed):
    xs = data.draw(kit.currents(dtype))
    theta = kit.theta_of(unit, dtype, seed=seed)
    state = kit.state_of(unit, xs[0], seed) if data.draw(st.booleans()) else None
    kit.same(unit, xs, theta=theta, state=state, seed=seed)


@WITHIN
@given(unit=units(), data=st.data(), seed=st.integers(0, 999))
def test_any_unit_in_bfloat16(unit, data, seed):
    xs = data.draw(kit.currents(torch.bfloat16))
    theta = kit.theta_of(unit, torch.float32, seed=seed)
    with kit.no_fallback():
        got = kit.run(unit, xs, theta=theta, seed=seed, kernels="compiled")
    expected = kit.run(unit, xs.float(), theta=theta, seed=seed, kernels="reference")
    assert torch.equal(got.out, expected.out.bfloat16())
    assert all(map(torch.equal, got.finals, expected.finals))
    rounding = kit.ROUNDING[torch.bfloat16]
    assert kit.near(got.current, expected.current.bfloat16(), rounding)


@WITHIN
@given(unit=units(), data=st.data(), seed=st.integers(0, 999))
def test_any_unit_behind_a_constant_input_and_before_a_pool(unit, data, seed):
    shapes = st.sampled_from([(2, 3, 4, 4), (1, 2, 2, 8)])
    pool = data.draw(st.sampled_from([1, 2]))
    x = data.draw(kit.currents(shapes=shapes, steps=st.just(1)))
    xs = x.expand(data.draw(st.integers(2, 6)), *x.shape[1:])
    theta = kit.theta_of(unit, xs.dtype, seed=seed)
    expected, got = kit.both(unit, xs, theta=theta, pool=pool, seed=seed)
    assert torch.equal(got.out, expected.out)
    assert kit.near(got.current.sum(0), expected.current.sum(0), 1e-5)
