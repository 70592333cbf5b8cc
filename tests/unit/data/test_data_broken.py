"""Broken pictures: all named at once, or left out where the user says so."""

import numpy as np
import pytest
import torch
from picturekit import encode, pictures, pixels, write_folders, write_parquet

from spikeloom.base.errors import ConfigError, DataError
from spikeloom.data import cache, load_data
from spikeloom.data.broken import MOST_NAMED, named

CLASSES = ("ape", "bee", "cat")
BROKEN = ("ape/0.png", "bee/1.png", "cat/4.png")


@pytest.fixture
def folder(tmp_path):
    """Fifteen pictures of three classes, three of them broken: the first, one within, the last."""
    folder = write_folders(tmp_path / "set", CLASSES)
    (folder / BROKEN[0]).write_bytes(b"junk")
    (folder / BROKEN[1]).write_bytes((folder / BROKEN[1]).read_bytes()[:60])
    (folder / BROKEN[2]).write_bytes(encode(pixels(0, side=9)))
    return folder


def load(folder, **options):
    return load_data("images", path=folder, test=3, validation=3, **options)


def test_all_are_named_at_once(folder):
    with pytest.raises(DataError) as caught:
        load(folder)
    message = str(caught.value)
    assert "expected pictures that can be read, got 3 that cannot: " in message
    assert f"{', '.join(BROKEN)} (in {folder})" in message
    assert "set data.skip_broken = true" in message
    assert f"The first: {folder / BROKEN[0]}: expected a picture, got bytes of no" in message


def test_one_alone_is_told_in_full(folder):
    for name in BROKEN[1:]:
        (folder / name).unlink()
    with pytest.raises(DataError, match="ape/0.png: expected a picture, got .* or set data.skip_"):
        load(folder)


def test_skipped_ones_are_left_out_with_their_labels(folder, tmp_path):
    splits = load(folder, skip_broken=True)
    assert splits.skipped == tuple(str(folder / name) for name in BROKEN)
    assert [len(part) for _, part in splits.parts()] == [6, 3, 3]
    for name in BROKEN:
        (folder / name).unlink()
    whole = load(folder)
    assert whole.skipped == ()
    for (_, one), (_, other) in zip(splits.parts(), whole.parts(), strict=True):
        assert torch.equal(one.x, other.x) and torch.equal(one.y, other.y)
        assert (one.x[:, 0, 0, 0] // 5).tolist() == one.y.tolist()  # a picture says its class


def test_the_cache_knows_what_was_left_out(folder, monkeypatch):
    first = load(folder, skip_broken=True)
    monkeypatch.setattr(cache, "decode_part", None)  # nothing is decoded again
    again = load(folder, skip_broken=True)
    assert again.skipped == first.skipped and torch.equal(again.train.x, first.train.x)
    with pytest.raises(DataError, match="got 3 that cannot"):
        load(folder)


def test_without_a_cache(folder, monkeypatch, tmp_path):
    cached = load(folder, skip_broken=True)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPIKELOOM_CACHE", str(tmp_path / "file"))
    kept = load(folder, skip_broken=True)
    assert kept.skipped == cached.skipped and torch.equal(kept.train.x, cached.train.x)


def test_those_of_all_parts_and_rows_without_a_picture(tmp_path):
    images = pictures(12)
    labels = [row % 3 for row in range(12)]
    write_parquet(tmp_path / "set" / "train.parquet", [None, *images[1:]], labels)
    write_parquet(tmp_path / "set" / "test.parquet", [*images[:5], b"junk"], labels[:6])
    with pytest.raises(DataError, match=r"train.parquet: row 0, test.parquet: row 5 \(in "):
        load_data("images", path=tmp_path / "set", validation=3)
    splits = load_data("images", path=tmp_path / "set", validation=3, skip_broken=True)
    assert [len(part) for _, part in splits.parts()] == [8, 3, 5]


def test_none_left(folder):
    for picture in folder.rglob("*.png"):
        picture.write_bytes(b"junk")
    with pytest.raises(DataError, match="got none among 15; the first: "):
        load(folder, skip_broken=True)


def test_a_class_without_whole_pictures(folder):
    for picture in (folder / "bee").glob("*.png"):
        picture.write_bytes(b"junk")
    with pytest.raises(DataError, match=r"got none of class 1 \('bee'\)"):
        load(folder, skip_broken=True)


def test_no_truth_value(folder):
    with pytest.raises(
        ConfigError, match="data.*.skip_broken: expected true or false, got 'false'"
    ):
        load(folder, skip_broken="false")


def test_many_are_counted():
    text = named([f"/set/a/{row}.png" for row in range(MOST_NAMED + 7)])
    assert text.startswith("0.png, 1.png, ") and text.endswith(" and 7 more (in /set/a)")


def test_arrays_are_whatever_numpy_reads(folder):
    """The header keeps its length where fewer are stored than there are labels."""
    load(folder, skip_broken=True)
    (file,) = cache.data_cache().glob("set-train-*/pixels.npy")
    assert np.load(file).shape == (12, 3, 8, 8)
