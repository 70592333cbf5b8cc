import tarfile

import numpy as np
import pytest
import torch
from timedkit import SPEAKERS, pack, real_root, wav_bytes

from spikeloom.base.errors import ConfigError, DataError
from spikeloom.base.seeding import derive_seed
from spikeloom.data import DATA, load_data
from spikeloom.data.timed.mel import Mel


@pytest.fixture
def root(tmp_path, spoken):
    pack(tmp_path / "fsdd" / "recordings.tar.xz", spoken)
    rows = [f"{name},{name[0]},{name.split('_')[1]},0,train,9" for name in spoken]
    text = "\n".join(["file,label,speaker,take,split,samples", *rows])
    (tmp_path / "fsdd" / "index.csv").write_text(text)
    return tmp_path


def repack(root, spoken, **changed):
    """Write the archive again with some files changed; None leaves one out."""
    files = {name: content for name, content in (spoken | changed).items() if content is not None}
    pack(root / "fsdd" / "recordings.tar.xz", files)


def order(seed: int) -> list[str]:
    return sorted(SPEAKERS, key=lambda speaker: derive_seed("spoken_digits", seed, speaker))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_speakers_of_the_parts_by_hand(root, spoken, seed):
    splits = load_data("spoken_digits", root, seed=seed, steps=12, bands=8)
    test, held, *others = order(seed)
    assert [len(part) for _, part in splits.parts()] == [20, 10, 10]
    assert splits.shape == (12, 8) and splits.values == "real" and splits.scaling.time
    assert splits.labels == tuple("0123456789")
    for part, speakers in ((splits.test, [test]), (splits.validation, [held])):
        expected = set()
        for speaker in speakers:
            for digit in range(10):
                expected.add(sample_bytes(spoken[f"{digit}_{speaker}_0.wav"]))
        assert {x.numpy().tobytes() for x in part.x} == expected
    heard = {sample_bytes(spoken[f"{d}_{speaker}_0.wav"]) for speaker in others for d in range(10)}
    assert {x.numpy().tobytes() for x in splits.train.x} == heard


def sample_bytes(content: bytes, steps: int = 12, bands: int = 8) -> bytes:
    signal = np.frombuffer(content[44:], "<i2") / 32768  # behind the header of 44 bytes
    frames = Mel(bands).frames(signal)[:steps]
    x = np.zeros((steps, bands), np.float32)
    x[: len(frames)] = frames
    return x.tobytes()


def test_says_how_many_were_cut_and_continued(root):
    """300 + 500 d samples are 1 + ceil((44 + 500 d) / 160) frames: 2, 5, 8, 11, 14, ..."""
    (note,) = load_data("spoken_digits", root, steps=11, bands=8).notes
    assert note.startswith("of 40 recordings 24 are longer than 11 frames and cut, 12 shorter and ")
    assert note.endswith(f"test speakers: {order(0)[0]}")


def test_other_sizes(root):
    splits = load_data("spoken_digits", root, test_speakers=2, validation=6, train_size=10, bands=8)
    assert [len(part) for _, part in splits.parts()] == [10, 6, 20]
    splits = load_data("spoken_digits", root, normalise=True, bands=4, steps=30)
    x, _ = splits.train.take(torch.arange(20), torch.float64)
    assert x.mean((0, 1)).tolist() == pytest.approx([0.0] * 4, abs=1e-6)


def test_files_and_archive_are_the_same(root, spoken, tmp_path_factory):
    packed = load_data("spoken_digits", root, bands=8)
    folder = tmp_path_factory.mktemp("plain")
    (folder / "recordings").mkdir()
    for name, content in spoken.items():
        (folder / "recordings" / name).write_bytes(content)
    plain = load_data("spoken_digits", path=str(folder), bands=8)
    assert torch.equal(plain.test.x.sort(0).values, packed.test.x.sort(0).values)
    assert DATA.find("spoken_digits").state(root) == "ready"


def test_is_read_once_and_a_damaged_entry_again(root, cache_folder, monkeypatch, caplog):
    first = load_data("spoken_digits", root, bands=8)
    (entry,) = cache_folder.glob("spoken_digits-*.npz")
    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "open", None)
        again = load_data("spoken_digits", root, bands=8, steps=40)
    assert torch.equal(again.train.x, first.train.x)
    content = bytearray(entry.read_bytes())
    content[len(content) // 2] ^= 255
    entry.write_bytes(content)
    assert torch.equal(load_data("spoken_digits", root, bands=8).train.x, first.train.x)
    assert "decoding again" in caplog.text
    load_data("spoken_digits", root, bands=4)
    assert len([*cache_folder.glob("spoken_digits-*.npz")]) == 2


BROKEN = {
    "empty": (b"", r"expected a sound in \.wav, got 'EOFError'; fetch it again"),
    "text": (b"no sound at all" * 9, r"expected a sound in \.wav, got 'file does not start with"),
    "cut": (wav_bytes(np.arange(900))[:-100], "expected all samples, got 850 of 900; "),
    "silent": (wav_bytes(np.arange(0)), "expected all samples, got none; "),
    "rate": (wav_bytes(np.arange(900), rate=16000), "at 8000 Hz, got 1 of 16 at 16000; "),
    "stereo": (wav_bytes(np.arange(900), channels=2), "at 8000 Hz, got 2 of 16 at 8000; "),
    "width": (wav_bytes(np.arange(900), width=4), "at 8000 Hz, got 1 of 32 at 8000; "),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_names_the_broken_recording(root, spoken, kind):
    content, message = BROKEN[kind]
    repack(root, spoken, **{"3_cy_0.wav": content})
    with pytest.raises(DataError, match=message) as caught:
        load_data("spoken_digits", root)
    place = f"{root / 'fsdd' / 'recordings.tar.xz'}: 3_cy_0.wav: "
    assert str(caught.value).startswith(place)


def test_names_what_does_not_agree(root, spoken):
    repack(root, spoken, **{"3_cy_0.wav": None})
    with pytest.raises(DataError, match=r"fsdd: expected the 40 .* none called 3_cy_0\.wav; "):
        load_data("spoken_digits", root)
    repack(root, spoken, **{"hello.wav": wav_bytes(np.arange(900))})
    with pytest.raises(DataError, match=r"hello\.wav: expected a name digit_speaker_take\.wav"):
        load_data("spoken_digits", root)
    repack(root, spoken)
    index = root / "fsdd" / "index.csv"
    index.write_text(index.read_text().replace("3_cy_0.wav,3", "3_cy_0.wav,4"))
    with pytest.raises(DataError, match=r"3_cy_0\.wav: expected digit 3, .* got 4 in index\.csv"):
        load_data("spoken_digits", root)
    index.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"index\.csv: expected rows of file, label, got none of"):
        load_data("spoken_digits", root)


@pytest.mark.parametrize("keep", [0, 30, 0.5, 0.9])
def test_names_a_damaged_archive(root, keep):
    archive = root / "fsdd" / "recordings.tar.xz"
    content = archive.read_bytes()
    archive.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(DataError) as caught:
        load_data("spoken_digits", root)
    assert str(caught.value).startswith(f"{archive}: after ")
    assert "expected a readable archive" in str(caught.value)


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match=r"^data\.spoken_digits: expected the folder .*fsdd, found"):
        load_data("spoken_digits", tmp_path)
    (tmp_path / "fsdd").mkdir()
    with pytest.raises(DataError, match=r"fsdd: expected recordings\.tar\.xz, or files \*\.wav in"):
        load_data("spoken_digits", tmp_path)
    assert DATA.find("spoken_digits").state(tmp_path).startswith("missing: fsdd/recordings.tar")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"test_speakers": 4},
            r"test_speakers: expected fewer than the 4 speakers .* got 5; leave",
        ),
        ({"test_speakers": 0}, r"test_speakers: expected 1 speaker or more, got 0"),
        ({"bands": 200}, r"bands: expected bands that hold a frequency .* got 200; take fewer"),
        ({"steps": 0}, r"steps: expected 1 step or more, got 0"),
        ({"validation": 30}, r"validation: expected 29 samples at most, got 30"),
    ],
)
def test_refuses(root, options, message):
    with pytest.raises(ConfigError, match=rf"^data\.spoken_digits\.{message}"):
        load_data("spoken_digits", root, **options)


@pytest.mark.data
@pytest.mark.skipif(real_root("fsdd") is None, reason="needs fsdd/")
def test_the_real_set():
    splits = load_data("spoken_digits", real_root("fsdd"))
    assert [len(part) for _, part in splits.parts()] == [2000, 500, 500]
    assert splits.train.y.bincount().tolist() == [200] * 10
    # frames of a recording of n samples: 1 + ceil((n - 256) / 160); counted from index.csv
    assert splits.notes[0].startswith("of 3000 recordings 57 are longer than 40 frames and cut, ")
