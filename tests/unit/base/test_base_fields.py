"""What a user gives is what a field says, or one clear error, in every value a user can make."""

import copy
import dataclasses
import math
import pickle
import typing
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from spikeloom.base.errors import ConfigError, Hint, SpikeloomError
from spikeloom.base.fields import FAMILIES, Checked
from spikeloom.base.seeding import SampleRng
from spikeloom.base.types import Batch
from spikeloom.data.augment import Augment
from spikeloom.encoders.base import ENCODERS
from spikeloom.heads.base import HEADS
from spikeloom.heads.softmax import Softmax
from spikeloom.inference.early_exit import Exit
from spikeloom.meters.energy import EnergyTable
from spikeloom.meters.memory import EnergyMemory
from spikeloom.nets.execution import Execution
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.spec.codec import from_table
from spikeloom.nets.spec.layer import Filter, LayerSpec, MaskSpec
from spikeloom.nets.spec.net import BlockSpec, FeedbackSpec, NetSpec
from spikeloom.neurons.base import UNITS, Unit
from spikeloom.neurons.integrate_fire import IF
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.module import Neuron
from spikeloom.neurons.peers import SURROGATE_NAMES, UNIT_NAMES
from spikeloom.neurons.surrogate import SURROGATES, Arctan, FastSigmoid, Sigmoid, Triangle
from spikeloom.rules.base import RULES
from spikeloom.rules.linear_solve import Solver

CONV = LayerSpec("conv", 4)
RNG = SampleRng(0, 0, torch.arange(2))
MADE = {
    **{
        kind: {}
        for family in (UNITS, SURROGATES, ENCODERS, RULES)
        for kind in map(family.find, family.names())
    },
    Filter: {"decay": 0.5},
    MaskSpec: {},
    LayerSpec: {"kind": "conv", "out": 4},
    BlockSpec: {"layers": (CONV,)},
    FeedbackSpec: {"source": 0, "target": 0, "layers": (CONV,)},
    NetSpec: {"blocks": (BlockSpec((CONV,)),)},
    Execution: {},
    Solver: {},
    Augment: {},
    Exit: {"level": 0.5},
    EnergyTable: {"name": "own", "e_mac": 2.0, "e_ac": 1.0, "bits": 32},
    EnergyMemory: {},
    Batch: {"xs": torch.zeros(1, 2, 3), "target": torch.zeros(2).long(), "rng": RNG},
    SampleRng: {"seed": 0, "epoch": 0, "index": torch.arange(2)},
}
"""Every value a user can make, with what it takes to make one."""

PARAMETER = nn.Parameter(torch.tensor(0.5))
STRANGE = {
    "an object": object(),
    "text": "nothing here is called so",
    "a parameter": PARAMETER,
    "a number in a tensor": torch.tensor(1),
    "an array": np.ones(1),
    "a class": Triangle,
    "a set": {1},
    "NaN": math.nan,
    "infinity": math.inf,
    "NaN of numpy": np.float32("nan"),
    "a huge number": 10**400,
    "a complex number": 1j,
    "a bool": True,
    "a bool of numpy": np.True_,
    "nothing": None,
}
RIGHT = {
    "an object": (),
    "text": (str,),
    "a bool": (bool,),
    "a bool of numpy": (bool,),
    "nothing": (type(None),),
}
"""Annotations that take what is strange elsewhere."""


def fields():
    for kind, given in MADE.items():
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            hint = hints[field.name]
            if field.init and (hint in FAMILIES or not getattr(hint, "_is_protocol", False)):
                yield kind, given, field.name, hint


def taken(hint, what):
    """Whether an annotation takes this kind of strange value."""
    hints = typing.get_args(hint) if typing.get_origin(hint) is not tuple else ()
    return any(one in (hint, *hints) for one in RIGHT.get(what, ()))


@pytest.mark.parametrize("what", STRANGE)
def test_no_field_takes_a_strange_value(what):
    tried = 0
    for kind, given, name, hint in fields():
        if taken(hint, what) or (hint is torch.Tensor and isinstance(STRANGE[what], torch.Tensor)):
            continue
        tried += 1
        with pytest.raises(SpikeloomError) as raised:
            kind(**(given | {name: STRANGE[what]}))
            pytest.fail(f"{kind.__name__}.{name} took {what}")
        message = str(raised.value)
        assert name in message and "; " in message and message.endswith("."), message
    assert tried > 60


@pytest.mark.parametrize("make", [np.float32, np.float64, np.int64, Fraction, int])
def test_numbers_of_other_kinds_become_pythons(make):
    unit = LIF(v_th=make(2), alpha=make(1))
    assert (type(unit.v_th), type(unit.alpha)) == (float, float)
    assert unit == LIF(v_th=2.0, alpha=1.0) and hash(unit) == hash(LIF(v_th=2.0, alpha=1.0))
    assert Softmax(3, 2, mse=make(1)).mse == 1.0


def test_whole_numbers_and_lists_become_pythons():
    unit = LIF(refractory=np.int32(2), per_channel=np.True_, learn=["alpha"])
    assert (type(unit.refractory), unit.per_channel, unit.learn) == (int, True, ("alpha",))
    spec = NetSpec([BlockSpec([CONV])])
    assert spec == NetSpec((BlockSpec((CONV,)),)) and hash(spec) is not None
    assert SpikingNet("f4 f2", [3]).in_shape == (3,)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: LIF(surrogate="arctan"),
            r"^neurons.LIF.surrogate: .*got 'arctan'; pass Arctan\(\)",
        ),
        (lambda: LIF(surrogate=Arctan), r"got the class Arctan; make one: Arctan\(\)"),
        (lambda: LIF(alpha=PARAMETER), r"got an nn.Parameter.*learn = \(\"alpha\",\)"),
        (lambda: IF(v_th=PARAMETER), r"got an nn.Parameter.*learn = \(\"v_th\",\)"),
        (lambda: LIF(beta=PARAMETER), "expected a number, got an nn.Parameter.*pass a plain value"),
        (lambda: LIF(v_th=torch.ones(3)), r"got a tensor of shape \(3,\)"),
        (lambda: LIF(learn="alpha"), r"expected a tuple, got 'alpha'; write \('alpha',\)"),
        (lambda: LIF(learn=("alpha", "alpha")), "learn: expected each name once"),
        (lambda: LIF(v_reset=None), 'reset = "soft"'),
        (lambda: LayerSpec("conv", 4, unit="lif"), r"layer.unit: .*'lif'; pass LIF\(\)"),
        (lambda: LayerSpec("conv", 4, unit=LIF), r"make one: LIF\(\)"),
        (lambda: LayerSpec("conv", 4, unit=Own()), "give your own all of spiking, stateful"),
        (lambda: Neuron("lif"), r"neurons.Neuron.unit: .*pass LIF\(\)"),
        (lambda: Neuron(LIF(), channels=0), "neurons.Neuron.channels: expected 1 or more, got 0"),
        (lambda: Neuron(LIF(), chanels=3), "unknown option 'chanels'; did you mean 'channels'"),
        (lambda: Softmax(4, 3, mse=True), "head.softmax.mse: expected a number, got True"),
        (lambda: Softmax(4, 3, mse=math.nan), "head.softmax.mse: expected a finite number"),
        (lambda: Softmax(4, 3.0), "head.softmax.classes: expected a whole number, got 3.0"),
        (lambda: Softmax(0, 3), "head.features: expected 1 feature or more, got 0"),
        (lambda: Softmax(4, 3, reduce="max"), "reduce: expected one of mean, count"),
        (lambda: Softmax(4, 3, dropout=1), "head.softmax: unknown option 'dropout'"),
        (lambda: SpikingNet("f4 f2", 3), r"net.in_shape: expected a tuple, got 3; write \(3,\)"),
        (lambda: SpikingNet("f4 f2", (3,), seed=0.5), "net.seed: expected a whole number, got 0.5"),
        (lambda: Batch.of(np.zeros((1, 2, 3)), torch.zeros(2).long()), "batch.xs: expected Tensor"),
        (lambda: RULES.find("sltt")(k=2), "^rules.sltt: unknown field 'k'"),
        (
            lambda: RULES.find("sltt")(k_steps="2"),
            "^rules.sltt.k_steps: expected a whole number, got '2'",
        ),
        (lambda: ENCODERS.find("poisson")(max_rate="1"), "^encoders.poisson.max_rate: expected"),
    ],
)
def test_messages_say_what_to_write(make, words):
    with pytest.raises(SpikeloomError, match=words):
        make()


class Own:
    """A user's own unit that lacks what a net asks every unit for."""

    spiking = stateful = True

    def init(self, current):
        return current


@pytest.mark.parametrize("name", sorted(UNIT_NAMES.keys() - {"alpha"}))
@pytest.mark.parametrize("kind", [IF, LIF])
def test_peers_names_of_units_are_refused_with_ours(kind, name):
    with pytest.raises(ConfigError, match=f"unknown field '{name}'; ") as raised:
        kind(**{name: 1.0})
    assert UNIT_NAMES[name] in str(raised.value)
    with pytest.raises(ConfigError, match=f"unknown key '{name}'; ") as raised:
        from_table(Unit, {"name": "lif", name: 1.0}, "net.unit")
    assert UNIT_NAMES[name] in str(raised.value) and str(raised.value).startswith(
        f"net.unit.{name}:"
    )


@pytest.mark.parametrize(
    ("kind", "name", "ours"),
    [
        (LIF, "tau", "alpha = 1 - 1/tau"),
        (LIF, "threshold", "v_th"),
        (LIF, "v_threshold", "v_th"),
        (LIF, "decay", "alpha of LIF"),
        (IF, "alpha", "take LIF"),
        (LIF, "decay_input", "scale_input"),
        (LIF, "spike_grad", "surrogate"),
        (Arctan, "alpha", "a of Arctan"),
        (Sigmoid, "slope", "k of Sigmoid"),
        (FastSigmoid, "slope", "k of Sigmoid, FastSigmoid"),
    ],
)
def test_hints_name_a_field_that_is_there(kind, name, ours):
    with pytest.raises(ConfigError, match=f"unknown field '{name}'; .*{ours}"):
        kind(**{name: 1.0})


def test_no_hint_stands_for_a_field_of_that_name():
    slopes = {
        one.name for name in SURROGATES.names() for one in dataclasses.fields(SURROGATES.find(name))
    }
    assert not slopes & SURROGATE_NAMES.keys()
    assert not {one.name for one in dataclasses.fields(IF)} & UNIT_NAMES.keys()


def test_beta_without_alpha_is_said_to_be_the_synaptic_currents():
    with pytest.warns(Hint, match=r"beta = 0.9 .*synaptic current.*alpha"):
        LIF(beta=0.9)


@pytest.mark.filterwarnings("error")
def test_beta_beside_alpha_is_meant():
    unit = LIF(alpha=0.5, beta=0.9)
    assert dataclasses.replace(unit, v_th=2.0).beta == 0.9
    assert copy.deepcopy(unit) == pickle.loads(pickle.dumps(unit)) == unit
    assert IF(beta=0.5).beta == 0.5


def test_every_registered_value_and_head_is_checked():
    for family in (UNITS, SURROGATES, ENCODERS, RULES):
        for name in family.names():
            assert issubclass(family.find(name), Checked), name
    for name in HEADS.names():
        with pytest.raises(ConfigError, match="features: expected a whole number"):
            HEADS.find(name)("4", 3)


def test_a_users_own_subclass_is_checked_too():
    @dataclasses.dataclass(frozen=True)
    class Adaptive(LIF):
        rise: float = 0.1

    assert Adaptive(rise=np.float32(0.5), alpha=0.25).rise == 0.5
    with pytest.raises(ConfigError, match="Adaptive.rise: expected a number, got 'x'"):
        Adaptive(rise="x")
    with pytest.raises(ConfigError, match="Adaptive: unknown field 'tau'; .*alpha"):
        Adaptive(tau=2.0)

    class Named(LIF):
        def __init__(self, tau):
            super().__init__(alpha=1 - 1 / tau)

    assert Named(tau=4.0).alpha == 0.75
