import io
import pickle
import re
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from spikeloom.base.errors import ConfigError, DataError
from spikeloom.data import load_data, npy, splits_from_tensors


def arrays(validation: bool = False) -> dict[str, torch.Tensor]:
    sizes = {"train": 30, "test": 6} | ({"validation": 9} if validation else {})
    made = {}
    for part, count in sizes.items():
        made[f"x_{part}"] = torch.arange(count * 2).view(count, 2).float()
        made[f"y_{part}"] = torch.arange(count) % 3
    return made


def write(path: Path, content: dict[str, torch.Tensor]) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **{key: value.numpy() for key, value in content.items()})
    else:
        save_file(content, path)
    return path


class TestFromMemory:
    def test_pairs(self):
        a = arrays(validation=True)
        splits = splits_from_tensors(
            a["x_train"],
            a["y_train"],
            test=(a["x_test"], a["y_test"]),
            validation=(a["x_validation"], a["y_validation"]),
        )
        assert splits.name == "tensors" and splits.classes == 3 and splits.shape == (2,)
        assert torch.equal(splits.test.x, a["x_test"])
        assert torch.equal(splits.validation.x, a["x_validation"])
        assert sorted(splits.train.x.tolist()) == a["x_train"].tolist()

    def test_sizes_part_one_pair(self):
        a = arrays()
        splits = splits_from_tensors(a["x_train"], a["y_train"], test=6, validation=3)
        assert [len(samples) for _, samples in splits.parts()] == [21, 3, 6]
        together = torch.cat([samples.x for _, samples in splits.parts()])
        assert sorted(together.tolist()) == a["x_train"].tolist()
        assert splits.test.y.bincount().tolist() == [2, 2, 2]

    def test_validation_is_a_tenth_by_default(self):
        a = arrays()
        splits = splits_from_tensors(a["x_train"], a["y_train"], test=(a["x_test"], a["y_test"]))
        assert len(splits.validation) == 3

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int16])
    def test_labels_of_any_integer_type(self, dtype):
        a = arrays()
        splits = splits_from_tensors(a["x_train"], a["y_train"].to(dtype), test=6)
        assert splits.train.y.dtype == torch.int64

    def test_only_bytes_are_scaled(self):
        y = torch.arange(20) % 2
        grey = splits_from_tensors(torch.full((20, 1), 255, dtype=torch.uint8), y, test=4)
        real = splits_from_tensors(torch.full((20, 1), 255.0), y, test=4)
        assert grey.train.take(torch.tensor([0]))[0].item() == 1.0
        assert real.train.take(torch.tensor([0]))[0].item() == 255.0

    def test_classes_count_over_all_parts(self):
        a = arrays()
        splits = splits_from_tensors(
            a["x_train"], a["y_train"], test=(a["x_test"], a["y_test"] + 2)
        )
        assert splits.classes == 5

    def test_refuses_labels_beyond_the_classes_given(self):
        a = arrays()
        with pytest.raises(DataError, match=r"^data.tensors.train: .* 0..1, got 2 at row 2; "):
            splits_from_tensors(a["x_train"], a["y_train"], test=6, classes=2)

    @pytest.mark.parametrize("test", [0, 30, True, "6", None])
    def test_refuses_test_sizes_that_cannot_be_filled(self, test):
        expected = "1 sample or more" if test == 0 else "29 samples at most|a whole number"
        a = arrays()
        with pytest.raises(ConfigError, match=rf"^data.tensors.test: expected ({expected}), got"):
            splits_from_tensors(a["x_train"], a["y_train"], test=test)

    @pytest.mark.parametrize("dtype", [torch.bool, torch.complex64, torch.float8_e5m2])
    def test_refuses_labels_that_are_no_numbers_of_classes(self, dtype):
        a = arrays()
        with pytest.raises(DataError, match=rf"^data.tensors.train: .* got {dtype}; "):
            splits_from_tensors(a["x_train"], a["y_train"].to(dtype), test=6)

    @pytest.mark.parametrize(
        ("x", "y"),
        [
            (torch.tensor(1.0), torch.tensor(1)),
            (torch.zeros(0, 2), torch.zeros(0).long()),
            (torch.zeros(3, 2), torch.zeros(4).long()),
            (torch.zeros(30, 2).long(), torch.arange(30) % 2),
            (torch.zeros(30, 2), torch.zeros(30).long()),
        ],
        ids=["scalar", "empty", "lengths", "integers", "one class"],
    )
    def test_refuses_what_is_no_data_set(self, x, y):
        with pytest.raises(DataError, match=r"^data\.(tensors|scale)"):
            splits_from_tensors(x, y, test=1)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
class TestFromFile:
    def test_loads_with_a_drawn_validation_part(self, tmp_path, suffix):
        write(tmp_path / f"my{suffix}", arrays())
        splits = load_data("tensors", tmp_path, path=f"my{suffix}", validation=6, train_size=12)
        assert [len(samples) for _, samples in splits.parts()] == [12, 6, 6]

    def test_loads_its_own_validation_part(self, tmp_path, suffix):
        path = write(tmp_path / f"my{suffix}", arrays(validation=True))
        splits = load_data("tensors", path=path)
        assert torch.equal(splits.validation.x, arrays(validation=True)["x_validation"])

    def test_refuses_a_size_beside_its_own_part(self, tmp_path, suffix):
        path = write(tmp_path / f"my{suffix}", arrays(validation=True))
        with pytest.raises(ConfigError, match=r"^data.tensors.validation: expected no size, .* 5;"):
            load_data("tensors", path=path, validation=5)

    @pytest.mark.parametrize("key", ["x_train", "y_train", "x_test", "y_test", "y_validation"])
    def test_refuses_missing_and_misspelt_keys(self, tmp_path, suffix, key):
        content = arrays(validation=True)
        content[f"{key}s"] = content[key].clone()
        misspelt = write(tmp_path / f"a{suffix}", content)
        del content[key], content[f"{key}s"]
        missing = write(tmp_path / f"b{suffix}", content)
        for path in (misspelt, missing):
            with pytest.raises(DataError, match=f"^{path}: expected the keys x_train, "):
                load_data("tensors", path=path)

    @pytest.mark.parametrize("content", [b"", b"nothing of the kind", pickle.dumps([1, 2])])
    def test_refuses_damaged_files(self, tmp_path, suffix, content):
        path = tmp_path / f"my{suffix}"
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"^{path}: expected "):
            load_data("tensors", path=path)

    def test_refuses_a_cut_file(self, tmp_path, suffix):
        path = write(tmp_path / f"my{suffix}", arrays())
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(DataError, match=f"^{path}: expected plain arrays, got "):
            load_data("tensors", path=path)

    def test_refuses_a_missing_file(self, tmp_path, suffix):
        with pytest.raises(DataError, match=f"^{tmp_path}/my{suffix}: expected a data file, found"):
            load_data("tensors", tmp_path, path=f"my{suffix}")


def test_refuses_other_kinds_of_file(tmp_path):
    with pytest.raises(ConfigError, match=r"in .safetensors or .npz, got 'my.pt'; "):
        load_data("tensors", tmp_path, path="my.pt")


class Bomb:
    """Unpickling it would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


def test_never_unpickles(tmp_path):
    trace, path = tmp_path / "trace", tmp_path / "my.npz"
    bombs = np.array([Bomb(trace)] * 3, dtype=object)
    np.savez(path, x_train=bombs, y_train=np.zeros(3, int), x_test=bombs, y_test=np.zeros(3, int))
    with pytest.raises(DataError, match=r"expected plain arrays"):
        load_data("tensors", path=path)
    path.write_bytes(pickle.dumps(Bomb(trace)))
    with pytest.raises(DataError, match=r"expected plain arrays"):
        load_data("tensors", path=path)
    assert not trace.exists()


def test_takes_any_byte_order_and_memory_order(tmp_path):
    content = {key: value.numpy() for key, value in arrays().items()}
    content["x_test"] = np.asfortranarray(content["x_test"]).astype(">f8")
    content["x_train"] = content["x_train"].astype(">f8")
    np.savez(tmp_path / "my.npz", **content)
    splits = load_data("tensors", tmp_path, path="my.npz")
    assert torch.equal(splits.test.x, arrays()["x_test"].double())


@pytest.mark.parametrize("bad", [np.array(["a", "b"]), np.array([1, 2], dtype="M8[s]")])
def test_refuses_arrays_torch_has_no_type_for(tmp_path, bad):
    content = {key: value.numpy() for key, value in arrays().items()} | {"y_test": bad}
    np.savez(tmp_path / "my.npz", **content)
    with pytest.raises(
        DataError, match=rf"my.npz: y_test: expected .*, got {re.escape(bad.dtype.name)}"
    ):
        load_data("tensors", tmp_path, path="my.npz")


def test_refuses_a_member_that_is_no_array(tmp_path):
    path = write(tmp_path / "my.npz", arrays())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("note.txt", "hello")
    with pytest.raises(DataError, match=f"^{path}: expected the keys .*, got note.txt, "):
        load_data("tensors", path=path)


def test_refuses_a_bare_array_under_the_wrong_suffix(tmp_path):
    with (tmp_path / "my.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataError, match=r"expected plain arrays"):
        load_data("tensors", tmp_path, path="my.npz")


def test_refuses_a_path_that_is_no_text():
    with pytest.raises(ConfigError, match=r"^data.tensors.path: expected a text, got 3; "):
        load_data("tensors", path=3)


STORAGE = [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu, torch.float8_e4m3fnuz]


class TestUnusual:
    """Files as somebody's script leaves them, or somebody who means harm."""

    @pytest.mark.parametrize("kind", STORAGE)
    @pytest.mark.parametrize("key", ["x_train", "y_train"])
    def test_types_for_storage_alone(self, tmp_path, kind, key):
        content = arrays()
        content[key] = content[key].float().to(kind)
        path = write(tmp_path / "my.safetensors", content)
        name = str(kind).removeprefix("torch.")
        with pytest.raises(DataError, match=rf"expected .*, got (torch\.)?{name}"):
            load_data("tensors", path=path)

    def packed(self, folder, member: bytes, **others: bytes):
        """A .npz whose x_train is given byte by byte."""
        path = folder / "my.npz"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x_train.npy", member)
            for key, value in arrays().items():
                if key != "x_train":
                    buffer = io.BytesIO()
                    np.save(buffer, value.numpy())
                    archive.writestr(f"{key}.npy", buffer.getvalue())
            for key, content in others.items():
                archive.writestr(f"{key}.npy", content)
        return path

    def header(self, shape: tuple[int, ...], kind: str = "<f4") -> bytes:
        buffer = io.BytesIO()
        table = {"descr": kind, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(buffer, table)
        return buffer.getvalue()

    @pytest.mark.parametrize("keep", [0, 5, 6, 8, 9, 10, 11, 60, 127, 128, 130])
    def test_a_header_cut_short(self, tmp_path, keep):
        path = self.packed(tmp_path, (self.header((20, 1, 2, 2)) + bytes(320))[:keep])
        with pytest.raises(DataError, match=f"^{path}: expected plain arrays, got "):
            load_data("tensors", path=path)

    @pytest.mark.parametrize("length", [0, 1, 5, 30, 60])
    def test_a_header_that_says_it_is_shorter(self, tmp_path, length):
        whole = self.header((20, 1, 2, 2))
        path = self.packed(tmp_path, whole[:8] + struct.pack("<H", length) + whole[10:])
        with pytest.raises(DataError, match=f"^{path}: expected plain arrays, got "):
            load_data("tensors", path=path)

    @pytest.mark.parametrize(
        ("shape", "message"),
        [
            ((10**12, 4), "bytes of 'x_train.npy' for an array of 16000000000000"),
            ((2**62, 2**62), "for an array of "),
            ((-1, 4), r"an array of \[-1, 4\]"),
            ((0, 10**12), r"got x \[0, 1000000000000\] and y"),
        ],
    )
    def test_a_shape_beyond_the_file(self, tmp_path, shape, message):
        path = self.packed(tmp_path, self.header(shape) + b"1234")
        with pytest.raises(DataError, match=message):
            load_data("tensors", path=path)

    def test_an_archive_that_says_more_than_it_can_hold(self, tmp_path):
        path = self.packed(tmp_path, self.header((20, 1, 2, 2)) + bytes(320))
        content = bytearray(path.read_bytes())
        place = content.index(b"PK\x01\x02") + 24  # size unpacked, in the directory
        content[place : place + 4] = (2**31).to_bytes(4, "little")
        path.write_bytes(content)
        with pytest.raises(DataError, match="2147483648 bytes of 'x_train.npy' in .* packed ones"):
            load_data("tensors", path=path)

    def test_arrays_beyond_memory(self, tmp_path, monkeypatch):
        """Zeros pack well: what they unpack to is held against the machine."""
        path = self.packed(tmp_path, self.header((1000, 1, 16, 16)) + bytes(4 * 256_000))
        assert path.stat().st_size < 20_000
        monkeypatch.setattr(npy, "total_bytes", lambda: 10**6)
        with pytest.raises(DataError, match="arrays of 1.0 MB for a memory of 1.0 MB"):
            load_data("tensors", path=path)

    def test_members_of_other_names_are_not_read(self, tmp_path):
        others = {f"m{row}": b"" for row in range(3000)}
        path = self.packed(tmp_path, b"", **others)
        with pytest.raises(DataError, match="expected the keys x_train, ") as caught:
            load_data("tensors", path=path)
        assert len(str(caught.value)) < 600
