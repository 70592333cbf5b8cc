import pytest
import torch
from metering import Laid

from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.spec.grammar import parse

CIFAR = (3, 32, 32)
SKIP = '[c36]{join = "before_unit"}'
VGG9 = "c64 c64 P c128 c128 P c256 c256 c256 P f1024 f10"
VGG8X2 = "c64 c64 P c128 c128 P c256 [c256]x2 P f1024 f10"
VGG11X2 = "c64 [c64]x2 P c128 [c128]x2 P c256 [c256]x2 P c512 [c512]x2 P [c512]x2 P f4096 f1000"
VGG13 = "c64 c64 P c128 c128 P c256 c256 P c512 c512 P c512 c512 P f4096 f4096 f1000"
VGG16 = "c64 c64 P c128 c128 P c256 c256 c256 P c512 c512 c512 P c512 c512 c512 P f4096 f4096 f1000"

TABLE = [
    ("c64 P c64 c64 c64 c64 P f1024 f10", 7, 7, 4_353_728, 43_722_752),
    ("c64 P [c64]x4 P f1024 f10", 4, 7, 4_243_136, 43_722_752),
    ("c64 P [c64 c64]x2 P f1024 f10", 5, 7, 4_280_000, 43_722_752),
    ("c64 P P f1024 f10", 3, 3, 4_206_272, 5_974_016),
    ("c64 P c64 c64 P f1024 f10", 5, 5, 4_280_000, 24_848_384),
    ("c64 P [c64]x2 P f1024 f10", 4, 5, 4_243_136, 24_848_384),
    (VGG9, 9, 9, 5_938_880, 194_717_696),
    (VGG8X2, 8, 9, 5_349_056, 194_717_696),
    (f"c36 {SKIP} P P f1024 f10", 4, 4, 2_382_172, 15_308_800),
    (f"c36 {SKIP.replace(']{', ']x2{')} P P f1024 f10", 4, 5, 2_382_172, 27_252_736),
    (f"c36 {SKIP} {SKIP} P P f1024 f10", 5, 5, 2_393_836, 27_252_736),
]


@pytest.mark.parametrize(("text", "unique", "logical", "parameters", "macs"), TABLE)
def test_topologies_of_the_paper(text, unique, logical, parameters, macs):
    """Section 3 of the card panda2020.md."""
    laid = Laid(parse(text, bias=False), CIFAR)
    assert (laid.unique, laid.logical) == (unique, logical)
    assert laid.parameters == parameters
    assert laid.formula == macs
    assert laid.pairs < laid.formula


def test_imagenet_nets_need_no_memory():
    assert Laid(parse(VGG16, bias=False), (3, 224, 224)).formula == 15_470_264_320
    assert Laid(parse(VGG13, bias=False), (3, 224, 224)).formula == 11_308_466_176
    laid = Laid(parse(VGG11X2, bias=False), (3, 224, 224))
    assert (laid.unique, laid.logical, laid.parameters) == (11, 16, 113_899_200)


def analog(text: str, spiking: set[int]) -> str:
    """Put ReLU on the convs and fully connected layers whose number is not in `spiking`."""
    words, number = [], 0
    for word in text.split():
        if word[0] in "cf":
            number += 1
            word += "" if number in spiking else '{unit = "relu"}'
        words.append(word)
    return " ".join(words)


def ceiling(laid):
    """Bound on EE of a hybrid net by eq. 8-11 of the paper, with spiking layers for free."""
    return laid.formula / sum(macs for _, unit, macs in laid.layers if unit == "analog")


def test_hybrid_ceilings():
    body = VGG13.rsplit(" ", 1)[0]
    hybrid = analog(body, {5, 6}) + " f1000"
    laid = Laid(parse(hybrid, bias=False), (3, 224, 224))
    spiking = sum(macs for _, unit, macs in laid.layers if unit == "spiking")
    everything_else = laid.formula / (laid.formula - spiking)
    assert everything_else == pytest.approx(1.325, abs=5e-4)
    assert ceiling(laid) == pytest.approx(1.325, abs=2e-3)
    front = analog(VGG9.rsplit(" ", 1)[0], set(range(3, 9))) + " f10"
    assert ceiling(Laid(parse(front, bias=False), CIFAR)) == pytest.approx(4.93, abs=5e-3)


def test_agrees_with_a_built_net():
    text = 'c6 [c6 c6]x2{join = "add"} P t4k2s2p0 G f7 f3'
    net = SpikingNet(text, (2, 8, 8))
    laid = Laid(text, (2, 8, 8))
    assert laid.parameters == sum(p.numel() for p in net.parameters()) + 7 * 3 + 3
    assert len(laid.layers[:-1]) == sum(site.spec.weighted for site in net.sites)
    assert next(net.parameters()).device == torch.device("cpu")


def test_the_ann_of_a_net_with_feedback_has_none():
    edge = '{feedback = [{source = 0, target = 0, layers = "f4"}]} f4 f2'
    assert Laid(edge, (3,)).formula == Laid(parse(edge).as_ann(), (3,)).formula == 12 + 8
