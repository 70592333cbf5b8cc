"""The error at a head's outputs is the gradient of its loss there."""

import pytest
import torch
import torch.nn.functional as F

from spikeloom.base.seeding import SampleRng
from spikeloom.heads.base import HEADS
from spikeloom.heads.rates import Rates
from spikeloom.heads.softmax import Softmax
from spikeloom.heads.stochmax import Stochmax
from spikeloom.nets.ops import PLAIN, Credited, Ops
from spikeloom.nets.readout import Loss

B, D, K = 6, 5, 4


class Smoothed(Softmax):
    """A user's head: cross entropy with smoothed labels."""

    def loss(self, h, target, *, noise, ops=PLAIN, weights=None):
        o = self.scores(h, ops)
        each = F.cross_entropy(o, target, reduction="none", label_smoothing=0.2)
        return Loss(o, (each if weights is None else each * weights).mean())


def heads():
    for name in HEADS.names():
        kind = HEADS.find(name)
        yield name, kind(K if not kind.maps else D, K, seed=1)
    for variant in ("softmax", "random", "determ", "panda", "qp", "dropmax"):
        yield variant, Stochmax(D, K, variant=variant, seed=1)
    yield "mse", Softmax(D, K, mse=0.3, seed=1)
    yield "rates, mse", Rates(K, K, mse=1.0)
    yield "smoothed", Smoothed(D, K, seed=1)


HEAD = dict(heads())


def drawn(features, steps=None):
    """Features, spikes among them, and targets."""
    draw = torch.Generator().manual_seed(2)
    shape = (B, features) if steps is None else (steps, B, features)
    h = torch.rand(shape, generator=draw, dtype=torch.double)
    return (h > 0.5).double() if steps else h, torch.arange(B) % K


def bound(head, target, weights=None):
    target = target if head.labels else F.one_hot(target, K).double()
    return head.double().bind(target, SampleRng(0, 0, torch.arange(B)), weights)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", HEAD)
def test_gives_autograds_gradients_back(name, weighted):
    """With e at the outputs o = W h + b: dL/dW = e^T h, dL/db = sum e, dL/dh = e W."""
    head = HEAD[name]
    weights = torch.linspace(0.5, 2.0, B, dtype=torch.double) if weighted else None
    h, target = drawn(head.features)
    objective = bound(head, target, weights)
    head.zero_grad()
    found = objective.error(h)
    assert all(one.grad is None for one in head.parameters())
    assert not any(one.requires_grad for one in found)
    x = h.clone().requires_grad_()
    loss = objective(x)
    loss.value.backward()
    assert torch.equal(found.value, loss.value) and torch.equal(found.logits, loss.logits)
    close = {"rtol": 1e-12, "atol": 1e-14}
    if not head.maps:
        assert torch.equal(found.outputs, h) and torch.allclose(found.error, x.grad, **close)
        return
    asked = [site for site in head.sites if site.synapse.weight.grad is not None]
    errors = found.error.split(K, dim=1)
    assert len(errors) == len(asked) and found.error.abs().max() > 0
    back = 0
    for site, error, output in zip(asked, errors, found.outputs.split(K, dim=1), strict=True):
        weight, bias = site.synapse.weight, site.synapse.bias
        assert torch.allclose(output, h @ weight.T + bias, **close)
        assert torch.allclose(error.T @ h, weight.grad, **close)
        assert torch.allclose(error.sum(0), bias.grad, **close)
        back = back + error @ weight
    assert torch.allclose(back, x.grad, **close)


def test_of_cross_entropy_is_probability_minus_label():
    h, target = drawn(D)
    weights = torch.linspace(0.5, 2.0, B, dtype=torch.double)
    found = bound(Softmax(D, K, seed=1), target, weights).error(h)
    by_hand = torch.softmax(found.outputs, 1) - F.one_hot(target, K)
    assert torch.allclose(found.error, by_hand * weights[:, None] / B, rtol=1e-12, atol=1e-15)


def test_of_smoothed_labels_is_probability_minus_them():
    h, target = drawn(D)
    found = bound(Smoothed(D, K, seed=1), target).error(h)
    labels = 0.8 * F.one_hot(target, K).double() + 0.2 / K
    by_hand = (torch.softmax(found.outputs, 1) - labels) / B
    assert torch.allclose(found.error, by_hand, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("reduce", ["mean", "count", "membrane", "weighted", "last"])
@pytest.mark.parametrize("kind", [Softmax, Rates])
def test_of_a_train_is_that_of_what_it_is_reduced_to(kind, reduce):
    """The outputs of the last one are spikes."""
    head = kind(K, K, reduce=reduce, seed=1)
    hs, target = drawn(K, steps=3)
    objective = bound(head, target)
    found, expected = objective.error(hs), objective.error(head.reduced(hs))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    x = hs.clone().requires_grad_()
    objective.over(x).value.backward()
    weights = objective.weights(3)
    back = found.error if kind is Rates else found.error @ head.site.synapse.weight
    for t, share in enumerate(weights):
        assert torch.allclose(x.grad[t], share * back, rtol=1e-12, atol=1e-14)


def test_uses_the_rules_own_maps_and_runs_without_a_graph_around():
    head = Softmax(D, K, seed=1)
    h, target = drawn(D)
    objective = bound(head, target)
    double = Ops(synapse=lambda visit, x: 2 * visit.synapse(x))
    with torch.no_grad():
        found = objective.error(h, double)
    assert torch.allclose(found.outputs, 2 * head.scores(h), rtol=1e-14, atol=0)
    credit = Credited()
    objective.error(h, Ops(synapse=credit))
    credit.flush()
    assert head.site.synapse.weight.grad is None
