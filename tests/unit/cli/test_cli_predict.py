"""predict, from the command line: a stranger's files, good and bad."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from clikit import command
from PIL import Image
from runkit import make_run

from spikeloom.data import DATA, load_data
from spikeloom.data.base import DataInfo
from spikeloom.inference.evaluate import predict
from spikeloom.inference.opening import open_run
from spikeloom.records import storage

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "snn", stages__0__steps=3, stages__0__epochs=3)
    make_run(folder / "ann", stages__0__rule="ann")
    shutil.copytree(folder / "snn", folder / "named")
    table = storage.read_json(folder / "named" / "inputs.json")
    storage.write_record(folder / "named" / "inputs.json", table | {"labels": NAMES})
    return folder


@pytest.fixture
def call(monkeypatch, capsys, tmp_path, runs):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    for one in runs.iterdir():
        (tmp_path / one.name).symlink_to(one)
    test = load_data("digits").test
    for row in range(3):
        levels = (test.x[row, 0].numpy() * (255 / 16)).round().astype(np.uint8)
        Image.fromarray(levels).save(f"d{row}.png")
    np.save("many.npy", test.x[:50].numpy())
    return lambda *words: command(monkeypatch, capsys, *words)


def expected(folder):
    """What the net of a run says of the first test samples."""
    bench = open_run(folder)
    batch = bench.batch(bench.splits.test, torch.arange(50), epoch=0, part="test")
    with torch.no_grad():
        return predict(bench, batch)[1].softmax(1)


@pytest.mark.parametrize("run", ["snn", "ann"])
def test_the_answers_are_those_of_the_test_part(call, run, runs):
    done = call("predict", run, "d0.png", "d1.png", "d2.png", "many.npy", "--json", "p.json")
    assert done.code == 0, done.err
    true = expected(runs / run)
    rows = storage.read_json(Path("p.json"))["predictions"]
    assert [(row["file"], row["row"]) for row in rows[:4]] == [
        ("d0.png", None),
        ("d1.png", None),
        ("d2.png", None),
        ("many.npy", 0),
    ]
    for place, row in [*enumerate(rows[:3]), *enumerate(rows[3:])]:
        assert row["answer"] == int(true[place].argmax())
        assert row["probabilities"][-1] == pytest.approx(true[place].tolist(), abs=1e-5)
        assert row["answers"][row["final_from"] - 1 :] == [row["answer"]] * (
            len(row["answers"]) - row["final_from"] + 1
        )
    lines = done.out.splitlines()
    first = lines[5].split()
    assert first[:2] == ["d0.png", str(rows[0]["answer"])]
    assert first[2] == f"{100 * rows[0]['probability']:.1f}"
    assert "many.npy: 10 more samples, see --json" in lines
    assert max(map(len, lines)) <= 100


def test_the_data_need_not_be_there(call, monkeypatch):
    def absent(root=None, **options):
        raise AssertionError("the data were read")

    monkeypatch.setitem(DATA._members, "digits", replace(DATA.find("digits"), load=absent))
    assert isinstance(DATA.find("digits"), DataInfo)
    monkeypatch.setattr("spikeloom.program.recipe.from_hints", lambda *_, **__: {})
    done = call("predict", "snn", "d0.png")
    assert done.code == 0, done.err


def test_names_and_fewer_answers(call):
    done = call("predict", "named", "d0.png", "--top", "1")
    head, line = done.out.splitlines()[3], done.out.splitlines()[5]
    assert "next" not in head
    assert line.split()[2] in NAMES
    assert call("predict", "named", "d0.png", "--top", "99").code == 0


def test_over_time(call):
    done = call("predict", "snn", "d0.png", "--over-time", "--json", "p.json")
    row = storage.read_json(Path("p.json"))["predictions"][0]
    lines = done.out.splitlines()
    start = lines.index("d0.png") + 3
    for t, line in enumerate(lines[start : start + 3]):
        share = f"{100 * row['probabilities'][t][row['answers'][t]]:.1f}"
        assert line.split()[:4] == [
            str(t + 1),
            str(row["answers"][t]),
            share,
            f"{row['spikes'][t]:,}",
        ]


def test_notes_are_printed_once(call):
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save("big.png")
    done = call("predict", "snn", "big.png", "d0.png", "--invert")
    assert done.out.count("big.png: resized from 20x20 to 8x8") == 1
    assert "d0.png: inverted" in done.out


def test_good_files_are_predicted_beside_bad_ones(call):
    Path("bad.png").write_text("no image")
    done = call("predict", "snn", "bad.png", "d0.png", "gone.npy")
    assert done.code == 1
    assert done.out.splitlines()[5].startswith("d0.png")
    first, second = done.err.splitlines()
    assert first.startswith("error: bad.png: expected a picture")
    assert second == "error: gone.npy: expected a file, found none; check the path."


def test_bad_files_alone(call):
    Path("bad.png").write_text("no image")
    call("predict", "snn", "bad.png", "--json", "p.json").refused("bad.png: expected a picture")
    done = call("predict", "snn", "bad.png", ".")
    assert done.code == 2 and done.err.count("error: ") == done.err.count("\n") == 2
    assert not Path("p.json").exists()


def test_spikes_stay_out_of_an_anns_answer(call):
    done = call("predict", "ann", "d0.png")
    assert "over t" not in done.out and done.out.splitlines()[5].split()[-1] == "-"


WRONG = [
    (["no", "d0.png"], "no: expected a run folder, got none"),
    (["d0.png", "d1.png"], "d0.png: expected a run folder, got a file"),
    (["snn", "snn"], "snn: expected a file, got a folder"),
    (["snn", "-"], "-: expected a file, found none"),
    (["snn", "nan.npy"], "nan.npy: expected finite values, got nan at [0, 2, 3]"),
    (["snn", "flat.npy"], "expected an array [1, 8, 8] or [N, 1, 8, 8], got [64]; reshape it"),
    (["snn", "d0.png", "--top", "0"], "--top: expected 1 or more, got 0"),
    (["snn", "d0.png", "--device", "tpu"], "--device: expected one of auto, cpu, cuda"),
    (["snn", "d0.png", "--json", "/proc/x"], "--json /proc/x: expected a file that can be written"),
]


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_mistakes(call, words, message):
    broken = np.zeros((1, 8, 8), np.float32)
    np.save("flat.npy", broken.reshape(64))
    broken[0, 2, 3] = np.nan
    np.save("nan.npy", broken)
    call("predict", *words).refused(message)


def test_no_file_at_all(call):
    done = call("predict", "snn")
    assert done.code == 2 and "Missing argument" in done.err
