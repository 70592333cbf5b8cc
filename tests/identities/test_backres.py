"""BackRes: a block computed n times with shared weights (methods/backres.md, sec. 7)."""

import pytest
import torch

from spikeloom.nets.module.fit import fit_channels
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.spec.grammar import parse
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.surrogate import Sigmoid

UNIT = LIF(alpha=0.9, surrogate=Sigmoid(2.0))
IN = (4, 8, 8)


def build(text: str, unit: LIF = UNIT, shape: tuple[int, ...] = IN) -> SpikingNet:
    return SpikingNet(parse(text, unit=unit), shape).double()


def train(steps: int, shape: tuple[int, ...] = IN, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(steps, 2, *shape, dtype=torch.float64, generator=draw)


def learn(net: SpikingNet, xs: torch.Tensor) -> torch.Tensor:
    """Run forward and backward on a loss that weighs every output differently."""
    out = net(xs)
    weight = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).reshape(out.shape)
    (out * weight).sum().backward()
    return out.detach()


def test_once_is_the_plain_block():
    """1: bit-identical output and gradient."""
    tied, plain = build("c4 [c4 c4]x1 P f3"), build("c4 c4 c4 P f3")
    xs = train(5)
    assert torch.equal(learn(tied, xs), learn(plain, xs))
    grads = [[value.grad for value in net.parameters()] for net in (tied, plain)]
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
    assert any(grad.abs().sum() > 0 for grad in grads[0])


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("repeats", [2, 3, 4])
@pytest.mark.parametrize("inside", ["c4", "c4 c4"])
def test_tied_passes_equal_untied_copies(repeats, inside, detach):
    """2: same outputs, and the gradient of W is the sum over its copies."""
    unit = LIF(alpha=0.9, surrogate=Sigmoid(2.0), detach_reset=detach)
    tied = build(f"c4 [{inside}]x{repeats} P f3", unit)
    untied = build(f"c4 {' '.join([inside] * repeats)} P f3", unit)
    layers = len(inside.split())
    copies: list[list] = [[] for _ in range(layers)]
    with torch.no_grad():
        for number, site in enumerate(untied.sites[1 : 1 + layers * repeats]):
            own = tied.plan.blocks[1].passes[0].sites[number % layers].synapse
            site.synapse.load_state_dict(own.state_dict())
            copies[number % layers].append(site.synapse)
        untied.sites[0].synapse.load_state_dict(tied.sites[0].synapse.state_dict())
    xs = train(6)
    assert torch.equal(learn(tied, xs), learn(untied, xs))
    for row, many in enumerate(copies):
        own = tied.plan.blocks[1].passes[0].sites[row].synapse
        assert len(many) == repeats and own.weight.grad.abs().sum() > 0
        for name in ("weight", "bias"):
            total = sum(getattr(one, name).grad for one in many)
            torch.testing.assert_close(getattr(own, name).grad, total, rtol=1e-12, atol=1e-12)


def test_parameters_do_not_grow_and_macs_are_affine():
    """3."""

    def parameters(repeat: int) -> int:
        return sum(value.numel() for value in build(f"c4 [c4]x{repeat} f3").parameters())

    def macs(repeat: int) -> int:
        total = 0
        for site in build(f"c4 [c4]x{repeat} P f3").sites:
            if site.spec.weighted:
                places = torch.Size(site.out_shape[1:]).numel()
                total += site.synapse.weight.numel() * places
        return total

    assert len({parameters(n) for n in (1, 2, 5)}) == 1
    one, two, five = macs(1), macs(2), macs(5)
    assert two - one == 4 * 4 * 9 * 64 and five - one == 4 * (two - one)


@pytest.mark.parametrize("repeats", [1, 2, 5])
def test_linear_block_is_a_matrix_power(repeats):
    """4: y_n = W^n x for 1x1 convs without neurons."""
    net = SpikingNet(parse(f"[c4k1]x{repeats}", unit=None, bias=False), IN).double()
    xs = train(2)
    power = torch.linalg.matrix_power(net.sites[0].synapse.weight[:, :, 0, 0], repeats)
    expected = torch.einsum("ij,tbjhw->tbihw", power, xs)
    torch.testing.assert_close(net(xs), expected.flatten(2))


class Spikes:
    """Keeps what every pass emits."""

    def __init__(self) -> None:
        self.by_site: dict[str, torch.Tensor] = {}

    def see(self, site, x_in, current, s_out) -> None:
        self.by_site[site.name] = s_out


class TestState:
    """5: every pass has its own neurons."""

    def test_zero_input_gives_no_spikes_at_any_pass(self):
        net, seen = build("[c4]x4 P f3"), Spikes()
        with net.observe(seen):
            net(torch.zeros(6, 2, *IN, dtype=torch.float64))
        passes = [spikes for name, spikes in seen.by_site.items() if name.startswith("0.")]
        assert len(passes) == 4 and not any(spikes.any() for spikes in passes)

    def test_thresholds_of_passes_cannot_be_exchanged(self):
        unit = LIF(alpha=0.9, learn=("v_th",))
        net, xs = build("[c4]x3 P f3", unit), train(6)
        neurons = [one.sites[0].neuron for one in net.plan.blocks[0].passes]
        assert len({id(neuron) for neuron in neurons}) == 3

        def run(*levels: float) -> torch.Tensor:
            with torch.no_grad():
                for neuron, level in zip(neurons, levels, strict=True):
                    neuron.raw_v_th.fill_(level)
            return net(xs)

        assert not torch.equal(run(0.5, 1.0, 1.5), run(1.5, 1.0, 0.5))
        assert torch.equal(run(0.5, 1.0, 1.5), run(0.5, 1.0, 1.5))

    def test_passes_keep_their_own_potential(self):
        net = build("[c4]x3 P f3")
        _, state = net.step(train(1)[0], None)
        potentials = [state.units[f"0.0.{turn}"].v for turn in range(3)]
        assert not torch.equal(potentials[0], potentials[1])
        assert not torch.equal(potentials[1], potentials[2])


class TestFit:
    """8: how channels re-enter."""

    kept = torch.tensor([0, 2, 3])

    def maps(self, channels: int, seed: int = 0) -> torch.Tensor:
        draw = torch.Generator().manual_seed(seed)
        return torch.rand(3, channels, 4, 4, generator=draw)

    @pytest.mark.parametrize("rule", ["none", "drop", "topk", "average"])
    def test_equal_widths_are_left_alone(self, rule):
        y = self.maps(6)
        assert fit_channels(y, 6, rule, None, None)[0] is y

    @pytest.mark.parametrize("rule", ["drop", "topk", "average"])
    def test_missing_channels_are_zeros(self, rule):
        y = self.maps(4)
        fitted, _ = fit_channels(y, 6, rule, None, None)
        assert torch.equal(fitted[:, :4], y) and not fitted[:, 4:].any()

    def test_drop_keeps_the_subset_in_order(self):
        y = self.maps(6)
        assert torch.equal(fit_channels(y, 3, "drop", self.kept, None)[0], y[:, self.kept])

    def test_drop_is_drawn_once_per_model(self):
        def kept(seed: int, number: str = "") -> torch.Tensor:
            text = f'{number}[c64]x3{{fit = "drop", fit_seed = {seed}}} f3'
            return next(iter(build(text, shape=(8, 4, 4)).plan.buffers()))

        assert torch.equal(kept(1), kept(1)) and not torch.equal(kept(1), kept(2))
        assert torch.equal(kept(1), kept(1).sort().values) and len(kept(1)) == 8

    def test_average_keeps_the_mean(self):
        y = self.maps(12)
        fitted, _ = fit_channels(y, 4, "average", None, None)
        torch.testing.assert_close(fitted.mean(1), y.mean(1))
        torch.testing.assert_close(fitted[:, 1], (y[:, 1] + y[:, 5] + y[:, 9]) / 3)

    def test_topk_of_sorted_channels_keeps_the_first(self):
        level = torch.arange(6, 0, -1.0).reshape(1, 6, 1, 1)
        y = self.maps(6) * 0.1 + level
        assert torch.equal(fit_channels(y, 4, "topk", None, None)[0], y[:, :4])

    def test_topk_keeps_kept_channels_in_order_per_sample(self):
        y = torch.zeros(2, 4, 2, 2)
        y[0, 3], y[0, 1], y[1, 0], y[1, 2] = 3.0, 2.0, 1.0, 5.0
        fitted, _ = fit_channels(y, 2, "topk", None, None)
        assert torch.equal(fitted[0], y[0, [1, 3]]) and torch.equal(fitted[1], y[1, [0, 2]])

    def test_topk_ties_go_to_the_lower_index(self):
        y = torch.ones(1, 5, 2, 2) * torch.tensor([1.0, 2, 2, 2, 1]).reshape(1, 5, 1, 1)
        _, state = fit_channels(y, 2, "topk", None, None)
        assert state is not None and state.channels.tolist() == [[1, 2]]

    def test_topk_chooses_at_the_first_active_step_and_stays(self):
        steps = torch.zeros(4, 2, 3, 2, 2)
        steps[1, 0, 2] = 1.0  # sample 0 wakes at step 1, sample 1 at step 2
        steps[2, 0, 0] = 9.0
        steps[2, 1, 1] = 1.0
        steps[3, 1, 0] = 9.0
        state, kept = None, []
        for y in steps:
            fitted, state = fit_channels(y, 1, "topk", None, state)
            kept.append(fitted[:, 0, 0, 0].tolist())
        assert kept == [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]
        assert state is not None and state.channels.tolist() == [[2], [1]]

    def test_topk_works_on_vectors(self):
        y = torch.tensor([[0.0, 3.0, 2.0], [1.0, 0.0, 4.0]])
        fitted, _ = fit_channels(y, 2, "topk", None, None)
        assert fitted.tolist() == [[3.0, 2.0], [1.0, 4.0]]

    @pytest.mark.parametrize("rule", ["drop", "topk", "average"])
    @pytest.mark.parametrize("width", [2, 8])
    def test_in_a_net_both_orders_agree(self, rule, width):
        net = build(f'c4 [c{width}]x3{{fit = "{rule}"}} P f3')
        with torch.no_grad():
            for value in net.parameters():
                value.mul_(2)  # so narrow a net needs strong weights to fire
        xs = train(5)
        by_time, by_layer = net.run_by_time(xs), net.run_by_layer(xs)
        assert torch.equal(by_time, by_layer) and by_time.any()

    @pytest.mark.parametrize("rule", ["drop", "topk"])
    def test_fitted_spikes_stay_spikes(self, rule):
        net, inputs = build(f'c4 [c8]x2{{fit = "{rule}"}} P f3'), {}

        class Inputs:
            def see(self, site, x_in, current, s_out) -> None:
                inputs[site.name] = x_in

        with net.observe(Inputs()):
            net(train(5))
        assert set(inputs["1.0.1"].unique().tolist()) <= {0.0, 1.0}
