import gzip
import struct
from pathlib import Path

import pytest
import torch

from spikeloom.base.errors import ConfigError, DataError
from spikeloom.data import data_root, load_data
from spikeloom.data.idx import read_idx

NAMES = [
    f"{part}-{kind}"
    for part in ("train", "t10k")
    for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
]


def idx_bytes(*sizes: int, body: bytes | None = None) -> bytes:
    count = 1
    for size in sizes:
        count *= size
    body = bytes(k % 10 for k in range(count)) if body is None else body
    return bytes([0, 0, 8, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes) + body


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root whose mnist/ holds 40 training and 10 test images, gzipped."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    for name, count in zip(NAMES, (40, 40, 10, 10), strict=True):
        sizes = (count, 28, 28) if "images" in name else (count,)
        (folder / f"{name}.gz").write_bytes(gzip.compress(idx_bytes(*sizes)))
    return tmp_path


def rewrite(root: Path, name: str, content: bytes) -> Path:
    path = root / "mnist" / f"{name}.gz"
    path.write_bytes(content)
    return path


class TestReader:
    def test_reads_sizes_and_bytes(self, tmp_path):
        (tmp_path / "a").write_bytes(idx_bytes(2, 3))
        x = read_idx(tmp_path / "a")
        assert x.dtype == torch.uint8 and x.tolist() == [[0, 1, 2], [3, 4, 5]]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "got an empty file"),
            (b"\x00\x00", "got 00 00"),
            (b"\x00\x00\x0d\x01" + bytes(8), "got 00 00 0d 01"),
            (b"\x00\x00\x08\x00", "got 00 00 08 00"),
            (b"\x80\x04\x95\x10" + bytes(8), "got 80 04 95 10"),
            (idx_bytes(2, 3)[:9], "got a cut header"),
            (idx_bytes(2, 3)[:-1], "expected 6 bytes for sizes [2, 3], got 5"),
            (idx_bytes(2, 3) + b"\x00", "expected 6 bytes for sizes [2, 3], got more"),
            (idx_bytes(0, 3), "expected samples, got sizes [0, 3]"),
            (idx_bytes(2**32 - 1, 2**32 - 1, body=b"\x01"), "got 1"),
        ],
    )
    @pytest.mark.parametrize("suffix", ["", ".gz"])
    def test_refuses_wrong_content(self, tmp_path, content, message, suffix):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(gzip.compress(content) if suffix else content)
        with pytest.raises(DataError) as caught:
            read_idx(path)
        assert str(caught.value).startswith(f"{path}: expected ")
        assert message in str(caught.value) and str(caught.value).endswith("; fetch it again.")

    @pytest.mark.parametrize(
        "damage",
        [
            lambda packed: packed[: len(packed) // 2],
            lambda packed: packed[:-4],
            lambda packed: packed[:-8] + b"\x00\x00\x00\x00" + packed[-4:],
            lambda packed: packed[:20] + bytes(20) + packed[40:],
            lambda packed: b"not gzip at all",
            lambda packed: packed + b"tail",
        ],
        ids=["half", "no length", "checksum", "garbled", "plain", "tail"],
    )
    def test_refuses_damaged_gzip(self, tmp_path, damage):
        path = tmp_path / "a.gz"
        noise = torch.randint(0, 256, (500,), generator=torch.Generator().manual_seed(0))
        path.write_bytes(damage(gzip.compress(idx_bytes(500, body=bytes(noise.tolist())))))
        with pytest.raises(DataError) as caught:
            read_idx(path)
        assert str(caught.value).startswith(f"{path}: expected ")

    def test_refuses_a_folder_and_a_missing_file(self, tmp_path):
        with pytest.raises(DataError, match="expected a readable file"):
            read_idx(tmp_path)
        with pytest.raises(DataError, match="expected a data file, found none"):
            read_idx(tmp_path / "absent.gz")


class TestSet:
    def test_loads(self, root):
        splits = load_data("mnist", root, validation=10)
        assert [len(samples) for _, samples in splits.parts()] == [30, 10, 10]
        assert splits.shape == (1, 28, 28) and splits.train.x.dtype == torch.uint8
        assert splits.train.y.bincount().tolist() == [3] * 10
        assert splits.scaling.peak == 255.0
        x, _ = splits.test.take(torch.arange(10), torch.float64)
        assert x[0, 0, 0, :4].tolist() == [0, 1 / 255, 2 / 255, 3 / 255]

    def test_gzipped_and_plain_are_the_same(self, root):
        packed = load_data("mnist", root, validation=10)
        for path in (root / "mnist").iterdir():
            path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
            path.unlink()
        plain = load_data("mnist", root, validation=10)
        assert torch.equal(packed.train.x, plain.train.x)
        assert torch.equal(packed.train.y, plain.train.y)

    def test_root_comes_from_the_environment(self, root, monkeypatch):
        monkeypatch.setenv("SPIKELOOM_DATA", str(root))
        assert len(load_data("mnist", validation=10).test) == 10

    def test_folder_of_fashion_mnist(self, root):
        (root / "mnist").rename(root / "fashion-mnist")
        assert load_data("fashion_mnist", root, validation=10).name == "fashion_mnist"

    def test_options(self, root):
        splits = load_data("mnist", root, validation=10, train_size=20, normalise=True)
        assert len(splits.train) == 20
        x, _ = splits.train.take(torch.arange(20), torch.float64)
        assert x.mean().item() == pytest.approx(0, abs=1e-12)

    @pytest.mark.parametrize("name", NAMES)
    def test_says_which_file_is_missing(self, root, name):
        (root / "mnist" / f"{name}.gz").unlink()
        with pytest.raises(DataError) as caught:
            load_data("mnist", root, validation=10)
        assert f"{root / 'mnist' / name}.gz" in str(caught.value)
        assert str(caught.value).startswith("data.mnist: expected ")
        assert "$SPIKELOOM_DATA" in str(caught.value)

    @pytest.mark.parametrize("name", NAMES)
    def test_names_the_damaged_file(self, root, name):
        path = rewrite(root, name, b"")
        with pytest.raises(DataError, match=f"^{path}: "):
            load_data("mnist", root, validation=10)

    def test_refuses_a_label_out_of_range(self, root):
        labels = bytes([*range(10), 10, *range(9)]) * 2
        path = rewrite(root, NAMES[1], gzip.compress(idx_bytes(40, body=labels)))
        with pytest.raises(DataError, match=rf"^{path}: .* 0..9, got 10 at row 10; "):
            load_data("mnist", root, validation=10)

    def test_refuses_a_mismatch_of_images_and_labels(self, root):
        path = rewrite(root, NAMES[3], gzip.compress(idx_bytes(9)))
        with pytest.raises(DataError, match=rf"^{path}: expected 10 labels .* got \[9\]; "):
            load_data("mnist", root, validation=10)

    @pytest.mark.parametrize("sizes", [(40, 28, 27), (40,), (40, 1, 28, 28)])
    def test_refuses_images_of_another_size(self, root, sizes):
        path = rewrite(root, NAMES[0], gzip.compress(idx_bytes(*sizes)))
        with pytest.raises(DataError, match=rf"^{path}: expected images \[N, 28, 28\], got "):
            load_data("mnist", root, validation=10)

    def test_refuses_a_validation_part_as_large_as_the_file(self, root):
        with pytest.raises(
            ConfigError, match=r"^data.mnist.validation: expected 39 samples at most"
        ):
            load_data("mnist", root)


def real_root() -> Path | None:
    """Return the first folder that holds both sets: $SPIKELOOM_DATA or the project's share."""
    share = Path(__file__).parents[4] / "shared" / "data"
    for root in (data_root(), share):
        if all((root / name).is_dir() for name in ("mnist", "fashion-mnist")):
            return root
    return None


@pytest.mark.data
@pytest.mark.skipif(real_root() is None, reason="needs mnist/ and fashion-mnist/")
@pytest.mark.parametrize(
    ("name", "histogram", "mean", "std"),
    [
        (
            "mnist",
            [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
            0.1306604762738429,
            0.3081078038564622,
        ),
        ("fashion_mnist", [6000] * 10, 0.2860405969887955, 0.3530242445149223),
    ],
)
def test_real_files_hold_the_known_set(name, histogram, mean, std):
    splits = load_data(name, real_root())
    train, validation, test = (samples for _, samples in splits.parts())
    assert [len(train), len(validation), len(test)] == [55_000, 5000, 10_000]
    y = torch.cat([train.y, validation.y])
    assert y.bincount().tolist() == histogram
    x = torch.cat([train.x, validation.x])
    levels = x.view(-1).bincount(minlength=256).double() / x.numel()
    grey = torch.arange(256).double() / 255
    assert (levels @ grey).item() == pytest.approx(mean, rel=1e-10)
    assert (levels @ (grey - mean).square()).sqrt().item() == pytest.approx(std, rel=1e-10)
    assert (validation.y.bincount() - torch.tensor(histogram) / 12).abs().max() < 2
