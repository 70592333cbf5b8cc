"""Rules through rates in a run: what they warn of, what they note, and when they stop."""

import pytest
import torch

from spikeloom.base.errors import ConfigError, NumericalError
from spikeloom.base.types import Batch
from spikeloom.heads.softmax import Softmax
from spikeloom.nets.module.net import SpikingNet
from spikeloom.program.processes import Team
from spikeloom.program.setup import set_up
from spikeloom.records.progress import SILENT
from spikeloom.rules.ide import Ide
from spikeloom.train.loop_stage import StageLoop
from spikeloom.train.runs import RunFolder
from spikeloom.train.state import State
from trainkit import recipe, tiny

LATERAL = "{feedback = [{source = 0, target = 0, layers = 'c4'%s}]} c4 P f3"


def trained(rule, more="", **changes):
    """Train two epochs; return the state."""
    changes = {"net": LATERAL % more, "stages.0.rule": rule, "stages.0.epochs": 2} | changes
    bench, state = set_up(recipe(changes), tiny()), State()
    StageLoop(bench, RunFolder(None), state, SILENT, lambda: False).run()
    return state


@pytest.mark.parametrize("rule", ["ide", "spide"])
def test_notes_are_in_the_curve(rule):
    state = trained(rule, ", restrict = 0.5", **{"stages.0.steps": 8})
    names = {
        "ide": {"residual of rates", "residual of v", "products with J"},
        "spide": {"firing rate backward"},
    }[rule]
    for entry in state.curve:
        assert set(entry.notes) == names
        assert all(value >= 0 for value in entry.notes.values())
    if rule == "spide":
        assert 0 < state.curve[0].notes["firing rate backward"] < 1
    assert all("alpha = 0.5" in line for line in state.warnings)  # the unit's; none of a solver


@pytest.mark.parametrize("rule", ["dsr", "ide", "spide"])
def test_coarse_rates_are_said(rule):
    net = {"net": "c4 P f3"} if rule == "dsr" else {}
    state = trained(rule, ", restrict = 0.5", **{"stages.0.steps": 2}, **net)
    assert state.warnings[0].startswith(f"rules.{rule}: firing rates at T = 2 have")


def test_free_feedback_is_measured():
    unit = {"net": {"text": LATERAL % "", "unit": {"name": "if", "v_th": 0.25}}}
    try:
        warnings = trained("spide", **{"stages.0.steps": 8}, **unit).warnings
    except NumericalError:
        pytest.fail("SPIDE needs no solver")
    line = next(one for one in warnings if "feedback edge 0" in one)
    assert "has norm" in line and "set restrict on the edge, or raise v_th" in line


def test_a_solver_that_stops_short_is_said_once():
    state = trained({"name": "ide", "limit": 1}, ", restrict = 0.9", **{"stages.0.steps": 8})
    short = [one for one in state.warnings if "within 1 products" in one]
    assert len(short) == 1 and "raise limit" in short[0]
    assert state.curve[-1].notes["residual of v"] > 1e-6


def test_what_another_process_is_warned_of_is_said_here(monkeypatch):
    """Its share of a batch may be the only one whose equations are hard to solve."""
    alone = Team.gather
    far = "rules.ide: it took too long over there"

    def gather(self, value):
        found = alone(self, value)
        told = isinstance(value, list) and all(isinstance(one, str) for one in value)
        return [*found, [far]] if told else found

    monkeypatch.setattr(Team, "gather", gather)
    state = trained("ide", ", restrict = 0.5", **{"stages.0.steps": 8})
    assert state.warnings.count(far) == 1 and len(state.curve) == 2


@pytest.mark.parametrize("solver", ["broyden", "anderson", "gmres", "fixed_point"])
def test_low_precision_is_not_asked_for_more_than_it_has(solver):
    rule = {"name": "ide", "solver": solver}
    state = trained(rule, ", restrict = 0.5", precision="bf16-mixed", **{"stages.0.steps": 8})
    assert not any("to be solved within" in line for line in state.warnings)
    assert state.curve[-1].notes["products with J"] < 12


def test_a_head_with_a_reduction_of_its_own_is_asked_for_it():
    class Peak(Softmax):
        def reduced(self, hs):
            return hs.amax(0)

    net = SpikingNet(
        "{feedback = [{source = 0, target = 0, layers = 'f4', restrict = 0.5}]} f4 f3", (2,)
    )
    head = Peak.of(net)
    xs = 3 * torch.rand(1, 5, 2, generator=torch.Generator().manual_seed(0)).expand(6, 5, 2)
    batch = Batch.of(xs, torch.arange(5) % 3)
    report = Ide().learn(net, batch, head.bind(batch.target, batch.rng), lambda: None)
    with torch.no_grad():
        expected = head.logits(net.run_by_time(xs).amax(0))
    torch.testing.assert_close(report.logits, expected)


def test_a_solver_that_diverges_stops_and_names_the_layer():
    unit = {"net": {"text": LATERAL % "", "unit": {"name": "if", "v_th": 0.005}}}
    rule = {"name": "ide", "solver": "fixed_point"}
    with pytest.raises(NumericalError) as error:
        trained(rule, **{"stages.0.steps": 40, "stages.0.optimizer.lr": 1e-9}, **unit)
    assert "most of it at the start of feedback edge 0 in layer 0.0.0" in str(error.value)
    assert "lower its restrict, or raise v_th" in str(error.value)


def test_a_last_population_of_another_width_is_refused():
    with pytest.raises(
        ConfigError, match=r"last population of 3 neurons .* got 5; end with \[f3\]"
    ):
        set_up(recipe({"net": "c4 P [f5]", "head": "rates", "stages.0.rule": "dsr"}), tiny())
