"""The module around units: what it owns, refuses and keeps; fields of units; precision."""

import pytest
import torch
from torch import nn

from spikeloom.base.errors import ConfigError, ShapeError
from spikeloom.neurons.base import UNITS, Unit, detach_state, map_state, state_zeros
from spikeloom.neurons.integrate_fire import IF, SpikingState
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.module import Neuron
from spikeloom.neurons.relu import Relu

FULL = LIF(alpha=0.5, order="next_step", beta=0.5, refractory=2, scale_current=True)
BAD = [
    (IF, "v_th", 0.0, "a threshold above 0"),
    (IF, "v_th", float("nan"), "a finite number"),
    (IF, "v_th_min", 2.0, "a bound in"),
    (IF, "v_th_min", 0.0, "a bound in"),
    (IF, "fire_fraction", 0.0, "a fraction above 0"),
    (IF, "refractory", -1, "a number of steps"),
    (IF, "beta", 1.0, r"a decay in \[0, 1\)"),
    (IF, "beta", -0.1, r"a decay in \[0, 1\)"),
    (IF, "reset", "sofft", "one of soft, hard, none"),
    (IF, "order", "before", "after_fire or next_step"),
    (IF, "fires", "=", ">= or >"),
    (IF, "v_reset", float("inf"), "a finite number"),
    (IF, "learn", ("alpha",), r"names from \['v_th'\]"),
    (IF, "max_spikes", 0, "1 or more, or None"),
    (IF, "v_min", 0.25, "a bound at most 0 and v_reset"),
    (IF, "v_init", float("inf"), "a finite number"),
    (LIF, "learn", ("tau",), r"names from \['alpha', 'v_th'\]"),
    (LIF, "alpha", 1.5, r"a decay in \[0, 1\]"),
    (LIF, "alpha", -0.5, r"a decay in \[0, 1\]"),
]


@pytest.mark.parametrize(("unit", "name", "value", "expected"), BAD)
def test_bad_fields_are_refused_by_name(unit, name, value, expected):
    with pytest.raises(ConfigError, match=rf"^neurons.{unit.__name__}.{name}: expected {expected}"):
        unit(**{name: value})


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"reset": "hard"}, "reset: expected soft where max_spikes is 3, got 'hard'"),
        ({"reset": "none"}, "reset: expected soft where max_spikes is 3, got 'none'"),
        ({"refractory": 1}, "refractory: expected no steps where max_spikes is 3, got 1"),
        ({"learn": ("v_th",)}, r"learn: expected a fixed v_th where max_spikes is 3"),
    ],
)
def test_what_says_nothing_of_several_spikes_is_refused(fields, line):
    with pytest.raises(ConfigError, match=f"^neurons.LIF.{line}"):
        LIF(max_spikes=3, **fields)


def test_a_bound_above_where_a_reset_leads_is_refused():
    with pytest.raises(ConfigError, match=r"^neurons.IF.v_min: .*, got -0.25; change it"):
        IF(reset="hard", v_reset=-0.5, v_min=-0.25)
    with pytest.raises(ConfigError, match=r"v_init: expected a potential of v_min = -0.25 or more"):
        IF(v_min=-0.25, v_init=-0.5)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_trained_decay_starts_inside_its_range(alpha):
    with pytest.raises(ConfigError, match=r"^neurons.LIF.alpha: expected a start in \(0, 1\)"):
        LIF(alpha=alpha, learn=("alpha",))


@pytest.mark.parametrize("name", UNITS.names())
class TestEveryUnit:
    def test_is_a_frozen_hashable_value(self, name):
        kind = UNITS.find(name)
        unit = kind()
        assert isinstance(unit, Unit)
        assert unit == kind() and hash(unit) == hash(kind())
        with pytest.raises(AttributeError):
            unit.v_th = 2

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
    def test_keeps_the_type_and_shape_of_its_current(self, name, dtype):
        xs = torch.rand(4, 2, 3, 5, 5, dtype=dtype)
        out, state = Neuron(UNITS.find(name)()).run(xs)
        assert out.shape == xs.shape and out.dtype == dtype and out.device == xs.device
        kinds = []
        map_state(state, lambda part: kinds.append((part.dtype, part.shape)))
        assert set(kinds) <= {(dtype, xs.shape[1:])}

    def test_samples_and_neurons_do_not_meet(self, name):
        xs = torch.rand(5, 4, 6, dtype=torch.float64) * 2
        neuron = Neuron(UNITS.find(name)())
        rows, columns = [2, 0, 3], [5, 1]
        some = neuron(xs[:, rows][:, :, columns])
        assert torch.equal(some, neuron(xs)[:, rows][:, :, columns])

    def test_does_not_write_into_its_input(self, name):
        xs = torch.rand(3, 2, 4)
        before = xs.clone()
        Neuron(UNITS.find(name)())(xs)
        assert torch.equal(xs, before)

    def test_spikes_where_it_says_so(self, name):
        unit = UNITS.find(name)()
        out = Neuron(unit)(torch.rand(5, 3, 7) * 2)
        binary = set(out.unique().tolist()) <= {0.0, 1.0}
        assert binary == unit.spiking
        assert (unit.init(torch.zeros(1)) is not None) == unit.stateful


@pytest.mark.parametrize("unit", [LIF(), IF(reset="hard"), FULL, Relu()], ids=repr)
def test_a_state_carried_on_is_one_long_run(unit):
    xs = torch.rand(9, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 2
    neuron = Neuron(unit)
    whole, _ = neuron.run(xs)
    first, state = neuron.run(xs[:4])
    second, _ = neuron.run(xs[4:], state)
    assert torch.equal(torch.cat([first, second]), whole)
    assert torch.equal(neuron(xs), whole)  # starts clean: nothing was left behind


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_currents_keep_a_float32_state(dtype):
    xs = torch.full((6, 1, 2), 1 / 3).to(dtype)
    state = FULL.init(xs[0])
    for x in xs:
        _, state = FULL.step(state, x, {})
        assert {part.dtype for part in state} == {torch.float32}
    assert state_zeros(xs).dtype == torch.float32
    exact = [IF().step(IF().init(x), x, {})[1].v for x in xs]
    s, _ = Neuron(IF(v_th=50.0)).run(xs.expand(6, 1, 2))
    assert s.sum() == 0 and exact[0].dtype == torch.float32
    long = torch.full((400, 1, 1), 1 / 256, dtype=dtype)
    _, end = Neuron(IF(v_th=2.0)).run(long)
    assert end.v.item() == 400 / 256  # bfloat16 itself would stop growing at 1


def test_a_state_of_another_shape_is_refused():
    unit = LIF()
    state = unit.init(torch.zeros(2, 3))
    with pytest.raises(ShapeError, match=r"^neurons.LIF: .*\(2, 3\), got \(4, 3\); start with"):
        unit.step(state, torch.zeros(4, 3), {})


def test_currents_without_batch_are_refused():
    with pytest.raises(ShapeError, match=r"^neurons.Neuron: expected currents \[T, B, ...\]"):
        Neuron(LIF())(torch.zeros(3))


def test_training_per_channel_needs_the_number_of_channels():
    with pytest.raises(ConfigError, match=r"^neurons.Neuron: expected channels for IF .*channels="):
        Neuron(IF(learn=("v_th",), per_channel=True))
    assert not list(Neuron(IF(per_channel=True)).parameters())


def test_what_a_neuron_owns():
    assert not Neuron(LIF()).state_dict()
    scalar = Neuron(LIF(v_th=1.5, alpha=0.25, learn=("v_th", "alpha")), channels=3)
    assert {k: tuple(v.shape) for k, v in scalar.state_dict().items()} == {
        "raw_v_th": (),
        "raw_alpha": (),
    }
    theta = scalar.theta()
    assert theta["v_th"].item() == 1.5
    assert theta["alpha"].item() == pytest.approx(0.25, abs=1e-7)
    per_channel = Neuron(IF(learn=("v_th",), per_channel=True), channels=3, spatial=2)
    assert per_channel.raw_v_th.shape == (3, 1, 1)
    assert repr(LIF()) in repr(Neuron(LIF()))


def test_a_trained_decay_stays_inside_whatever_its_parameter():
    neuron = Neuron(LIF(learn=("alpha",))).double()
    with torch.no_grad():
        neuron.raw_alpha.fill_(30.0)
    assert 0.999999 < neuron.theta()["alpha"].item() < 1
    with torch.no_grad():
        neuron.raw_alpha.fill_(-30.0)
    assert 0 < neuron.theta()["alpha"].item() < 1e-6


def test_project_brings_thresholds_back_and_nothing_else():
    neuron = Neuron(LIF(learn=("v_th", "alpha"), per_channel=True, v_th_min=0.25), channels=3)
    with torch.no_grad():
        neuron.raw_v_th.copy_(torch.tensor([-1.0, 0.1, 2.0]))
        neuron.raw_alpha.copy_(torch.tensor([-5.0, 0.0, 5.0]))
    neuron.project()
    assert neuron.raw_v_th.tolist() == [0.25, 0.25, 2.0]
    assert neuron.raw_alpha.tolist() == [-5.0, 0.0, 5.0]
    Neuron(IF()).project()


def test_detaching_a_state_keeps_values_and_structure():
    xs = torch.rand(2, 3, requires_grad=True)
    _, state = FULL.step(FULL.init(xs), xs, {})
    cut = detach_state(state)
    assert isinstance(cut, SpikingState) and not any(part.requires_grad for part in cut)
    assert all(torch.equal(a, b) for a, b in zip(cut, state, strict=True))
    _, plain = IF().step(IF().init(xs), xs, {})
    assert detach_state(plain)[1:] == (None, None, None)
    assert detach_state(None) is None


def test_neurons_train_inside_a_plain_torch_model():
    torch.manual_seed(0)
    x = torch.randint(0, 2, (32, 6), dtype=torch.float32)
    y = (x[:, 0] != x[:, 1]).long()
    unit = LIF(alpha=0.5, learn=("v_th", "alpha"), per_channel=True)
    model = nn.Sequential(nn.Linear(6, 24), Neuron(unit, channels=24), nn.Linear(24, 2))
    start = {name: part.detach().clone() for name, part in model.named_parameters()}
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    losses = []
    for _ in range(60):
        out = model(x.expand(5, 32, 6)).mean(0)
        loss = nn.functional.cross_entropy(out, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model[1].project()
        losses.append(loss.item())
    assert losses[-1] < 0.1 < losses[0]
    moved = {name for name, part in model.named_parameters() if not torch.equal(part, start[name])}
    assert moved == set(start)
