"""CIFAR and Tiny ImageNet: where they are looked for, and what the real ones hold."""

import os
import sys
from pathlib import Path

import pytest
import torch
from picturekit import pictures, write_folders, write_parquet

from spikeloom.base.errors import ConfigError, DataError
from spikeloom.data import DATA, data_root, load_data

TEN = [f"class {k}" for k in range(10)]


def write_cifar(root: Path, *, name: str = "cifar10", side: int = 32, **options) -> Path:
    for part, count in (("train", 40), ("test", 10)):
        labels = [row * 10 // count for row in range(count)]
        path = root / name / f"{part}.parquet"
        write_parquet(path, pictures(count, side), labels, **({"names": TEN} | options))
    return root / name


class TestFiles:
    def test_reads_both_parts(self, tmp_path):
        write_cifar(tmp_path)
        splits = load_data("cifar10", tmp_path, validation=10)
        assert [len(samples) for _, samples in splits.parts()] == [30, 10, 10]
        assert splits.shape == (3, 32, 32) and splits.labels == tuple(TEN)
        assert splits.train.y.bincount().tolist() == [3] * 10

    def test_validation_is_a_tenth(self, tmp_path):
        write_cifar(tmp_path)
        assert len(load_data("cifar10", tmp_path).validation) == 4

    @pytest.mark.parametrize("name", ["cifar10", "cifar100", "tiny_imagenet", "tiny_imagenet_10"])
    def test_missing_files_are_named_with_their_place(self, tmp_path, name):
        with pytest.raises(DataError) as caught:
            load_data(name, tmp_path)
        message = str(caught.value)
        folder = tmp_path / name.replace("_", "-")
        assert message.startswith(
            f"data.{name}: expected train.parquet and test.parquet in {folder}"
        )
        assert DATA.find(name).source in message and "$SPIKELOOM_DATA" in message

    def test_missing_test_file(self, tmp_path):
        (write_cifar(tmp_path) / "test.parquet").unlink()
        with pytest.raises(
            DataError, match=r"^data.cifar10: expected test.parquet in .*/cifar10, "
        ):
            load_data("cifar10", tmp_path)

    def test_pictures_have_the_published_size(self, tmp_path):
        write_cifar(tmp_path, side=31)
        with pytest.raises(
            DataError, match=r"train\.parquet: row 0: expected a picture of 32 x 32 "
        ):
            load_data("cifar10", tmp_path)

    def test_another_number_of_classes(self, tmp_path):
        write_cifar(tmp_path, name="cifar100", columns=("img", "fine_label"))
        with pytest.raises(
            DataError, match=r"expected 100 classes, got a schema that names 10; fetch it "
        ):
            load_data("cifar100", tmp_path)

    def test_labels_without_names_are_checked_against_the_published_number(self, tmp_path):
        folder = write_cifar(tmp_path, typed=False)
        labels = [*[row * 10 // 40 for row in range(39)], 10]
        write_parquet(folder / "train.parquet", pictures(40, 32), labels, typed=False)
        with pytest.raises(DataError, match=r"row 39: expected a label in 0\.\.9, got 10; correct"):
            load_data("cifar10", tmp_path)

    def test_label_column_of_another_name(self, tmp_path):
        write_cifar(tmp_path, columns=("image", "kind"))
        assert load_data("cifar10", tmp_path).classes == 10  # found by its type
        with pytest.raises(
            ConfigError, match=r"expected a column 'fine', got image, kind; set the "
        ):
            load_data("cifar10", tmp_path, label="fine")
        with pytest.raises(ConfigError, match=r"^data.cifar10.label: expected a text, got 3; "):
            load_data("cifar10", tmp_path, label=3)

    def test_class_folders_serve_as_well(self, tmp_path):
        names = [f"n{k}" for k in range(10)]
        write_folders(tmp_path / "tiny-imagenet-10" / "train", names, each=3, side=64)
        write_folders(tmp_path / "tiny-imagenet-10" / "val", names, each=1, side=64)
        splits = load_data("tiny_imagenet_10", tmp_path)
        assert splits.labels == tuple(names) and len(splits.test) == 10


class TestState:
    def test_goes_from_missing_over_ready_to_decoded(self, tmp_path, monkeypatch):
        state = DATA.find("cifar10").state
        assert state(tmp_path) == "missing: train.parquet, test.parquet in cifar10/"
        folder = write_cifar(tmp_path)
        assert state(tmp_path) == "ready"
        load_data("cifar10", tmp_path)
        assert state(tmp_path) == "decoded"
        os.utime(folder / "train.parquet", ns=(1, 1))
        assert state(tmp_path) == "ready"
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        assert state(tmp_path) == (
            "missing: the library pyarrow (pip install 'spikeloom[parquet]')"
        )
        (folder / "test.parquet").unlink()
        assert state(tmp_path).startswith(f"missing: expected test.parquet in {folder}, found none")
        (folder / "train.parquet").write_bytes(b"")
        assert state(tmp_path).startswith("missing: ")

    @pytest.mark.parametrize("name", DATA.names())
    def test_of_an_empty_root_is_known_without_an_error(self, tmp_path, name):
        state = DATA.find(name).state(tmp_path / "nowhere")
        assert state in ("ready", "give path") or state.startswith("missing: ")

    def test_of_idx_names_the_files_that_lack(self, tmp_path):
        (tmp_path / "mnist").mkdir()
        (tmp_path / "mnist" / "train-images-idx3-ubyte").touch()
        state = DATA.find("mnist").state(tmp_path)
        assert "train-images" not in state and state.endswith(" in mnist/")
        assert state.count(".gz") == 3


def real_root(*folders: str) -> Path | None:
    """Return the first root that holds these folders: $SPIKELOOM_DATA or the project's share."""
    share = Path(__file__).parents[4] / "shared" / "data"
    for root in (data_root(), share):
        if all((root / name).is_dir() for name in folders):
            return root
    return None


ROOT = real_root("cifar10", "cifar100", "tiny-imagenet-10")
real = pytest.mark.skipif(ROOT is None, reason="needs cifar10/, cifar100/ and tiny-imagenet-10/")


@real
@pytest.mark.data
def test_real_tiny_imagenet_10():
    splits = load_data("tiny_imagenet_10", ROOT)
    assert [len(samples) for _, samples in splits.parts()] == [1350, 150, 500]
    assert splits.labels[0] == "goldfish" and splits.train.y.bincount().tolist() == [135] * 10
    train, test = splits.train.x.float().mean((2, 3)), splits.test.x.float().mean((2, 3))
    near = splits.train.y[torch.cdist(test, train).argmin(1)]
    assert (near == splits.test.y).double().mean() > 0.2  # colours alone, chance is 0.1


@real
@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "label", "first", "classes"),
    [("cifar10", "label", "airplane", 10), ("cifar100", "fine_label", "apple", 100)],
)
def test_real_cifar_test_files(name, label, first, classes):
    path = f"{name}/test.parquet"
    splits = load_data("images", ROOT, path=path, label=label, test=1000, validation=1000)
    assert splits.labels[0] == first and splits.classes == classes
    assert splits.test.y.bincount().tolist() == [1000 // classes] * classes
    assert [len(samples) for _, samples in splits.parts()] == [8000, 1000, 1000]


@real
@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("cifar10", (0.4913, 0.4821, 0.4465), (0.2452, 0.2428, 0.2606)),
        ("cifar100", (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    ],
)
def test_real_cifar_has_its_known_statistics(name, mean, std):
    splits = load_data(name, ROOT, normalise=True)
    assert [len(samples) for _, samples in splits.parts()] == [45_000, 5000, 10_000]
    # 5,000 pictures fewer than the published means, and JPEG copies of the pixels
    assert splits.scaling.mean == pytest.approx(mean, abs=2e-3)
    assert splits.scaling.std == pytest.approx(std, abs=4e-3)
    assert splits.train.y.bincount().tolist() == [45_000 // splits.classes] * splits.classes
