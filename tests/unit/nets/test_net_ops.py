"""Seams: what their types allow the engine, and that no rule can be given a wrong answer by it."""

import netkit as kit
import pytest
import torch

from spikeloom.base.errors import UnsupportedNet
from spikeloom.base.torch_private import hooks_made
from spikeloom.kernels.runs import Run
from spikeloom.nets.execution import Execution
from spikeloom.nets.how import Setting, decide, why_not_short, why_not_spare
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.ops import PLAIN, Carry, Credited, OnWeights, Ops, Visit, cut, keep
from spikeloom.nets.spec.grammar import parse
from spikeloom.neurons.base import detach_state
from spikeloom.neurons.leaky import LIF

IMAGE = (2, 8, 8)
NET = "c4 P c4 f8 f3"
KERNELS = ["reference", "compiled"]


def net_of(kernels, text=NET):
    return SpikingNet(text, IMAGE, execution=Execution(kernels=kernels)).double()


def frames(steps=4):
    return torch.rand(steps, 3, *IMAGE, generator=kit.generator(), dtype=torch.double)


def by_step(net, ops, xs):
    """Gradients of a loss at every step, with the state in our hands."""
    state, total = None, 0.0
    for x in xs:
        h, state = net.step(x, state, ops)
        total = total + h.square().sum()
    total.backward()
    found = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    return found


def by_stepper(net, ops, xs):
    """The same, step by step, with the state in the engine's."""
    run = net.stepper(ops)
    for x in xs:
        run(x).square().sum().backward()
    if isinstance(ops.synapse, Credited):
        ops.synapse.flush()
    found = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    return found


def close(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


class TestCarry:
    def test_composition_is_what_comes_one_after_the_other(self):
        double, add = (lambda visit, v: 2 * v), (lambda visit, v: v + 1)
        visit, v = Visit(net_of("reference").sites[0]), torch.ones(2, requires_grad=True)
        assert keep.then(double).then(add)(visit, v).tolist() == [3, 3]
        assert Carry((add,)).then(Carry((double,)))(visit, v).tolist() == [4, 4]
        assert not cut.then(double)(visit, v).requires_grad

    def test_only_what_is_our_cut_alone_equals_it(self):
        assert keep.then(cut) == cut == cut.then(keep)
        assert cut.then(lambda visit, v: v) != cut != keep
        assert Carry((lambda visit, state: detach_state(state),)) != cut


class TestStates:
    """A rule that reads states gets whole ones, however they are computed."""

    @pytest.mark.parametrize("kernels", KERNELS)
    @pytest.mark.parametrize("order", ["then", "before"])
    def test_a_function_beside_cut_reads_the_potential(self, kernels, order):
        net, seen = net_of(kernels), []

        def read(visit, state):
            if visit.unit is not None and visit.unit.stateful:
                seen.append((visit.name, visit.step, state.v.shape))
            return state

        carry = cut.then(read) if order == "then" else Carry((read,)).then(cut)
        run = net.stepper(Ops(carry=carry))
        for x in frames(2):
            run(x)
        shapes = {"0.0.0": (3, 4, 8, 8), "2.0.0": (3, 4, 4, 4), "3.0.0": (3, 8)}
        assert seen == [(name, t, shapes[name]) for t in range(2) for name in shapes]

    @pytest.mark.parametrize("kernels", KERNELS)
    def test_a_step_hands_out_whole_states_that_stay(self, kernels):
        """Twice from one state: the first call leaves the second's start alone."""
        net, xs = net_of(kernels), frames(3)
        ops = Ops(carry=cut)
        _, state = net.step(xs[0], None, ops)
        before = state.units["0.0.0"].v.clone()
        first, _ = net.step(xs[1], state, ops)
        net.step(xs[2], state, ops)
        again, _ = net.step(xs[1], state, ops)
        assert torch.equal(state.units["0.0.0"].v, before)
        assert torch.equal(first, again)

    @pytest.mark.parametrize("kernels", KERNELS)
    def test_the_engines_own_states_give_the_same_gradients(self, kernels):
        plain = Ops(carry=lambda visit, state: detach_state(state))
        expected = by_step(net_of("reference"), plain, frames())
        close(by_stepper(net_of(kernels), Ops(carry=cut), frames()), expected)
        close(by_stepper(net_of(kernels), Ops(synapse=Credited(), carry=cut), frames()), expected)

    @pytest.mark.parametrize("kernels", KERNELS)
    @pytest.mark.parametrize("run", ["time", "stepper"])
    def test_a_backward_pass_after_all_steps_finds_what_it_needs(self, kernels, run):
        plain = Ops(carry=lambda visit, state: detach_state(state))
        expected = by_step(net_of("reference"), plain, frames())
        net, ops = net_of(kernels), Ops(carry=cut)
        if run == "time":
            hs = net.run_by_time(frames(), ops)
        else:
            stepper = net.stepper(ops)
            hs = torch.stack([stepper(x) for x in frames()])
        hs.square().sum().backward()
        close([p.grad for p in net.parameters()], expected)

    @pytest.mark.parametrize("kept", [True, False])
    def test_a_graph_that_is_kept_can_be_gone_through_again(self, kept):
        net, xs = net_of("compiled"), frames()
        stepper = net.stepper(Ops(carry=cut))
        losses = []
        for x in xs:
            losses.append(stepper(x).square().sum())
            losses[-1].backward(retain_graph=kept)
        once = [p.grad.clone() for p in net.parameters()]
        if kept:
            torch.stack(losses).sum().backward()
            close([p.grad for p in net.parameters()], [2 * grad for grad in once])

    @pytest.mark.parametrize(("late", "buffers"), [(False, 1), (True, 4)])
    def test_steps_share_one_buffer_where_each_backward_pass_is_over(
        self, monkeypatch, late, buffers
    ):
        """A copy at every step was right too, and took a tenth of an online update."""
        plain, places = Run.step, []

        def step(self, *given):
            out, value = plain(self, *given)
            places.append(value)  # kept: else memory may come back at the same address
            return out, value

        monkeypatch.setattr(Run, "step", step)
        stepper, losses = net_of("compiled", "f8 f3").stepper(Ops(carry=cut)), []
        for x in frames(4):
            losses.append(stepper(x).square().sum())
            if not late:
                losses[-1].backward()
        assert len(places) == 4 and len({one.data_ptr() for one in places}) == buffers


class TestCurrents:
    """A rule that keeps a current finds it as it was."""

    @pytest.mark.parametrize("kernels", KERNELS)
    @pytest.mark.parametrize("kind", ["bare", "on weights"])
    @pytest.mark.parametrize("run", ["time", "layer", "stepper"])
    def test_what_a_synapse_returned_is_never_overwritten(self, kernels, kind, run):
        net, kept = net_of(kernels), []

        def synapse(visit, x):
            current = visit.synapse(x)
            kept.append((current, current.detach().clone()))
            return current

        ops = Ops(synapse=synapse if kind == "bare" else OnWeights(synapse), carry=cut)
        if run == "layer":
            ops = Ops(synapse=ops.synapse)
        if run == "stepper":
            by_stepper(net, ops, frames())
        else:
            getattr(net, f"run_by_{run}")(frames(), ops).square().sum().backward()
        assert kept and all(torch.equal(now, before) for now, before in kept)

    def test_only_our_own_are_spare(self):
        site = net_of("compiled").sites[0]
        for synapse, spare in ((PLAIN.synapse, True), (Credited(), True)):
            assert (why_not_spare(site, setting(Ops(synapse=synapse))) == "") is spare
        for synapse in (OnWeights(lambda visit, x: x), lambda visit, x: x):
            assert "may have kept" in why_not_spare(site, setting(Ops(synapse=synapse)))
        assert "observer" in why_not_spare(site, setting(PLAIN, watched=True))


def setting(ops=PLAIN, **changes):
    given = {"order": "time", "training": True, "watched": False, "rows": 1 << 20}
    return Setting(ops=ops, execution=Execution(), **given | changes)


class TestHow:
    def test_states_are_short_where_nobody_else_sees_them_and_they_are_cut(self):
        site, alone = SpikingNet("f4 f2", (3,)).sites[0], setting(Ops(carry=cut), private=True)
        assert why_not_short(site, alone) == ""
        assert "caller" in why_not_short(site, setting(Ops(carry=cut)))
        assert "gradient" in why_not_short(site, setting(PLAIN, private=True))
        whole = setting(Ops(carry=cut), order="layer", private=True)
        assert "trains" in why_not_short(site, whole)

    def test_states_are_whole_where_a_threshold_may_move_between_steps(self):
        spec = parse("f4 f2", unit=LIF(alpha=0.5, learn=("v_th",)))
        alone = setting(Ops(carry=cut), private=True)
        assert "may move" in why_not_short(SpikingNet(spec, (3,)).sites[0], alone)

    @pytest.mark.parametrize(
        ("ops", "joined"),
        [
            (PLAIN, True),
            (Ops(synapse=Credited(), carry=cut), True),
            (Ops(synapse=OnWeights(lambda visit, x: visit.synapse(x))), True),
            (Ops(synapse=lambda visit, x: visit.synapse(x)), False),
            (Ops(emit=lambda visit, s: s), False),
        ],
    )
    def test_a_pool_joins_its_unit_where_no_rule_looks_between(self, ops, joined):
        unit, pool, *_ = net_of("compiled").sites
        assert decide(unit, setting(ops)).pool == (2 if joined else 1)
        assert decide(pool, setting(ops)).joined is joined

    def test_small_trains_take_the_reference(self):
        site = net_of("compiled").sites[0]  # 256 neurons
        assert decide(site, setting(rows=63)).loop == "reference"
        assert decide(site, setting(rows=64)).loop == "compiled"


class TestSequence:
    @pytest.mark.parametrize("kernels", KERNELS)
    def test_pools_and_norms_are_the_engines(self, kernels):
        """A rule that takes whole trains cannot forget what stands behind the unit."""
        net = net_of(kernels, 'c4{norm = "batch_all"} P c4 M f3')

        def sequence(visit, currents):
            return torch.stack(visit.site.neuron.run(currents)[0].unbind(0))

        expected = net.run_by_layer(frames())
        assert torch.equal(net.run_by_layer(frames(), Ops(sequence=sequence)), expected)

    @pytest.mark.parametrize("order", ["time", "step", "rates", "feedback"])
    def test_orders_without_trains_refuse_it(self, order):
        ops, xs = Ops(sequence=lambda visit, currents: currents), frames()
        edge = '{feedback = [{source = 0, target = 0, layers = "c4"}]} '
        net = net_of("reference", edge + NET if order == "feedback" else NET)
        calls = {
            "time": lambda: net.run_by_time(xs, ops),
            "step": lambda: net.step(xs[0], None, ops),
            "rates": lambda: net.run_rates(xs[0], ops),
            "feedback": lambda: net(xs, ops=ops),
        }
        with pytest.raises(UnsupportedNet, match="^net: expected a rule that leaves trains alone"):
            calls[order]()


class TestConstantInput:
    """It is computed once; the visit says for how many steps it stands."""

    @pytest.mark.parametrize("order", ["time", "layer"])
    def test_rows_and_copies(self, order):
        net, seen = net_of("reference"), []

        def synapse(visit, x):
            seen.append((visit.name, len(x), visit.copies, visit.step))
            return visit.synapse(x)

        xs = frames(1)[0].expand(5, 3, *IMAGE)
        getattr(net, f"run_by_{order}")(xs, Ops(synapse=synapse))
        first, *later = seen
        assert first == ("0.0.0", 3, 5, 0 if order == "time" else None)
        assert all(copies == 1 for _, _, copies, _ in later)
        rows = {size for name, size, _, _ in later if name != "0.0.0"}
        assert rows == ({3} if order == "time" else {15})

    @pytest.mark.parametrize("order", ["time", "layer"])
    def test_a_gradient_taken_by_hand_counts_the_copies(self, order):
        """delta arrives summed over the steps, so delta^T x is the whole gradient."""
        net, xs = net_of("reference", "f8 f3"), frames(1)[0].expand(5, 3, *IMAGE)
        run = getattr(net, f"run_by_{order}")
        run(xs.clone()).square().sum().backward()
        expected = net.sites[0].synapse.weight.grad.clone()
        net.zero_grad()
        seen = []

        def synapse(visit, x):
            current = visit.synapse(x.detach())
            current.retain_grad()
            seen.append((x, current))
            return current

        run(xs, Ops(synapse=synapse)).square().sum().backward()
        (x, current), *rest = seen
        assert not rest
        torch.testing.assert_close(current.grad.t() @ x.flatten(1), expected)


def test_what_was_decided_serves_until_a_hook_comes():
    """Setting by setting: a hook that is registered between two steps is seen by the next one."""
    before = hooks_made()
    assert hooks_made() == before
    net, xs = net_of("compiled"), frames(3)
    run = net.stepper(Ops(carry=cut))
    with net.settings() as settings:
        run(xs[0])
        run(xs[1])
        assert len(settings) == 1
        handle = net.sites[0].synapse.register_forward_hook(lambda *_: None)
        run(xs[2])
    handle.remove()
    assert hooks_made() != before and len(settings) == 2
