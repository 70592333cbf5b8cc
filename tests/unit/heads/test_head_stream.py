"""Streams: frame after frame the answer of a run of as many steps."""

import pytest
import torch

from spikeloom.base.errors import ConfigError, ShapeError
from spikeloom.heads.base import Head
from spikeloom.heads.softmax import Softmax
from spikeloom.heads.stream import Stream, StreamState
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.walk.events import EventEngine

SHAPE = (2, 6, 6)


def build(text="c4 P f8 f3", **options):
    net = SpikingNet(text, SHAPE).double().eval()
    with torch.no_grad():
        for site in net.sites:
            if site.spec.weighted:
                weight = site.synapse.weight.abs_()  # from rare to frequent, channel by channel
                weight.mul_(
                    torch.linspace(0.1, 0.7, len(weight)).view(-1, *[1] * (weight.dim() - 1))
                )
    return net, Softmax.of(net, **options).double().eval()


def frames(steps=5, batch=3):
    return torch.rand((steps, batch, *SHAPE), generator=torch.Generator().manual_seed(0)).double()


def follow(stream, xs, state=None):
    state = state or stream.start()
    parts = []
    for x in xs:
        logits, state = stream.step(x, state)
        parts.append(logits)
    return torch.stack(parts), state


@pytest.mark.parametrize("reduce", ["mean", "count", "membrane", "weighted", "last"])
@pytest.mark.parametrize("text", ["c4 P f8 f3", 'c4 P f8{unit = "relu"} f3', "c4 [c4]x2 f3"])
def test_each_step_equals_a_run_that_ends_there(reduce, text):
    net, head = build(text, reduce=reduce)
    xs = frames()
    found, state = follow(Stream(net, head), xs)
    with torch.no_grad():
        for t in range(1, 6):
            expected = head.logits(head.reduced(net.run_by_time(xs[:t])))
            assert torch.allclose(found[t - 1], expected, rtol=1e-12, atol=1e-12)
    assert state.steps == 5 and found.std(0).max() > 1e-6


def test_a_state_is_a_value():
    net, head = build()
    stream, xs = Stream(net, head), frames()
    whole, _ = follow(stream, xs)
    _, middle = follow(stream, xs[:2])
    for _ in range(2):
        rest, _ = follow(stream, xs[2:], middle)
        assert torch.equal(rest, whole[2:])
    assert middle.steps == 2 and stream.start() == StreamState()


def test_one_sample_without_a_batch():
    net, head = build()
    xs = frames()
    whole, _ = follow(Stream(net, head), xs)
    alone, _ = follow(Stream(net, head), xs[:, 1])
    assert alone.shape == (5, 3)
    assert torch.allclose(alone, whole[:, 1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        "c4 P f8 f3",
        '[c2]x2{fit = "topk"} f3',
        "{input_psp = {decay = 0.5, scale = 0.5}} c4 P f3",
        'c4{unit = {name = "lif", order = "next_step", beta = 0.5, refractory = 1}} f3',
        '{feedback = [{source = 1, target = 0, layers = "f8{unit = \\"none\\"}"}]} f8 f6 f3',
    ],
)
def test_samples_can_leave(text):
    net, head = build(text)
    stream, xs = Stream(net, head), frames()
    whole, _ = follow(stream, xs)
    _, state = follow(stream, xs[:2])
    rows = torch.tensor([2, 0])
    rest, state = follow(stream, xs[2:, rows], state.pick(rows))
    assert torch.allclose(rest, whole[2:, rows], rtol=1e-12, atol=1e-12)
    assert state.steps == 5


def test_a_constant_frame_is_prepared_once():
    net, head = build('c4{unit = "relu"} c4 f3')
    x, calls = frames()[0], []

    class Watch:
        def see(self, site, x_in, current, s_out):
            calls.append((site.name, x_in is not None))

    stream = Stream(net, head)
    expected, _ = follow(stream, x.expand(4, *x.shape))
    with net.observe(Watch()):
        found, state = follow(stream, x.expand(4, *x.shape), stream.start(x))
        rows = torch.tensor([1])
        later, _ = stream.step(x[rows], state.pick(rows))
    assert torch.equal(found, expected)
    assert sum(ran for name, ran in calls if name == "0.0.0") == 1
    assert torch.allclose(later, stream.step(x, state)[0][rows], rtol=1e-12)


def test_events_in_a_stream():
    net, head = build()
    xs = (frames() < 0.2).double()
    dense, _ = follow(Stream(net, head), xs)
    by_events, _ = follow(Stream(net, head, EventEngine(limit=1.0).ops), xs)
    assert torch.allclose(by_events, dense, rtol=1e-12, atol=1e-12)


class TestMistakes:
    @pytest.mark.parametrize("part", ["net", "head"])
    def test_training_mode(self, part):
        net, head = build()
        (net if part == "net" else head).train()
        stream = Stream(net, head)
        with pytest.raises(ConfigError, match="evaluation mode, got training mode; call net.eval"):
            stream.step(frames()[0], stream.start())
        with pytest.raises(ConfigError, match="evaluation mode"):
            stream.start(frames()[0])

    def test_a_head_of_another_net(self):
        net, _ = build()
        with pytest.raises(ShapeError, match="head that reads 8 features, got 9"):
            Stream(net, Softmax(9, 3))

    def test_a_frame_of_another_shape(self):
        net, head = build()
        stream = Stream(net, head)
        with pytest.raises(ShapeError, match="expected"):
            stream.step(torch.zeros(3, 2, 5, 5).double(), stream.start())
        with pytest.raises(ShapeError, match="expected"):
            stream.step(torch.zeros(2, 3, *SHAPE).double(), stream.start())

    def test_no_graph_is_kept(self):
        net, head = build()
        logits, state = Stream(net, head).step(frames()[0], StreamState())
        assert not logits.requires_grad and state.total is not None
        assert not state.total.requires_grad and isinstance(head, Head)
