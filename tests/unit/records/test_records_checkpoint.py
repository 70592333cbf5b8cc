"""Files of a run: written whole or not at all; damage is a DataError."""

import pickle

import pytest
import torch

from spikeloom.base.errors import ConfigError, DataError
from spikeloom.records import checkpoint, storage


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class TestAtomicity:
    def test_replaces(self, tmp_path):
        path = tmp_path / "new" / "a.json"
        storage.write_json(path, {"a": 1})
        storage.write_json(path, {"a": 2})
        assert storage.read_json(path) == {"a": 2}
        assert names(path.parent) == ["a.json"]

    @pytest.mark.parametrize("stage", ["fsync", "replace"])
    @pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
    def test_an_error_leaves_the_old_file_and_nothing_else(
        self, tmp_path, monkeypatch, stage, error
    ):
        path = tmp_path / "a.json"
        storage.write_json(path, {"a": 1})

        def fail(*_):
            raise error

        owner = storage.os if stage == "fsync" else type(path)
        monkeypatch.setattr(owner, stage, fail)
        kind = ConfigError if isinstance(error, OSError) else KeyboardInterrupt
        with pytest.raises(kind) as caught:
            storage.write_json(path, {"a": 2})
        if kind is ConfigError:
            assert "got 'No space left on device'; choose another place" in str(caught.value)
        monkeypatch.undo()
        assert storage.read_json(path) == {"a": 1}
        assert names(tmp_path) == ["a.json"]

    def test_a_value_that_is_no_json_leaves_the_old_file(self, tmp_path):
        path = tmp_path / "a.json"
        storage.write_json(path, {"a": 1})
        with pytest.raises(ValueError, match="JSON"):
            storage.write_json(path, {"a": float("nan")})
        assert storage.read_json(path) == {"a": 1}
        assert names(tmp_path) == ["a.json"]

    def test_permissions_are_those_of_any_file(self, tmp_path):
        (tmp_path / "plain").touch()
        storage.write_json(tmp_path / "a.json", {})
        modes = {(tmp_path / name).stat().st_mode for name in ("plain", "a.json")}
        assert len(modes) == 1

    @pytest.mark.parametrize("place", ["file/a.json", "file/deeper/a.json", "folder"])
    def test_no_folder_to_write_to(self, tmp_path, place):
        (tmp_path / "file").touch()
        (tmp_path / "folder").mkdir()
        with pytest.raises(ConfigError, match="expected a folder that can be written"):
            storage.write_json(tmp_path / place, {})
        with pytest.raises(ConfigError, match="expected a folder that can be written"):
            storage.remove(tmp_path / place)
        assert names(tmp_path) == ["file", "folder"]

    def test_remove(self, tmp_path):
        (tmp_path / "a").touch()
        storage.remove(tmp_path / "a")
        storage.remove(tmp_path / "a")
        assert not names(tmp_path)


class TestWeights:
    def test_come_back_to_the_bit(self, tmp_path):
        tensors = {
            "a": torch.rand(3, 4).t(),
            "b": torch.tensor(3),
            "c": torch.rand(2).bfloat16(),
            "d": torch.rand(2, dtype=torch.float64, requires_grad=True),
        }
        checkpoint.write_weights(tmp_path / "w", tensors)
        read = checkpoint.read_tensors(tmp_path / "w")[0]
        assert read.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert torch.equal(read[name], tensor) and read[name].dtype == tensor.dtype

    def test_equal_tensors_give_equal_files(self, tmp_path):
        texts = {name: name for name in "abcdefghij"}
        for name in "xyz":
            checkpoint.write_weights(tmp_path / name, {"é": torch.arange(3.0)}, texts)
        assert len({(tmp_path / name).read_bytes() for name in "xyz"}) == 1
        assert list(checkpoint.read_tensors(tmp_path / "x")[0]) == ["é"]

    @pytest.mark.parametrize("keep", [0, 4, 20, -1])
    def test_cut_files(self, tmp_path, keep):
        path = tmp_path / "w"
        checkpoint.write_weights(path, {"a": torch.rand(30)})
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(DataError, match="w: expected a safetensors file, got .*; train again"):
            checkpoint.read_tensors(path)[0]

    @pytest.mark.parametrize(
        "content",
        [
            pickle.dumps({"a": 1}),
            b"\xff" * 100,  # a header of 2^64 - 1 bytes
            (2**40).to_bytes(8, "little") + b"{}",
            (2).to_bytes(8, "little") + b"[]",
            (64).to_bytes(8, "little")
            + b'{"a":{"dtype":"F32","shape":[99],"data_offsets":[0,396]}}'.ljust(64),
            (64).to_bytes(8, "little")
            + b'{"a":{"dtype":"XXX","shape":[],"data_offsets":[0,4]}}'.ljust(64)
            + b"\0" * 4,
        ],
    )
    def test_hostile_files(self, tmp_path, content):
        (tmp_path / "w").write_bytes(content)
        with pytest.raises(DataError):
            checkpoint.read_tensors(tmp_path / "w")[0]

    def test_no_file(self, tmp_path):
        for path in (tmp_path / "w", tmp_path):
            with pytest.raises(DataError):
                checkpoint.read_tensors(path)[0]


class TestRecords:
    def test_lines(self, tmp_path):
        storage.write_lines(tmp_path / "m", [{"a": 1}, {"a": 2}])
        assert storage.read_lines(tmp_path / "m") == [{"a": 1}, {"a": 2}]
        text = (tmp_path / "m").read_text()
        (tmp_path / "m").write_text(text.replace('"a": 2', '"a": 3'))
        with pytest.raises(DataError, match="m: .* got others, by their checksum"):
            storage.read_lines(tmp_path / "m")

    @pytest.mark.parametrize(
        "content", [b"", b'{"a": ', b"\xff", b"[1]", b"3", b"[" * 100_000, b"{" + b"1" * 5000]
    )
    def test_damaged_files(self, tmp_path, content):
        (tmp_path / "r").write_bytes(content)
        with pytest.raises(DataError, match="r: expected a JSON record, got .*; train again"):
            storage.read_json(tmp_path / "r")

    def test_no_file(self, tmp_path):
        for path in (tmp_path / "r", tmp_path):
            with pytest.raises(DataError):
                storage.read_json(path)
