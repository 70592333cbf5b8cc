"""Meters and initial weights of a user's own unit: by what it declares, or as is stated."""

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from ownlif import BAR, LEAK, OURS, Bare, BareMisnamed, Faster, Misnamed, Told

from spikeloom.base.errors import ConfigError, UnsupportedNet
from spikeloom.kernels.levels import pack
from spikeloom.measure.probe import _Watcher
from spikeloom.meters.base import watch
from spikeloom.meters.firing import FiringMeter
from spikeloom.meters.operations import OperationMeter
from spikeloom.meters.settling import settling
from spikeloom.nets.module.init import weight_scale
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.spec.grammar import parse
from spikeloom.nets.spec.layer import LayerSpec
from spikeloom.nets.spec.net import BlockSpec
from spikeloom.neurons.declared import (
    DECLARATIONS,
    FIRING_THRESHOLD,
    RATE_CLAMP,
    TRACE_DECAY,
    NoRateClamp,
    Outputs,
)
from spikeloom.neurons.integrate_fire import IF
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.module import Neuron
from spikeloom.neurons.spike import spike


class TestFigures:
    """Meters and initial weights: by what is declared, or in the way that is stated."""

    def sites(self, unit: Any) -> SpikingNet:
        return SpikingNet(parse("f6 f5 f3", unit=unit), (4,)).eval()

    def test_initial_weights(self):
        ours = self.sites(OURS).state_dict()
        for unit in (Told(), Misnamed()):
            for name, value in self.sites(unit).state_dict().items():
                assert torch.equal(value, ours[name])
        for unit in (Bare(), BareMisnamed(), Faster(alpha=LEAK, v_th=BAR)):
            assert weight_scale(self.sites(unit).sites[0]) == 3.0  # the plain scale

    def test_operations_and_firing(self):
        xs = 2 * torch.rand(5, 7, 4, generator=torch.Generator().manual_seed(0))
        found = {}
        for unit in (OURS, Told(), Misnamed(), Bare(), Faster(alpha=LEAK, v_th=BAR)):
            net, firing, costs = self.sites(unit), FiringMeter(), OperationMeter()
            net.load_state_dict(self.sites(OURS).state_dict())
            with watch(net, xs, firing, costs):
                net(xs)
            found[type(unit).__name__] = (firing.read(), costs.read().sites)
        assert found["Told"] == found["Misnamed"] == found["LIF"]
        steps = 5 * 7 * 6
        for name in ("Bare", "Faster"):  # charged the most
            site = found[name][1][0]
            counts = (site.state_mac, site.state_ac, site.state_compare)
            assert counts == (3 * steps, steps, 2 * steps)
        assert found["Bare"][0] == found["LIF"][0]

    def test_a_pause_and_several_spikes(self):
        """Of 5 steps with one between, 3 can fire; with 2 spikes allowed, only 2 are full."""
        always = torch.full((5, 1, 1), 40.0)
        for words, full in [
            ({}, 1),
            ({"most_firings": lambda self, steps: steps + 1}, 0),
            ({"outputs": Outputs(0, 2)}, 0),
            ({"outputs": Outputs(0, None)}, 0),
        ]:
            net = SpikingNet(parse("f1 f2", unit=type("Own", (Told,), words)()), (1,)).eval()
            with torch.no_grad():
                net.sites[0].synapse.weight.fill_(1.0)
            meter = FiringMeter()
            with watch(net, always, meter):
                net(always)
            assert meter.read()[0].full == full

    def test_ternary_outputs_are_counted_by_their_size(self):
        """Currents 1, -1, 0.25, -1 of one neuron: outputs 1, -1, 0, -1; three fan-outs each."""

        @dataclass(frozen=True)
        class Ternary(Bare):
            outputs: ClassVar[Outputs] = Outputs(-1, 1)

            def step(self, state, current, theta):
                up, down = spike(current - 0.5, self.slope), spike(-current - 0.5, self.slope)
                return up - down, state

        xs = torch.tensor([1.0, -1.0, 0.25, -1.0]).view(4, 1, 1)
        firing, costs = FiringMeter(), OperationMeter()
        net = SpikingNet(parse("f1 f3{unit = 'none'} f2", unit=Ternary()), (1,)).eval()
        with torch.no_grad():
            net.sites[0].synapse.weight.fill_(1.0)
        with watch(net, xs, firing, costs):
            net(xs)
        record = costs.read()
        assert record.sites[0].spikes_out == 3 and record.sites[1].ac == 3 * 3
        assert record.sites[1].mac == 0
        assert firing.read()[0].rate_per_step == 0.75 and firing.read()[0].silent == 0

    def test_ternary_signals_are_packed_right_or_not_at_all(self):
        x = torch.randint(-1, 2, (64, 1024), generator=torch.Generator().manual_seed(0)).float()
        packed = pack(x)
        assert packed is None or torch.equal(packed.unpacked(), x)

    @pytest.mark.parametrize("join", ["and", "iand"])
    def test_gates_want_zeros_and_ones(self, join):
        many = LayerSpec("linear", 4, unit=IF(max_spikes=3))
        with pytest.raises(
            ConfigError, match="block.join: expected units whose outputs are 0 or 1"
        ):
            BlockSpec((many,), join=join)
        BlockSpec((many,), join="add")
        BlockSpec((LayerSpec("linear", 4, unit=Bare()),), join=join)

    def test_amplitude_by_a_threshold_of_any_name(self):
        for unit in (Told(), Misnamed()):
            layer = LayerSpec("linear", 4, unit=unit, amplitude="v_th", gain=3.0)
            net = SpikingNet(
                parse("f4 f2").map_layers(lambda one, layer=layer: layer if one.out == 4 else one),
                (2,),
            )
            assert net.sites[0].amplitude() == 3.0 * BAR
        for unit in (Bare(), BareMisnamed(), Faster()):
            with pytest.raises(ConfigError, match="a unit with a threshold, declared as"):
                LayerSpec("linear", 4, unit=unit, amplitude="v_th")

    def test_settling(self):
        text = '{feedback = [{source = 0, target = 0, layers = "f4", restrict = 1.0}]} f4 f2'
        xs = torch.rand(5, 2, 3, generator=torch.Generator().manual_seed(0))
        nets = {
            unit: SpikingNet(parse(text, unit=unit), (3,)) for unit in (OURS, Told(), Misnamed())
        }
        found = [settling(net, xs) for net in nets.values()]
        assert found[0] == found[1] == found[2]
        for unit in (Bare(), Faster()):
            with pytest.raises(
                UnsupportedNet, match="meters.settling: expected neurons that declare"
            ):
                settling(SpikingNet(parse(text, unit=unit), (3,)), xs)

    def test_recordings(self):
        currents = torch.rand(5, 2, 3, generator=torch.Generator().manual_seed(0))
        ours = Neuron(OURS).record(currents)
        for unit in (Told(), Misnamed()):
            own = Neuron(unit).record(currents)
            assert torch.equal(own.u, ours.u) and torch.equal(own.states.q, ours.states.v)
        assert Neuron(Bare()).record(currents).u is None
        assert Neuron(Faster()).record(currents).u is None

    def test_potentials_and_levels_on_the_page(self):
        xs, shown = torch.rand(5, 2, 4), {"0.0.0": [1, 3]}
        for unit, steps, level in [(OURS, 5, BAR), (Told(), 5, BAR), (Misnamed(), 5, BAR)] + [
            (unit, 0, None) for unit in (Bare(), BareMisnamed(), Faster(alpha=LEAK, v_th=BAR))
        ]:
            net, watcher = self.sites(unit), _Watcher(shown, shown)
            with net.observe(watcher):
                net(xs)
            trace = watcher.traces["0.0.0"]
            assert len(trace.u) == steps
            assert trace.level is None if level is None else trace.level.tolist() == [BAR, BAR]

    def test_bounds_of_trained_quantities(self):
        for unit, low, high in ((Told(learn=("bar",)), 0.125, 2.0), (Bare(learn=("bar",)), -1, 5)):
            neuron = Neuron(unit)
            for value, kept in ((-1.0, low), (5.0, high), (0.25, 0.25)):
                with torch.no_grad():
                    neuron.raw_bar.fill_(value)
                neuron.project()
                assert neuron.raw_bar.item() == kept


def test_every_declaration_is_made_by_ours_and_the_table_lists_it():
    from spikeloom.neurons import declared

    for declaration in DECLARATIONS:
        assert declaration.of(IF()) is not None and declaration.of(LIF()) is not None
        assert declaration.of(Told()) is not None
        assert declaration.of(Bare()) is None
        assert (declaration.of(Faster()) is None) == declaration.of_step
        assert f"``{declaration.name}" in declared.__doc__
    assert TRACE_DECAY.of(LIF(beta=0.5, alpha=0.5)) is None
    assert isinstance(RATE_CLAMP.of(IF(refractory=1)), NoRateClamp)
    assert FIRING_THRESHOLD.of(LIF(v_th=2.0))({}) == 2.0
