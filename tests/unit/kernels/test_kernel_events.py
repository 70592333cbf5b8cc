"""Sums over active inputs equal the dense maps, whatever shape, amplitude and memory order."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeloom.kernels import events
from spikeloom.kernels.source import jit

pytestmark = pytest.mark.skipif(events.kernels() is None, reason="needs numba")

EXAMPLES = settings(max_examples=60)
DENSITIES = st.sampled_from([0.0, 0.01, 0.05, 0.2, 0.5, 1.0])


def active(shape, density, ones, dtype, seed):
    """Spikes, or inputs of any amplitude and sign."""
    draw = torch.Generator().manual_seed(seed)
    size = (
        torch.ones(shape, dtype=dtype) if ones else torch.randn(shape, generator=draw, dtype=dtype)
    )
    return torch.where(torch.rand(shape, generator=draw) < density, size, 0.0)


def assert_close(out, expected, magnitude):
    """Each sum is right to the rounding of as many terms as it has, of their size."""
    bound = {torch.float64: 1e-12, torch.float32: 2e-6}[out.dtype]
    assert out.shape == expected.shape and out.dtype == expected.dtype
    assert ((out - expected).abs() <= bound * (magnitude + 1)).all()


@EXAMPLES
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 40), st.integers(1, 40)),
    DENSITIES,
    st.booleans(),
    st.booleans(),
    st.sampled_from([torch.float32, torch.float64]),
    st.integers(0, 99),
)
def test_linear_maps(sizes, density, ones, bias, dtype, seed):
    batch, wide, many = sizes
    torch.manual_seed(seed)
    weight = torch.randn(many, wide, dtype=dtype)
    shift = torch.randn(many, dtype=dtype) if bias else None
    x = active((batch, wide), density, ones, dtype, seed)
    out = events.SparseMap(weight, shift, (wide,), (many,))(x)
    assert_close(out, F.linear(x, weight, shift), F.linear(x.abs(), weight.abs()))


@EXAMPLES
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 20)),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(0, 3)),
    DENSITIES,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([torch.float32, torch.float64]),
    st.integers(0, 99),
)
def test_convolutions(sizes, sides, window, density, ones, bias, last, dtype, seed):
    batch, depth, many = sizes
    kernel, stride, padding = window
    padding = max(padding, -(-(kernel - min(sides)) // 2), 0)
    torch.manual_seed(seed)
    weight = torch.randn(many, depth, kernel, kernel, dtype=dtype)
    shift = torch.randn(many, dtype=dtype) if bias else None
    x = active((batch, depth, *sides), density, ones, dtype, seed)
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    expected = F.conv2d(x, weight, shift, stride, padding)
    sparse = events.SparseMap(
        weight, shift, tuple(x.shape[1:]), tuple(expected.shape[1:]), stride=stride, padding=padding
    )
    magnitude = F.conv2d(x.abs(), weight.abs(), None, stride, padding)
    out = sparse(x, density)
    assert_close(out, expected, magnitude)
    assert events.interleaved(out) == (events.interleaved(x) and not out.is_contiguous())
    assert torch.equal(sparse(x, 1.0), out)


@pytest.mark.parametrize("shape", [(64,), (3, 7, 6)])
def test_threads_change_no_bit(monkeypatch, shape):
    x = active((9, *shape), 0.3, False, torch.float32, 0)
    torch.manual_seed(0)
    weight = torch.randn(8, shape[0], *[3] * (len(shape) - 1))
    sparse = events.SparseMap(weight, None, shape, (8, *shape[1:]), padding=1)
    alone = sparse(x)
    monkeypatch.setattr(events, "WORTH_A_THREAD", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert torch.equal(sparse(x), alone)
    finally:
        torch.set_num_threads(before)


def test_a_weight_is_copied():
    weight, bias = torch.eye(4), torch.zeros(4)
    sparse = events.SparseMap(weight, bias, (4,), (4,))
    weight.zero_()
    bias.fill_(5)
    assert torch.equal(sparse(torch.eye(4)), torch.eye(4))


def test_inputs_that_lie_askew_in_memory():
    torch.manual_seed(0)
    weight = torch.randn(5, 6)
    sparse = events.SparseMap(weight, None, (6,), (5,))
    x = torch.randn(6, 4).t()
    torch.testing.assert_close(sparse(x), x @ weight.t())
    window = torch.randn(5, 3, 3, 3)
    images = torch.randn(2, 3, 8, 10)[:, :, ::2, 1:7]
    conv = events.SparseMap(window, None, (3, 4, 6), (5, 4, 6), padding=1)
    torch.testing.assert_close(conv(images), F.conv2d(images, window, None, 1, 1))


class TestDensity:
    @pytest.mark.parametrize("shape", [(1, 5), (40, 25), (2, 3, 8, 8)])
    def test_of_small_inputs_is_exact(self, shape):
        x = active(shape, 0.3, False, torch.float64, 1)
        assert events.density(x) == pytest.approx(float((x != 0).double().mean()), abs=1e-12)

    @pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 1.0])
    @pytest.mark.parametrize("shape", [(400, 784), (8, 64, 32, 32)])
    def test_of_large_ones_is_near(self, shape, share):
        x = active(shape, share, True, torch.float32, 1)
        assert events.density(x) == pytest.approx(share, abs=0.05)

    def test_sees_all_parts(self):
        """Activity may be in late steps or in some channels only."""
        late = torch.zeros(400, 784)
        late[200:] = 1
        assert events.density(late) == pytest.approx(0.5, abs=0.1)
        few = torch.zeros(8, 64, 32, 32)
        few[:, ::2] = 1
        assert events.density(few) == pytest.approx(0.5, abs=0.1)

    def test_without_a_compiler(self, monkeypatch):
        monkeypatch.setattr(events, "helpers", lambda name: None)
        assert events.density(torch.eye(4)) == 0.25

    def test_the_switch_of_the_compiler_is_asked(self, monkeypatch):
        monkeypatch.setenv("SPIKELOOM_KERNELS", "reference")
        jit.numba.cache_clear()
        try:
            assert events.kernels() is None
        finally:
            monkeypatch.undo()
            jit.numba.cache_clear()
