import numpy as np
import pytest
from timedkit import aedat2_bytes, aedat3_bytes, aedat3_packet, nmnist_bytes

from spikeloom.base.errors import ConfigError, DataError
from spikeloom.base.extras import installed
from spikeloom.data.timed.archive import Stored
from spikeloom.data.timed.event_files import read_events, read_hdf5

ROWS = [(3, 100, 7, 1), (70_000, 5, 127, 0), (5_000_000, 127, 0, 1)]


def read(name: str, content: bytes) -> list[tuple[int, int, int, int]]:
    events = read_events(Stored(f"/there/{name}", name, content))
    return [*zip(*(one.tolist() for one in (events.t, events.x, events.y, events.p)), strict=True)]


def test_nmnist():
    """Written down by hand: x 5, y 9, polarity 1 and time 0x012345; then x 255, y 0, off, 1."""
    content = bytes.fromhex("05 09 81 23 45 ff 00 00 00 01")
    assert read("a.bin", content) == [(1, 255, 0, False), (0x012345, 5, 9, True)]
    assert read("a.BS2", nmnist_bytes(ROWS)) == ROWS


@pytest.mark.parametrize("davis", [False, True])
def test_aedat2(davis):
    assert read("a.aedat", aedat2_bytes(ROWS, davis=davis)) == ROWS


def test_aedat2_by_hand():
    """DVS128: y = 2 in bits 8 to 14, x = 3 in 1 to 7, polarity 1: 0x0207."""
    content = b"#!AER-DAT2.0\r\n# made\r\n" + bytes.fromhex("00000207 00000010")
    assert read("a.aedat", content) == [(16, 3, 2, True)]


def test_an_event_may_begin_like_a_comment():
    """y = 140 of a DAVIS makes the first byte of an address that of #."""
    rows = [(10 * k, 170, 140, 1) for k in range(5)]
    assert aedat2_bytes(rows[:1], davis=True)[-8:-7] == b"#"
    assert read("a.aedat", aedat2_bytes(rows, davis=True)) == rows
    plain = aedat2_bytes(ROWS).replace(b"\r\n", b"\n", 2)
    assert read("a.aedat", plain) == ROWS


def test_frames_and_motion_of_a_davis_are_passed_over():
    content = aedat2_bytes(ROWS, davis=True)
    others = b"".join(word.to_bytes(4, "big") + bytes(4) for word in (0x8000_0000, 0x400))
    assert read("a.aedat", content + others) == ROWS


def test_aedat3():
    later = [(7, 1, 1, 0)]
    content = aedat3_bytes(
        aedat3_packet(ROWS),
        aedat3_packet([(1, 2, 3, 1)], kind=0),
        aedat3_packet([(1, 2, 3, 1)], valid=0),
        aedat3_packet(later, overflow=1),
    )
    assert read("a.aedat", content) == [*ROWS, (2**31 + 7, 1, 1, 0)]


GOOD3 = aedat3_bytes(aedat3_packet(ROWS))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.bin", b"", "expected events, got none"),
        ("a.bin", b"1234567", "expected bytes of whole events, got 7, which 5 does not divide"),
        ("a.aedat", b"", "expected a first line .* got an empty file"),
        ("a.aedat", b"#!AER-DAT4.0\r\n", "expected a first line .* got '#!AER-DAT4.0'; convert"),
        ("a.aedat", b"#!AER-DAT2.0", "expected events, got none"),
        (
            "a.aedat",
            aedat2_bytes(ROWS)[:-3],
            "expected bytes of whole events, got 21, which 8 does not",
        ),
        ("a.aedat", b"#!AER-DAT3.1\r\n# more", "expected a line #!END-HEADER, got none"),
        ("a.aedat", b"#!AER-DAT3.1\r\n#!END-HEADER", "expected events, got none"),
        ("a.aedat", GOOD3[:-1], "expected whole packets, got a packet that is cut at byte "),
        ("a.aedat", GOOD3 + b"123", "expected whole packets, got a packet that is cut"),
        ("a.txt", b"", r"expected a file in \.bin, \.bs2, \.aedat, got '\.txt'; convert it"),
    ],
)
def test_damage_is_one_line_with_the_name(name, content, message):
    with pytest.raises(DataError, match=rf"^/there/{name}: {message}"):
        read(name, content)


def test_asks_for_h5py_by_the_name_of_its_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("spikeloom.base.extras.installed", lambda library: False)
    with pytest.raises(
        ConfigError, match=r"expected the library h5py for HDF5 .*spikeloom\[hdf5\]"
    ):
        next(read_hdf5(tmp_path / "a.h5"))


@pytest.mark.skipif(not installed("h5py"), reason="needs h5py")
class TestHdf5:
    def write(self, path, times, units, labels, kind="f4"):
        import h5py

        with h5py.File(path, "w") as file:
            for name, rows, dtype in (("times", times, kind), ("units", units, "u2")):
                stored = file.create_dataset(f"spikes/{name}", (len(rows),), h5py.vlen_dtype(dtype))
                for row, values in enumerate(rows):
                    stored[row] = np.array(values, dtype)
            file["labels"] = np.array(labels, "u1")
        return path

    def test_recordings(self, tmp_path):
        times, units = [[0.5, 0.25], [0.001]], [[3, 699], [12]]
        path = self.write(tmp_path / "a.h5", times, units, [4, 19])
        (label, where, first), (other, _, second) = read_hdf5(path)
        assert (label, other) == (4, 19) and where == f"{path}: recording 0"
        assert first.t.tolist() == [250_000, 500_000] and first.x.tolist() == [699, 3]
        assert first.y.tolist() == [0, 0] and first.p.tolist() == [True, True]
        assert second.t.tolist() == [1000] and second.x.tolist() == [12]

    def test_damage(self, tmp_path):
        path = self.write(tmp_path / "a.h5", [[0.5], []], [[3], []], [1, 2])
        with pytest.raises(DataError, match=r"a\.h5: recording 1: expected events, got none"):
            list(read_hdf5(path))
        path = self.write(tmp_path / "b.h5", [[0.5, 1.0]], [[3]], [1])
        with pytest.raises(DataError, match=r"b\.h5: recording 0: .* as units, got 2 and 1"):
            list(read_hdf5(path))
        path = self.write(tmp_path / "c.h5", [[0.5], [0.1]], [[3], [4]], [1])
        with pytest.raises(DataError, match=r"c\.h5: expected as many labels, .* got 1, 2, 2"):
            list(read_hdf5(path))
        path = self.write(tmp_path / "d.h5", [[float("nan")]], [[3]], [1])
        with pytest.raises(DataError, match=r"d\.h5: recording 0: expected finite times"):
            list(read_hdf5(path))
        path.write_bytes(path.read_bytes()[:700])
        with pytest.raises(DataError, match=r"d\.h5: expected a readable HDF5 file"):
            list(read_hdf5(path))
        (tmp_path / "e.h5").write_bytes(b"")
        with pytest.raises(DataError, match=r"e\.h5: expected a readable HDF5 file"):
            list(read_hdf5(tmp_path / "e.h5"))

    def test_lacks_a_dataset(self, tmp_path):
        import h5py

        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["labels"] = np.zeros(3)
        with pytest.raises(DataError, match="got no spikes/times, spikes/units"):
            list(read_hdf5(tmp_path / "a.h5"))
