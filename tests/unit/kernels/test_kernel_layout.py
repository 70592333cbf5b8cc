"""How a step lies in memory: a flat row of elements, whatever its strides."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from spikeloom.kernels.layout import Layout

SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@st.composite
def trains(draw):
    """Draw a train whose axes lie in any order, with or without gaps."""
    steps, sizes = draw(st.integers(1, 3)), draw(SIZES)
    order = draw(st.permutations(range(len(sizes))))
    count = torch.arange(steps * int(torch.tensor(sizes).prod()), dtype=torch.float64)
    xs = count.view(steps, *[sizes[k] for k in order])
    back = [order.index(k) for k in range(len(sizes))]
    xs = xs.permute(0, *[1 + k for k in back])
    return torch.stack([xs, -xs], -1)[..., 0] if draw(st.booleans()) else xs


def memory(x, count):
    """Return what a kernel reads: the elements from the first address on."""
    return x.as_strided((count,), (1,))


@given(trains())
def test_a_fitted_train_is_the_same_train_without_gaps(xs):
    layout = Layout.of(xs)
    fitted = layout.fitted(xs, train=True)
    assert torch.equal(fitted, xs) and layout.count == xs[0].numel()
    for t, step in enumerate(fitted):
        assert step.data_ptr() == fitted.data_ptr() + t * layout.count * 8
        assert sorted(memory(step, layout.count).tolist()) == sorted(xs[t].flatten().tolist())


@given(trains())
def test_steps_and_trains_share_one_order(xs):
    layout = Layout.of(xs)
    row = memory(layout.fitted(xs, train=True)[0], layout.count)
    assert torch.equal(row, memory(layout.fitted(xs[0]), layout.count))
    assert torch.equal(row, memory(layout.fitted(xs[0].contiguous()), layout.count))
    assert torch.equal(row, memory(layout.empty(xs.dtype, xs.device).copy_(xs[0]), layout.count))


@given(trains())
def test_what_is_dense_already_is_not_copied(xs):
    dense = xs.contiguous()
    assert Layout.of(dense).fitted(dense, train=True) is dense
    own = Layout.of(dense).empty(xs.dtype, xs.device, len(xs)).copy_(xs)
    assert Layout.of(own).fitted(own, train=True) is own
    assert Layout.of(own).fitted(own[0]).data_ptr() == own.data_ptr()


@given(trains(), st.data())
def test_values_that_broadcast_are_spread_out(xs, data):
    shape = [data.draw(st.sampled_from([1, size])) for size in xs.shape[1:]]
    layout = Layout.of(xs)
    value = torch.rand(shape)
    fitted = layout.fitted(value)
    assert fitted.shape == layout.shape and torch.equal(fitted, value.expand(layout.shape))
    assert len(set(memory(fitted, layout.count).tolist())) <= value.numel()
    one = layout.fitted(torch.tensor(3.0))
    assert memory(one, layout.count).tolist() == [3.0] * layout.count


def image(shape, order):
    x = torch.rand(2, *shape)
    if order == "rows":
        return x
    axes = [*range(len(shape) - 2), len(shape) - 1, len(shape), len(shape) - 2]
    return x.permute(axes).contiguous().permute(*axes[:-3], len(shape), *axes[-3:-1])


def last(x):
    """Move channels of [T, ..., C, H, W] to the end of memory."""
    return x.movedim(-3, -1).contiguous().movedim(-1, -3)


@pytest.mark.parametrize("front", [(), (3,)])
@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("channels_last", [False, True])
def test_rows_of_images(front, channels, channels_last):
    xs = torch.rand(2, *front, channels, 6, 4)
    layout = Layout.of(last(xs) if channels_last else xs)
    together = channels if channels_last else 1
    assert layout.rows() == (4, together)
    assert layout.images() == layout
    pooled = layout.pooled(2)
    assert pooled.shape == (*front, channels, 3, 2)
    assert pooled.rows() == (2, together) and pooled.count * 4 == layout.count
    assert layout.pooled(1) is layout
    out = pooled.empty(torch.float32, torch.device("cpu"), 2)
    assert torch.equal(F.avg_pool2d(xs[0], 2), out[0].copy_(F.avg_pool2d(xs[0], 2)))


@pytest.mark.parametrize("axes", [(0, 1, 4, 3, 2), (0, 2, 1, 3, 4), (0, 3, 1, 2, 4)])
def test_images_of_other_orders_lie_in_rows(axes):
    xs = torch.rand(2, 3, 4, 5, 6).permute(*axes)
    assert Layout.of(xs) != Layout.of(xs).images() == Layout.of(xs.contiguous())


def test_overlapping_steps_are_copied():
    xs = torch.rand(3, 1, 5).expand(3, 4, 5)
    fitted = Layout.of(xs).fitted(xs, train=True)
    assert torch.equal(fitted, xs) and fitted.is_contiguous()
    sliding = torch.rand(9).unfold(0, 5, 1)
    assert Layout.of(sliding).fitted(sliding, train=True).stride(0) == 5


@given(trains(), st.data())
def test_values_that_repeat_in_memory_are_tiles(xs, data):
    layout = Layout.of(xs)
    shape = [data.draw(st.sampled_from([1, size])) for size in xs.shape[1:]]
    values = [torch.rand(shape, dtype=torch.float64), torch.tensor(3.0, dtype=torch.float64)]
    period = layout.period(values)
    assert layout.count % period == 0
    for value in values:
        whole = memory(layout.fitted(value), layout.count)
        tile = layout.tile(value, period, 2 * period)
        assert torch.equal(whole, tile[:period].repeat(layout.count // period))
        assert torch.equal(tile[:period], tile[period:])
        tiles = torch.rand(3, 2 * period, dtype=torch.float64)
        back = layout.untile(tiles, period, value.shape)
        assert back.shape == value.shape
        up = torch.rand_like(value)  # the sum is the adjoint of the tile
        spread = layout.tile(up, period, 2 * period)
        assert torch.allclose((back * up).sum(), (tiles * spread).sum())


def test_periods():
    image = Layout.of(last(torch.rand(2, 4, 6, 8, 8)))
    rows = Layout.of(torch.rand(2, 4, 6, 8, 8))
    one, channel = torch.rand(()), torch.rand(6, 1, 1)
    assert image.period([one]) == rows.period([one]) == 1
    assert image.period([channel, one]) == 6 and rows.period([channel]) == 6 * 64
    assert image.period([torch.rand(4, 1, 1, 1)]) == 4 * 6 * 64
    assert Layout.of(torch.rand(2, 3, 5000)).period([torch.rand(5000)]) is None
