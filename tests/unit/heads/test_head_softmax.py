"""The softmax head in numpy, reductions over time, and what every head shares."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from spikeloom.base.errors import ConfigError, ShapeError
from spikeloom.base.seeding import SampleRng
from spikeloom.heads.base import HEADS
from spikeloom.heads.softmax import Softmax
from spikeloom.nets.module.net import SpikingNet

F64 = torch.float64
B, D, K, T = 5, 7, 4, 6
RNG = SampleRng(0, 0, torch.arange(B))


def features(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def targets():
    return torch.tensor([0, 3, 1, 1, 2])


def numpy_loss(o, y, w, goal, correct=1.0, wrong=0.0):
    """Return (1 - w) CE + w MSE, one number after the other."""
    ce = squares = 0.0
    for row, label in zip(o, y, strict=True):
        top = max(row)
        ce += top + math.log(sum(math.exp(value - top) for value in row)) - row[label]
        for k, value in enumerate(row):
            wanted = 1.0 if goal == "ones" or k == label else wrong
            wanted = correct if goal == "onehot" and k == label else wanted
            squares += (value - wanted) ** 2
    return (1 - w) * ce / len(o) + w * squares / (len(o) * len(o[0]))


@pytest.mark.parametrize("goal", ["onehot", "ones"])
@pytest.mark.parametrize("w", [0.0, 0.05, 0.5, 1.0])
def test_the_mix_is_that_of_the_loops(w, goal):
    head = Softmax(D, K, mse=w, mse_target=goal, seed=3).double()
    h = features(B, D)
    logits, value = head.bind(targets(), RNG)(h)
    weight = head.site.synapse.weight.detach().numpy()
    expected = h.numpy() @ weight.T + head.site.synapse.bias.detach().numpy()
    assert np.allclose(logits.detach().numpy(), expected, rtol=0, atol=1e-14)
    by_loops = numpy_loss(expected.tolist(), targets().tolist(), w, goal)
    assert value.item() == pytest.approx(by_loops, rel=1e-13)


@pytest.mark.parametrize("w", [0.5, 1.0])
def test_squared_error_with_other_targets(w):
    head = Softmax(D, K, mse=w, correct=0.8, wrong=-0.3).double()
    logits, value = head.bind(targets(), RNG)(features(B, D))
    by_loops = numpy_loss(logits.tolist(), targets().tolist(), w, "onehot", 0.8, -0.3)
    assert value.item() == pytest.approx(by_loops, rel=1e-13)


def test_gradient_at_the_logits_is_softmax_minus_onehot():
    head = Softmax(D, K, mse=0.25, mse_target="ones").double()
    h = features(B, D).requires_grad_()
    logits, value = head.bind(targets(), RNG)(h)
    (grad,) = torch.autograd.grad(value, logits)
    p = torch.softmax(logits, 1) - torch.nn.functional.one_hot(targets(), K)
    expected = 0.75 * p / B + 0.25 * 2 * (logits - 1) / (B * K)
    assert torch.allclose(grad, expected, rtol=1e-12, atol=1e-15)


def test_reductions_in_plain_numbers():
    hs = features(T, B, D)
    membrane = torch.zeros_like(hs[0])
    for h in hs:
        membrane = 0.75 * membrane + h
    expected = {
        "mean": sum(hs) / T,
        "count": sum(hs),
        "last": hs[-1],
        "membrane": membrane,
        "weighted": membrane / sum(0.75 ** (T - 1 - t) for t in range(T)),
    }
    for name, value in expected.items():
        head = Softmax(D, K, reduce=name, decay=0.75)
        assert torch.allclose(head.reduced(hs), value, rtol=1e-14, atol=1e-15)
        assert head.reduced(hs).shape == (B, D)


@pytest.mark.parametrize("name", ["mean", "weighted", "last"])
def test_reducing_features_is_reducing_logits(name):
    head = Softmax(D, K, reduce=name).double()
    with torch.no_grad():
        head.site.synapse.bias.copy_(torch.tensor([0.5, -1.0, 2.0, 0.0]))
    hs = features(T, B, D)
    after = head.reduced(torch.stack([head.logits(h) for h in hs]))
    assert torch.allclose(head.logits(head.reduced(hs)), after, rtol=0, atol=1e-14)


def test_counting_is_integrating_the_logits_where_there_is_no_bias():
    head = Softmax(D, K, reduce="count", bias=False).double()
    hs = (features(T, B, D) > 0).double()
    membrane = sum(head.logits(h) for h in hs)
    assert torch.allclose(head.logits(head.reduced(hs)), membrane, rtol=0, atol=1e-13)


def test_one_step_reduces_to_itself():
    hs = features(1, B, D)
    for name in ("mean", "count", "membrane", "weighted", "last"):
        assert torch.equal(Softmax(D, K, reduce=name).reduced(hs), hs[0])


def test_half_precision_logits_are_compared_in_float32():
    head = Softmax(D, K, mse=0.5).to(torch.bfloat16)
    logits, value = head.bind(targets(), RNG)(features(B, D).to(torch.bfloat16))
    assert logits.dtype == value.dtype == torch.float32 and bool(torch.isfinite(value))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mse": 1.5}, r"^head.softmax.mse: expected a share in \[0, 1\], got 1.5"),
        ({"mse": -0.1}, r"^head.softmax.mse: "),
        ({"correct": 0.5, "wrong": 0.5}, r"^head.softmax.correct: expected a target above that"),
        (
            {"mse_target": "ones", "correct": 0.5},
            r"^head.softmax.mse_target: expected onehot with correct = 0.5",
        ),
        ({"mse_target": "one"}, r"^head.softmax.mse_target: expected onehot or ones, got 'one'"),
        ({"reduce": "max"}, r"^head.softmax.reduce: expected one of .*, got 'max'"),
        ({"decay": 1.0}, r"^head.softmax.decay: expected a decay in \(0, 1\), got 1.0"),
        ({"decay": 0.0}, r"^head.softmax.decay: "),
        ({"classes": 1}, r"^head.classes: expected 2 classes or more, got 1"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Softmax(**({"features": D, "classes": K} | options))


def taken(head):
    """Targets as a head takes them: labels, or their one-hot code as numbers."""
    return targets() if head.labels else F.one_hot(targets(), K).float()


MAPPED = [name for name in HEADS.names() if HEADS.find(name).maps]


@pytest.mark.parametrize("name", MAPPED)
class TestEveryHead:
    def test_shapes_types_and_sites(self, name):
        kind = HEADS.find(name)
        head = kind(D, K)
        assert [site.name for site in head.sites] == list(kind.maps)
        assert all(site.role == "readout" and site.unit is None for site in head.sites)
        assert kind.about and kind.reads in ("reduced", "train")
        for dtype in (torch.float64, torch.float32):
            head = head.to(dtype)
            logits, value = head.bind(taken(head), RNG)(features(B, D).to(dtype))
            assert logits.shape == (B, K) and value.shape == ()
            assert logits.dtype == value.dtype == dtype

    def test_the_same_seed_gives_the_same_weights(self, name):
        kind = HEADS.find(name)
        one, same, other = (kind(D, K, seed=seed).state_dict() for seed in (1, 1, 2))
        assert all(torch.equal(one[key], same[key]) for key in one)
        assert any(not torch.equal(one[key], other[key]) for key in one)

    def test_bias_is_an_option(self, name):
        kind = HEADS.find(name)
        plain = len(kind.maps) - len(kind.branches)  # branches always have one
        count = len(kind.maps) * D * K + len(kind.branches) * K
        assert sum(p.numel() for p in kind(D, K, bias=False).parameters()) == count
        assert sum(p.numel() for p in kind(D, K).parameters()) == count + plain * K

    def test_labels_out_of_range_are_refused(self, name):
        head = HEADS.find(name)(D, K)
        if not head.labels:
            pytest.skip("takes numbers")
        for bad in (torch.tensor([0, 4]), torch.tensor([-1, 2])):
            with pytest.raises(
                ShapeError, match=r"^head: expected labels from 0 to 3, got .*; fix"
            ):
                head.bind(bad, RNG)

    def test_evaluation_is_deterministic_and_knows_no_target(self, name):
        head = HEADS.find(name)(D, K).double()
        h = features(B, D)
        first = head.logits(h)
        head.bind(taken(head), RNG)(h)
        assert torch.equal(head.logits(h), first)
        logits, _ = head.bind(taken(head), RNG)(h)
        assert torch.equal(logits, first)

    def test_a_train_is_judged_by_its_reduction(self, name):
        head = HEADS.find(name)(D, K, reduce="weighted").double()
        hs = features(T, B, D)
        over = head.bind(taken(head), RNG).over(hs)
        at_once = head.bind(taken(head), RNG)(head.reduced(hs))
        assert torch.equal(over.value, at_once.value)
        assert torch.equal(over.logits, at_once.logits)

    def test_a_net_says_what_head_it_needs(self, name):
        net = SpikingNet("c4 P f9 f3{bias=false}", (1, 4, 4))
        head = HEADS.find(name).of(net, reduce="last", seed=5)
        assert head.classes == 3 and head.reduce == "last"
        assert head.site.synapse.weight.shape == (3, 9)
        assert head.site.synapse.bias is None
        assert all(site.source is net.sites[-1] for site in head.sites)
        assert all(site.upstream is net.sites[-1] for site in head.sites)

    def test_a_net_without_readout_has_no_head(self, name):
        with pytest.raises(ConfigError, match=r"^head: expected a net that ends with its classes"):
            HEADS.find(name).of(SpikingNet("c4 P", (1, 4, 4)))

    def test_a_state_dict_restores_it(self, name):
        kind = HEADS.find(name)
        head, other = kind(D, K, seed=1), kind(D, K, seed=2)
        other.load_state_dict(head.state_dict())
        h = features(B, D).float()
        assert torch.equal(head.logits(h), other.logits(h))


def test_a_head_may_sit_on_the_input_itself():
    net = SpikingNet("f3", (4,))
    head = Softmax.of(net)
    assert head.site.source is None and head.site.synapse.weight.shape == (3, 4)
