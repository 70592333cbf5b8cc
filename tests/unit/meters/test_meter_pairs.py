import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from metering import bernoulli

from spikeloom.meters._pairs import fan_out, formula, pairs
from spikeloom.nets.module.synapse import Synapse
from spikeloom.nets.spec.layer import LayerSpec


def layer(kind, out, in_shape, **fields):
    spec = LayerSpec(kind, out, bias=False, unit=None, **fields)
    synapse = Synapse(spec, in_shape, "here")
    torch.nn.init.ones_(synapse.weight)
    return synapse


def counted_by_loops(kind, size, out, kernel, stride, padding):
    """Pairs along one axis, with every pair listed."""
    if kind == "conv":
        reached = (stride * o + k - padding for o in range(out) for k in range(kernel))
        return sum(0 <= i < size for i in reached)
    reached = (stride * i + k - padding for i in range(size) for k in range(kernel))
    return sum(0 <= o < out for o in reached)


@given(
    kind=st.sampled_from(["conv", "conv_transpose"]),
    size=st.integers(3, 7),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 1),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
@settings(max_examples=60)
def test_closed_form_equals_loops_and_fan_out(kind, size, kernel, stride, padding, channels):
    if padding >= kernel or (kind == "conv" and kernel > size + 2 * padding):
        return
    if kind == "conv_transpose" and (size - 1) * stride - 2 * padding + kernel < 1:
        return
    n, m = channels
    synapse = layer(kind, m, (n, size, size), kernel=kernel, stride=stride, padding=padding)
    axis = counted_by_loops(kind, size, synapse.out_shape[1], kernel, stride, padding)
    assert pairs(synapse) == n * m * axis**2
    assert fan_out(synapse).sum().item() == pairs(synapse)
    assert fan_out(synapse).numel() == n * size * size


@pytest.mark.parametrize(("side", "ratio"), [(4, 0.694), (8, 0.840), (16, 0.918), (32, 0.959)])
def test_padding_makes_the_formula_too_high(side, ratio):
    synapse = layer("conv", 5, (2, side, side))
    exact = ((3 * side - 2) / (3 * side)) ** 2
    assert pairs(synapse) / formula(synapse) == pytest.approx(exact, rel=1e-12)
    assert exact == pytest.approx(ratio, abs=5e-4)


def test_formula_is_eq_8():
    assert formula(layer("conv", 7, (3, 9, 9), kernel=3, stride=2)) == 5 * 5 * 3 * 9 * 7
    assert formula(layer("linear", 7, (3, 2, 2))) == 12 * 7
    assert formula(layer("conv_transpose", 7, (3, 4, 4), kernel=2, stride=2)) == 16 * 3 * 4 * 7
    pool = Synapse(LayerSpec("avg_pool"), (3, 4, 4), "here")
    assert (formula(pool), pairs(pool)) == (0, 0)


def test_zero_weights_do_not_fan_out():
    synapse = layer("linear", 3, (3,))
    with torch.no_grad():
        synapse.weight.copy_(torch.tensor([[1.3, 0, -3.2], [0, 1.2, -5.1], [-1.1, 2.7, 0]]))
    assert fan_out(synapse).tolist() == [2, 2, 2]
    conv = layer("conv", 1, (1, 3, 3), kernel=2, padding=0)
    with torch.no_grad():
        conv.weight[0, 0, 0, 0] = 0
    assert fan_out(conv).tolist() == [0, 1, 1, 1, 3, 2, 1, 2, 1]


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("conv", {"kernel": 3}),
        ("conv", {"kernel": 3, "padding": 0}),
        ("conv", {"kernel": 2, "stride": 2, "padding": 0}),
        ("conv", {"kernel": 3, "stride": 2}),
        ("conv_transpose", {"kernel": 3, "stride": 2, "output_padding": 1}),
        ("linear", {}),
    ],
)
def test_event_view_equals_conv_view(kind, fields):
    """Sum over spikes of their fan-out = the map's outputs under weights of one."""
    synapse = layer(kind, 3, (2, 6, 6), **fields)
    spikes = bernoulli(4, 2, 6, 6)
    events = 0.0
    for sample, position in spikes.flatten(1).nonzero().tolist():
        one = torch.zeros_like(spikes[:1])
        one.view(-1)[position] = 1
        events += synapse(one).sum().item()
        assert sample < 4
    assert events == synapse(spikes).sum().item()
    assert events == (spikes.flatten(1).double() @ fan_out(synapse)).sum().item()


def test_fan_out_under_inference_mode_and_autocast():
    synapse = layer("conv", 300, (2, 6, 6))
    plain = fan_out(synapse)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(fan_out(synapse), plain)
    assert plain.max() == 2700
