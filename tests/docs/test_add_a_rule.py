"""The page on adding a rule: its complete rule passes the battery and is compared."""

import re
import shlex
import sys
from pathlib import Path

import pytest
import torch

from spikeloom import Batch, Softmax, SpikingNet
from spikeloom.base.registry import import_file
from spikeloom.cli.main import main
from spikeloom.rules.base import RULES
from spikeloom.rules.commit import OwnLoop

PAGE = (Path(__file__).parents[2] / "docs/howto/add_a_rule.md").read_text(encoding="utf-8")
CODE = [
    one
    for one in re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    if '@RULES.register("dfa")' in one
]
COMMANDS = re.findall(r"^spikeloom (.*dfa\.py.*)$", PAGE, re.MULTILINE)
SMALL = ("--set", "stages.0.epochs=1", "--set", "data.train_size=64", "--seeds", "0")


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """The command, in a folder with the page's file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "dfa.py").write_text(*CODE, encoding="utf-8")

    def words(*more):
        monkeypatch.setattr(sys, "argv", ["spikeloom", *more])
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        assert end.value.code in (None, 0), said.out + said.err
        return said.out

    yield words
    RULES._members.pop("dfa", None)
    sys.modules.pop("_file_dfa", None)


def test_its_commands_run(call):
    check, compare = COMMANDS
    assert check == "check rule ./dfa.py"
    assert re.search(r"^\d+ ok, 0 failed, \d+ skipped$", call(*shlex.split(check)), re.MULTILINE)
    table = call(*shlex.split(compare), *SMALL, "--no-controls")
    for name in ("bptt", "dfa", "dfa:pull=0.01"):
        assert re.search(rf"^{re.escape(name)} +\d", table, re.MULTILINE), table


@pytest.mark.usefixtures("call")
def test_it_computes_its_equations(tmp_path):
    """Gradients of two hidden layers and the change of biases, neuron by neuron in plain loops."""
    import_file(tmp_path / "dfa.py", "test")
    rule = RULES.find("dfa")(pull=0.5, target=0.25)
    net = SpikingNet("f5 f4 f3", (6,), seed=1).double()
    head = Softmax.of(net, seed=2)
    xs = 2 * torch.rand(3, 2, 6, dtype=torch.double, generator=torch.Generator().manual_seed(3))
    batch = Batch.of(xs, torch.tensor([0, 2]))
    memory = rule.prepare(net, head.sites, batch)
    layers = [(site, site.unit, site.synapse) for site in net.sites]
    grads = {site.name: torch.zeros_like(synapse.weight) for site, _, synapse in layers}
    rates = {site.name: torch.zeros(len(synapse.bias)).double() for site, _, synapse in layers}
    v = {site.name: torch.zeros(2, len(synapse.bias)).double() for site, _, synapse in layers}
    for x in xs:
        p, found = x, []
        for site, unit, synapse in layers:
            u = unit.alpha * v[site.name] + p @ synapse.weight.T + synapse.bias
            s = (u >= unit.v_th).double()
            found.append((site.name, unit.surrogate.slope(u - unit.v_th, unit.v_th), p))
            v[site.name], p = u - unit.v_th * s, s
            rates[site.name] += s.mean(0) / 3
        o = p @ head.site.synapse.weight.T + head.site.synapse.bias
        e = (torch.softmax(o, 1) - torch.eye(3)[batch.target]) / 2  # a mean over two samples
        for name, slope, p in found:
            for row in range(2):
                delta = (memory["feedback"][name].T @ e[row]) * slope[row]
                grads[name] += torch.outer(delta, p[row]) / 3
    before = {site.name: synapse.bias.clone() for site, _, synapse in layers}
    commit = OwnLoop(rule, memory, lambda: None, net, head)
    rule.learn(net, batch, head.bind(batch.target, batch.rng), commit)
    for site, _, synapse in layers:
        torch.testing.assert_close(synapse.weight.grad, grads[site.name], rtol=1e-12, atol=1e-14)
        change = 0.5 * (0.25 - 0.1 * rates[site.name])
        torch.testing.assert_close(synapse.bias, before[site.name] + change, rtol=1e-12, atol=0)
        assert grads[site.name].any() and 0 < rates[site.name].mean() < 1
