import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeloom.base.errors import ConfigError, ShapeError
from spikeloom.base.seeding import SampleRng
from spikeloom.data import Scaling
from spikeloom.data.augment import Augment

ALL = Augment(crop=2, flip=True, cutout=3)


def draws(*samples: int, seed: int = 0, epoch: int = 0) -> SampleRng:
    return SampleRng(seed, epoch, torch.tensor(samples), stream="train")


def batch(count: int, side: int = 6, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    size = (count, channels, side, side)
    return torch.randint(1, 256, size, generator=generator, dtype=torch.uint8)


def slow(augment: Augment, x: torch.Tensor, rng: SampleRng, scaling: Scaling) -> torch.Tensor:
    """The same, pixel by pixel."""
    out = torch.zeros_like(x)
    count, channels, height, width = x.shape
    numbers = rng.stream_for("augment").numbers(5).tolist()
    zero = scaling.stored_zero(x).flatten()
    for b, (down, right, mirror, row, column) in enumerate(numbers):
        span = 2 * augment.crop + 1
        dy, dx = int(down * span) - augment.crop, int(right * span) - augment.crop
        top = int(row * height) - augment.cutout // 2
        left = int(column * width) - augment.cutout // 2
        for i, j in itertools.product(range(height), range(width)):
            seen = width - 1 - j if augment.flip and mirror < 0.5 else j
            if 0 <= i + dy < height and 0 <= seen + dx < width:
                out[b, :, i, j] = x[b, :, i + dy, seen + dx]
            if top <= i < top + augment.cutout and left <= j < left + augment.cutout:
                out[b, :, i, j] = zero
    return out


@given(
    crop=st.integers(0, 4),
    flip=st.booleans(),
    cutout=st.integers(0, 5),
    seed=st.integers(0, 2**40),
    size=st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(5, 8), st.integers(5, 8)),
    floats=st.booleans(),
)
@settings(max_examples=60)
def test_equals_the_loop_over_pixels(crop, flip, cutout, seed, size, floats):
    x = torch.randint(1, 256, size, generator=torch.Generator().manual_seed(seed))
    x = x.double() / 7 if floats else x.to(torch.uint8)
    before = x.clone()
    augment = Augment(crop, flip, cutout)
    scaling = Scaling(255.0, (0.25,) * size[1], (0.5,) * size[1])
    rng = draws(*range(size[0]), seed=seed)
    result = augment.apply(x, rng, scaling)
    assert result.dtype == x.dtype and torch.equal(result, slow(augment, x, rng, scaling))
    assert torch.equal(x, before)


class TestDraws:
    def test_do_not_depend_on_the_batch(self):
        x = batch(8)
        together = ALL.apply(x, draws(*range(8)))
        for order in ([3, 1, 7], [0], [7, 6, 5, 4, 3, 2, 1, 0]):
            assert torch.equal(ALL.apply(x[order], draws(*order)), together[order])

    @pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 1}])
    def test_change_with_seed_and_epoch(self, other):
        x = batch(8)
        same = ALL.apply(x, draws(*range(8)))
        assert torch.equal(same, ALL.apply(x, draws(*range(8))))
        assert not torch.equal(same, ALL.apply(x, draws(*range(8), **other)))

    def test_of_one_change_do_not_depend_on_the_others(self):
        """Switching cutout on leaves every crop and flip as it was."""
        x, rng = batch(64), draws(*range(64))
        with_it = ALL.apply(x, rng)
        without = Augment(crop=2, flip=True).apply(x, rng)
        left = with_it == without
        assert 1 - 9 / 36 <= left.double().mean() < 1

    def test_every_window_and_both_sides_come_up_evenly(self):
        count = 9000
        x = torch.arange(25, dtype=torch.uint8).view(1, 1, 5, 5).expand(count, 1, 5, 5)
        out = Augment(crop=1, flip=True).apply(x, draws(*range(count)))
        centres = out[:, 0, 2, 2].bincount(minlength=25)
        seen = centres[centres > 0]
        assert len(seen) == 9 and (seen - 1000).abs().max() < 150  # 5 deviations
        mirrored = out[:, 0, 2, 1] > out[:, 0, 2, 3]
        assert abs(mirrored.sum().item() - count / 2) < 240

    def test_centres_of_squares_lie_anywhere(self):
        count = 9000
        x = torch.full((count, 1, 5, 5), 9, dtype=torch.uint8)
        out = Augment(cutout=3).apply(x, draws(*range(count)))
        area = (out == 0).flatten(1).sum(1).bincount(minlength=10)
        # 9 of 25 centres are inside by a pixel, 12 at an edge, 4 in a corner
        for pixels, share in ((9, 9 / 25), (6, 12 / 25), (4, 4 / 25)):
            assert abs(area[pixels].item() / count - share) < 0.03
        assert area.sum() == area[[9, 6, 4]].sum()


class TestCutout:
    def test_the_network_sees_zero(self):
        scaling = Scaling(255.0, (0.49, 0.48, 0.45), (0.25, 0.24, 0.26))
        x = torch.full((4, 3, 6, 6), 255, dtype=torch.uint8)
        seen = scaling.apply(Augment(cutout=6).apply(x, draws(0, 1, 2, 3), scaling), torch.float64)
        blank = seen[seen < 1]
        assert len(blank) > 0 and blank.abs().max() <= 0.5 / 255 / 0.24

    def test_is_exact_for_floats(self):
        scaling = Scaling(1.0, (0.25,), (0.5,))
        x = torch.ones(4, 1, 6, 6)
        seen = scaling.apply(Augment(cutout=6).apply(x, draws(0, 1, 2, 3), scaling), torch.float32)
        assert set(seen.unique().tolist()) == {0.0, 1.5}

    def test_without_scaling_is_the_stored_zero(self):
        out = Augment(cutout=6).apply(batch(4), draws(0, 1, 2, 3))
        assert (out == 0).any()


class TestRefusals:
    @pytest.mark.parametrize("bad", [-1, 1.5, "4", True, None])
    @pytest.mark.parametrize("name", ["crop", "cutout"])
    def test_of_numbers(self, name, bad):
        expected = "0 pixels or more" if bad == -1 else "a whole number"
        with pytest.raises(ConfigError, match=rf"^augment\.{name}: expected {expected}, got "):
            Augment(**{name: bad})

    def test_of_text_for_flip(self):
        with pytest.raises(ConfigError, match=r"^augment.flip: expected true or false, got 1; "):
            Augment(flip=1)

    @pytest.mark.parametrize("name", ["crop", "cutout"])
    def test_of_pictures_that_are_too_small(self, name):
        with pytest.raises(ShapeError, match=rf"^augment\.{name}: expected at most 6 pixels for s"):
            Augment(**{name: 7}).apply(batch(2), draws(0, 1))

    def test_of_samples_that_are_no_pictures(self):
        with pytest.raises(ShapeError, match=r"^augment: expected pictures .* got samples \[5\]; "):
            ALL.check((5,))


def test_nothing_asked_for_is_nothing_done():
    x = batch(3)
    assert torch.equal(Augment().apply(x, draws(0, 1, 2)), x)
