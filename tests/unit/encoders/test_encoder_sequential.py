import pytest
import torch

from spikeloom.base.errors import ConfigError, ShapeError
from spikeloom.base.seeding import derive_seed
from spikeloom.encoders.sequential import Sequential


def encode(encoder: Sequential, x: torch.Tensor, steps: int) -> torch.Tensor:
    return encoder.encode(x, steps, torch.Generator())


X = torch.arange(2 * 3 * 4 * 5, dtype=torch.float64).view(2, 3, 4, 5)
"""Every value is its own place: 60 b + 20 c + 5 h + w."""


def test_rows_hold_all_channels_of_a_row():
    xs = encode(Sequential(), X, 4)
    assert xs.shape == (4, 2, 15)
    for t in range(4):
        for b in range(2):
            expected = [60 * b + 20 * c + 5 * t + w for c in range(3) for w in range(5)]
            assert xs[t, b].tolist() == expected


def test_pixels_come_row_by_row():
    xs = encode(Sequential("pixel"), X, 20)
    assert xs.shape == (20, 2, 3)
    for t in range(20):
        assert xs[t, 1].tolist() == [60 + 20 * c + t for c in range(3)]


def test_permuted_pixels_by_hand():
    order = sorted(range(20), key=lambda place: derive_seed("sequential", 5, place))
    assert sorted(order) == list(range(20)) and order != list(range(20))
    xs = encode(Sequential("pixel", permute=5), X, 20)
    assert xs[:, 0, 2].tolist() == [40 + place for place in order]
    rows = encode(Sequential("row", permute=5), X, 4)
    for t in range(4):
        assert rows[t, 0, :5].tolist() == order[5 * t : 5 * t + 5]
    other = encode(Sequential("pixel", permute=6), X, 20)
    assert not torch.equal(other, xs)


def test_first_places_of_a_permutation_of_mnist():
    """Written down once, so that no machine and no later version permutes otherwise."""
    x = torch.arange(784.0).view(1, 1, 28, 28)
    xs = encode(Sequential("pixel", permute=0), x, 784).flatten()
    assert xs[:6].tolist() == FIRST
    assert sorted(xs.tolist()) == list(range(784))


FIRST = [125, 43, 347, 38, 734, 276]


@pytest.mark.parametrize(("by", "steps"), [("row", 4), ("pixel", 20)])
def test_a_net_without_time_sees_the_mean_piece(by, steps):
    for permute in (None, 3):
        encoder = Sequential(by, permute)
        still = encoder.still(X)
        pieces = encode(encoder, X, steps)
        assert still.shape == pieces.shape[1:]
        assert torch.allclose(still, sum(pieces) / steps, rtol=1e-12)


def test_kind_and_length():
    assert Sequential().gives("real") == "real" and Sequential().gives("counts") == "counts"
    assert Sequential().length((1, 28, 30)) == 28
    assert Sequential("pixel").length((3, 28, 30)) == 840
    assert Sequential().length((28, 30)) is None


@pytest.mark.parametrize(
    ("by", "steps", "told"), [("row", 6, "4 in"), ("pixel", 6, "20 in"), ("pixel", 4, "20 in")]
)
def test_refuses_another_number_of_steps(by, steps, told):
    message = rf"expected {steps} {by}s, one for each of T = {steps} steps, got {told} pictures "
    with pytest.raises(ShapeError, match=message + r"\[3, 4, 5\]; set steps = (4|20), or leave"):
        encode(Sequential(by), X, steps)


def test_refuses_what_are_no_pictures():
    with pytest.raises(ShapeError, match=r"expected pictures \[B, C, H, W\], got \[2, 5\]; for "):
        encode(Sequential(), torch.zeros(2, 5), 5)
    with pytest.raises(ShapeError, match=r"got \[2, 4, 1, 2, 2\]; "):
        Sequential().still(torch.zeros(2, 4, 1, 2, 2))


@pytest.mark.parametrize(("field", "value"), [("by", "column"), ("permute", -1), ("permute", 1.5)])
def test_refuses_fields_out_of_range(field, value):
    with pytest.raises(ConfigError, match=rf"^encoders.sequential.{field}: expected .*, got .*; "):
        Sequential(**{field: value})
