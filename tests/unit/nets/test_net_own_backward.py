"""A rule's own backward pass for layers and loops: BPTT written out by hand equals autograd's."""

import gc

import netkit as kit
import pytest
import torch

from spikeloom.base.errors import UnsupportedNet
from spikeloom.nets.execution import Execution
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.ops import Credited, Gradients, MeanCurrent, OnWeights, Ops, OwnBackward, cut
from spikeloom.nets.spec.grammar import parse
from spikeloom.nets.walk.own_backward import _Job
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.surrogate import Sigmoid

T, B = 7, 3
KERNELS = {
    "reference": Execution(kernels="reference", layout="rows"),
    "compiled": Execution(kernels="compiled", worth=0),
}


def edges(*ends: tuple[int, int, str, int]) -> str:
    parts = [f"{{source = {s}, target = {t}, layers = '{w}', delay = {d}}}" for s, t, w, d in ends]
    return f"{{feedback = [{', '.join(parts)}]}} "


def by_hand(component, trains, grad):
    r"""Backpropagation through time of dense layers of LIF neurons with a soft reset.

    With the potential u = alpha v + c, spikes s = H(u - v_th), and v = u - v_th s, and what comes
    from the next layer and from edges of delay d,

        g_s[t] = dL/ds[t] + W_next^T g_c[t] + sum W_edge^T g_c[t + d]
        g_c[t] = g_s[t] h(u) + g_v[t] (1 - v_th h(u)),   g_v[t-1] = alpha g_c[t].
    """
    body = [site for site in component.sites if site.role == "body"]
    at = {int(site.name.split(".")[0]): site for site in body}
    steps = len(grad)
    slopes, of_current, of_v = {}, {}, {}
    for site in body:
        v, rows = torch.zeros_like(grad[0][:, :1]), []
        for current, s in zip(trains.currents[site.name], trains.outputs[site.name], strict=True):
            u = site.unit.alpha * v + current
            rows.append(site.unit.surrogate.slope(u - site.unit.v_th, torch.tensor(1.0)))
            v = u - site.unit.v_th * s
        slopes[site.name] = torch.stack(rows)
        of_current[site.name] = torch.zeros_like(trains.currents[site.name])
        of_v[site.name] = 0.0
    for t in reversed(range(steps)):
        for row, site in reversed(list(enumerate(body))):
            if site is body[-1]:
                of_s = grad[t]
            else:
                of_s = of_current[body[row + 1].name][t] @ body[row + 1].synapse.weight
            for edge in component.edges:
                if at[edge.spec.source] is site and t + edge.spec.delay < steps:
                    target = of_current[at[edge.spec.target].name][t + edge.spec.delay]
                    of_s = of_s + target @ edge.sites[0].synapse.weight
            h = slopes[site.name][t]
            of_c = of_s * h + of_v[site.name] * (1 - site.unit.v_th * h)
            of_current[site.name][t] = of_c
            of_v[site.name] = site.unit.alpha * of_c
    trained = {}
    for site in body[1:]:
        credit(trained, site, of_current[site.name], trains)
    for edge in component.edges:
        after = of_current[at[edge.spec.target].name][edge.spec.delay :]
        credit(trained, edge.sites[0], after, trains)
    return Gradients(of_current[component.entrance.name], trained)


def credit(trained, site, of_current, trains):
    synapse = site.synapse
    trained[synapse.weight] = torch.einsum("tbo,tbi->oi", of_current, trains.inputs[site.name])
    trained[synapse.bias] = of_current.sum((0, 1))


HAND = Ops(sequence=OwnBackward(by_hand))

NETS = {
    "layers": "f5 f4 f3",
    "lateral": edges((0, 0, "f5", 1)) + "f5 f3",
    "lateral in the middle": edges((1, 1, "f6", 1), (1, 1, "f6", 3)) + "f5 f6 f4 f3",
    "over two layers": edges((2, 1, "f6", 2), (2, 2, "f4", 1)) + "f5 f6 f4 f5 f3",
    "two loops": edges((0, 0, "f5", 1), (2, 1, "f6", 1), (0, 1, "f6", 2)) + "f5 f6 f4 f3",
}


def net_of(text, kernels="reference"):
    spec = parse(text, unit=LIF(v_th=0.5, surrogate=Sigmoid(k=2.0)))
    net = SpikingNet(spec, (4,), seed=2, execution=KERNELS[kernels]).double()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.2)  # all layers fire
    return net


def train(*, constant=False):
    xs = 2 * torch.rand(T, B, 4, generator=kit.generator(1), dtype=torch.float64)
    return xs[:1].expand(xs.shape) if constant else xs


def results(net, xs, ops):
    xs = xs.detach().requires_grad_()
    out = net.run_by_layer(xs, ops)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    net.zero_grad()
    (out * weights).sum().backward()
    return [out.detach(), xs.grad, *(p.grad for p in net.parameters())]


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("constant", [False, True], ids=["train", "constant"])
@pytest.mark.parametrize("name", NETS)
def test_bptt_by_hand_is_autograds(name, constant, kernels):
    expected = results(net_of(NETS[name]), train(constant=constant), Ops())
    found = results(net_of(NETS[name], kernels), train(constant=constant), HAND)
    assert expected[0].any() and all(grad is not None and grad.any() for grad in expected[1:])
    assert torch.equal(found[0], expected[0])
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_an_edge_that_never_sends_has_trains_of_no_steps():
    net = net_of(edges((0, 0, "f5", 1), (0, 0, "f5", T + 2)) + "f5 f3")
    found = results(net, train(), HAND)
    expected = results(net_of(NETS["lateral"]), train(), Ops())
    for ours, theirs in zip(found, expected, strict=False):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert all(not grad.any() for grad in found[len(expected) :])


def test_graphs_are_freed():
    """What waits for a backward pass holds no reference to its own output."""
    out = net_of(NETS["lateral in the middle"]).run_by_layer(train(), HAND)
    assert any(isinstance(one, _Job) for one in gc.get_objects())
    del out
    assert not any(isinstance(one, _Job) for one in gc.get_objects())


def test_it_is_not_autograds_in_disguise():
    ops = Ops(sequence=OwnBackward(lambda *given: doubled(by_hand(*given))))
    found = results(net_of(NETS["lateral"]), train(), ops)
    expected = results(net_of(NETS["lateral"]), train(), Ops())
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(ours, 2 * theirs, rtol=1e-12, atol=1e-12)


def doubled(given):
    return Gradients(2 * given.currents, {key: 2 * value for key, value in given.trained.items()})


@pytest.mark.parametrize("constant", [False, True], ids=["train", "constant"])
def test_what_a_rule_sees_is_what_an_observer_sees(constant):
    net, kept = net_of(NETS["over two layers"]), []

    def backward(component, trains, grad):
        kept.append((component, trains))
        return by_hand(component, trains, grad)

    results(net, train(constant=constant), Ops(sequence=OwnBackward(backward)))
    seen = kit.Recorder()
    with net.observe(seen), torch.no_grad():
        net.run_by_layer(train())
        seen.seen.clear()
        net.run_by_layer(train(constant=constant))
    assert [[site.name for site in component.sites] for component, _ in kept] == [
        ["3.0.0"],
        ["1.0.0", "2.0.0", "feedback0.0.0", "feedback1.0.0"],
        ["0.0.0"],
    ]
    assert [[edge.number for edge in component.edges] for component, _ in kept] == [[], [0, 1], []]
    for component, trains in kept:
        for site in component.sites:
            parts = [parts for name, *parts in seen.seen if name == site.name]
            inputs, currents, outputs = (
                torch.cat([part[row] for part in parts]) for row in range(3)
            )
            assert torch.equal(
                trains.inputs[site.name], inputs.expand(trains.inputs[site.name].shape)
            )
            assert torch.equal(trains.currents[site.name], currents)
            assert torch.equal(trains.outputs[site.name], outputs)


def test_weights_before_a_loop_may_be_credited_with_a_trace():
    """As in ST-RSBP: a train-level error of the neuron times its spikes, and presynaptic traces."""

    def trace(visit, x):
        rows, parts = x.unflatten(0, (T, -1)), []
        for step in rows:
            parts.append(step + 0.5 * parts[-1] if parts else step)
        return torch.cat(parts)

    def backward(component, trains, grad):
        s = trains.outputs[component.entrance.name]
        delta = grad.sum(0)  # one error per neuron and train
        weight = component.edges[0].sites[0].synapse.weight
        return Gradients(delta * s, {weight: 7 * torch.ones_like(weight)})

    net, xs = net_of(edges((0, 0, "f5{bias = false}", 1)) + "f5 f3"), train()
    synapse = Credited(trace)
    ops = Ops(synapse=synapse, sequence=OwnBackward(backward))
    s = net.run_by_layer(xs, ops)
    s.sum().backward()
    synapse.flush()
    expected = torch.zeros_like(net.sites[0].synapse.weight)
    p = torch.zeros(B, 4, dtype=torch.float64)
    for t in range(T):
        p = 0.5 * p + xs[t]
        expected += T * s[t].detach().t() @ p  # delta = sum of T ones
    assert expected.any()
    torch.testing.assert_close(net.sites[0].synapse.weight.grad, expected)
    assert (net.sites[1].synapse.weight.grad == 7).all()


class TestRefusals:
    def refused(self, text, ops, match, *, training=True):
        net = SpikingNet(text, (4,)).double().train(training)
        with pytest.raises(UnsupportedNet, match=match):
            net.run_by_layer(train(), ops)

    @pytest.mark.parametrize("order", ["time", "step", "rates"])
    def test_orders_without_trains(self, order):
        net, xs = net_of(NETS["lateral"]), train()
        calls = {
            "time": lambda: net.run_by_time(xs, HAND),
            "step": lambda: net.step(xs[0], None, HAND),
            "rates": lambda: net.run_rates(xs[0], HAND),
        }
        with pytest.raises(UnsupportedNet, match="^net: expected a rule that leaves trains alone"):
            calls[order]()

    @pytest.mark.parametrize(
        "sequence",
        [
            lambda visit, currents: currents,
            MeanCurrent(lambda visit, n: (1 / n,) * n, lambda visit, n, z, theta, g: (g, {})),
        ],
        ids=["function", "mean current"],
    )
    def test_what_takes_single_layers_is_no_loops(self, sequence):
        match = r"^net\.feedback\.0: expected a loop .*, got a sequence for single layers"
        self.refused(NETS["lateral"], Ops(sequence=sequence), match)
        net = net_of(edges((0, 2, "f4", 1)) + "f5 f4 f4 f3")  # no loop: every layer is single
        assert net.run_by_layer(train(), Ops(sequence=sequence)).shape == (T, B, 4)

    @pytest.mark.parametrize(
        ("text", "more", "came"),
        [
            (NETS["lateral"], {"emit": lambda visit, s: s}, "a synapse or emit of the rule's"),
            (NETS["lateral"], {"synapse": OnWeights(lambda v, x: v.synapse(x))}, "a synapse or em"),
            (edges((0, 0, "f5", 1)) + "f5{dropout = 0.5} f3", {}, r"dropout inside it, in layer 0"),
            (
                edges((1, 1, "f5", 1)) + 'f5 [f5 f5]{join = "add"} f3',
                {},
                "a shortcut from its input, in block 1",
            ),
            (edges((1, 0, "f5", 1), (0, 2, "f6", 1)) + "f5 f4 f6 f3", {}, "edge 1, which leaves"),
            (edges((2, 1, "f4", 1), (0, 2, "f6", 1)) + "f5 f4 f6 f3", {}, "edge 1, which leaves"),
        ],
    )
    def test_what_the_backward_pass_would_not_see(self, text, more, came):
        ops = Ops(sequence=OwnBackward(by_hand), **more)
        self.refused(text, ops, rf"^net\.feedback\.0: expected a loop that .*, got {came}")

    def test_dropout_that_does_not_run_is_no_matter(self):
        net = SpikingNet(edges((0, 0, "f5", 1)) + "f5{dropout = 0.5} f3", (4,)).double().eval()
        assert net.run_by_layer(train(), HAND).shape == (T, B, 5)

    def test_a_carry_beside_it(self):
        ops = Ops(sequence=OwnBackward(by_hand), carry=cut)
        self.refused("f5 f3", ops, "leave states between steps alone, got one with a carry too")

    @pytest.mark.parametrize(
        ("text", "name"),
        [
            (NETS["lateral"], r"feedback0\.0\.0 synapse\.weight"),
            ('{default = {unit = {name = "lif", learn = ["v_th"]}}} f5 f3', r"0\.0\.0 neuron\.raw"),
        ],
    )
    def test_a_gradient_that_is_missing(self, text, name):
        ops = Ops(sequence=OwnBackward(lambda component, trains, grad: Gradients(grad)))
        out = SpikingNet(text, (4,)).double().run_by_layer(train(), ops)
        with pytest.raises(UnsupportedNet, match=f"^net layer {name}.*: expected its gradient"):
            out.sum().backward()

    def test_no_second_derivative(self):
        xs = train().requires_grad_()
        out = net_of(NETS["lateral"]).run_by_layer(xs, HAND)
        with pytest.raises(UnsupportedNet, match=r"nets\.ops\.OwnBackward"):
            torch.autograd.grad(out.sum(), xs, create_graph=True)
