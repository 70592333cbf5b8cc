"""The cache of decoded pictures: used again, never broken, never in the way."""

import json
import logging
import os
import resource
import signal
import struct
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from picturekit import encode, pixels, write_folders, write_set

from spikeloom.base.errors import DataError
from spikeloom.data import cache, load_data
from spikeloom.data.decode import Decoder


@pytest.fixture
def folder(tmp_path):
    return write_set(tmp_path / "set")


@pytest.fixture
def decoded(monkeypatch):
    """Names of the pictures decoded, in turn."""
    seen: list[str] = []
    plain = Decoder.decode

    def counted(self, encoded, where):
        seen.append(where)
        return plain(self, encoded, where)

    monkeypatch.setattr(Decoder, "decode", counted)
    return seen


def load(folder: Path, **options):
    return load_data("images", folder.parent, path=folder.name, **options)


def entries(cache_folder: Path) -> list[str]:
    return sorted(one.name[:13] for one in cache_folder.iterdir() if one.is_dir())


def same(one, other) -> bool:
    pairs = zip(one.parts(), other.parts(), strict=True)
    return all(torch.equal(a.x, b.x) and torch.equal(a.y, b.y) for (_, a), (_, b) in pairs)


class TestReuse:
    def test_decodes_once(self, folder, decoded, cache_folder):
        first = load(folder)
        count = len(decoded)
        again = load(folder)
        assert len(decoded) == count == 50 + 1  # the first one shows the size
        assert same(first, again) and again.labels == first.labels
        assert len(entries(cache_folder)) == 2

    def test_needs_no_decoder_the_second_time(self, folder, monkeypatch):
        expected = load(folder)
        for library in ("datasets", "PIL", "pyarrow", "filelock"):
            monkeypatch.setitem(sys.modules, library, None)  # importing it would fail
        assert same(load(folder), expected)

    def test_a_changed_file_is_decoded_again(self, folder, decoded):
        load(folder)
        os.utime(folder / "test.parquet", ns=(1, 1))
        decoded.clear()
        load(folder)
        assert len(decoded) == 10 and all("test.parquet" in where for where in decoded)

    @pytest.mark.parametrize("options", [{"size": 4}, {"grey": True}])
    def test_other_options_have_their_own_entry(self, folder, options, cache_folder):
        load(folder)
        assert load(folder, **options).shape != (3, 8, 8)
        assert load(folder).shape == (3, 8, 8)
        assert len(entries(cache_folder)) == 4

    def test_choices_of_parts_share_one_entry(self, folder, decoded):
        load(folder)
        decoded.clear()
        load(folder, train_size=7, validation=3, normalise=True)
        assert decoded == []

    def test_the_source_is_never_written_to(self, folder):
        before = sorted(folder.iterdir())
        load(folder)
        assert sorted(folder.iterdir()) == before

    def test_writing_into_a_sample_does_not_reach_the_disk(self, folder):
        load(folder).train.store.zero_()
        assert load(folder).train.x.any()

    def test_progress_counts_all_parts_to_the_end(self, folder):
        seen: list[tuple[int, int]] = []
        load(folder, progress=lambda done, total: seen.append((done, total)))
        assert seen[-1] == (50, 50) and seen == sorted(seen)
        seen.clear()
        load(folder, progress=lambda done, total: seen.append((done, total)))
        assert seen == []

    def test_sets_that_decode_nothing_take_a_watcher_too(self):
        assert len(load_data("digits", progress=lambda done, total: None).test) == 350


class TestDamage:
    @pytest.mark.parametrize("name", [cache.PIXELS, cache.LABELS, cache.ABOUT])
    @pytest.mark.parametrize("damage", ["cut", "empty", "absent", "longer", "other bytes"])
    def test_is_noticed_and_mended(self, folder, cache_folder, name, damage, caplog):
        expected = load(folder)
        file = next(cache_folder.glob(f"set-train-*/{name}"))
        content = file.read_bytes()
        changed = {
            "cut": content[:-9],
            "empty": b"",
            "longer": content + b"}",
            "other bytes": content[:-150] + bytes(b ^ 1 for b in content[-150:]),
        }
        # pages of the old file stay mapped by the samples above
        file.unlink()
        if damage in changed:
            file.write_bytes(changed[damage])
        with caplog.at_level(logging.WARNING):
            assert same(load(folder), expected)
        harmless = damage == "longer" and name == cache.LABELS
        assert harmless or "decoding again" in caplog.text
        caplog.clear()
        assert same(load(folder), expected)
        assert harmless or not caplog.text

    def test_entry_of_another_format_is_left_alone(self, folder, cache_folder, monkeypatch):
        load(folder)
        monkeypatch.setattr(cache, "FORMAT", cache.FORMAT + 1)
        load(folder)
        assert len(entries(cache_folder)) == 4

    def test_a_bad_picture_leaves_nothing_behind(self, tmp_path, cache_folder):
        folder = write_folders(tmp_path / "set", ["a", "b"], each=80)
        (folder / "b" / "9.png").write_bytes(encode(pixels(0))[:40])
        with pytest.raises(DataError, match=r"b/9\.png: expected a picture"):
            load(folder)
        assert entries(cache_folder) == []
        (folder / "b" / "9.png").write_bytes(encode(pixels(0)))
        assert load(folder).classes == 2


class TestUnwritable:
    def check(self, folder, expected, caplog):
        with caplog.at_level(logging.WARNING):
            splits = load(folder)
        assert same(splits, expected)
        lines = [line for line in caplog.messages if "stay in memory" in line]
        assert len(lines) == 2 and "$SPIKELOOM_CACHE" in lines[0]  # one per part

    @pytest.fixture
    def expected(self, folder):
        return load(folder)

    @pytest.mark.parametrize("place", ["/proc/nowhere", "/dev/null/nowhere"])
    def test_folder_that_cannot_be_made(self, folder, expected, caplog, monkeypatch, place):
        monkeypatch.setenv("SPIKELOOM_CACHE", place)
        self.check(folder, expected, caplog)

    def test_file_system_without_locks(self, folder, expected, caplog, monkeypatch, tmp_path):
        def refuse(self):
            raise NotImplementedError("FileSystem does not appear to support flock")

        monkeypatch.setattr("filelock.UnixFileLock._acquire", refuse)
        monkeypatch.setenv("SPIKELOOM_CACHE", str(tmp_path / "other"))
        self.check(folder, expected, caplog)

    def test_disk_that_is_full(self, folder, expected, caplog, monkeypatch, tmp_path):
        monkeypatch.setenv("SPIKELOOM_CACHE", str(tmp_path / "other"))
        old = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (700, old[1]))
        try:
            self.check(folder, expected, caplog)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
            signal.signal(signal.SIGXFSZ, handler)
        assert entries(tmp_path / "other") == []

    def test_default_is_below_home(self, monkeypatch):
        monkeypatch.delenv("SPIKELOOM_CACHE")
        assert cache.data_cache() == Path.home() / ".cache" / "spikeloom" / "decoded"


class TestSeveral:
    def test_two_at_once_decode_once(self, folder, decoded, monkeypatch):
        plain = Decoder.decode

        def slow(self, encoded, where):
            time.sleep(0.002)
            return plain(self, encoded, where)

        monkeypatch.setattr(Decoder, "decode", slow)
        start = threading.Barrier(2)

        def run(_):
            start.wait()
            return load(folder)

        with ThreadPoolExecutor(2) as pool:
            one, other = pool.map(run, range(2))
        assert same(one, other) and len(decoded) == 51

    @pytest.mark.parametrize("stop", [-1, 0, 64, 128, 320, 576, 600])
    def test_a_kill_at_any_moment_leaves_no_broken_entry(self, tmp_path, cache_folder, stop):
        """Killed on starting (-1), or when so many pictures are decoded."""
        folder = write_folders(tmp_path / "set", ["a", "b"], each=300)
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:  # a copy of this process, which ends here whatever happens
            try:
                os.write(theirs, struct.pack("i", -1))
                load(folder, progress=lambda done, _: os.write(theirs, struct.pack("i", done)))
            finally:
                os._exit(0)
        os.close(theirs)
        with os.fdopen(ours, "rb") as news:
            while (told := news.read(4)) and struct.unpack("i", told)[0] < stop:
                pass
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for about in cache_folder.glob("set-train-*/about.json"):
            assert about.parent.suffix == ".draft" or json.loads(about.read_text())
        splits = load(folder)
        rows = sorted(folder.glob("*/*.png"))
        for row in range(0, len(splits.train), 25):
            file = rows[int(splits.train.rows[row])]
            number = 300 * int(splits.train.y[row]) + int(file.stem)
            x = torch.from_numpy(pixels(number)).permute(2, 0, 1)
            assert file.parent.name == splits.labels[splits.train.y[row]]
            assert torch.equal(splits.train.x[row], x)
        assert not list(cache_folder.glob("*.draft"))


def test_large_pictures_are_decoded_in_threads_in_order(tmp_path, decoded):
    folder = write_folders(tmp_path / "set", ["a", "b"], each=4, side=160)
    splits = load(folder, test=2, validation=1)
    assert (splits.train.x[:, 0, 0, 0] // 4).tolist() == splits.train.y.tolist()
