"""A head has the type of its net and lies on its device, and says where features do not fit."""

import pytest
import torch
from torch import nn

from spikeloom.base.errors import ConfigError, ShapeError
from spikeloom.base.seeding import SampleRng
from spikeloom.heads.base import HEADS
from spikeloom.heads.rates import Rates
from spikeloom.heads.softmax import Softmax
from spikeloom.heads.stochmax import Stochmax
from spikeloom.nets.module.net import SpikingNet
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.module import Neuron

SHAPE = (1, 4, 4)
F64 = torch.float64
LATERAL = '{feedback = [{source = 0, target = 0, layers = "f6"}]} f6 f3'


def sequential():
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), Neuron(LIF(learn=("v_th",))), nn.Flatten(), nn.Linear(8, 3)
    )


LINEAR = [name for name in HEADS.names() if name != "rates"]

NETS = {
    "text": lambda: SpikingNet("c2 P f3", SHAPE),
    "trained threshold": lambda: SpikingNet(
        'c2{unit = {name = "lif", learn = ["v_th"]}} f3', SHAPE
    ),
    "feedback": lambda: SpikingNet(LATERAL, SHAPE),
    "standardised": lambda: SpikingNet('c2{norm = "weight"} f3', SHAPE),
    "no weights": lambda: SpikingNet('I{norm = "batch_step"} P f3', SHAPE),
    "from_torch": lambda: SpikingNet.from_torch(sequential(), SHAPE),
    "readout alone": lambda: SpikingNet.from_torch(
        nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), SHAPE
    ),
}


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("name", LINEAR)
def test_type_and_device_are_the_nets(name, net):
    kind = HEADS.find(name)
    doubled = NETS[net]().double().eval()
    head = kind.of(doubled).eval()
    assert {one.dtype for one in head.parameters()} == {F64}
    hs = doubled(torch.rand(2, 5, *SHAPE, dtype=F64))
    assert head.logits(head.reduced(hs)).dtype == F64
    meta = kind.of(NETS[net]().to("meta"))
    assert {one.device.type for one in meta.parameters()} == {"meta"}
    low = NETS[net]().to(torch.bfloat16).eval()
    head = kind.of(low).eval()
    assert {one.dtype for one in head.parameters()} == {torch.bfloat16}
    logits = head.logits(head.reduced(low(torch.rand(2, 5, *SHAPE, dtype=torch.bfloat16))))
    assert logits.dtype == torch.float32


def test_a_population_of_rates_answers_in_the_nets_type():
    net = SpikingNet("c2 [f3]", SHAPE).double()
    head = Rates.of(net)
    assert head.logits(head.reduced(net(torch.rand(2, 5, *SHAPE, dtype=F64)))).dtype == F64


def test_a_net_of_two_types_lends_that_of_its_last_layer():
    net = SpikingNet("c2 c2 f3", SHAPE)
    net.sites[1].synapse.double()
    assert next(Softmax.of(net).parameters()).dtype == F64
    net = SpikingNet(LATERAL, SHAPE)  # the edge stands last, and feeds no head
    net.sites[-1].synapse.double()
    assert next(Softmax.of(net).parameters()).dtype == torch.float32


def test_the_users_last_layer_is_converted_with_the_others_and_stays_shared():
    module = sequential()
    net = SpikingNet.from_torch(module, SHAPE).double()
    head = Softmax.of(net)
    assert head.site.synapse.weight is module[3].weight
    assert {one.dtype for one in module.parameters()} == {F64}
    assert net.state_dict().keys() == SpikingNet.from_torch(sequential(), SHAPE).state_dict().keys()


@pytest.mark.parametrize(
    ("h", "words"),
    [
        (torch.rand(2, 7), r"expected features \[B, 6\], got \(2, 7\)"),
        (torch.rand(4, 2, 6), r"expected features \[B, 6\], got \(4, 2, 6\)"),
        (torch.rand(2, 6), "expected features of type torch.float64.*got torch.float32"),
        (torch.rand(2, 6, dtype=torch.bfloat16), "type torch.float64.*got torch.bfloat16"),
        (torch.rand(2, 6, dtype=F64, device="meta"), "expected features on cpu.*got meta"),
    ],
)
@pytest.mark.parametrize("name", LINEAR)
def test_features_that_do_not_fit_are_one_clear_error(name, h, words):
    head = HEADS.find(name)(6, 3).double()
    with pytest.raises(ShapeError, match=words):
        head.logits(h)


def test_autocast_multiplies_what_it_casts():
    head = Softmax(6, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert head.logits(torch.rand(2, 6, dtype=torch.bfloat16)).dtype == torch.float32
    with pytest.raises(ShapeError, match="type torch.float32, as its weights, got torch.bfloat16"):
        head.logits(torch.rand(2, 6, dtype=torch.bfloat16))
    with pytest.raises(ShapeError, match="input of type torch.float32.*got torch.bfloat16"):
        SpikingNet("f4 f3", (6,))(torch.rand(2, 2, 6, dtype=torch.bfloat16))


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (torch.zeros(2, dtype=torch.int32), r"expected class numbers as int64, got torch.int32"),
        (torch.zeros(2), r"expected class numbers as int64, got torch.float32"),
        (torch.zeros(2, 1).long(), r"expected class numbers \[B\] in a tensor, got \(2, 1\)"),
        (torch.zeros(0).long(), r"expected class numbers \[B\] in a tensor, got \(0,\)"),
        ([0, 1], r"expected class numbers \[B\] in a tensor, got \[0, 1\]"),
        (torch.tensor([0, 3]), r"expected labels from 0 to 2, got 0\.\.3"),
    ],
)
def test_labels_that_are_no_class_numbers(target, words):
    rng = SampleRng(0, 0, torch.arange(2))
    with pytest.raises(ShapeError, match=f"^head: {words}"):
        Softmax(6, 3).bind(target, rng)


def test_a_head_that_draws_asks_for_a_stream():
    objective = Stochmax(6, 3).bind(torch.arange(3), None)
    with pytest.raises(
        ConfigError, match="^rng: expected a random stream for 'stochmax', got None"
    ):
        objective(torch.rand(3, 6))
