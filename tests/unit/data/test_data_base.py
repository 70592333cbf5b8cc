import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from spikeloom.base.errors import ConfigError, DataError, ShapeError, SpikeloomError
from spikeloom.data import DATA, Samples, Scaling, Splits, data_root, load_data


def part(count: int = 4, fill: float = 0.5) -> Samples:
    return Samples(torch.full((count, 2, 3), fill), torch.arange(count) % 2)


def build(**changes: object) -> Splits:
    fields = {"name": "toy", "classes": 2, "train": part(), "validation": part(), "test": part()}
    return Splits(**(fields | changes))


class TestScaling:
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
    def test_bytes_reach_exactly_zero_and_one(self, dtype):
        x = Scaling(peak=255.0).apply(torch.tensor([[0, 255]], dtype=torch.uint8), dtype)
        assert x.dtype == dtype and x.tolist() == [[0.0, 1.0]]

    def test_sixteenths_are_exact(self):
        x = torch.arange(17, dtype=torch.uint8)
        assert Scaling(peak=16.0).apply(x, torch.float32).tolist() == [k / 16 for k in range(17)]

    def test_normalises_per_channel_after_the_peak(self):
        scaling = Scaling(peak=10.0, mean=(0.5, 0.25), std=(0.5, 2.0))
        x = torch.tensor([[[10.0, 0.0], [22.5, 2.5]]])  # [1, 2, 2]
        assert scaling.apply(x, torch.float64).tolist() == [[[1.0, -1.0], [1.0, 0.0]]]

    def test_half_types_are_rounded_once(self):
        """In bfloat16 throughout, 255 - 1 is already 254 -> 1 % off near the mean."""
        scaling = Scaling(peak=255.0, mean=(0.5,), std=(0.01,))
        x = torch.tensor([[128]], dtype=torch.uint8)
        exact = (128 / 255 - 0.5) / 0.01
        assert scaling.apply(x, torch.bfloat16).item() == pytest.approx(exact, rel=2**-8)

    def test_refuses_another_number_of_channels(self):
        with pytest.raises(ShapeError, match=r"expected x \[B, 2, ...\], got \[5, 3\]; "):
            Scaling(mean=(0.0, 0.0), std=(1.0, 1.0)).apply(torch.zeros(5, 3), torch.float32)

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float64])
    def test_leaves_what_it_scales_alone(self, dtype):
        x = torch.ones(2, 1, dtype=dtype)
        Scaling(255.0, (0.5,), (0.5,)).apply(x, torch.float64)
        assert x.eq(1).all()

    def test_stored_zero_is_what_becomes_zero(self):
        scaling = Scaling(4.0, (0.5, 0.3), (0.1, 0.1))
        assert scaling.stored_zero(torch.ones(1, 2, 3, 3)).flatten().tolist() == [
            2.0,
            1.2000000476837158,
        ]
        assert scaling.stored_zero(torch.ones(1, 2).byte()).tolist() == [2, 1]
        assert Scaling(255.0).stored_zero(torch.ones(1, 2)).tolist() == [0.0, 0.0]

    @pytest.mark.parametrize("peak", [0.0, -1.0, math.nan, math.inf])
    def test_refuses_a_peak_that_cannot_divide(self, peak):
        with pytest.raises(
            DataError, match=r"^data.scaling.peak: expected a finite number above 0, got "
        ):
            Scaling(peak=peak)

    @pytest.mark.parametrize(
        ("mean", "std"), [((0.0,), ()), ((0.0,), (0.0,)), ((0.0,), (math.nan,))]
    )
    def test_refuses_a_bad_deviation(self, mean, std):
        with pytest.raises(
            DataError, match=r"^data.scaling: expected mean and std of the same length"
        ):
            Scaling(mean=mean, std=std)


class TestSamples:
    def test_take_hands_rows_in_order(self):
        samples = Samples(torch.arange(6).view(3, 2).to(torch.uint8), torch.tensor([0, 1, 2]))
        x, y = samples.take(torch.tensor([2, 0]))
        assert x.tolist() == [[4.0, 5.0], [0.0, 1.0]] and x.dtype == torch.float32
        assert y.tolist() == [2, 0]
        assert len(samples) == 3 and samples.shape == (2,)

    def test_take_leaves_the_store_alone(self):
        samples = part()
        samples.take(torch.tensor([0]))[0].zero_()
        assert samples.x.eq(0.5).all()

    def test_take_refuses_integer_types(self):
        with pytest.raises(
            ShapeError, match="^data.take.dtype: expected a float type, got torch.i"
        ):
            part().take(torch.tensor([0]), torch.int64)

    def test_to_moves_and_keeps_the_scaling(self):
        samples = replace(part(), scaling=Scaling(peak=2.0)).to("meta")
        assert samples.x.is_meta and samples.y.is_meta and samples.scaling.peak == 2.0


class TestRows:
    """Samples that stand somewhere in a store they share."""

    @pytest.fixture
    def samples(self):
        store = torch.arange(10, dtype=torch.uint8).view(5, 2)
        return Samples(store, torch.tensor([0, 1, 0]), Scaling(2.0), torch.tensor([4, 0, 2]))

    def test_raw_and_take_find_them(self, samples):
        x, y = samples.raw(torch.tensor([0, 2]))
        assert x.tolist() == [[8, 9], [4, 5]] and x.dtype == torch.uint8 and y.tolist() == [0, 0]
        assert samples.take(torch.tensor([1]))[0].tolist() == [[0.0, 0.5]]
        assert len(samples) == 3 and samples.x.tolist() == [[8, 9], [0, 1], [4, 5]]

    def test_select_copies_numbers_only(self, samples):
        some = samples.select(torch.tensor([2, 1])).select(torch.tensor([0]))
        assert some.x.tolist() == [[4, 5]] and some.y.tolist() == [0]
        assert some.store.data_ptr() == samples.store.data_ptr()

    def test_to_leaves_the_rest_of_the_store_behind(self, samples):
        moved = samples.to("cpu")
        assert moved.rows is None and torch.equal(moved.store, samples.x)

    def test_only_samples_of_the_part_are_checked(self):
        store = torch.tensor([[math.nan], [1.0], [2.0]])
        good = Samples(store, torch.tensor([0, 1]), rows=torch.tensor([1, 2]))
        assert build(train=good, validation=good, test=good).shape == (1,)
        bad = Samples(store, torch.tensor([0, 1]), rows=torch.tensor([1, 0]))
        with pytest.raises(DataError, match=r"^data\.toy\.train: .* NaN or infinity at row 1; "):
            build(train=bad, validation=good, test=good)

    def test_labels_and_rows_go_together(self):
        samples = Samples(torch.zeros(4, 2, 3), torch.zeros(3).long(), rows=torch.tensor([0, 1]))
        with pytest.raises(DataError, match=r"^data\.toy\.test: expected one label per sample"):
            build(test=samples)


class TestSplits:
    def test_facts(self):
        splits = build()
        assert splits.shape == (2, 3) and splits.scaling == Scaling()
        assert [name for name, _ in splits.parts()] == ["train", "validation", "test"]

    @pytest.mark.parametrize("which", ["train", "validation", "test"])
    @pytest.mark.parametrize(
        ("samples", "message"),
        [
            (part(0), r"expected at least one sample, got x \[0, 2, 3\]; "),
            (
                Samples(torch.zeros(4, 2, 3), torch.zeros(3).long()),
                r"expected one label per sample, got x \[4, 2, 3\] and y \[3\]; ",
            ),
            (Samples(torch.zeros(4, 2, 3), torch.zeros(4, 1).long()), r"one label per sample"),
            (Samples(torch.tensor(1.0), torch.tensor(1)), r"one label per sample"),
            (
                Samples(torch.zeros(4, 2, 3), torch.tensor([0, 1, 2, 1])),
                r"expected labels in 0..1, got 2 at row 2; ",
            ),
            (
                Samples(torch.zeros(4, 2, 3), torch.tensor([0, 1, 1, -1])),
                r"expected labels in 0..1, got -1 at row 3; ",
            ),
            (Samples(torch.zeros(4, 2, 3), torch.zeros(4)), r"numbers \[N, 2\], got torch.float32"),
            (
                Samples(torch.zeros(4, 2, 3, dtype=torch.complex64), torch.zeros(4).long()),
                r"got torch.complex64 and",
            ),
        ],
    )
    def test_refuses_a_bad_part_by_name(self, which, samples, message):
        with pytest.raises(DataError, match=rf"^data\.toy\.{which}: .*{message}"):
            build(**{which: samples})

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("which", ["train", "validation", "test"])
    def test_names_the_row_that_is_not_finite(self, which, bad):
        samples = part()
        samples.x[2, 1, 1] = bad
        with pytest.raises(DataError, match=rf"^data\.toy\.{which}: .* NaN or infinity at row 2; "):
            build(**{which: samples})

    @pytest.mark.parametrize(
        "other",
        [
            Samples(torch.zeros(4, 3, 2), torch.zeros(4).long()),
            replace(part(), scaling=Scaling(peak=2.0)),
        ],
    )
    def test_refuses_parts_prepared_differently(self, other):
        with pytest.raises(DataError, match=r"^data\.toy\.test: expected samples \[2, 3\] with "):
            build(test=other)

    def test_names_of_classes(self):
        assert build().labels == () and build(labels=("a", "b")).labels == ("a", "b")
        with pytest.raises(DataError, match=r"^data\.toy: expected 2 names of classes, got 1; "):
            build(labels=("a",))

    def test_refuses_one_class(self):
        with pytest.raises(DataError, match=r"^data\.toy: expected at least 2 classes, got 1; "):
            build(classes=1)


class TestRegistry:
    def test_lists_facts_without_files(self):
        pictures = {"cifar10", "cifar100", "digits", "fashion_mnist", "images", "mnist"}
        others = {"tensors", "tiny_imagenet", "tiny_imagenet_10"}
        timed = {"delayed_recall", "events", "nmnist", "shd", "spoken_digits", "ssc"}
        assert set(DATA.names()) == pictures | others | timed
        for name in DATA.names():
            info = DATA.find(name)
            assert 20 < len(info.about) < 80
            assert {"train_size", "validation", "normalise"} <= set(info.options)
            assert not {"root", "progress"} & set(info.options)
            assert info.source
        assert DATA.find("mnist").shape == (1, 28, 28) and DATA.find("mnist").classes == 10

    def test_unknown_set_or_option_suggests_the_nearest(self):
        with pytest.raises(ConfigError, match=r"^data: unknown data set 'minst'; did you mean 'mn"):
            load_data("minst")
        with pytest.raises(ConfigError, match=r"^data.digits: unknown option 'normalize'; did you"):
            load_data("digits", normalize=True)

    def test_missing_option_is_named(self):
        with pytest.raises(
            ConfigError, match=r"^data.tensors: expected the option path, got none; set it\.$"
        ):
            load_data("tensors")

    def test_errors_are_the_users(self):
        assert issubclass(DataError, SpikeloomError) and issubclass(DataError, ValueError)


def test_data_root_reads_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("SPIKELOOM_DATA", str(tmp_path))
    assert data_root() == tmp_path
    for unset in ("", None):
        if unset is None:
            monkeypatch.delenv("SPIKELOOM_DATA")
        else:
            monkeypatch.setenv("SPIKELOOM_DATA", unset)
        assert data_root() == Path.home() / ".cache" / "spikeloom"
