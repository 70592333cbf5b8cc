"""Train on own files, evaluate, predict the very same files: one answer, sample by sample."""

from pathlib import Path

import numpy as np
import pytest
import torch
from clikit import command
from PIL import Image

from spikeloom.data import load_data
from spikeloom.inference.evaluate import predict
from spikeloom.inference.opening import open_run
from spikeloom.records import storage

STAGES = '[[stages]]\nrule = "bptt"\nsteps = {}\nepochs = 1\nbatch = 8\n'


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPIKELOOM_CACHE", str(tmp_path / "decoded"))
    return lambda *words: command(monkeypatch, capsys, *words)


def own_answers(folder: Path) -> torch.Tensor:
    """Probabilities of every stored sample of a run's own data, in the order of the store."""
    bench = open_run(folder)
    answers = torch.empty(len(bench.splits.train.store), bench.splits.classes)
    for _, part in bench.splits.parts():
        batch = bench.batch(part, torch.arange(len(part)), epoch=0, part="test")
        with torch.no_grad():
            answers[part.rows] = predict(bench, batch)[1].softmax(1).float()
    return answers


def write_odd_pictures(folder: Path) -> list[Path]:
    """Two classes that only their shape tells apart, in modes, sizes and turns of all kinds."""
    rng = np.random.default_rng(0)
    modes = ("RGBA", "LA", "P", "L", "1", "RGB")
    for row in range(24):
        high = rng.integers(0, 256, (9 + row % 5, 14 - row % 3, 4), dtype=np.uint8)
        high[..., 3] = 255 * (rng.random(high.shape[:2]) < 0.5)
        high[: len(high) // 2, :, :3] //= 1 + 9 * (row % 2)
        image = Image.fromarray(high, "RGBA")
        mode = modes[row % 6]
        exif = Image.Exif()
        exif[0x0112] = 1 + row % 8
        place = folder / ("dark" if row % 2 else "bright")
        place.mkdir(parents=True, exist_ok=True)
        image = image if mode == "RGBA" else image.convert("RGB" if mode == "P" else mode)
        image.convert(mode).save(place / f"{row:02}.png", exif=exif)
    return sorted(folder.rglob("*.png"))


@pytest.mark.parametrize(
    "options", ["", 'fit = "pad", ground = "#3060c0", ', "grey = true, normalise = true, "]
)
def test_pictures(call, options):
    files = write_odd_pictures(Path("pets"))
    Path("r.toml").write_text(
        'name = "pets"\nnet = "c4 P f2"\n'
        f'data = {{ name = "images", path = "{Path("pets").absolute()}", size = 8, test = 8, '
        f"{options}validation = 4 }}\n" + STAGES.format(3)
    )
    done = call("train", "r.toml", "--out", "run")
    assert done.code == 0, done.err
    assert "; pictures " in done.out and "to size, transparency on " in done.out
    assert call("evaluate", "run", "--json", "e.json").code == 0
    assert call("predict", "run", *files, "--json", "p.json").code == 0
    true = own_answers(Path("run"))
    rows = storage.read_json(Path("p.json"))["predictions"]
    for row, expected in zip(rows, true, strict=True):
        assert row["probabilities"][-1] == pytest.approx(expected.tolist(), abs=1e-6)
    test = open_run(Path("run")).splits.test
    right = [rows[place]["answer"] == label for place, label in zip(test.rows, test.y, strict=True)]
    record = storage.read_json(Path("e.json"))
    assert record["accuracy"][-1] == pytest.approx(sum(right) / len(right))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "bool", "float64"])
@pytest.mark.parametrize("options", ["", "normalise = true, "])
def test_event_frames(call, dtype, options):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (24, 4, 2, 6, 6)).astype(dtype)
    y = np.arange(24) % 2
    np.savez("e.npz", x_train=x, y_train=y, x_test=x[:6], y_test=y[:6])
    Path("r.toml").write_text(
        'name = "events"\nnet = "c4 P f2"\nencoder = "frames"\n'
        f'data = {{ name = "tensors", {options}path = "{Path("e.npz").absolute()}" }}\n'
        + STAGES.format(4)
    )
    done = call("train", "r.toml", "--out", "run")
    assert done.code == 0, done.err
    taken = {"float64": "as they are", "bool": "as events"}.get(dtype, "as counts")
    _, about = done.out.splitlines()[:2]
    assert about.startswith(f"input: [T, C, H, W] = [4, 2, 6, 6], {dtype} {taken}")
    assert options or "; 0 to 1, mean 0.498, 50 % zeros" in done.out
    np.save("x.npy", x[:6])
    assert call("predict", "run", "x.npy", "--json", "p.json").code == 0
    bench = open_run(Path("run"))
    batch = bench.batch(bench.splits.test, torch.arange(6), epoch=0, part="test")
    with torch.no_grad():
        true = predict(bench, batch)[1].softmax(1)
    rows = storage.read_json(Path("p.json"))["predictions"]
    for row, expected in zip(rows, true, strict=True):
        assert row["probabilities"][-1] == pytest.approx(expected.tolist(), abs=1e-6)
    if dtype == "uint8" and not options:
        changes = ["--set", "data.scale=pictures"]
        call("evaluate", "run", *changes).refused("expected 1 as the stored value that becomes 1")
        assert call("evaluate", "run").code == 0


def test_a_net_silenced_by_its_scale_is_told(call):
    x = np.ones((24, 4, 2, 6, 6), np.uint8)
    x[::2, :, 0] = 0
    y = np.arange(24) % 2
    np.savez("e.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    Path("r.toml").write_text(
        'name = "events"\nnet = "c4 P f2"\nencoder = "frames"\ndata = { name = "tensors", '
        f'scale = "pictures", path = "{Path("e.npz").absolute()}" }}\n' + STAGES.format(4)
    )
    done = call("train", "r.toml", "--out", "run")
    said = done.out + done.err
    cause = "the input's largest value is 0.00392 and its mean 0.0029 (uint8 divided by 255)"
    assert f"validation samples; {cause}; check data.scale." in " ".join(said.split())
    assert "v_th" not in said


def test_bytes_with_an_axis_that_may_be_time(call):
    x, y = np.zeros((24, 3, 64), np.uint8), np.arange(24) % 2
    np.savez("s.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    with pytest.raises(ValueError, match="state time = true"):
        load_data("tensors", path=Path("s.npz").absolute())
