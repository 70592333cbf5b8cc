"""What OTTT is equal to."""

import pytest
import torch
from rule_runs import NETS, Problem, T, total

from spikeloom.heads.stochmax import Stochmax
from spikeloom.nets.module.synapse import Synapse
from spikeloom.nets.ops import Ops
from spikeloom.neurons.base import detach_state
from spikeloom.neurons.integrate_fire import IF
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.surrogate import Triangle
from spikeloom.rules.bptt import Bptt
from spikeloom.rules.ottt import Ottt
from spikeloom.rules.sltt import Sltt

every_net = pytest.mark.parametrize("name", NETS)
both_inputs = pytest.mark.parametrize("view", [True, False], ids=["view", "copy"])


@every_net
def test_one_step_is_sltt(name):
    one = Problem(name, steps=1)
    one.same(one.learn(Ottt()), one.learn(Sltt()))


@both_inputs
@every_net
def test_without_trace_it_is_sltt(name, view):
    one = Problem(name, view=view)
    one.same(one.learn(Ottt(trace_decay=0.0)), one.learn(Sltt()))
    one.same(one.learn(Ottt(trace_decay=0.0, first_layer_trace=True)), one.learn(Sltt()))


@both_inputs
@every_net
def test_biases_and_the_first_layer_are_those_of_sltt(name, view):
    one = Problem(name, view=view)
    ottt, sltt = one.learn(Ottt()), one.learn(Sltt())
    untraced = {"net.plan.synapses.0_0.weight"} | {key for key in ottt if key.endswith("bias")}
    if name != "residual on the input":
        untraced |= {key for key in ottt if ".synapses.0_0." in key}
    one.same({key: ottt[key] for key in untraced}, {key: sltt[key] for key in untraced})


@pytest.mark.parametrize("name", NETS)
def test_the_readout_sees_a_trace(name):
    one = Problem(name)
    key = "head.synapses.readout.weight"
    assert not torch.equal(one.learn(Ottt())[key], one.learn(Sltt())[key])


@pytest.mark.parametrize("name", ["dense", "conv", "stride", "deep", "backres"])
def test_the_last_spiking_layer_is_that_of_bptt_with_detached_reset(name):
    unit = LIF(alpha=0.5, surrogate=Triangle(1.0, 1.0), detach_reset=True)
    one = Problem(name, unit=unit)
    key = f"net.plan.synapses.{len(one.net.plan.blocks) - 1}_0.weight"
    ottt, bptt = one.learn(Ottt()), one.learn(Bptt(loss="step"))
    one.same({key: ottt[key]}, {key: bptt[key]})
    readout = "head.synapses.readout.weight"
    assert not torch.equal(ottt[readout], bptt[readout])


def test_a_single_layer_with_its_own_trace_is_bptt_with_detached_reset():
    unit = LIF(alpha=0.5, surrogate=Triangle(1.0, 1.0), detach_reset=True)
    NETS["single"] = ("f8 f4", (6,))
    try:
        for view in (True, False):
            one = Problem("single", unit=unit, view=view)
            key = "net.plan.synapses.0_0.weight"
            ottt = one.learn(Ottt(first_layer_trace=True))
            bptt = one.learn(Bptt(loss="step"))
            one.same({key: ottt[key]}, {key: bptt[key]})
    finally:
        del NETS["single"]


@both_inputs
@every_net
def test_online_with_rate_zero_adds_up_to_the_batch_update(name, view):
    one = Problem(name, view=view)
    whole = one.learn(Ottt())
    parts = []

    def commit():
        parts.append(one.grads())
        one.clear()

    one.clear()
    Ottt(update="online").learn(one.net, one.batch, one.objective(), commit)
    assert len(parts) == T
    one.same(whole, total(parts))


@pytest.mark.parametrize("decay", [0.5, 0.25])
def test_the_trace_of_a_constant_input_has_its_closed_form(decay, monkeypatch):
    seen = []
    original = Synapse.credited

    def credited(self, x, presynaptic, into=None):
        if self.in_shape == (6,):
            seen.append(presynaptic.clone())
        return original(self, x, presynaptic, into)

    monkeypatch.setattr(Synapse, "credited", credited)
    one = Problem("dense", view=True)
    one.learn(Ottt(first_layer_trace=True, trace_decay=decay))
    x = one.batch.xs[0]
    assert len(seen) == T
    for t, trace in enumerate(seen, 1):
        assert torch.allclose(trace, x * (1 - decay**t) / (1 - decay), rtol=1e-15, atol=0)


def by_hand(one: Problem) -> dict[str, torch.Tensor]:
    """Return OTTT's weight gradients from deltas of plain autograd and traces kept here."""
    traces, weights = {}, {}
    one.clear()
    objective, state = one.objective(), None
    for x in one.batch.xs:
        calls = []

        def synapse(visit, x, calls=calls):
            site = visit.site
            y = site.synapse(x)
            if site.spec.weighted:
                y.retain_grad()
                calls.append((site, x.detach(), y))
            return y

        ops = Ops(synapse=synapse, carry=lambda visit, state: detach_state(state))
        h, state = one.net.step(x, state, ops, rng=one.batch.rng)
        (objective(h, ops).value / T).backward()
        for site, value, y in calls:
            owner = site.upstream or site
            decay = getattr(owner.unit, "alpha", 0.0)
            if site.external:
                decay = 0.0
            traces[site.name] = decay * traces.get(site.name, 0.0) + value
            leaf = site.synapse.effective_weight().detach().requires_grad_()
            out = site.synapse.apply_map(traces[site.name], leaf, None)
            (grad,) = torch.autograd.grad(out, leaf, y.grad)
            weights.setdefault(site.synapse, []).append(grad)
    found = {}
    for synapse, grads in weights.items():
        raw = [synapse.weight, *synapse.shaping.parameters()]
        parts = torch.autograd.grad(synapse.effective_weight(), raw, sum(grads))
        for parameter, part in zip(raw, parts, strict=True):
            name = next(key for key, other in one.named() if other is parameter)
            found[name] = part
    return found


@both_inputs
@every_net
def test_every_weight_gradient_is_delta_times_trace(name, view):
    one = Problem(name, view=view)
    ottt = one.learn(Ottt())
    slow = by_hand(one)
    assert sum(key.endswith("weight") for key in slow) >= 2
    one.same({key: ottt[key] for key in slow}, slow)


@pytest.mark.parametrize(
    "rule",
    [Ottt(trace_decay=0.5), Ottt(first_layer_trace=True), Ottt(), Sltt()],
    ids=["decay given", "first layer too", "plain", "sltt"],
)
@every_net
def test_a_constant_view_gives_the_gradients_of_a_copied_input(name, rule):
    one = Problem(name, view=True)
    view = one.learn(rule)
    copy = one.with_input(one.batch.xs.clone()).learn(rule)
    one.same(view, copy)


def test_every_map_of_a_head_sees_the_trace():
    one = Problem("dense")
    one.head = Stochmax.of(one.net, seed=3).double()
    ottt, sltt = one.learn(Ottt()), one.learn(Sltt())
    for name in Stochmax.maps:
        key = f"head.synapses.{name}.weight"
        assert not torch.equal(ottt[key], sltt[key]), name
        assert torch.equal(ottt[f"head.synapses.{name}.bias"], sltt[f"head.synapses.{name}.bias"])


def test_the_trace_of_neurons_without_leak_counts():
    unit = IF(surrogate=Triangle(1.0, 1.0))
    one = Problem("dense", unit=unit)
    one.same(one.learn(Ottt()), one.learn(Ottt(trace_decay=1.0)))
