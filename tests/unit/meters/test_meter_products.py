import pytest
import torch
import torch.nn.functional as F
from metering import SHAPE, TEXT, Laid, learning
from torch.utils.checkpoint import checkpoint

from spikeloom.base.errors import ConfigError
from spikeloom.base.types import Batch
from spikeloom.heads.softmax import Softmax
from spikeloom.meters.products import (
    NonzeroOperations,
    TrainingOperations,
    count_nonzero_operations,
    count_operations,
)
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.spec.grammar import parse
from spikeloom.neurons.integrate_fire import IF
from spikeloom.rules.bptt import Bptt
from spikeloom.rules.ottt import Ottt
from spikeloom.rules.sltt import Sltt
from spikeloom.rules.spide import Spide


def test_matrix_products_by_hand():
    x, w = torch.ones(5, 3), torch.ones(3, 4, requires_grad=True)
    assert count_operations(lambda: x @ w) == TrainingOperations(60, 0)
    assert count_operations(lambda: (x @ w).sum().backward()) == TrainingOperations(60, 60)
    x.requires_grad_()
    assert count_operations(lambda: (x @ w).sum().backward()) == TrainingOperations(60, 120)
    assert TrainingOperations(60, 120).per_sample(5) == (12, 24)
    with pytest.raises(ConfigError, match="batch size"):
        TrainingOperations(1, 1).per_sample(0)


@pytest.mark.parametrize("transposed", [False, True])
def test_convolutions_by_hand(transposed):
    x = torch.ones(2, 3, 6, 6, requires_grad=True)
    shape = (3, 4, 3, 3) if transposed else (4, 3, 3, 3)
    w = torch.ones(shape, requires_grad=True)
    run = F.conv_transpose2d if transposed else F.conv2d
    macs = 2 * (36 if transposed else 16) * 3 * 4 * 9
    counted = count_operations(lambda: run(x, w).sum().backward())
    assert counted.forward == macs
    assert counted.backward == 2 * macs


def test_composite_operators_under_inference_mode_are_opened():
    linear = torch.nn.Linear(3, 4)
    with torch.inference_mode():
        assert count_operations(lambda: linear(torch.ones(5, 3))).forward == 60


def test_recomputed_activations_are_backward_work():
    w = torch.ones(3, 3, requires_grad=True)

    def call():
        return checkpoint(lambda x: (x @ w).relu(), torch.ones(5, 3), use_reentrant=False)

    assert count_operations(call) == TrainingOperations(45, 0)
    assert count_operations(lambda: call().sum().backward()) == TrainingOperations(45, 90)


@pytest.mark.parametrize("rule", [Bptt(loss="step"), Sltt(), Ottt()])
def test_operations_of_rules(rule):
    """Per sample and step: the net forward, and twice as much backward less the first layer."""
    laid = Laid(TEXT, SHAPE)
    _, _, first = laid.layers[0]
    counted = count_operations(learning(rule, 5, constant=False))
    assert counted.per_sample(4) == (5 * laid.formula, 5 * (2 * laid.formula - first))
    held = count_operations(learning(rule, 5, constant=True))
    rest = laid.formula - first
    assert held.per_sample(4) == (5 * rest + first, 5 * 2 * rest + first)


# operands that are not 0


def sparse(*shape, rate=0.3, seed=0):
    """Numbers of many magnitudes, most of them 0."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=generator)
    return values * (torch.rand(shape, generator=generator) < rate)


def masks(*tensors):
    return [(one != 0).double() for one in tensors]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("transposed", [False, True])
def test_pairs_of_convolutions_are_products_of_masks(transposed, stride, groups):
    """Forward and both gradients, borders and leftovers of strides included."""
    x = sparse(2, 4, 8, 7)
    w = sparse(*((4, 6 // groups) if transposed else (6, 4 // groups)), 3, 3, seed=1)
    run = F.conv_transpose2d if transposed else F.conv2d

    def call(x, w):
        return run(x, w, stride=stride, padding=1, groups=groups)

    ones = [one.requires_grad_() for one in masks(x, w)]
    out = call(*ones)
    grad = sparse(*out.shape, seed=2)
    expected = torch.autograd.grad(out, ones, masks(grad)[0])
    x.requires_grad_()
    w.requires_grad_()
    y = call(x, w)
    found = count_nonzero_operations(lambda: call(x, w))
    assert found == NonzeroOperations(0, int(out.sum()), 0, 0)
    found = count_nonzero_operations(lambda: y.backward(grad))
    # the gradient of x sums over pairs (grad, w) at all x, that of w over pairs (grad, x)
    flat = [torch.ones_like(one).requires_grad_() for one in ones]
    (back,) = torch.autograd.grad(call(flat[0], ones[1]), flat[0], masks(grad)[0])
    (kernel,) = torch.autograd.grad(call(ones[0], flat[1]), flat[1], masks(grad)[0])
    assert torch.equal(kernel, expected[1])
    assert found == NonzeroOperations(0, 0, 0, int(back.sum() + kernel.sum()))


def test_transposed_convolutions_with_room_at_the_end():
    x, w = sparse(1, 2, 4, 4), sparse(2, 3, 2, 2, seed=1)
    ones = masks(x, w)
    more = {"stride": 2, "output_padding": 1, "dilation": 2}
    met = F.conv_transpose2d(*ones, **more).sum()
    found = count_nonzero_operations(lambda: F.conv_transpose2d(x, w, **more))
    assert found.forward_mac == int(met)
    more = {"output_padding": 1, "dilation": 2}
    found = count_nonzero_operations(lambda: F.conv_transpose2d(x, w, **more))
    assert found.forward_mac == int(F.conv_transpose2d(*ones, **more).sum())


@pytest.mark.parametrize("bias", [None, torch.ones(5)])
def test_pairs_of_matrix_products(bias):
    x, w = sparse(6, 4), sparse(5, 4, seed=1).requires_grad_()
    met = int((masks(x)[0] @ masks(w)[0].T).sum())
    assert count_nonzero_operations(lambda: F.linear(x, w, bias)).forward_mac == met
    batched = count_nonzero_operations(lambda: x.view(2, 3, 4) @ w.T.expand(2, 4, 5))
    assert batched.forward_mac == met


def test_one_magnitude_is_accumulated():
    """Spikes, signed spikes and spikes of one amplitude multiply nothing; either side will do."""
    w = torch.randn(4, 3)
    for spikes in ([[0.0, 1, 1, 0]], [[0.0, -1, 1, 0]], [[0.0, 0.3, -0.3, 0]]):
        x = torch.tensor(spikes)
        assert count_nonzero_operations(lambda x=x: x @ w) == NonzeroOperations(6, 0, 0, 0)
        assert count_nonzero_operations(lambda x=x: w.T @ x.T).forward_ac == 6
    x = torch.tensor([[0.0, 1, 2, 0]])
    assert count_nonzero_operations(lambda: x @ w) == NonzeroOperations(0, 6, 0, 0)
    assert count_nonzero_operations(lambda: torch.zeros(1, 4) @ w) == NonzeroOperations(0, 0, 0, 0)


def test_nothing_but_zeros_is_left_out():
    """Where no operand is 0, both counts are one."""
    w = torch.randn(3, 4, requires_grad=True)
    x = torch.randn(5, 3, requires_grad=True)

    def call():
        (x @ w).square().sum().backward()

    dense, found = count_operations(call), count_nonzero_operations(call)
    assert found == NonzeroOperations(0, dense.forward, 0, dense.backward)


def test_backward_stage_of_spide_accumulates():
    """Its second stage sends signed spikes through the weights, and nothing else does."""
    steps = 40
    net = SpikingNet(parse("f16 f12 f8", unit=IF()), (6,))
    head = Softmax.of(net)
    generator = torch.Generator().manual_seed(1)
    xs = torch.rand(1, 4, 6, generator=generator).expand(20, -1, -1)
    batch, rule = Batch.of(xs, torch.arange(4) % 8), Spide(back_steps=steps)
    rates = []

    def call():
        report = rule.learn(net, batch, head.bind(batch.target, batch.rng), lambda: None)
        rates.append(report.notes["firing rate backward"])

    found = count_nonzero_operations(call)
    neurons, hidden = 16 + 12, 16 * 12
    fired = rates[0] * 4 * steps * neurons
    assert fired > 50
    # each spike of the second population meets the 16 inputs of its neuron
    assert found.backward_ac % 16 == 0
    assert 0 < found.backward_ac <= 16 * fired
    assert found.backward_ac < count_operations(call).backward
    assert found.backward_mac <= count_operations(call).backward - 4 * steps * hidden
