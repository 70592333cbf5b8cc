import pytest
import torch

from spikeloom.base.errors import ShapeError
from spikeloom.encoders.frames import Frames


def test_puts_time_first_without_a_copy():
    x = torch.rand(3, 5, 2, 4)
    xs = Frames().encode(x, 5, torch.Generator())
    assert all(torch.equal(xs[t, b], x[b, t]) for t in range(5) for b in range(3))
    assert xs.data_ptr() == x.data_ptr()


@pytest.mark.parametrize("steps", [4, 6])
def test_refuses_another_length(steps):
    message = (
        rf"^encoders.frames: expected x \[B, T, ...\] with T = {steps}, got \[3, 5, 2\]; set "
        r"steps = 5, or bring time to dimension 1 where that holds channels\.$"
    )
    with pytest.raises(ShapeError, match=message):
        Frames().encode(torch.zeros(3, 5, 2), steps, torch.Generator())


def test_refuses_data_without_time():
    with pytest.raises(ShapeError, match=r"expected x \[B, T, ...\], got \[3\]; .*another encoder"):
        Frames().encode(torch.zeros(3), 1, torch.Generator())
