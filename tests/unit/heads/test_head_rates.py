"""The head on rates: scores are what the last population did."""

import pytest
import torch
import torch.nn.functional as F

from spikeloom.base.errors import ConfigError
from spikeloom.base.seeding import SampleRng
from spikeloom.heads.rates import Rates
from spikeloom.heads.softmax import Softmax
from spikeloom.nets.grammar import parse
from spikeloom.nets.net import SpikingNet

RNG = SampleRng(0, 0, torch.arange(4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reduce", ["mean", "count", "weighted", "last"])
def test_scores_are_rates(dtype, reduce):
    net = SpikingNet(parse("f8 [f3]"), (5,)).to(dtype)
    head = Rates.of(net, reduce=reduce)
    assert not list(head.parameters()) and head.sites == () and head.classes == 3
    hs = net(torch.rand(6, 4, 5, dtype=dtype, generator=torch.Generator().manual_seed(0)))
    target = torch.tensor([0, 1, 2, 0])
    logits, value = head.bind(target, RNG).over(hs)
    assert torch.equal(logits, head.reduced(hs)) and logits.dtype == dtype
    assert torch.equal(value, F.cross_entropy(logits, target))


def test_a_readout_belongs_to_another_head():
    with pytest.raises(ConfigError, match=r"got a readout f3; put it in brackets, \[f3\]"):
        Rates.of(SpikingNet("f8 f3", (5,)))
    with pytest.raises(ConfigError, match="one feature per class, got 5 features and 3 classes"):
        Rates(5, 3)


def test_the_relu_twin_ends_with_a_readout():
    twin = parse("f8 [f3]").as_ann()
    assert twin.readout is not None and twin.readout.out == 3 and len(twin.blocks) == 1
    assert Rates.baseline() is Softmax
