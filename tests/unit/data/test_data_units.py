"""What stored numbers mean: never guessed from the type they are stored in."""

import numpy as np
import pytest
import torch

from spikeloom.base.errors import ConfigError, DataError
from spikeloom.data import load_data, splits_from_tensors
from spikeloom.data.units import stored_array

COUNTS = ["bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"]
FRAMES, SERIES, PICTURES, FEATURES = (5, 2, 4, 4), (5, 2), (1, 4, 4), (6,)


def splits(shape, dtype, **options):
    """Zeros and ones in equal parts."""
    x = (torch.arange(20).view(20, *[1] * len(shape)) // 2 % 2).expand(20, *shape)
    y = torch.arange(20) % 2
    return splits_from_tensors(x.to(getattr(torch, dtype)), y, test=4, validation=4, **options)


def seen(one) -> float:
    """The largest input of the net."""
    return one.train.take(torch.arange(len(one.train)))[0].max().item()


class TestScale:
    @pytest.mark.parametrize("dtype", [*COUNTS, "float16", "bfloat16", "float32", "float64"])
    @pytest.mark.parametrize(("shape", "time"), [(FRAMES, None), (FRAMES, True), (SERIES, True)])
    def test_counts_stay_counts_where_there_is_time(self, dtype, shape, time):
        one = splits(shape, dtype, time=time)
        assert seen(one) == 1.0 and one.scaling.time

    @pytest.mark.parametrize("shape", [PICTURES, FEATURES])
    def test_bytes_without_time_are_grey_levels(self, shape):
        assert seen(splits(shape, "uint8")) == pytest.approx(1 / 255)

    @pytest.mark.parametrize("shape", [PICTURES, FEATURES, SERIES])
    @pytest.mark.parametrize("dtype", ["float32", "float64", "bool"])
    def test_floats_and_truth_values_are_as_they_are(self, shape, dtype):
        assert seen(splits(shape, dtype)) == 1.0

    @pytest.mark.parametrize("shape", [FRAMES, PICTURES, FEATURES])
    @pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "bool"])
    @pytest.mark.parametrize(
        ("scale", "white"), [("pictures", 255), ("counts", 1), (4, 4), (0.5, 0.5)]
    )
    def test_a_stated_scale_holds_for_every_type(self, shape, dtype, scale, white):
        assert seen(splits(shape, dtype, scale=scale)) == pytest.approx(1 / white)

    @pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint16"])
    def test_other_whole_numbers_without_time_must_be_stated(self, dtype):
        with pytest.raises(DataError, match=r"^data.scale: expected the meaning of int\d+ without"):
            splits(PICTURES, dtype)

    def test_bytes_with_an_axis_that_may_be_time_must_be_stated(self):
        with pytest.raises(DataError, match=r"^data.scale: .*time = true.*\[N, T, C\]"):
            splits(SERIES, "uint8")
        assert seen(splits(SERIES, "uint8", scale="pictures")) == pytest.approx(1 / 255)

    @pytest.mark.parametrize("scale", ["count", "", 0, -1.0, float("inf"), float("nan"), True])
    def test_refuses_other_scales(self, scale):
        with pytest.raises(ConfigError, match=r'^data.scale: expected "pictures", "counts" or a n'):
            splits(PICTURES, "uint8", scale=scale)

    @pytest.mark.parametrize("dtype", [torch.complex64, torch.float8_e4m3fn])
    def test_refuses_other_types_by_name(self, dtype):
        x = torch.zeros(20, 3).to(dtype)
        with pytest.raises(DataError, match=rf"^data.tensors.train: .*got {str(dtype)[6:]}; "):
            splits_from_tensors(x, torch.arange(20) % 2, test=4)


class TestArrays:
    @pytest.mark.parametrize("dtype", ["?", "<u2", ">i2", ">u4", "u8", "i1", ">f2", "f8"])
    def test_values_are_kept(self, dtype):
        array = np.asfortranarray(np.array([[0, 1], [1, 0]], dtype))
        assert stored_array("here", array).tolist() == [[0, 1], [1, 0]]

    @pytest.mark.parametrize(
        ("array", "name"),
        [
            (np.zeros(2, "c8"), "complex64"),
            (np.array(["a"]), "str32"),
            (np.array([None]), "object"),
            (np.zeros(2, np.longdouble), "float128"),
        ],
    )
    def test_refuses_other_types_by_name(self, array, name):
        with pytest.raises(DataError, match=rf"^here: expected booleans, .*, got {name}; "):
            stored_array("here", array)

    def test_refuses_whole_numbers_that_do_not_fit(self):
        with pytest.raises(DataError, match=r"^here: expected whole numbers below 2\^63"):
            stored_array("here", np.array([2**63], np.uint64))

    def test_event_frames_of_a_file(self, tmp_path):
        x = np.zeros((12, 3, 2, 4, 4), np.int16)
        x[:, 0, 0] = 3
        np.savez(
            tmp_path / "a.npz",
            x_train=x,
            y_train=np.arange(12) % 2,
            x_test=x,
            y_test=x[:, 1, 0, 0, 0],
        )
        assert seen(load_data("tensors", tmp_path, path="a.npz", validation=2, classes=2)) == 3.0


class TestNormalise:
    @pytest.mark.parametrize("shape", [(16, 2), (16, 2, 5, 5)])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.int16])
    def test_never_mixes_time_and_channels(self, shape, dtype):
        """Deviation of both channels, one of them large: by hand, over samples, time and space."""
        generator = torch.Generator().manual_seed(0)
        x = torch.randint(0, 9, (60, *shape), generator=generator)
        x[:, :, 1] *= 20
        one = splits_from_tensors(
            x.to(dtype), torch.arange(60) % 3, test=12, validation=12, normalise=True, time=True
        )
        rows = one.train.rows
        values = x[rows].double().movedim(2, 0).reshape(2, -1)
        assert one.scaling.mean == pytest.approx(values.mean(1).tolist(), rel=1e-12)
        assert one.scaling.std == pytest.approx(values.std(1, correction=0).tolist(), rel=1e-12)
        given, _ = one.train.take(torch.arange(len(one.train)), torch.float64)
        assert given.movedim(2, 0).reshape(2, -1).std(1, correction=0).tolist() == pytest.approx(
            [1, 1]
        )

    def test_an_axis_that_may_be_time_must_be_stated(self):
        x, y = torch.rand(60, 16, 2), torch.arange(60) % 3
        with pytest.raises(DataError, match=r"^data.normalise: expected to know which axis holds"):
            splits_from_tensors(x, y, test=12, normalise=True)
        still = splits_from_tensors(x, y, test=12, normalise=True, time=False)
        assert len(still.scaling.mean) == 16


class TestTime:
    @pytest.mark.parametrize(
        ("shape", "time"), [(PICTURES, True), (FEATURES, True), (FRAMES, False)]
    )
    def test_refuses_what_the_rank_contradicts(self, shape, time):
        with pytest.raises(
            ConfigError, match=rf"^data.time: expected samples \[N, .*{str(time).lower()}"
        ):
            splits(shape, "float32", time=time)

    @pytest.mark.parametrize("time", ["true", 1, 0.0])
    def test_refuses_what_is_no_truth_value(self, time):
        with pytest.raises(ConfigError, match=r"^data.time: expected true or false, got "):
            splits(SERIES, "float32", time=time)
