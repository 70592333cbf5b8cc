"""What a hurried stranger gets wrong ends in one line, exit code 2, and no files."""

import numpy as np
import pytest
import torch
from clikit import RECIPE, command


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPIKELOOM_DATA", str(tmp_path))
    (tmp_path / "r.toml").write_text(RECIPE)
    return lambda *words: command(monkeypatch, capsys, *words)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


CHANGES = [
    (
        "stages.0.rule=bpt",
        "r.toml: stages.0.rule: unknown learning rule 'bpt'; did you mean 'bptt'",
    ),
    ("stages.0.steps=0", "r.toml: stages.0.steps: expected 1 or more, got 0"),
    ("net=c4 P P P P f10", "net layer 4.0.0 (avg_pool, window 2): expected maps of at least 2x2"),
    ("net=c4 P f7", "net: expected a last layer of 10 neurons for data 'digits', got f7"),
    ("net=c4 P q", "got 'q' at column 6 of 'c4 P q'"),
    ("net=[c4]x2 f10", "expected 1 channels for the next pass, got 4"),
    ("net=[c64", "expected ']' to close the block"),
    (
        "net=vgg16",
        "net: expected a last layer of 10 neurons for data 'digits', got f1000; set net.c",
    ),
    ("encoder=frames", "encoder 'frames' with rule 'bptt', T = 2"),
    ("stages.0.rule={name = 'sltt', k_steps = 9}", "expected at most T = 2, got 9"),
    ("data=mnist", "data.mnist: expected"),
    ("data={name = 'tensors'}", "path"),
    (
        "data={name = 'tensors', path = 'x.npz'}",
        "data.path: expected a file or folder, found none at",
    ),
    ("data.train_size=0", "data.train_size: expected 1 sample or more, got 0"),
    ("stages.1.epochs=2", "--set: expected an index from 0 to 0 in 'stages.1.epochs'"),
    ("stages..epochs=2", "--set: expected a path of keys, got 'stages..epochs'"),
    ("epochs", "--set: expected path=value, got 'epochs'"),
    ("=3", "--set: expected a path of keys, got ''"),
    ("stages.0.optimizer.lr=nan", "stages.0.optimizer.lr: expected a finite number, got nan"),
    ("precision=16-mixed", "precision: expected one of 32-true, 64-true, bf16-mixed, got '16-m"),
    ("net=c99999999999 f10", "layer 'conv'.out: expected 2147483647 at most, got 99999999999"),
    ("net=f99999999999999999999 f10", "net: expected a number of 18 digits at most"),
    ("net=f2000000000 f10", "net: expected weights that fit into the "),
    ("stages.0.steps=1000000000", "stages.0.steps: expected 1000000 at most, got 1000000000"),
    (f"seed={'9' * 5000}", "--set seed: expected a value as TOML has them, got a number of thou"),
    (f"net={'[' * 3000}", "got tables or lists in hundreds of levels in '[[["),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_a_wrong_change(call, tmp_path, change, message):
    if change.startswith("precision") and torch.cuda.is_available():
        pytest.skip("needs a machine without CUDA")
    call("train", "r.toml", "--set", change).refused(message)
    assert names(tmp_path) == ["r.toml"]


FILES = [
    (b"\xff\xfe\x00", "expected a readable text file"),
    (b"name = = 3", "expected TOML, got an error: Invalid value (at line 1, column 8)"),
    (b"", "bad.toml: name: expected a value, got none; add the key."),
    (
        b"[base]\n[[entries]]",
        "expected a recipe, got a comparison with entries; use `spikeloom com",
    ),
    (RECIPE.encode() + b"epoch = 3", "stages.0.epoch: unknown key 'epoch'; did you mean 'epochs'"),
    (RECIPE.encode().replace(b"[[stages]]", b"[stages]"), "stages: expected a list, got {"),
]


@pytest.mark.parametrize(("content", "message"), FILES)
def test_a_wrong_file(call, tmp_path, content, message):
    (tmp_path / "bad.toml").write_bytes(content)
    call("train", "bad.toml").refused(message)


def test_no_file(call):
    call("train", "missing.toml").refused("missing.toml: expected a recipe file, found none")
    call("train", ".").refused("expected a recipe file, got a folder")
    call("compare", "missing.toml").refused("missing.toml: expected a recipe file, found none")


class TestPlaces:
    def test_out_is_a_file(self, call, tmp_path):
        (tmp_path / "file").write_text("mine")
        for place in ("file", "file/run"):
            call("train", "r.toml", "--out", place).refused("expected a folder that can be written")
        words = ["--net", "f10", "--data", "digits", "--rules", "ann", "--out", "file"]
        call("compare", *words).refused("expected a folder that can be written")
        assert (tmp_path / "file").read_text() == "mine"

    def test_out_cannot_be_written(self, call):
        call("train", "r.toml", "--out", "/proc/spikeloom").refused(
            "expected a folder that can be written"
        )

    @pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
    def test_no_gpu(self, call):
        call("train", "r.toml", "--device", "cuda").refused("device: expected a CUDA device")


class TestData:
    TENSORS = "data={name = 'tensors', path = 't.npz'}"

    def arrays(self, folder, **changes):
        generator = np.random.default_rng(0)
        arrays = {
            "x_train": generator.random((60, 1, 8, 8), dtype=np.float32),
            "y_train": np.arange(60) % 10,
            "x_test": generator.random((20, 1, 8, 8), dtype=np.float32),
            "y_test": np.arange(20) % 10,
        }
        kept = {key: array for key, array in (arrays | changes).items() if array is not None}
        np.savez(folder / "t.npz", **kept)

    def test_good_ones_train(self, call, tmp_path):
        self.arrays(tmp_path)
        assert call("train", "r.toml", "--set", self.TENSORS).code == 0

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"x_train": np.full((60, 1, 8, 8), np.nan)}, "expected finite values, got NaN or inf"),
            ({"y_train": np.arange(60) - 1}, "expected labels in 0..58, got -1 at row 0"),
            ({"y_train": np.arange(60) % 12}, "expected a last layer of 12 neurons"),
            ({"y_test": None}, "expected the keys x_train"),
            ({"x_test": np.zeros((20, 1, 7, 8))}, "data.tensors.test: expected samples [1, 8, 8]"),
            ({"y_train": np.array([None] * 60)}, "expected plain arrays"),
            (
                {"x_train": np.ones((60, 8, 8)), "x_test": np.ones((20, 8, 8))},
                "encoder 'constant': expected [C, H, W] or [D] at every step, got [8, 8]",
            ),
        ],
    )
    def test_bad_tensors(self, call, tmp_path, changes, message):
        self.arrays(tmp_path, **changes)
        call("train", "r.toml", "--set", self.TENSORS).refused(message)
        assert names(tmp_path) == ["r.toml", "t.npz"]

    def test_damaged_files(self, call, tmp_path):
        (tmp_path / "mnist").mkdir()
        for stem in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3"):
            (tmp_path / "mnist" / f"{stem}-ubyte.gz").write_bytes(b"junk")
        call("train", "r.toml", "--set", "data=mnist").refused(
            "train-images-idx3-ubyte.gz: expected a readable file, got"
        )

    def test_latency_of_normalised_data(self, call):
        changes = ["--set", "encoder=latency", "--set", "data.normalise=true"]
        call("train", "r.toml", *changes).refused("and normalise = false")


def test_a_rate_too_high(call, tmp_path):
    layer = "c8{unit = 'none'}"  # nothing that could die before it overflows
    changes = [f"net={layer} {layer} {layer} P f10", "stages.0.epochs=9"]
    changes += ["stages.0.optimizer={name = 'sgd', lr = 1e6}"]
    done = call("train", "r.toml", *(word for one in changes for word in ("--set", one)))
    done.refused("lower the learning rate")
    assert done.err.startswith("error: epoch ")
    assert not (tmp_path / "runs" / "tiny" / "seed0" / "result.json").exists()


COMPARE = [
    (["--net", "f10", "--data", "digits"], "got no --rules"),
    ([], "got no --net, --data, --rules"),
    (["r.toml", "--net", "f10"], "expected recipe files or --net/--data/--rules, got both"),
    (["r.toml", "--set", "seed=1"], "edit the files"),
    (["r.toml", "--max-mb", "0"], "--max-mb: expected a number above 0, got 0.0; change it."),
    (["r.toml", "--max-spikes", "nan"], "--max-spikes: expected a finite number, got nan"),
    *(
        (["--net", "f10", "--data", "digits", "--rules", "ann", "--seeds", seeds], "--seeds: expec")
        for seeds in ("a,b", "", "0,0", "-1", "1,", "0.5")
    ),
    *(
        (["--net", "f10", "--data", "digits", "--rules", rules], message)
        for rules, message in (
            ("ann,", "--rules: expected names separated by commas"),
            (
                "ann,slt",
                "--rules slt: stages.0.rule: unknown learning rule 'slt'; did you mean 'sl",
            ),
            ("sltt:k=2", "unknown key 'k'; known: given, k_steps."),
            ("ann,ann", "expected labels that differ"),
            (
                "bptt,sltt:k_steps=9",
                "'sltt:k_steps=9': stages.0.rule.k_steps: expected at most T = 6",
            ),
        )
    ),
]


@pytest.mark.parametrize(("words", "message"), COMPARE)
def test_a_wrong_comparison(call, tmp_path, words, message):
    call("compare", *words).refused(message)
    assert names(tmp_path) == ["r.toml"]
