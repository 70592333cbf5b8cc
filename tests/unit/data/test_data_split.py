import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeloom.base.errors import ConfigError, DataError
from spikeloom.data import Samples, Scaling, Splits
from spikeloom.data._split import measure, part_samples, stratified_order


def numbered(count: int, classes: int = 3) -> Samples:
    """Return samples whose only value is their row number."""
    return Samples(torch.arange(count).float().unsqueeze(1), torch.arange(count) % classes)


def parted(count: int = 60, **changes: object) -> Splits:
    options = {"classes": 3, "validation": 12, "train_size": None, "normalise": False}
    return part_samples("toy", numbered(count), numbered(6), **(options | changes))


def rows(samples: Samples) -> list[int]:
    return samples.x[:, 0].long().tolist()


@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=120))
@settings(max_examples=80)
def test_order_is_a_permutation_with_even_stretches(labels):
    y = torch.tensor(labels)
    order = stratified_order(y)
    assert sorted(order.tolist()) == list(range(len(y)))
    for stop in range(len(y) + 1):
        for label in y.unique():
            count = (y[order[:stop]] == label).sum().item()
            share = (y == label).double().mean().item() * stop
            # Half a sample for the class's own rounding, up to half of one per other class.
            assert abs(count - share) <= 1 + len(y.unique()) / 2


def test_order_is_the_same_for_ever():
    """Written down once: a change would make old results incomparable."""
    assert stratified_order(torch.arange(12) % 2).tolist() == ORDER_OF_TWELVE


ORDER_OF_TWELVE = [3, 6, 11, 10, 0, 9, 4, 7, 8, 1, 2, 5]


def test_parts_are_disjoint_and_complete():
    splits = parted()
    assert len(splits.train) == 48 and len(splits.validation) == 12
    assert sorted(rows(splits.train) + rows(splits.validation)) == list(range(60))
    assert rows(splits.test) == list(range(6))


def test_parts_are_stratified():
    splits = parted()
    assert splits.validation.y.bincount().tolist() == [4, 4, 4]
    assert parted(train_size=9).train.y.bincount().tolist() == [3, 3, 3]


@pytest.mark.parametrize("size", [1, 10, 47, 48])
def test_smaller_training_parts_are_heads_of_larger(size):
    small, whole = parted(train_size=size), parted()
    assert rows(small.train) == rows(whole.train)[:size]
    assert rows(small.validation) == rows(whole.validation)


def test_training_part_does_not_depend_on_the_validation_size():
    assert rows(parted(train_size=20, validation=5).train) == rows(parted(train_size=20).train)


def test_own_validation_part_is_left_alone():
    splits = parted(validation=numbered(4))
    assert rows(splits.validation) == [0, 1, 2, 3] and len(splits.train) == 60


@pytest.mark.parametrize(
    ("option", "size", "expected"),
    [
        ("validation", 0, "1 sample or more"),
        ("validation", 60, "59 samples at most"),
        ("validation", True, "a whole number"),
        ("validation", "5", "a whole number"),
        ("train_size", 0, "1 sample or more"),
        ("train_size", 49, "48 samples at most"),
        ("train_size", 2.0, "a whole number"),
    ],
)
def test_refuses_sizes_that_cannot_be_filled(option, size, expected):
    message = rf"^data\.toy\.{option}: expected {expected}, got {size!r}; "
    with pytest.raises(ConfigError, match=message):
        parted(**{option: size})


def test_refuses_text_for_normalise():
    with pytest.raises(ConfigError, match=r"^data\.toy\.normalise: .*, got 'false'; "):
        parted(normalise="false")


def test_rows_in_messages_are_those_of_the_store():
    train = numbered(60)
    train.x[41] = math.nan
    with pytest.raises(DataError, match=r"^data\.toy\.train: .* at row 41; "):
        part_samples(
            "toy", train, numbered(6), classes=3, validation=9, train_size=None, normalise=False
        )


class TestNormalise:
    def test_uses_the_training_part_kept_and_nothing_else(self):
        splits = parted(train_size=10, normalise=True)
        kept = splits.train.x.double()
        assert splits.scaling.mean == pytest.approx((kept.mean().item(),), rel=1e-12)
        assert splits.scaling.std == pytest.approx((kept.std(correction=0).item(),), rel=1e-12)
        assert splits.validation.scaling == splits.test.scaling == splits.scaling

    def test_taken_training_part_has_mean_zero_and_deviation_one(self):
        splits = parted(normalise=True)
        x, _ = splits.train.take(torch.arange(len(splits.train)), torch.float64)
        assert x.mean().item() == pytest.approx(0, abs=1e-12)
        assert x.std(correction=0).item() == pytest.approx(1, rel=1e-12)

    def test_is_per_channel_over_stretches(self):
        """More rows than one stretch of the float64 copy."""
        x = torch.randint(0, 256, (5000, 2, 3), generator=torch.Generator().manual_seed(0))
        x[:, 1] //= 4
        samples = Samples(x.to(torch.uint8), torch.zeros(5000).long(), Scaling(peak=255.0))
        scaling = measure("toy", samples)
        scaled = x.double() / 255
        assert scaling.peak == 255.0
        assert scaling.mean == pytest.approx(scaled.mean((0, 2)).tolist(), rel=1e-12)
        assert scaling.std == pytest.approx(scaled.std((0, 2), correction=0).tolist(), rel=1e-12)

    def test_refuses_a_constant_channel(self):
        samples = Samples(torch.tensor([[0.0, 7.0], [1.0, 7.0]]), torch.tensor([0, 1]))
        with pytest.raises(DataError, match=r"^toy: .* got channel 1 constant; "):
            measure("toy", samples)

    def test_refuses_samples_without_channels(self):
        with pytest.raises(DataError, match=r"^toy: expected channels .* got x \[5\]; "):
            measure("toy", Samples(torch.rand(5), torch.zeros(5).long()))
