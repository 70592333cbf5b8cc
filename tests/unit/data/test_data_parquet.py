"""Parquet files: what is found in them, and what is refused by file and row."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from picturekit import encode, pictures, pixels, write_parquet, write_set

from spikeloom.base.errors import ConfigError, DataError
from spikeloom.data import load_data

NAMES = ["ape", "bee", "cat", "dog"]
LABELS = [row % 4 for row in range(40)]


def load(path, **options):
    return load_data("images", path.parent, path=path.name, **options)


def numbers(samples) -> list[int]:
    """Return which pictures a part holds; each says its own number."""
    return samples.x[:, 0, 0, 0].tolist()


def refusal(path, images, labels, **options) -> str:
    """Write one file, read it, and return the one line that refuses it, without its path."""
    write_parquet(path, images, labels, **options)
    with pytest.raises(DataError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


@pytest.fixture
def file(tmp_path):
    return tmp_path / "set.parquet"


class TestReading:
    def test_one_file_is_parted(self, file):
        write_parquet(file, pictures(40), LABELS, names=NAMES)
        splits = load(file, test=8, validation=4)
        assert [len(samples) for _, samples in splits.parts()] == [28, 4, 8]
        assert splits.labels == ("ape", "bee", "cat", "dog") and splits.classes == 4
        assert sorted(sum((numbers(part) for _, part in splits.parts()), [])) == list(range(40))
        for _, part in splits.parts():
            for row, number in enumerate(numbers(part)):
                assert part.y[row] == number % 4
                assert np.array_equal(part.x[row], pixels(number).transpose(2, 0, 1))
        assert splits.test.y.bincount().tolist() == [2, 2, 2, 2]

    def test_sorted_files_come_out_shuffled(self, tmp_path):
        """Every batch of a class-sorted file holds the classes evenly, and in no fixed turn."""
        splits = load(write_set(tmp_path / "sorted", train=200), validation=20)
        train = splits.train
        for batch in train.y.split(20):
            assert batch.bincount(minlength=4).tolist() == [5, 5, 5, 5]
        turns = {tuple(group) for group in train.y.view(-1, 4).tolist()}
        assert len(turns) > 5
        assert numbers(train) != sorted(numbers(train))

    def test_shards_follow_each_other(self, tmp_path):
        folder = tmp_path / "set" / "data"
        images = pictures(40)
        for k in range(2):
            rows = slice(20 * k, 20 * k + 20)
            name = f"train-0000{k}-of-00002.parquet"
            write_parquet(folder / name, images[rows], LABELS[rows], names=NAMES)
        write_parquet(folder / "validation-0.parquet", images[:8], LABELS[:8], names=NAMES)
        splits = load(tmp_path / "set", validation=4)
        assert numbers(splits.test) == list(range(8))  # it stands in for a test part
        assert len(splits.train) == 36

    def test_a_set_with_all_parts_uses_them(self, tmp_path):
        for part, count in (("train", 16), ("val", 4), ("test", 8)):
            path = tmp_path / "set" / part / "0.parquet"
            write_parquet(path, pictures(count), LABELS[:count], names=NAMES)
        splits = load(tmp_path / "set")
        assert [len(samples) for _, samples in splits.parts()] == [16, 4, 8]
        with pytest.raises(ConfigError, match=r"^data.images.validation: expected no size, as set"):
            load(tmp_path / "set", validation=3)
        with pytest.raises(ConfigError, match=r"^data.images.test: expected no size, as set has"):
            load(tmp_path / "set", test=3)

    def test_text_labels_are_classes(self, file):
        write_parquet(file, pictures(40), [NAMES[k] for k in LABELS], typed=False)
        splits = load(file, test=8)
        assert splits.labels == tuple(NAMES)
        assert splits.train.y.tolist() == [number % 4 for number in numbers(splits.train)]

    def test_plain_numbers_have_no_names(self, file):
        write_parquet(file, pictures(40), LABELS, typed=False)
        splits = load(file)
        assert splits.labels == () and splits.classes == 4 and len(splits.test) == 4

    def test_parts_may_number_their_classes_differently(self, tmp_path):
        write_parquet(tmp_path / "a" / "train.parquet", pictures(40), LABELS, names=NAMES)
        turned = [3 - k for k in LABELS[:8]]
        path = tmp_path / "a" / "test.parquet"
        write_parquet(path, pictures(8), turned, names=NAMES[::-1])
        assert load(tmp_path / "a").test.y.tolist() == LABELS[:8]

    def test_grey_size_and_normalise(self, file):
        write_parquet(file, pictures(40), LABELS, names=NAMES)
        splits = load(file, grey=True, size=4, normalise=True)
        assert splits.shape == (1, 4, 4) and len(splits.scaling.mean) == 1

    def test_grey_ones_among_colour_ones(self, file):
        images = [encode(pixels(k), mode="L" if k == 11 else None) for k in range(40)]
        write_parquet(file, images, LABELS, names=NAMES)
        assert load(file).shape == (3, 8, 8)

    def test_columns_by_name(self, file):
        table = {"a": pictures(40), "b": pictures(40)[::-1], "k": LABELS, "n": [0, 1] * 20}
        pyarrow.parquet.write_table(pyarrow.table(table), file)
        splits = load(file, image="b", label="n", validation=2)
        assert splits.classes == 2
        assert splits.train.y.tolist() == [(39 - n) % 2 for n in numbers(splits.train)]
        with pytest.raises(DataError, match=r"expected one column of images, got several \(a, b\)"):
            load(file)
        with pytest.raises(
            ConfigError, match=r"expected a column 'c', got a, b, k, n; set the opt"
        ):
            load(file, image="c")
        with pytest.raises(
            DataError, match=r"one column of labels, got none among a, b, k, n; set"
        ):
            load(file, image="a")

    def test_the_root_itself_is_no_path(self):
        with pytest.raises(
            ConfigError, match=r"^data.images.path: expected a text that is not empty, got ''; "
        ):
            load_data("images", path="")

    @pytest.mark.parametrize("option", ["path", "image", "label", "revision"])
    def test_names_are_text(self, file, option):
        with pytest.raises(
            ConfigError, match=rf"^data\.images\.{option}: expected a text, got 3; "
        ):
            load_data("images", **({"path": str(file)} | {option: 3}))


class TestDamage:
    def test_corrupt_picture(self, file):
        images = pictures(40)
        images[23] = images[23][:50]
        assert refusal(file, images, LABELS, names=NAMES).startswith(": row 23: expected a picture")

    def test_rows_count_within_their_shard(self, tmp_path):
        images = pictures(40)
        images[25] = b"no picture"
        for k in range(2):
            rows = slice(20 * k, 20 * k + 20)
            write_parquet(tmp_path / "s" / f"train-{k}.parquet", images[rows], LABELS[rows])
        with pytest.raises(
            DataError, match=r"train-1\.parquet: row 5: expected a picture, got byt"
        ):
            load(tmp_path / "s")

    @pytest.mark.parametrize("typed", [True, False])
    def test_missing_picture(self, file, typed):
        images = [*pictures(39), None]
        line = refusal(file, images, LABELS, typed=typed)
        assert line.startswith(": row 39: expected a picture, got none; ")

    def test_picture_of_another_size(self, file):
        images = pictures(40)
        images[7] = encode(pixels(7, side=9)[:8])
        line = refusal(file, images, LABELS, names=NAMES)
        assert line.startswith(
            ": row 7: expected a picture of 8 x 8 pixels as the others, got 9 x 8"
        )
        assert load(file, size=8).shape == (3, 8, 8)

    @pytest.mark.parametrize("bad", [-1, 4, 99, 2**40])
    def test_label_out_of_range(self, file, bad):
        """Written behind the back of `datasets`, which would refuse it."""
        write_parquet(file, pictures(40), LABELS, names=NAMES)
        table = pyarrow.parquet.read_table(file)
        labels = pyarrow.array([*LABELS[:17], bad, *LABELS[18:]])
        table = table.set_column(1, "label", labels)
        pyarrow.parquet.write_table(table, file)
        with pytest.raises(DataError) as caught:
            load(file)
        expected = f"{file}: row 17: expected a label in 0..3, got {bad}; correct the row."
        assert str(caught.value) == expected

    def test_negative_label_without_names(self, file):
        line = refusal(file, pictures(40), [*LABELS[:-1], -1], typed=False)
        assert line == ": row 39: expected a label in 0, got -1; correct the row."

    def test_missing_label(self, file):
        line = refusal(file, pictures(40), [*LABELS[:5], None, *LABELS[6:]], typed=False)
        assert line == ": row 5: expected a label, got none; correct the row."

    def test_label_that_is_no_number(self, file):
        labels = [*map(float, LABELS[:9]), float("nan"), *map(float, LABELS[10:])]
        line = refusal(file, pictures(40), labels, typed=False)
        assert line.startswith(
            ": row 9: expected whole numbers or text as labels, got nan (double)"
        )

    def test_labels_that_are_halves(self, file):
        line = refusal(file, pictures(40), [0.5] * 40, typed=False)
        assert line.startswith(": row 0: expected whole numbers or text as labels, got 0.5")

    def test_class_without_pictures(self, file):
        write_parquet(file, pictures(40), [0, 1, 3, 3] * 10, names=NAMES)
        with pytest.raises(
            DataError, match=r"^data\.images\.train: .* none of class 2 \('cat'\); "
        ):
            load(file)

    def test_gap_in_plain_numbers(self, file):
        write_parquet(file, pictures(40), [0, 1, 2**40, 3] * 10, typed=False)
        with pytest.raises(DataError, match=r"^data\.images\.train: .* got none of class 2; "):
            load(file)

    def test_test_class_that_training_lacks(self, tmp_path):
        write_parquet(tmp_path / "a" / "train.parquet", pictures(40), LABELS, names=NAMES)
        names = [*NAMES[:3], "eel"]
        write_parquet(tmp_path / "a" / "test.parquet", pictures(8), LABELS[:8], names=names)
        with pytest.raises(DataError, match=r"^data\.images\.test: .* got 'eel'; add training pic"):
            load(tmp_path / "a")

    @pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
    def test_cut_file(self, file, share):
        write_parquet(file, pictures(40), LABELS, names=NAMES)
        whole = file.read_bytes()
        file.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(DataError) as caught:
            load(file)
        assert str(caught.value).startswith(f"{file}: expected a whole parquet file, got '")
        assert str(caught.value).endswith("; fetch it again.") and "\n" not in str(caught.value)

    def test_overwritten_bytes_never_pass_for_pictures(self, file):
        """A page that no longer unpacks, pictures that no longer decode, or bytes nobody reads."""
        whole = write_parquet(file, pictures(40), LABELS, names=NAMES).read_bytes()
        expected = load(file)
        refused = 0
        for start in range(4, len(whole) - 1200, 397):
            file.write_bytes(whole[:start] + b"\xa5" * 200 + whole[start + 200 :])
            try:
                splits = load(file)
            except DataError as error:
                assert str(error).startswith(str(file)) and "\n" not in str(error)
                refused += 1
            else:
                assert torch.equal(splits.train.x, expected.train.x)
                assert torch.equal(splits.train.y, expected.train.y)
        assert refused > 25

    def test_no_rows(self, file):
        write_parquet(file, [], [], names=NAMES)
        with pytest.raises(DataError, match=r"set\.parquet: expected rows, got none; "):
            load(file)

    def test_no_column_of_pictures(self, file):
        pyarrow.parquet.write_table(pyarrow.table({"label": LABELS}), file)
        with pytest.raises(
            DataError, match=r"one column of images, got none among label; set imag"
        ):
            load(file)

    def test_metadata_of_another_library(self, file):
        """A mark that `datasets` does not know says nothing: columns are found by type."""
        table = pyarrow.table({"img": pictures(40), "label": LABELS})
        text = json.dumps({"info": {"features": {"img": {"_type": "Hologram"}}}})
        table = table.replace_schema_metadata({"huggingface": text})
        pyarrow.parquet.write_table(table, file)
        assert load(file).labels == ()

    @pytest.mark.parametrize(
        "text",
        [
            "{",
            "[]",
            '{"info": {"features": 3}}',
            '{"info": {"features": {"label": {"_type": "ClassLabel", "names": [1, 2]}}}}',
            '{"info": {"features": {"label": {"_type": "ClassLabel", "names": 4}}}}',
        ],
    )
    def test_metadata_that_nobody_can_read(self, file, text):
        table = pyarrow.table({"img": pictures(40), "label": LABELS})
        pyarrow.parquet.write_table(table.replace_schema_metadata({"huggingface": text}), file)
        with pytest.raises(DataError, match=r"set\.parquet: expected columns as the library data"):
            load(file)

    def test_marks_decide_among_columns_of_one_type(self, file):
        """As the library datasets writes them: two columns of bytes, two of numbers."""
        marks = {
            "img": {"_type": "Image"},
            "label": {"_type": "Value", "dtype": "int64"},
            "kind": {"_type": "ClassLabel", "names": NAMES},
        }
        table = pyarrow.table(
            {"raw": pictures(40)[::-1], "img": pictures(40), "label": [7] * 40, "kind": LABELS}
        )
        text = json.dumps({"info": {"features": marks}})
        pyarrow.parquet.write_table(table.replace_schema_metadata({"huggingface": text}), file)
        splits = load(file)
        assert splits.labels == tuple(NAMES)
        assert splits.train.y.tolist() == [number % 4 for number in numbers(splits.train)]

    def test_without_pyarrow(self, file, monkeypatch):
        write_parquet(file, pictures(40), LABELS, names=NAMES)
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(
            ConfigError,
            match=r"set\.parquet: expected the library pyarrow for parquet files, got none; pip "
            r"install 'spikeloom\[parquet\]'\.$",
        ):
            load(file)


def test_memory_is_shared_between_parts(tmp_path):
    splits = load(write_set(tmp_path / "a"), validation=10)
    assert splits.train.store.data_ptr() == splits.validation.store.data_ptr()
    index = torch.tensor([3, 0])
    x, y = splits.train.raw(index)
    assert x.dtype == torch.uint8 and torch.equal(x, splits.train.x[index])
    assert torch.equal(splits.train.take(index)[0], x.float() / 255)
    assert torch.equal(y, splits.train.y[index])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_store_stays_on_disk(tmp_path):
    """Its memory is a mapping of the cache's file, after shuffling, splitting and normalising."""
    splits = load(write_set(tmp_path / "a"), validation=10, normalise=True, train_size=20)
    for _, part in splits.parts():
        start = part.store.data_ptr()
        lines = Path("/proc/self/maps").read_text().splitlines()
        ranges = [line.split()[0].split("-") for line in lines if line.endswith("pixels.npy")]
        assert any(int(low, 16) <= start < int(high, 16) for low, high in ranges)
