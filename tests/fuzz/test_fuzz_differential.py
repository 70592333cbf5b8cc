"""Random problems, computed every way; and the tries that once differed."""

import pytest
from differential import Difference, Try, check, check_memory
from drawing import tries
from hypothesis import HealthCheck, given, settings
from search import check_or_assume

from spikeloom.nets import how
from spikeloom.nets.ops import Credited
from spikeloom.nets.walk.loops import LoopWalk

pytestmark = pytest.mark.filterwarnings("ignore:.*beta = ")

LATE = "{feedback = [{source = 0, target = 0, layers = 'f2{unit = \"lif\"}', delay = 2}]} f2 f2 f3"
FOUND: list[Try] = [
    # neurons on an edge that no spike has passed by the end, as T is not above its delay
    Try(net=LATE, shape=(5,), rule="spide", options={"back_steps": 4}, steps=2, batch=2),
]
"""What `python tests/fuzz/search.py` has found, mended since."""


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(tries())
def test_every_way_gives_the_same(one):
    check_or_assume(one)


@pytest.mark.parametrize("one", FOUND, ids=str)
def test_what_differed_once(one):
    check(one)


class TestItFinds:
    """Faults that the library had, put back."""

    WIDE = Try(net="f4 f4 f3", rule="sltt", unit={"name": "lif", "refractory": 1})

    def test_nothing_without_a_fault(self):
        check(self.WIDE)
        check_memory(self.WIDE)

    def test_states_in_a_kernels_own_form(self, monkeypatch):
        monkeypatch.setattr(how, "why_not_short", lambda site, setting: "")
        with pytest.raises((Difference, ValueError)):
            check(Try(net="f4 f4 f3", rule="sltt"))

    def test_feedback_that_is_left_out_of_a_loop(self, monkeypatch):
        edge = '{feedback = [{source = 1, target = 0, layers = "f4"}]}'
        one = Try(net=f"{edge} f4 f4 f3")
        check(one)
        monkeypatch.setattr(LoopWalk, "feed", lambda walk: None)
        with pytest.raises(Difference):
            check(one)

    def test_memory_that_grows_with_time(self, monkeypatch):
        kept, original = [], Credited.__call__

        def keeping(self, visit, x):
            kept.append(out := original(self, visit, x))
            return out.clone()

        monkeypatch.setattr(Credited, "__call__", keeping)
        with pytest.raises(Difference, match="memory"):
            check_memory(self.WIDE)

    def test_currents_that_were_overwritten(self, monkeypatch):
        """A rule keeps them for its gradient, though its type says that nobody does."""
        monkeypatch.setattr(Credited, "flush", flush_from_currents)
        monkeypatch.setattr(Credited, "__call__", keep_currents)
        one = Try(net="f4 f3", rule="sltt")
        with pytest.raises(Difference):
            check(one)
        monkeypatch.setattr(how, "why_not_spare", lambda site, setting: "kept")
        check(one)  # it is the overwriting, and nothing else, that was found


def keep_currents(self, visit, x):
    current = visit.synapse(x)
    self.__dict__.setdefault("currents", []).append((visit, current))
    return current


def flush_from_currents(self):
    for visit, current in self.__dict__.pop("currents", []):
        if visit.spec.weighted and visit.synapse.bias is not None:
            visit.synapse.bias.grad = visit.synapse.bias.grad + current.detach().sum()
