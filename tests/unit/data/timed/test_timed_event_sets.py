import numpy as np
import pytest
import torch
from timedkit import aedat2_bytes, nmnist_bytes, pack, real_root

from spikeloom.base.errors import ConfigError, DataError
from spikeloom.base.extras import installed
from spikeloom.data import DATA, load_data


def recording(label: int, take: int) -> list[tuple[int, int, int, int]]:
    """Ten events on a diagonal that starts at the label; the last one is take microseconds late."""
    return [(100 * k + (take if k == 9 else 0), label + k, k, k % 2) for k in range(10)]


@pytest.fixture
def packed(tmp_path):
    """Twelve training and four test recordings of two digits in an archive."""
    files, rows = {}, ["file,label,split,events"]
    for number in range(16):
        label, part = number % 2, "train" if number < 12 else "test"
        files[f"{number}.bs2"] = nmnist_bytes(recording(label, number))
        rows.append(f"{number}.bs2,{label},{part},10")
    pack(tmp_path / "nmnist-small" / "recordings.tar.xz", files)
    (tmp_path / "nmnist-small" / "index.csv").write_text("\n".join(rows))
    return tmp_path


@pytest.fixture
def plain(tmp_path):
    """The same recordings as files in folders of classes."""
    for number in range(16):
        part = "Train" if number < 12 else "Test"
        for label in range(10):
            (tmp_path / "nmnist" / part / str(label)).mkdir(parents=True, exist_ok=True)
        file = tmp_path / "nmnist" / part / str(number % 2) / f"{number:05}.bin"
        file.write_bytes(nmnist_bytes(recording(number % 2, number)))
    for label in range(2, 10):
        for part in ("Train", "Test"):
            file = tmp_path / "nmnist" / part / str(label) / "00000.bin"
            file.write_bytes(nmnist_bytes(recording(label, 0)))
    return tmp_path


def frames_by_hand(label: int, take: int, steps: int) -> torch.Tensor:
    x = torch.zeros(steps, 2, 34, 34, dtype=torch.uint8)
    for t, column, row, p in recording(label, take):
        x[t * steps // (900 + take + 1), p, row, column] += 1
    return x


class TestNmnist:
    def test_frames_by_hand(self, packed):
        splits = load_data("nmnist", packed, steps=4, validation=2)
        assert splits.shape == (4, 2, 34, 34) and splits.scaling.time
        assert splits.values == "counts" and splits.train.store.dtype == torch.uint8
        assert [len(part) for _, part in splits.parts()] == [10, 2, 4]
        for row in range(12):  # the store keeps the order of the archive
            assert torch.equal(splits.train.store[row], frames_by_hand(row % 2, row, 4))
        assert splits.test.y.tolist() == [0, 1, 0, 1]

    def test_archive_and_folders_are_the_same(self, packed, plain):
        first = load_data("nmnist", path=str(packed / "nmnist-small"), steps=4)
        second = load_data("nmnist", plain, steps=4)
        assert len(second.train) + len(second.validation) == 20
        mine = {x.numpy().tobytes() for x in first.test.x}
        assert mine <= {x.numpy().tobytes() for x in second.test.x}

    def test_kinds_of_frames(self, packed):
        binary = load_data("nmnist", packed, steps=2, by="count", binary=True)
        assert binary.values == "events" and binary.train.store.dtype == torch.bool
        assert binary.train.store[0].sum((1, 2, 3)).tolist() == [5, 5]
        voxels = load_data("nmnist", packed, steps=3, by="voxel")
        assert voxels.values == "real" and voxels.shape == (3, 1, 34, 34)
        window = load_data("nmnist", packed, steps=2, window=300)
        assert window.train.store[0].sum((1, 2, 3)).tolist() == [3, 3]
        assert load_data("nmnist", packed, normalise=True, steps=2).values == "real"

    def test_counts_beyond_a_byte_are_kept(self, packed):
        many = [(k, 3, 3, 1) for k in range(300)]
        index = packed / "nmnist-small" / "index.csv"
        index.write_text("file,label,split\n0.bs2,0,train\n1.bs2,1,train\n2.bs2,0,test")
        names = ("0.bs2", "1.bs2", "2.bs2")
        content = {name: nmnist_bytes(many) for name in names}
        pack(packed / "nmnist-small" / "recordings.tar.xz", content)
        assert int(load_data("nmnist", packed, steps=1).train.x.max()) == 300

    def test_damage_names_the_recording(self, packed, plain):
        archive = packed / "nmnist-small" / "recordings.tar.xz"
        path = str(archive.parent)
        good = {f"{n}.bs2": nmnist_bytes(recording(n % 2, n)) for n in range(16)}
        pack(archive, good | {"3.bs2": b"1234567"})
        with pytest.raises(DataError, match=r"tar\.xz: 3\.bs2: expected bytes of whole events"):
            load_data("nmnist", path=path)
        pack(archive, good | {"3.bs2": b""})
        with pytest.raises(DataError, match=r"tar\.xz: 3\.bs2: expected events, got none"):
            load_data("nmnist", path=path)
        pack(archive, good | {"3.bs2": nmnist_bytes([(0, 34, 0, 1)])})
        with pytest.raises(DataError, match=r"3\.bs2: expected events on 34 x 34, got x = 34, y"):
            load_data("nmnist", path=path)
        pack(archive, good | {"99.bs2": nmnist_bytes(recording(0, 0))})
        with pytest.raises(DataError, match=r"99\.bs2: expected a label and a part .* got none"):
            load_data("nmnist", path=path)
        pack(archive, dict([*good.items()][1:]))
        with pytest.raises(DataError, match=r"expected the 16 recordings .* none called 0\.bs2"):
            load_data("nmnist", path=path)
        (plain / "nmnist" / "Train" / "4" / "00000.bin").write_bytes(b"123")
        with pytest.raises(DataError, match=r"Train/4/00000\.bin: expected bytes of whole events"):
            load_data("nmnist", path=str(plain / "nmnist"))

    def test_nothing_there(self, tmp_path):
        message = r"^data\.nmnist: expected the folder .*/nmnist or .*/nmnist-small, found none"
        with pytest.raises(DataError, match=message):
            load_data("nmnist", tmp_path)
        (tmp_path / "nmnist").mkdir()
        with pytest.raises(DataError, match="nmnist: expected a folder per class, got none"):
            load_data("nmnist", tmp_path)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"by": "frame"}, r"by: expected one of time, count, voxel, got 'frame'"),
            ({"by": "count", "window": 9}, r"window: expected none with by = 'count', got 9; drop"),
            ({"by": "voxel", "binary": True}, r"binary: expected false with by = 'voxel', got tru"),
            ({"steps": 0}, r"steps: expected 1 step or more, got 0"),
            ({"window": 0}, r"window: expected 1 microsecond or more, got 0"),
        ],
    )
    def test_refuses(self, packed, options, message):
        with pytest.raises(ConfigError, match=rf"^data\.nmnist\.{message}"):
            load_data("nmnist", packed, **options)


class TestOwnFiles:
    def make(self, top, parts=("",), classes=("left", "right"), count=10):
        for part in parts:
            for number, name in enumerate(classes):
                folder = top / part / name
                folder.mkdir(parents=True)
                for take in range(count):
                    rows = recording(number, take)
                    (folder / f"{take}.aedat").write_bytes(aedat2_bytes(rows))
        return str(top)

    def test_folders_of_classes(self, tmp_path):
        path = self.make(tmp_path / "own")
        options = {"height": 16, "width": 12, "steps": 5, "test": 4, "validation": 2}
        splits = load_data("events", path=path, **options)
        assert splits.labels == ("left", "right") and splits.shape == (5, 2, 16, 12)
        assert [len(part) for _, part in splits.parts()] == [14, 2, 4]
        for x, y in zip(splits.train.x, splits.train.y.tolist(), strict=True):
            assert x.sum() == 10 and bool(x[0, 0, 0, y])  # the first event is off, at the label

    def test_folders_of_parts(self, tmp_path):
        path = self.make(tmp_path / "own", ("train", "test"))
        splits = load_data("events", path=path, height=16, width=12)
        assert [len(part) for _, part in splits.parts()] == [18, 2, 20]
        with pytest.raises(ConfigError, match=r"^data\.events\.test: expected no size beside a te"):
            load_data("events", path=path, height=16, width=12, test=3)
        (tmp_path / "own" / "test" / "left").rename(tmp_path / "own" / "test" / "up")
        with pytest.raises(
            DataError, match="test: expected the classes left, right, got right, up"
        ):
            load_data("events", path=path, height=16, width=12)

    def test_refuses(self, tmp_path):
        path = self.make(tmp_path / "own", count=2)
        with pytest.raises(DataError, match=r"left/0\.aedat: expected events on 5 x 16, got x = 5"):
            load_data("events", path=path, height=16, width=5)
        with pytest.raises(
            ConfigError, match=r"^data\.events: expected the option height, got non"
        ):
            load_data("events", path=path)
        (tmp_path / "own" / "empty").mkdir()
        with pytest.raises(DataError, match=r"empty: expected recordings in \.bin, .*, got none"):
            load_data("events", path=path, height=16, width=12)
        with pytest.raises(DataError, match=r"^data\.events: expected the folder .*nowhere, found"):
            load_data("events", tmp_path, path="nowhere", height=16, width=12)


@pytest.mark.skipif(not installed("h5py"), reason="needs h5py")
class TestHeidelberg:
    def write(self, root, part, count, name="shd"):
        import h5py

        (root / name).mkdir(exist_ok=True)
        with h5py.File(root / name / f"{name}_{part}.h5", "w") as file:
            for kind, dtype in (("times", "f4"), ("units", "u2")):
                stored = file.create_dataset(f"spikes/{kind}", (count,), h5py.vlen_dtype(dtype))
                for row in range(count):
                    values = [0.0, 0.015, 0.03] if kind == "times" else [row, 699, row]
                    stored[row] = np.array(values, dtype)
            file["labels"] = np.arange(count, dtype="u1") % 20

    def test_frames_by_hand(self, tmp_path):
        """Windows of 14 ms: spikes at 0, 15 and 30 ms are in the steps 0, 1 and 2."""
        self.write(tmp_path, "train", 40)
        self.write(tmp_path, "test", 20)
        splits = load_data("shd", tmp_path)
        assert splits.shape == (100, 700) and splits.values == "counts" and splits.classes == 20
        assert [len(part) for _, part in splits.parts()] == [36, 4, 20]
        for row, x in enumerate(splits.test.x):
            places = [tuple(place) for place in x.nonzero().tolist()]
            assert places == [(0, row), (1, 699), (2, row)]
        assert DATA.find("shd").state(tmp_path) == "ready"

    def test_own_validation_part(self, tmp_path):
        for part, count in (("train", 70), ("valid", 35), ("test", 36)):
            self.write(tmp_path, part, count, "ssc")
        splits = load_data("ssc", tmp_path, steps=4, window=None, binary=True)
        assert [len(part) for _, part in splits.parts()] == [70, 35, 36]
        assert splits.values == "events"
        assert len(load_data("ssc", tmp_path, steps=4, validation=5).validation) == 5

    def test_missing(self, tmp_path):
        self.write(tmp_path, "train", 40)
        assert DATA.find("shd").state(tmp_path) == "missing: shd_test.h5 in shd/"
        with pytest.raises(DataError, match=r"shd_test\.h5: expected a data file, found none"):
            load_data("shd", tmp_path)


@pytest.mark.data
@pytest.mark.skipif(real_root("nmnist-small") is None, reason="needs nmnist-small/")
def test_the_real_subset():
    splits = load_data("nmnist", real_root("nmnist-small"), steps=1)
    assert [len(part) for _, part in splits.parts()] == [900, 100, 100]
    total = sum(int(part.x.sum(dtype=torch.int64)) for _, part in splits.parts())
    assert total == 4_518_827  # the number of events that index.csv adds up to
