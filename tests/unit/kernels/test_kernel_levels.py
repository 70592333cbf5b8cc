"""Signals of few levels come back bit by bit; others are left as they are."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeloom.kernels.levels import pack
from spikeloom.kernels.source import jit

pytestmark = pytest.mark.skipif(jit.numba() is None, reason="no compiler")

DTYPES = [torch.float32, torch.float64, torch.bfloat16]


def spikes(shape, rate, seed=0):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


def same(packed, x):
    back = packed.unpack()
    assert back.dtype == x.dtype and back.stride() == x.stride()
    return torch.equal(back, x)


@given(
    count=st.integers(4096, 4200),
    rate=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    amplitude=st.floats(1e-3, 8),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 9),
)
@settings(max_examples=60)
def test_spikes_of_any_amplitude_take_a_bit(count, rate, amplitude, dtype, seed):
    x = (spikes((count,), rate, seed) * amplitude).to(dtype)
    packed = pack(x)
    assert packed is not None and packed.data.numel() == -(-count // 8)
    assert same(packed, x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("side", "gain"), [(2, 1.0), (2, 2.74), (3, 1.0), (4, 1.0), (6, 1.0)])
def test_pooled_spikes_take_half_a_byte_or_one(dtype, side, gain):
    means = torch.nn.functional.avg_pool2d(spikes((8, 16, 24, 24), 0.3), side)
    maps = means.to(dtype) * gain
    packed = pack(maps)
    if packed is None:  # the least mean may be one of so many spikes that no part of it is one's
        assert side == 6
        return
    assert same(packed, maps)
    highest = round(float(means.max()) * side**2)
    assert packed.data.numel() * (2 if highest < 16 else 1) == maps.numel()


def test_an_odd_number_of_levels_keeps_its_last():
    x = spikes((5001,), 0.4) + spikes((5001,), 0.4, 1)
    for last in (0.0, 1.0, 2.0):
        x[-1] = last
        packed = pack(x)
        assert packed is not None and packed.data.numel() == 2501 and same(packed, x)


def test_images_keep_their_layout():
    x = spikes((4, 8, 16, 16), 0.2).contiguous(memory_format=torch.channels_last)
    packed = pack(x)
    assert packed is not None and same(packed, x)


@pytest.mark.parametrize(
    "x",
    [
        torch.randn(5000),
        -spikes((5000,), 0.3) + spikes((5000,), 0.3, 1),
        torch.arange(5000.0),
        spikes((5000,), 0.3).masked_fill(torch.arange(5000) == 4999, torch.nan),
        spikes((5000,), 0.3).masked_fill(torch.arange(5000) == 4999, torch.inf),
        spikes((100,), 0.3),
        spikes((5000, 4), 0.3)[:, ::2],
        spikes((5000,), 0.3).half(),
        (spikes((5000,), 0.3) + spikes((5000,), 0.3, 1)).bfloat16(),
        torch.zeros(5000, dtype=torch.int64),
    ],
    ids=["noise", "two signs", "many", "nan", "inf", "small", "gaps", "half", "levels", "whole"],
)
def test_anything_else_is_left(x):
    assert pack(x) is None


def test_without_a_compiler_nothing_is_packed(monkeypatch):
    monkeypatch.setattr(jit, "numba", lambda: None)
    assert pack(spikes((5000,), 0.3)) is None
