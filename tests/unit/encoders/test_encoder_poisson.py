import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeloom.base.errors import ConfigError, DataError
from spikeloom.base.seeding import SampleRng
from spikeloom.encoders.poisson import Poisson


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_zero_never_fires_and_one_always():
    x = torch.tensor([0.0, -0.0, 1.0, -1.0]).expand(1000, 4)
    xs = Poisson().encode(x, 50, generator())
    assert torch.equal(xs, torch.tensor([0.0, 0.0, 1.0, -1.0]).expand(50, 1000, 4))


def test_comparison_is_strict(monkeypatch):
    """u = p does not fire: of the values k/n that u takes, exactly the share p lies below p."""
    monkeypatch.setattr(
        "spikeloom.encoders.poisson.uniform",
        lambda rng, batch, shape, *, dtype, device: torch.full((batch, *shape), 0.5, dtype=dtype),
    )
    xs = Poisson().encode(torch.tensor([[0.0, 0.5, 0.500001, -0.500001]]), 1, generator())
    assert xs.tolist() == [[[0.0, 0.0, 1.0, -1.0]]]


def test_values_beyond_one_saturate():
    xs = Poisson().encode(torch.tensor([[2.5, -7.0, math.inf]]), 20, generator())
    assert torch.equal(xs, torch.tensor([1.0, -1.0, 1.0]).expand(20, 1, 3))


@pytest.mark.parametrize("max_rate", [1.0, 0.25])
@pytest.mark.parametrize("x", [0.032, 0.5, 0.9])
def test_mean_and_variance_are_binomial(x, max_rate):
    steps, count = 25, 40_000
    p = max_rate * x
    rate = Poisson(max_rate).encode(torch.full((1, count), x), steps, generator(3)).double().mean(0)
    variance = p * (1 - p) / steps
    assert abs(rate.mean().item() - p) < 5 * math.sqrt(variance / count)
    # The variance of a sample variance: (m4 - variance^2) / count, m4 of a binomial mean.
    m4 = variance**2 * (3 + (1 - 6 * p * (1 - p)) / (steps * p * (1 - p)))
    assert abs(rate.var().item() - variance) < 5 * math.sqrt((m4 - variance**2) / count)


def test_steps_and_values_are_independent():
    """Counts over T steps spread as a binomial does, hence no two draws are tied."""
    xs = Poisson().encode(torch.full((100, 100), 0.5), 64, generator(1))
    over_values = xs.mean(2).var().item()
    assert over_values == pytest.approx(0.25 / 100, rel=0.1)


@given(x=st.floats(-1.0, 1.0, width=32), seed=st.integers(0, 2**32))
@settings(max_examples=60)
def test_spikes_are_signed_units(x, seed):
    xs = Poisson().encode(torch.full((2, 3), x), 8, generator(seed))
    assert set(xs.unique().tolist()) <= {0.0, math.copysign(1.0, x)}


def test_negation_mirrors_the_spikes():
    x = torch.rand(4, 9, generator=generator(2))
    plus, minus = (Poisson().encode(sign * x, 6, generator(4)) for sign in (1, -1))
    assert torch.equal(plus, -minus)


def test_same_seed_same_spikes():
    x = torch.rand(4, 9, generator=generator(2))
    assert torch.equal(*(Poisson().encode(x, 6, generator(4)) for _ in range(2)))
    assert not torch.equal(*(Poisson().encode(x, 6, generator(seed)) for seed in (4, 5)))


@given(
    order=st.permutations(list(range(6))),
    size=st.integers(1, 6),
    seed=st.integers(0, 2**31),
    epoch=st.integers(0, 300),
)
@settings(max_examples=60)
def test_a_sample_is_blind_to_its_batch(order, size, seed, epoch):
    x = torch.rand(6, 2, 3, generator=generator(2))
    whole = Poisson().encode(x, 5, SampleRng(seed, epoch, torch.arange(6)))
    rows = torch.tensor(order[:size])
    part = Poisson().encode(x[rows], 5, SampleRng(seed, epoch, rows))
    assert torch.equal(part, whole[:, rows])


def test_another_epoch_seed_or_sample_draws_anew():
    x = torch.full((1, 500), 0.5)
    rngs = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    trains = [Poisson().encode(x, 4, SampleRng(s, e, torch.tensor([i]))) for s, e, i in rngs]
    for n, first in enumerate(trains):
        assert not any(torch.equal(first, other) for other in trains[n + 1 :])


def test_draws_from_its_own_stream():
    """Other users of the samples' streams neither see nor shift the spikes."""
    rng = SampleRng(0, 0, torch.arange(2))
    u = rng.stream_for("poisson").uniform((4, 9), dtype=torch.float32, device=torch.device("cpu"))
    xs = Poisson().encode(torch.full((2, 9), 0.5), 4, rng)
    assert torch.equal(xs.transpose(0, 1), (u < 0.5).float())


def test_half_types_keep_small_rates():
    """1/512 of bfloat16 would be lost if the draws had 8 bits too."""
    x = torch.full((1, 100_000), 1 / 512, dtype=torch.bfloat16)
    count = Poisson().encode(x, 10, generator()).double().sum().item()
    assert abs(count - 1e6 / 512) < 5 * math.sqrt(1e6 / 512)


def test_result_is_contiguous_in_time():
    assert Poisson().encode(torch.rand(3, 4), 5, generator()).is_contiguous()


@pytest.mark.parametrize("max_rate", [0.0, -0.5, 1.5, math.nan, math.inf])
def test_refuses_rates_that_are_no_probability(max_rate):
    with pytest.raises(ConfigError, match=rf"^encoders.poisson.max_rate: .* got {max_rate}; "):
        Poisson(max_rate)


def test_refuses_nan():
    with pytest.raises(DataError, match=r"^encoders.poisson: .* got NaN; "):
        Poisson().encode(torch.tensor([[0.5, math.nan]]), 2, generator())


@pytest.mark.parametrize("rng", [generator, lambda: SampleRng(3, 1, torch.arange(64), "train")])
def test_a_sample_has_the_same_train_at_every_precision(rng):
    """Values of bytes, as every precision stores them: k / 255 rounded to the type."""
    exact = (torch.arange(64 * 256, dtype=torch.float64) % 256).view(64, 256) / 255
    trains = [
        Poisson(0.75).encode(exact.to(dtype), 20, rng()) for dtype in (torch.float32, torch.float64)
    ]
    assert trains[1].dtype == torch.float64
    assert torch.equal(trains[0].double(), trains[1])
    half = exact.to(torch.bfloat16)
    low, high = (Poisson().encode(x, 20, rng()).double() for x in (half, half.double()))
    assert torch.equal(low, high)
