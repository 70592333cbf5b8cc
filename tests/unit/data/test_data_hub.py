"""Sets of the hub, with a stand-in for the network."""

import socket
import sys
import time

import pytest
import torch
from picturekit import pictures, write_parquet

from spikeloom.base.errors import ConfigError, DataError
from spikeloom.data import load_data

NAMES = ["ape", "bee"]


class Hub:
    """Answers as the hub would, and remembers what it was asked."""

    def __init__(self, folder) -> None:
        self.asked: list[tuple[str, str]] = []
        self.parts = {}
        for part, count in (("train", 20), ("valid", 4)):
            path = folder / f"{part}.parquet"
            self.parts[part] = str(
                write_parquet(path, pictures(count), [0, 1] * (count // 2), names=NAMES)
            )
        self.cache = str(folder / "arrow")

    def dataset_info(self, name: str, *, revision: str, timeout: float) -> None:
        assert timeout <= 10
        self.asked.append((name, revision))

    def load_dataset(self, name: str, *, revision: str) -> dict:
        import datasets  # where it is used: it takes a second

        return datasets.DatasetDict(
            {
                part: datasets.Dataset.from_parquet(path, cache_dir=self.cache)
                for part, path in self.parts.items()
            }
        )


@pytest.fixture
def hub(tmp_path, monkeypatch):
    hub = Hub(tmp_path)
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)
    monkeypatch.setattr("datasets.load_dataset", hub.load_dataset)
    return hub


def load(**options):
    return load_data("images", **({"path": "some/pictures"} | options))


def test_reads_parts_classes_and_pictures(hub):
    splits = load(validation=4)
    assert splits.labels == ("ape", "bee")
    assert [len(samples) for _, samples in splits.parts()] == [16, 4, 4]
    assert splits.test.x[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert (splits.train.x[:, 0, 0, 0] % 2).tolist() == splits.train.y.tolist()


def test_asks_once_per_revision(hub):
    first, again = load(), load()
    assert hub.asked == [("some/pictures", "main")]
    assert torch.equal(first.train.x, again.train.x)
    load(revision="v2")
    assert hub.asked[1:] == [("some/pictures", "v2")]


def test_asks_again_without_a_cache(hub, monkeypatch):
    monkeypatch.setenv("SPIKELOOM_CACHE", "/proc/nowhere")
    load()
    load()
    assert len(hub.asked) == 2


def test_a_note_that_is_no_note_is_written_anew(hub, cache_folder):
    load()
    next(cache_folder.glob("hub-*.json")).write_text("[1, 2")
    load()
    assert len(hub.asked) == 2


def test_damage_is_named_by_part_and_row(hub, tmp_path):
    images = pictures(20)
    images[6] = images[6][:30]
    write_parquet(tmp_path / "train.parquet", images, [0, 1] * 10, names=NAMES)
    with pytest.raises(DataError, match=r"^some--pictures-train: row 6: expected a picture, got "):
        load()


def test_a_set_without_training_part(hub):
    del hub.parts["train"]
    with pytest.raises(
        DataError, match=r"^data.images: expected a part train in 'some/pictures', "
    ):
        load()


def test_what_the_libraries_raise_is_one_line(hub, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("one\ntwo")

    monkeypatch.setattr("datasets.load_dataset", fail)
    with pytest.raises(DataError, match=r"^data.images: .* of the hub, got 'one two'; check name"):
        load()


def test_no_network_is_told_quickly(monkeypatch):
    """The libraries alone would try for over 20 seconds."""

    def refuse(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    with pytest.raises(DataError, match=r"^data.images: expected the data set 'some/pictures' of "):
        load()
    assert sum(waits) == 0


def test_offline_is_believed(hub, monkeypatch):
    """What was fetched before is used, and nobody is asked."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    load()
    assert hub.asked == []


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        ConfigError,
        match=r"^data\.images: expected the library datasets for the set 'some/pictures' of the "
        r"hub, got none; pip install 'spikeloom\[hub\]'\.$",
    ):
        load()
