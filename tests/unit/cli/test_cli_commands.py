"""list and train, from the command line to the files."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from clikit import RECIPE, command
from typer.testing import CliRunner

import spikeloom
from spikeloom.cli.main import app
from spikeloom.data import DATA
from spikeloom.encoders import ENCODERS
from spikeloom.heads.base import HEADS
from spikeloom.nets.spec.presets import PRESETS
from spikeloom.neurons.base import UNITS
from spikeloom.program.shipped import shipped_folder, shipped_recipes
from spikeloom.records import storage
from spikeloom.rules.base import RULES
from spikeloom.train import loop_stage


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Run the command in an empty folder that holds one recipe."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "1000")
    (tmp_path / "r.toml").write_text(RECIPE)
    return lambda *words: command(monkeypatch, capsys, *words)


class TestList:
    @pytest.mark.parametrize(
        ("family", "names"),
        [
            ("rules", RULES.names()),
            ("nets", tuple(PRESETS)),
            ("heads", HEADS.names()),
            ("encoders", ENCODERS.names()),
            ("units", UNITS.names()),
            ("data", DATA.names()),
        ],
    )
    def test_names_every_member(self, call, family, names):
        done = call("list", family)
        assert done.code == 0 and not done.err
        table = done.out.split("\n\n")[0]
        assert tuple(line.split()[0] for line in table.splitlines()[1:]) == names

    def test_data_says_what_is_there_and_how_to_get_the_rest(self, call, monkeypatch, tmp_path):
        monkeypatch.setenv("SPIKELOOM_DATA", str(tmp_path))
        table, notes = call("list", "data").out.split("\n\n")
        states = {line.split()[0]: line.split()[3] for line in table.splitlines()[1:]}
        assert states["digits"] == "ready" and states["cifar10"] == "missing"
        notes = notes.splitlines()
        assert notes[0] == f"$SPIKELOOM_DATA is {tmp_path}"
        start = "cifar10: missing train.parquet, test.parquet in cifar10/; put both"
        assert any(line.startswith(start) for line in notes)
        assert not any(line.startswith("digits") for line in notes)

    def test_recipes_of_the_package_from_any_folder(self, call):
        lines = [line.split() for line in call("list", "recipes").out.splitlines()[1:]]
        assert [line[0] for line in lines] == [name for name, _ in shipped_recipes()]
        (demo,) = [line for line in lines if line[0] == "demo"]
        assert demo[:3] == ["demo", "digits", "bptt,"]

    def test_recipes_below_the_current_folder(self, call, tmp_path):
        (tmp_path / "recipes" / "paper").mkdir(parents=True)
        folder = tmp_path / "recipes"
        (folder / "paper" / "a.toml").write_text(RECIPE + '[paper]\ntitle = "Of spikes"\n')
        (folder / "b.toml").write_text(
            'name = "two"\n[base]\nnet = { preset = "vgg" }\ndata = "digits"\n'
            '[[base.stages]]\nrule = { name = "sltt", k_steps = 2 }\n'
            '[[entries]]\nset = { "stages.0.rule" = "ottt" }\n[[entries]]\nset = 3\n'
        )
        (folder / "c.toml").write_text("name = ")
        (folder / "d.toml").write_text("stages = 3\nentries = 4\nnet = 5\ndata = []\n")
        lines = [line.split() for line in call("list", "recipes").out.splitlines()[1:]]
        assert lines[0] == ["recipes/b.toml", "digits", "sltt,", "ottt"]
        assert lines[1][:4] == ["recipes/c.toml", "cannot", "be", "read:"]
        assert lines[2] == ["recipes/d.toml"]
        assert lines[3] == ["recipes/paper/a.toml", "digits", "bptt"]
        told = call("list", "recipes", "recipes/paper/a.toml").out.split("\n")
        assert told[0] == "recipes/paper/a.toml: tiny"
        facts = dict(line.split(maxsplit=1) for line in told[1:] if line)
        assert (facts["net"].rstrip(), facts["paper"].rstrip()) == ("c4 P f10", "Of spikes")
        assert len(lines) == 4 + len(shipped_recipes())

    def test_a_checkout_lists_its_recipes_once(self, call, monkeypatch):
        folder = shipped_folder()
        assert folder is not None
        monkeypatch.chdir(folder.parent)
        lines = call("list", "recipes").out.splitlines()[1:]
        assert [line.split()[0] for line in lines] == [name for name, _ in shipped_recipes()]

    def test_a_shipped_recipe_is_read_by_its_name(self, call):
        call("train", "demo").refused("demo: expected a recipe, got a comparison with entries; use")
        done = call("profile", "bench/fashion_mlp")
        done.refused("bench/fashion_mlp: expected a recipe, got a comparison with entries")

    def test_rules_by_default(self, call):
        assert call("list").out == call("list", "rules").out

    def test_brackets_of_net_texts_are_no_markup(self, call):
        assert "c64 P [c64]x4 P f1024 f10" in call("list", "nets").out

    def test_the_sources_of_rules(self, call):
        for name in RULES.names():
            source = RULES.find(name).facts.source
            assert f"{source.authors} {source.year}" in call("list", "rules").out

    def test_unknown_family(self, call):
        call("list", "rulez").refused("list: unknown family 'rulez'; did you mean 'rules'?")


class TestTrain:
    def test_writes_the_run_and_prints_the_table(self, call, tmp_path):
        done = call("train", "r.toml")
        assert done.code == 0, done.err
        folder = tmp_path / "runs" / "tiny" / "seed0"
        record = storage.read_json(folder / "result.json")
        lines = done.out.splitlines()
        assert lines[0] == (
            "data: digits: 40 training, 250 validation, 350 test images, 10 classes, 1x8x8"
        )
        assert lines[1] == (
            "input: [C, H, W] = [1, 8, 8], uint8 divided by 16; 0 to 1, mean 0.307, 48 % zeros in "
            "40 training samples"
        )
        count = record["costs"]["parameters"]
        assert lines[2] == f"net: c4 P f10, {count:,} parameters, T = 2"
        assert re.fullmatch(
            r"training memory: about \d+ KB per batch of 20 \(T = 2\), .*; free \d.* [GM]B",
            lines[3],
        )
        assert re.fullmatch(
            r"time: about \d+ s for 1 epoch \(measured: one batch of training and one of .*\)",
            lines[4],
        )
        assert re.match(r"epoch   1  loss \d+\.\d{4}  train \d+\.\d\d %  val \d", lines[5])
        assert re.match(r"training memory: \d+\.\d MB measured, .\d+\.\d % of the pred", lines[6])
        head = next(number for number, line in enumerate(lines) if line.startswith("entry"))
        assert head > 7 and lines[head + 2].startswith("bptt")
        assert f"{100 * record['test_accuracy']:.2f}" in lines[head + 2]
        assert lines[-1] == "run folder: runs/tiny/seed0"

    def test_options_override_the_recipe(self, call, tmp_path):
        words = ["--seed", "3", "--out", "x", "--precision", "64-true", "--device", "cpu"]
        done = call("train", "r.toml", "--set", "stages.0.rule.loss=step", *words)
        assert done.code == 0, done.err
        written = storage.read_json(tmp_path / "x" / "recipe.json")
        assert (written["seed"], written["precision"], written["device"]) == (3, "64-true", "cpu")
        assert written["stages"][0]["rule"] == {"name": "bptt", "loss": "step"}

    def test_a_later_change_wins(self, call, tmp_path):
        changes = ["--set", "stages.0.rule=sltt", "--set", "stages.0.rule.k_steps=1"]
        assert call("train", "r.toml", *changes, "--out", "x").code == 0
        written = storage.read_json(tmp_path / "x" / "recipe.json")
        assert written["stages"][0]["rule"] == {"name": "sltt", "k_steps": 1}

    def test_force(self, call, tmp_path):
        assert call("train", "r.toml", "--out", "x").code == 0
        call("train", "r.toml", "--out", "x").refused(
            "x: expected a new run folder, found a finished run"
        )
        done = call("train", "r.toml", "--out", "x", "--seed", "1", "--force")
        assert done.code == 0
        assert storage.read_json(tmp_path / "x" / "result.json")["seed"] == 1

    def test_an_interrupt_says_what_is_left(self, call, monkeypatch):
        def interrupted(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(loop_stage.StageLoop, "epoch", interrupted)
        done = call("train", "r.toml")
        assert done.code == 130
        assert (
            done.err.strip()
            == "stopped at once; `train --resume` or the same `compare` goes on from there."
        )

    def test_a_bug_of_ours_is_not_dressed_up(self, call, monkeypatch):
        for error in (RuntimeError("surprise"), TypeError("surprise"), ValueError("surprise")):
            monkeypatch.setattr(
                loop_stage.StageLoop, "epoch", lambda *_, error=error: raise_(error)
            )
            with pytest.raises(type(error), match="surprise"):
                call("train", "r.toml", "--force")


def raise_(error):
    raise error


class TestRoot:
    def test_version(self):
        result = CliRunner().invoke(app, ["--version"])
        assert (result.exit_code, result.output) == (0, f"spikeloom {spikeloom.__version__}\n")

    @pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["compare", "--help"]])
    def test_help(self, words):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0 and "Usage" in result.output

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["trin"], "No such command 'trin'"),
            (["train", "r.toml", "--sed", "1"], "No such option"),
            (["train", "r.toml", "--seed", "x"], "--seed"),
        ],
    )
    def test_usage_errors_are_one_line(self, call, words, message):
        done = call(*words)
        done.refused(message)
        assert " --help`." in done.err

    def test_no_words_ask_for_help(self, call):
        done = call()
        assert done.code == 2 and "Usage: spikeloom" in done.out + done.err

    def test_as_a_module(self, tmp_path):
        done = subprocess.run(
            [sys.executable, "-m", "spikeloom", "train", "missing.toml"],
            cwd=tmp_path,
            env={"PYTHONPATH": str(Path(spikeloom.__file__).parents[1]), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            "error: missing.toml: expected a recipe file, found none; check the path, or "
            "take a name from `spikeloom list recipes`.\n"
        )
