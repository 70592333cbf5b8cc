import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint

from spikeloom.base.errors import ConfigError
from spikeloom.base.types import Batch
from spikeloom.heads.softmax import Softmax
from spikeloom.meters.topology import topology
from spikeloom.meters.training import TrainingOperations, count_operations, peak_allocated
from spikeloom.nets.net import SpikingNet
from spikeloom.rules.bptt import Bptt
from spikeloom.rules.ottt import Ottt
from spikeloom.rules.sltt import Sltt


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny products on many threads wait for each other longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# operations


def test_matrix_products_by_hand():
    x, w = torch.ones(5, 3), torch.ones(3, 4, requires_grad=True)
    assert count_operations(lambda: x @ w) == TrainingOperations(60, 0)
    assert count_operations(lambda: (x @ w).sum().backward()) == TrainingOperations(60, 60)
    x.requires_grad_()
    assert count_operations(lambda: (x @ w).sum().backward()) == TrainingOperations(60, 120)
    assert TrainingOperations(60, 120).per_sample(5) == (12, 24)
    assert TrainingOperations(60, 120).total == 180
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


TEXT, SHAPE = "c8 P c8 f16 f10", (2, 8, 8)


def learning(rule, steps, *, constant, batch=4, text=TEXT):
    """One call of a rule on a net with gradients in place."""
    net = SpikingNet(text, SHAPE)
    head = Softmax.of(net)
    generator = torch.Generator().manual_seed(1)
    xs = torch.rand(1 if constant else steps, batch, *SHAPE, generator=generator)
    xs = xs.expand(steps, -1, -1, -1, -1)
    data = Batch.of(xs, torch.arange(batch) % 10)

    def call():
        rule.learn(net, data, head.bind(data.target, data.rng), lambda: None)

    call()
    return call


@pytest.mark.parametrize("rule", [Bptt(loss="step"), Sltt(), Ottt()])
def test_operations_of_rules(rule):
    """Per sample and step: the net forward, and twice as much backward less the first layer."""
    laid = topology(TEXT, SHAPE)
    first = laid.layers[0].formula
    counted = count_operations(learning(rule, 5, constant=False))
    assert counted.per_sample(4) == (5 * laid.formula, 5 * (2 * laid.formula - first))
    held = count_operations(learning(rule, 5, constant=True))
    rest = laid.formula - first
    assert held.per_sample(4) == (5 * rest + first, 5 * 2 * rest + first)


# memory


def test_peak_of_known_allocations_is_exact():
    def call():
        one = torch.empty(1000)  # 4000
        two = torch.empty(500)  # 6000
        del one  # 2000
        three = torch.empty(700, dtype=torch.float64)  # 7600
        del two, three

    assert peak_allocated(call) == 7600


def test_peak_of_repeated_and_odd_sizes():
    def call():
        kept = torch.empty(1003, dtype=torch.uint8)
        for _ in range(50):
            again = torch.empty(17)  # the last one lives until its successor exists
        del kept, again

    assert peak_allocated(call) == 1003 + 2 * 68


def test_what_was_there_before_does_not_count():
    before = torch.empty(100_000)
    assert peak_allocated(lambda: before.clone()) == 400_000
    assert peak_allocated(lambda: before.neg_()) == 0
    assert peak_allocated(lambda: None) == 0


def test_autograd_keeps_what_backward_needs():
    w = torch.ones(1000, requires_grad=True)
    w.grad = torch.zeros(1000)

    def chain(count):
        x = w
        for _ in range(count):
            x = x.sin()  # saves its input
        return x

    growth = peak_allocated(lambda: chain(9)) - peak_allocated(lambda: chain(5))
    assert growth == 4 * 4000


def test_unknown_devices_are_refused():
    with pytest.raises(ConfigError, match="cpu or cuda"):
        peak_allocated(lambda: None, "meta")


@pytest.mark.gpu
def test_peak_on_cuda():
    def call():
        one = torch.empty(1 << 20, device="cuda")
        two = torch.empty(1 << 20, device="cuda")
        del one, two

    assert peak_allocated(call, "cuda") == 2 * 4 << 20


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("rule", [Sltt(), Sltt(k_steps=2), Ottt(), Ottt(update="online")], ids=repr)
def test_memory_of_online_rules_does_not_grow_with_time(rule, constant):
    short, long = (peak_allocated(learning(rule, t, constant=constant)) for t in (4, 64))
    assert long <= 1.05 * short


@pytest.mark.parametrize("constant", [True, False])
def test_memory_of_bptt_is_linear_in_time(constant):
    a, b, c = (peak_allocated(learning(Bptt(), t, constant=constant)) for t in (32, 64, 128))
    assert (c - b) == pytest.approx(2 * (b - a), rel=0.05)
    assert c > 3 * a
