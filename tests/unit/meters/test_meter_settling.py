import pytest
import torch

from spikeloom.base.errors import ConfigError, UnsupportedNet
from spikeloom.meters.settling import settling
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.spec.grammar import parse
from spikeloom.nets.walk.edge_rates import EdgeRates
from spikeloom.neurons.integrate_fire import IF
from spikeloom.neurons.leaky import LIF

TEXTS = {
    "lateral": '{feedback = [{source = 0, target = 0, layers = "f8", restrict = 0.8}]} f8 f3',
    "deep": '{feedback = [{source = 1, target = 0, layers = "f8", restrict = 0.8}]} f8 f6 f3',
}


def net_of(text, unit):
    return SpikingNet(parse(text, unit=unit), (5,)).double()


def inputs(steps, *, constant=True):
    generator = torch.Generator().manual_seed(1)
    xs = torch.rand(1 if constant else steps, 4, 5, generator=generator, dtype=torch.float64)
    return 2 * xs.expand(steps, -1, -1)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_rates_come_to_rest_like_one_over_t(text):
    found = settling(net_of(text, IF(v_th=2.0)), inputs(400))
    assert len(found.residuals) == len(found.rates) == 400
    assert 0.01 < found.rates[-1] < 1
    # v_th (a - f(a)) = -(W s[t] + v[t]) / t where nothing saturates
    assert max(t * one for t, one in enumerate(found.residuals, 1)) < 2
    assert found.residuals[399] < found.residuals[19] / 5


@torch.no_grad()
@pytest.mark.parametrize("unit", [IF(v_th=2.0), LIF(v_th=2.0, alpha=0.9)], ids=["if", "lif"])
def test_residuals_are_those_of_the_equation_written_out(unit):
    """For one layer, f(a) = clamp((W a + F x) / v_th, 0, 1), with rates as the unit leaks."""
    net, xs = net_of(TEXTS["lateral"], unit).eval(), inputs(12, constant=False)
    found = settling(net, xs)
    weight = net.plan.edges[0].sites[-1].synapse.effective_weight()
    first = net.sites[0].synapse
    spikes, state = [], None
    for frame in xs:
        _, state = net.step(frame, state)
        spikes.append(state.feedback[0][-1])
    for t in (1, 5, 12):
        age = torch.arange(t - 1, -1, -1, dtype=torch.float64)
        share = unit.alpha**age / (unit.alpha**age).sum()
        a = torch.tensordot(share, torch.stack(spikes[:t]), 1)
        x = torch.tensordot(share, xs[:t], 1)
        expected = ((a @ weight.T + first(x)) / 2).clamp(0, 1)
        assert found.rates[t - 1] == pytest.approx(float(a.mean()), rel=1e-9)
        gap = float((expected - a).abs().mean())
        assert found.residuals[t - 1] == pytest.approx(gap, rel=1e-9)


def test_measuring_leaves_the_mode_and_no_trace():
    net = net_of(TEXTS["lateral"].replace("f8 f3", 'f8{norm = "batch_step"} f3'), IF())
    net.train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    settling(net, inputs(6))
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_unit_without_a_law_is_refused():
    unit = LIF(reset="hard", v_reset=-0.2)
    with pytest.raises(ConfigError, match="hard reset"):
        settling(net_of(TEXTS["lateral"], unit), inputs(3))


def test_rates_of_edges_are_means_over_time():
    net, state = net_of(TEXTS["deep"], IF()), None
    rates, sent = EdgeRates(net), []
    for frame in inputs(9, constant=False):
        _, state = net.step(frame, state)
        rates.add(state)
        sent.append(state.feedback[0][-1])
    assert torch.allclose(rates.values[0], torch.stack(sent).mean(0), rtol=1e-12)


def test_a_trained_decay_is_refused_and_modes_are_put_back():
    with pytest.raises(UnsupportedNet, match="expected fixed decays in layer 0.*alpha"):
        settling(net_of(TEXTS["lateral"], LIF(learn=("alpha",))), inputs(3))
    net = net_of(TEXTS["deep"].replace("f8 f6", 'f8{norm = "batch_step"} f6'), IF()).train()
    (norm,) = [one for one in net.modules() if isinstance(one, torch.nn.BatchNorm1d)]
    norm.eval()
    settling(net, inputs(3))
    assert net.training and not norm.training
