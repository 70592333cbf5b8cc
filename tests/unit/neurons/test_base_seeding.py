"""Draws that belong to a sample, not to the batch it sits in."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from spikeloom.base import seeding
from spikeloom.base.seeding import SampleRng, derive_seed, stream_for, uniform

CPU = torch.device("cpu")
SHAPE = (3, 2)


def draw(seed, epoch, index, stream="", dtype=torch.float64):
    rng = SampleRng(seed, epoch, torch.tensor(index, dtype=torch.int64), stream)
    return rng.uniform(SHAPE, dtype=dtype, device=CPU)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=6, unique=True), st.randoms())
def test_neither_batch_mates_nor_their_order_matter(index, random):
    whole = draw(3, 1, index)
    order = list(range(len(index)))
    random.shuffle(order)
    some = order[: 1 + len(order) // 2]
    assert torch.equal(draw(3, 1, [index[row] for row in some]), whole[some])


def test_seed_epoch_sample_and_stream_each_change_the_draw():
    base = draw(0, 0, [5])
    others = [
        draw(1, 0, [5]),
        draw(0, 1, [5]),
        draw(0, 0, [6]),
        draw(0, 0, [5], "mask"),
        draw(0, 0, [5], "mask2"),
    ]
    assert torch.equal(base, draw(0, 0, [5]))
    for place, one in enumerate(others):
        assert not torch.equal(base, one)
        assert not any(torch.equal(one, other) for other in others[place + 1 :])


def test_streams_nest_and_their_names_cannot_run_together():
    rng = SampleRng(0, 0, torch.arange(2))
    nested = rng.stream_for("a").stream_for("b")
    assert nested.stream == "/a/b"
    kinds = [nested, rng.stream_for("ab"), rng.stream_for("a"), rng.stream_for("b")]
    values = [one.uniform(SHAPE, dtype=torch.float64, device=CPU) for one in kinds]
    assert not any(torch.equal(values[0], other) for other in values[1:])
    assert derive_seed(1, 11) != derive_seed(11, 1) and derive_seed("1", "2") != derive_seed("12")


def test_a_plain_generator_serves_every_name():
    generator = torch.Generator().manual_seed(4)
    assert stream_for(generator, "poisson") is generator
    expected = torch.rand((2, *SHAPE), generator=torch.Generator().manual_seed(4))
    assert torch.equal(uniform(generator, 2, SHAPE, dtype=torch.float32, device=CPU), expected)
    rng = SampleRng(0, 0, torch.arange(2))
    assert stream_for(rng, "x").stream == "/x"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_type_shape_and_range(dtype):
    out = draw(0, 0, [0, 1, 2], dtype=dtype)
    assert out.shape == (3, *SHAPE) and out.dtype == dtype
    assert bool((out >= 0).all()) and bool((out < 1).all())
    assert SampleRng(0, 0, torch.arange(2)).uniform((), dtype=dtype, device=CPU).shape == (2,)
    assert draw(0, 0, []).shape == (0, *SHAPE)


def test_both_types_hold_the_same_numbers_and_those_are_float32s():
    expected = torch.rand(
        SHAPE, generator=torch.Generator().manual_seed(derive_seed(0, 0, 7, "")), device=CPU
    )
    for dtype in (torch.float32, torch.float64):
        assert torch.equal(draw(0, 0, [7], dtype=dtype)[0], expected.to(dtype))
        generator = torch.Generator().manual_seed(4)
        whole = uniform(generator, 2, SHAPE, dtype=dtype, device=CPU)
        same = torch.rand((2, *SHAPE), generator=torch.Generator().manual_seed(4))
        assert torch.equal(whole, same.to(dtype))


def test_draws_are_uniform_over_samples():
    rng = SampleRng(0, 0, torch.arange(4000))
    u = rng.uniform((1,), dtype=torch.float64, device=CPU).flatten().sort().values
    grid = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    assert (u - grid).abs().max().item() < 1.95 / math.sqrt(4000)  # Kolmogorov, p = 0.001


def test_the_global_generator_is_left_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    draw(0, 0, [1, 2])
    assert torch.equal(torch.rand(3), expected)


def test_seeds_are_stable_over_processes():
    assert 0 <= derive_seed("any", 1) < 2**63
    assert derive_seed(7, "x", 2) == 5309500049979008443  # what another process drew


WRITTEN_DOWN = [
    [0.7135679224359323, 0.8413381508086674],
    [0.041597367767692295, 0.0012546573454935706],
]


class TestNumbers:
    def test_the_mixing_is_splitmix64(self):
        """The generator's first outputs from the seed 0, as published with its reference code."""
        steps = np.arange(1, 4, dtype=np.uint64) * seeding._STEP
        expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
        assert seeding._mix(steps).tolist() == expected

    def test_are_the_same_for_ever(self):
        """Written down once: a change would make old runs impossible to repeat."""
        drawn = SampleRng(1, 2, torch.tensor([3, 4]), "augment").numbers(2)
        assert drawn.tolist() == WRITTEN_DOWN

    def test_depend_on_the_sample_alone(self):
        index = torch.arange(20)
        together = SampleRng(1, 2, index).numbers(3)
        for order in (index.flip(0), index[5:9]):
            assert torch.equal(SampleRng(1, 2, order).numbers(3), together[order])
        assert torch.equal(SampleRng(1, 2, index).numbers(7)[:, :3], together)

    @pytest.mark.parametrize("other", [{"seed": 8}, {"epoch": 8}, {"stream": "b"}])
    def test_change_with_all_else(self, other):
        fields = {"seed": 0, "epoch": 0, "index": torch.arange(50), "stream": "a"}
        same, changed = SampleRng(**fields).numbers(2), SampleRng(**(fields | other)).numbers(2)
        assert not (same == changed).any()

    def test_are_even_and_do_not_know_each_other(self):
        """Neighbouring samples, numbers and epochs; each bound is about five deviations."""
        first, second = (SampleRng(0, e, torch.arange(40_000)).numbers(3) for e in (0, 1))
        assert first.min() >= 0 and first.max() < 1
        for column in first.T:
            counts = (column * 20).long().bincount(minlength=20)
            assert (counts - 2000).abs().max() < 220
        pairs = (
            (first[:-1, 0], first[1:, 0]),
            (first[:, 0], first[:, 1]),
            (first[:, 0], second[:, 0]),
        )
        for one, other in pairs:
            assert abs(torch.corrcoef(torch.stack([one, other]))[0, 1]) < 0.025
            cells = ((one * 8).long() * 8 + (other * 8).long()).bincount(minlength=64)
            assert (cells - len(one) / 64).abs().max() < 130
