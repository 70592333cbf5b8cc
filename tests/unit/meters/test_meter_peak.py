import pytest
import torch
from metering import learning

from spikeloom.base.errors import ConfigError
from spikeloom.meters.peak import peak_allocated
from spikeloom.rules.bptt import Bptt
from spikeloom.rules.ottt import Ottt
from spikeloom.rules.sltt import Sltt


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
