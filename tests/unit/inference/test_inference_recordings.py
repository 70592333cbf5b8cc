"""A recording is predicted from the very numbers that training would see."""

import io
import wave

import numpy as np
import pytest
import torch

from spikeloom.base.errors import DataError
from spikeloom.data import load_data
from spikeloom.inference.files import read_file, recordings_of
from spikeloom.program.inputs import Inputs, describe_inputs
from spikeloom.program.recipe import build_recipe


def recipe_of(data: dict):
    stages = [{"rule": "bptt", "epochs": 1}]
    return build_recipe({"name": "r", "net": "f10", "data": data, "stages": stages}, "r")


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIKELOOM_DATA", str(tmp_path))
    monkeypatch.setenv("SPIKELOOM_CACHE", str(tmp_path / "cache"))
    return tmp_path


def wav(samples: np.ndarray) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(samples.astype("<i2").tobytes())
    return out.getvalue()


def test_a_sound(root):
    folder = root / "fsdd" / "recordings"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for speaker in ("a", "b", "c"):
        for digit in range(10):
            sound = wav(1000 * rng.normal(size=600 + 300 * digit))
            (folder / f"{digit}_{speaker}_0.wav").write_bytes(sound)
    recipe = recipe_of({"name": "spoken_digits", "steps": 8, "bands": 6, "normalise": True})
    splits = load_data("spoken_digits", steps=8, bands=6, normalise=True)
    inputs = Inputs.model_validate(describe_inputs(splits))
    stored = {x.numpy().tobytes() for _, part in splits.parts() for x in part.x}
    seen = set()
    for path in folder.iterdir():
        given = read_file(path, inputs, recording=recordings_of(recipe))
        assert given.single and given.samples.scaling == splits.scaling
        seen.add(given.samples.x[0].numpy().tobytes())
    assert seen == stored
    own = root / "any name.wav"
    own.write_bytes(wav(np.zeros(0)))
    with pytest.raises(DataError, match=r"any name\.wav: expected all samples, got none"):
        read_file(own, inputs, recording=recordings_of(recipe))


@pytest.mark.parametrize("binary", [False, True])
def test_events(root, binary):
    for part in ("train", "test"):
        for name in ("up", "down"):
            folder = root / "own" / part / name
            folder.mkdir(parents=True)
            for take in range(3):
                rows = [bytes([k, take, k % 2 << 7, 0, 9 * k]) for k in range(6) for _ in "ab"]
                (folder / f"{take}.bin").write_bytes(b"".join(rows))
    options = {"path": str(root / "own"), "height": 3, "width": 6, "steps": 2, "binary": binary}
    splits = load_data("events", **options)
    inputs = Inputs.model_validate(describe_inputs(splits))
    recording = recordings_of(recipe_of({"name": "events"} | options))
    x = read_file(root / "own" / "train" / "up" / "1.bin", inputs, recording=recording).samples.x
    assert x.dtype == splits.train.store.dtype
    assert any(torch.equal(x[0], row) for row in splits.train.store)
    with pytest.raises(DataError, match=r"expected a file in \.bin, \.bs2, \.aedat, got '\.toml'"):
        (root / "r.toml").write_text("a = 1")
        read_file(root / "r.toml", inputs, recording=recording)


def test_other_data_have_no_recordings():
    assert recordings_of(recipe_of({"name": "digits"})) is None
    assert recordings_of(recipe_of({"name": "delayed_recall"})) is None
