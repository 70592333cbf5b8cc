"""profile, from the command line: the record of the run, layer by layer."""

from pathlib import Path

import pytest
from clikit import RECIPE, command
from runkit import make_run

from spikeloom.records import storage


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "snn", net="c4 P [c4]x2 f10")
    make_run(folder / "ann", stages__0__rule="ann")
    return folder


@pytest.fixture
def call(monkeypatch, capsys, tmp_path, runs):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    for one in runs.iterdir():
        (tmp_path / one.name).symlink_to(one)
    (tmp_path / "r.toml").write_text(RECIPE)
    return lambda *words: command(monkeypatch, capsys, *words)


def without_clock(costs):
    """A cost record but for what an allocator's start and a clock decide."""
    return {key: part for key, part in costs.items() if key not in ("training", "inference")}


def test_a_run_costs_what_its_record_says(call):
    done = call("profile", "snn", "--json", "p.json")
    assert done.code == 0, done.err
    record = storage.read_json(Path("p.json"))
    kept = storage.read_json(Path("snn/result.json"))["costs"]
    assert record["trained"] and without_clock(record["costs"]) == without_clock(kept)
    assert record["costs"]["training"]["forward_macs"] == kept["training"]["forward_macs"]
    lines = done.out.splitlines()
    assert lines[0] == "snn: bptt, T = 2, digits" and lines[1] == "net c4 P [c4]x2 f10"
    assert max(map(len, lines)) <= 100, max(lines, key=len)
    passes = [line.split()[:3] for line in lines if line.startswith("2.0")]
    assert passes == [["2.0", "1", "conv"], ["2.0", "2", "conv"]]
    assert any(line.startswith("training: ") for line in lines)
    assert lines[-2] == "--explain says what each figure means."
    explained = " ".join(call("profile", "snn", "--explain").out.split())
    assert "Energy is a model (45 nm, 2014), not a measurement" in explained


def test_layers_sum_to_the_energies(call):
    call("profile", "snn", "--json", "p.json", "--samples", "40")
    costs = storage.read_json(Path("p.json"))["costs"]
    assert costs["metered_samples"] == 40
    for name in ("paper_int32", "strict_fp32"):
        total = sum(row["energy"][name] for row in costs["layers"])
        assert total == pytest.approx(costs["energy"][name]["net"])


def test_an_untrained_net_says_so(call):
    done = call("profile", "r.toml", "--samples", "20", "--json", "p.json")
    assert done.code == 0, done.err
    assert done.out.startswith(
        "r.toml: bptt, T = 2, digits; untrained weights: rates are those of the initial net\n"
    )
    assert not storage.read_json(Path("p.json"))["trained"]


def test_an_ann(call):
    done = call("profile", "ann", "--samples", "20")
    assert done.code == 0, done.err
    assert (
        "spikes  " not in done.out.split("layer")[0] and "/ SNN" not in done.out.split("layer")[0]
    )


def test_a_ratio_stands_beside_a_measured_ann_alone(call):
    done = call("profile", "r.toml", "--samples", "20", "--json", "p.json")
    summary = done.out.split("layer")[0]
    assert "dense ANN" in summary and "dense / SNN" in summary and "ANN /" not in summary
    done = call("profile", "r.toml", "--samples", "20", "--ann", "ann", "--json", "q.json")
    assert done.code == 0, done.err
    record = storage.read_json(Path("q.json"))
    ours, theirs = (record[name]["energy"] for name in ("costs", "ann_costs"))
    lines = {line.split("  ")[0]: line for line in done.out.split("layer")[0].splitlines()}
    for title, name in (("energy, uJ", "strict_fp32"), ("energy by paper, uJ", "paper_int32")):
        ratio = theirs[name]["net"] / ours[name]["net"]
        assert f" ANN / SNN {ratio:.2f} " in lines[title]
    kept = storage.read_json(Path("ann/result.json"))["costs"]["energy"]
    assert theirs == kept and "dense" not in lines["energy, uJ"]


def test_memory_comes_on_top_of_the_same_type(call):
    call("profile", "snn", "--json", "p.json", "--samples", "20")
    energy = storage.read_json(Path("p.json"))["costs"]["energy"]
    assert energy["strict_fp32"]["net"] < energy["memory_aware_fp32"]["lower"]


@pytest.mark.parametrize("net", ["c4 M c4 f10", 'c4{norm = "batch_all"} P f10'])
def test_a_rule_that_refuses_the_net_costs_inference_alone(call, tmp_path, net):
    text = RECIPE.replace('"c4 P f10"', f"'{net}'")
    text = text.replace('rule = "bptt"', 'rule = "ottt"')
    (tmp_path / "n.toml").write_text(text)
    done = call("profile", "n.toml", "--samples", "20", "--json", "p.json")
    assert done.code == 0, done.err
    assert "training refused: " in done.out
    assert storage.read_json(Path("p.json"))["costs"]["training"] is None


WRONG = [
    (["no.toml"], "no.toml: expected a run folder"),
    (["."], "expected one run, found 2: ann, snn; name one"),
    (["bad.toml"], "expected TOML"),
    (["two.toml"], "got a comparison with entries"),
    (["r.toml", "--samples", "0"], "--samples: expected 1 or more, got 0"),
    (["snn", "--ann", "ann"], "expected one finished run of the ReLU net"),
    (["ann", "--ann", "ann"], "expected a spiking net to compare with it"),
    (["r.toml", "--ann", "snn"], "expected one finished run of the ReLU net"),
    (["r.toml", "--device", "tpu"], "--device: expected one of auto, cpu, cuda"),
]


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_mistakes(call, tmp_path, words, message):
    (tmp_path / "bad.toml").write_text("= 3")
    (tmp_path / "two.toml").write_text("[base]\n[[entries]]\n")
    if words == ["."]:
        for name in ("ann", "snn"):
            target = (tmp_path / name).resolve()
            (tmp_path / name).unlink()
            (tmp_path / name).mkdir()
            (tmp_path / name / "recipe.json").write_bytes((target / "recipe.json").read_bytes())
    call("profile", *words).refused(message)


class TestPlan:
    def plan(self, call, rule, net="c64 P c4 f10"):
        text = RECIPE.replace("[[stages]]", f"[[stages]]\nrule = '{rule}'", 1)
        lines = [line for line in text.splitlines() if not line.startswith(("net =", 'rule = "'))]
        Path("p.toml").write_text("\n".join([f"net = '{net}'", *lines]))
        done = call("profile", "p.toml", "--plan")
        assert done.code == 0, done.err
        return " ".join(done.out.split())

    def test_every_layer_of_both_passes(self, call):
        shown = self.plan(call, "bptt")
        assert "training: layer by layer, each on the whole train" in shown
        assert "0.0.0 compiled 2x2 inside - - overwritten 1.0.0 - with 0.0.0 - - -" in shown
        assert "2.0.0 reference - - - overwritten" in shown  # too small to be worth a kernel
        assert "inference: layer by layer" in shown and "without gradients" in shown

    def test_what_it_does_not_do_is_refused(self, call):
        for words in (("--json", "p.json"), ("--ann", "ann")):
            done = call("profile", "snn", "--plan", *words)
            assert done.code == 2 and "--plan: expected no --json or --ann" in done.err

    def test_the_reason_stands_beside_the_slower_way(self, call):
        shown = self.plan(call, "sltt", 'c64{norm = "batch_step", dropout = 0.1} P c4 f10')
        assert "training: step by step" in shown and "2.0.0 reference - - short" in shown
        assert "pool apart: dropout comes before it (0.0.0)" in shown
        assert "norm before the neurons: steps are computed one by one (0.0.0)" in shown
