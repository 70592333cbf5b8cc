"""Layer order over feedback loops: the numbers of time order, with products over whole trains."""

import random

import netkit as kit
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikeloom.base.errors import UnsupportedNet
from spikeloom.meters.base import watch
from spikeloom.meters.operations import OperationMeter
from spikeloom.meters.spikes import SpikeMeter
from spikeloom.nets.execution import Execution
from spikeloom.nets.module.graph import components
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.ops import Ops
from spikeloom.report.planned import plan_reasons, plan_rows

T, B = 6, 3
REFERENCE = Execution(kernels="reference", layout="rows")
COMPILED = Execution(kernels="compiled", worth=0)
SAVING = Execution(kernels="compiled", worth=0, memory="saving")


def edges(*ends: tuple) -> str:
    """Feedback edges as text: (source, target, layers, further fields)."""
    parts = [f"{{source = {s}, target = {t}, layers = '{way}'{more}}}" for s, t, way, more in ends]
    return f"{{feedback = [{', '.join(parts)}]}} "


def strongly_connected(blocks, ends):
    """The definition: two blocks that reach each other, by every path."""
    reach = [[i == j for j in range(blocks)] for i in range(blocks)]
    for source, target in [*ends, *((i, i + 1) for i in range(blocks - 1))]:
        reach[source][target] = True
    for k in range(blocks):
        for i in range(blocks):
            for j in range(blocks):
                reach[i][j] |= reach[i][k] and reach[k][j]
    groups = {tuple(j for j in range(blocks) if reach[i][j] and reach[j][i]) for i in range(blocks)}
    return sorted(groups)


def test_components_are_those_of_the_definition():
    draw = random.Random(0)
    for _ in range(300):
        blocks = draw.randint(1, 7)
        ends = [(draw.randrange(blocks), draw.randrange(blocks)) for _ in range(draw.randint(0, 4))]
        found = [tuple(run) for run in components(blocks, ends)]
        assert found == strongly_connected(blocks, ends), (blocks, ends)


def test_sites_of_a_loop_and_what_follows_it():
    text = edges((2, 1, "f4", ""), (0, 3, "f5", ""))
    plan = SpikingNet(f"{text} f3 f4 f6 f5 f2", (4,)).plan
    assert [[b.number for b in one.blocks] for one in plan.components] == [[0], [1, 2], [3]]
    assert [site.name for site in plan.sites if site.looped] == ["1.0.0", "2.0.0", "feedback0.0.0"]
    loop = plan.components[1]
    assert loop.entrance.name == "1.0.0" and [edge.number for edge in loop.edges] == [0]


# ------------------------------------------------------------------------------ equal to time order


class Watch:
    """An observer and a `carry`: spikes and states of every site at every step."""

    def __init__(self):
        self.seen = kit.Recorder()
        self.states = {}

    def carry(self, visit, state):
        # an edge's value, its unit's state and its low-pass come under one name
        self.states.setdefault((visit.name, visit.step), []).append(leaves(state))
        return state


def leaves(state):
    if isinstance(state, Tensor):
        return [state]
    return [leaf for part in state if part is not None for leaf in leaves(part)]


def alike(one, other):
    return len(one) == len(other) and all(map(torch.equal, one, other))


def run(net, order, xs, *, watched):
    """Outputs, gradients and buffers of one order; the net is left as it was."""
    kept = {name: value.clone() for name, value in net.state_dict().items()}
    watch = Watch()
    ops = Ops(carry=watch.carry) if watched else Ops()
    net.zero_grad()
    with net.observe(*([watch.seen] if watched else [])):
        out = getattr(net, f"run_by_{order}")(xs, ops, rng=kit.rng_for(B))
    (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
    grads = {name: p.grad for name, p in net.named_parameters()}
    buffers = {name: value.clone() for name, value in net.named_buffers()}
    net.load_state_dict(kept)
    return out.detach(), watch, grads, buffers


def same_values(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name] is None) == (value is None), name
        if value is not None:
            torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-12, msg=name)


def same_in_both_orders(net, xs):
    """Outputs, spikes and last states to the bit; gradients and running statistics to rounding."""
    for watched in (False, True):
        by_time = run(net, "time", xs, watched=watched)
        by_layer = run(net, "layer", xs, watched=watched)
        assert torch.equal(by_layer[0], by_time[0])
        same_values(by_layer[2], by_time[2])
        same_values(by_layer[3], by_time[3])
    ours, theirs = by_layer[1], by_time[1]
    tail = len(net.spec.blocks) if net.spec.tail is None else net.spec.tail
    for name in {name for name, *_ in theirs.seen.seen}:
        assert torch.equal(ours.seen.spikes(name), theirs.seen.spikes(name)), name
        if not name[0].isdigit() or int(name.split(".")[0]) < tail:
            assert ours.seen.runs(name) == theirs.seen.runs(name), name
    assert ours.states.keys() == theirs.states.keys()
    for key, states in theirs.states.items():
        found = ours.states[key]
        assert len(found) == len(states) and all(
            any(alike(one, other) for other in found) for one in states
        ), key


def train_of(shape, *, constant):
    xs = 2 * kit.dyadic((T, B, *shape), seed=5)
    return xs[:1].expand(xs.shape) if constant else xs


NETS = {
    "lateral": (edges((0, 0, "f5", "")) + "f5 f3", (4,)),
    "two loops": (edges((1, 0, "f5", ", delay = 2"), (3, 3, "f6", "")) + "f5 f4 f7 f6 f3", (4,)),
    "forward into a loop": (
        edges((0, 2, "f6", ", delay = 2"), (2, 2, "f6", "")) + "f5 f4 f6 f3",
        (4,),
    ),
    "forward into the middle of a loop": (
        edges((0, 2, 'f6{unit = "lif"}', ", delay = 3"), (2, 1, "f4", ", detach = true"))
        + "f5 f4 f6 f3",
        (4,),
    ),
    "out of a loop, later than T": (
        edges((1, 0, "f5", ""), (0, 2, "f6", ", delay = 2"), (0, 2, "f6", ", delay = 9"))
        + "f5 f4 f6 f3",
        (4,),
    ),
    "pools": (edges((2, 0, "U2 c4", "")) + "c4 P c6 P c4 f3", (2, 8, 8)),
    "into a pool": (edges((2, 1, "c4", "")) + "c4 P c4 P f3", (2, 8, 8)),
    "passes and a join": (
        edges((0, 0, "c4", "")) + '[c4 c4]x2{join = "add"} P f6 f3',
        (4, 4, 4),
    ),
    "before the unit": (
        edges((1, 1, "c4", "")) + 'c4 [c4 c4]{join = "before_unit", shortcut = "c4k1"} f3',
        (2, 4, 4),
    ),
    "hybrid": (edges((1, 1, "c4", "")) + 'c4{unit = "relu"} [c4]x2 P f6 f3', (4, 4, 4)),
    "top k": (edges((0, 0, "c6", "")) + '[c6]x2{fit = "topk"} f3', (4, 4, 4)),
    "low-pass": (
        edges((0, 0, "f5{psp = {decay = 0.25}}", ""), (0, 1, "f4{psp = {decay = 0.5}}", ""))
        + "f5{psp = {decay = 0.5, scale = 0.5}} f4 f3",
        (4,),
    ),
    "time mean": (edges((0, 0, "c4", "")) + 'c4 c4{unit = "relu"} G f3', (2, 4, 4)),
    "units": (
        "{default = {unit = {name = 'lif', alpha = 0.5, beta = 0.25, refractory = 1, reset = "
        "'hard'}}, " + edges((1, 0, "f5", ""))[1:] + "f5 f4 f3",
        (4,),
    ),
}

every_net = pytest.mark.parametrize("name", NETS)
both_inputs = pytest.mark.parametrize("constant", [False, True], ids=["train", "constant"])


@both_inputs
@every_net
def test_orders_agree(name, constant):
    text, shape = NETS[name]
    net = kit.exact_net(text, shape)
    for execution in (REFERENCE, COMPILED, SAVING):
        net.execution = execution
        same_in_both_orders(net, train_of(shape, constant=constant))


FRESH = "dropout = 0.5, dropout_held = false"  # the rest doubles: still dyadic
TRAINED = {
    "dropout": edges((0, 1, f"f6{{{FRESH}}}", ", delay = 2"), (1, 1, "f6", ""))
    + f"f5{{{FRESH}}} f6{{{FRESH}}} f4{{dropout = 0.5}} f3",
    "norms": edges((1, 1, 'f6{norm = "batch_step"}', ""))
    + 'f5{norm = "batch_step"} f6{norm = "batch_step"} f4{norm = "weight"} f3',
    "bounded": edges((0, 0, "f5", ", restrict = 0.5, restrict_norm = 'frobenius'")) + "f5 f4 f3",
}


@both_inputs
@pytest.mark.parametrize("name", TRAINED)
def test_orders_agree_in_training(name, constant):
    net = kit.quantised(SpikingNet(TRAINED[name], (4,))).train()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.eps = 1e-5  # torch wants one in training
    for execution in (REFERENCE, SAVING):
        net.execution = execution
        same_in_both_orders(net, train_of((4,), constant=constant))


@st.composite
def looped(draw):
    """A dense net with one to three edges between any of its blocks."""
    widths = draw(st.lists(st.integers(2, 5), min_size=2, max_size=4))
    blocks = [f"f{width}" for width in widths]
    for row in range(1, len(blocks)):
        kind = draw(st.sampled_from(["layer", "layer", "pass", "join"]))
        if kind == "pass":
            blocks[row] = f"[f{widths[row]}]x2"
            widths[row] = widths[row - 1]
            blocks[row] = f"[f{widths[row]}]x2"
        elif kind == "join":
            blocks[row] = f"[f{widths[row]} f{widths[row - 1]}]{{join = 'add'}}"
    place = st.integers(0, len(blocks) - 1)
    found = []
    for _ in range(draw(st.integers(1, 3))):
        source, target = draw(place), draw(place)
        unit = draw(st.sampled_from(["", '{unit = "lif"}', "{psp = {decay = 0.5}}"]))
        first = blocks[target].strip("[").split()[0].split("]")[0]
        more = f", delay = {draw(st.integers(1, 3))}"
        found.append((source, target, first + unit, more))
    return edges(*found) + " ".join([*blocks, "f3"])


@settings(max_examples=30, deadline=None)
@given(looped(), st.booleans(), st.sampled_from([REFERENCE, COMPILED]))
def test_orders_agree_on_random_loops(text, constant, execution):
    net = kit.exact_net(text, (4,))
    net.execution = execution
    same_in_both_orders(net, train_of((4,), constant=constant))


@pytest.mark.parametrize("seed", range(6))
def test_elsewhere_within_rounding(seed):
    r"""Decimal weights put potentials onto thresholds: who fires there is a matter of rounding.

    Products of 3 rows and of 24 are summed in other orders. A current of n terms is off by
    n u sum |w x| at most in each, a potential by the sum of these, decayed.
    """
    steps, batch = 8, 3
    net = SpikingNet(edges((1, 1, "f24", "")) + "f32 f24 f3", (16,), seed=seed)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_((p * 20).round() / 10)
    xs = torch.randint(0, 8, (steps, batch, 16), generator=kit.generator(seed)) / 10
    seen = {}
    for order in ("time", "layer"):
        seen[order] = kit.Recorder()
        with net.observe(seen[order]), torch.no_grad():
            getattr(net, f"run_by_{order}")(xs)
    first, second, edge = net.sites
    live = torch.ones(steps, batch, dtype=torch.bool)  # no excused spike before
    for site, maps in ((first, [first]), (second, [second, edge])):
        mine, theirs = (seen[order].spikes(site.name) for order in ("layer", "time"))
        currents = torch.cat([c for name, _, c, _ in seen["time"].seen if name == site.name])
        terms = sum(one.synapse.weight.shape[1] + 1 for one in maps)
        size = sum(one.synapse.weight.abs().sum(1) + one.synapse.bias.abs() for one in maps)
        differs, v, slack = mine != theirs, torch.zeros(batch, 1), 0.0
        for t, current in enumerate(currents):
            v = 0.5 * v + current
            slack = 0.5 * slack + 2**-24 * (2 * terms * size + 2 * v.abs())
            assert not (differs[t] & ((v - 1).abs() > slack))[live[t]].any()
            live[t + 1 :] &= ~differs[t].any(1)
            v = v - theirs[t]
        assert currents.abs().max() < 2 * size.max() and theirs.any()
        live &= ~differs.any(2).cumsum(0).bool()
    assert live[:2].any()


@both_inputs
@every_net
def test_meters_count_the_same(name, constant):
    text, shape = NETS[name]
    net, xs, found = kit.exact_net(text, shape), train_of(shape, constant=constant), []
    for order in ("time", "layer"):
        meters = OperationMeter(), SpikeMeter()
        with watch(net, xs, *meters), torch.no_grad():
            getattr(net, f"run_by_{order}")(xs)
        found.append([meter.read() for meter in meters])
    assert found[0] == found[1]


# ------------------------------------------------------------------------------------- what is won


def test_the_first_synapse_of_a_loop_takes_the_whole_train():
    text = edges((1, 1, "f6", ""), (0, 3, "f3", ""))
    net, calls = kit.exact_net(text + "f5 f6 f4 f3 f3", (4,)), {}

    def synapse(visit, x):
        calls.setdefault(visit.name, []).append((len(x), visit.step))
        return visit.synapse(x)

    net.run_by_layer(train_of((4,), constant=False), Ops(synapse=synapse))
    whole = [(T * B, None)]
    assert calls == {
        **dict.fromkeys(("0.0.0", "1.0.0", "2.0.0", "3.0.0"), whole),
        "feedback0.0.0": [(B, t) for t in range(1, T)],
        "feedback1.0.0": [((T - 1) * B, None)],
    }


def test_a_call_takes_the_order_of_its_execution():
    net = kit.exact_net(edges((0, 0, "f5", "")) + "f5 f3", (4,))
    found = []
    for execution in (REFERENCE, Execution(order="layer")):
        net.execution = execution
        with net.settings() as taken:
            net(train_of((4,), constant=False))
        found += [setting.order for setting in taken]
    assert found == ["time", "layer"]


def test_the_plan_says_what_goes_step_by_step():
    net = SpikingNet(edges((1, 1, "f512", "")) + "f512 f512 f3", (4,))
    with net.settings() as taken:
        net.run_by_layer(torch.rand(8, 8, 4))
    (setting,) = taken
    rows = {name: loop for name, loop, *_ in plan_rows(net.plan, setting)}
    # 8 steps of 8 x 512 are worth a kernel; 8 x 512 alone are not
    assert (rows["0.0.0"], rows["1.0.0"]) == ("compiled", "reference")
    reasons = plan_reasons(net.plan, setting)
    assert "step by step: inside a feedback loop (1.0.0, feedback0.0.0)" in reasons


def test_a_norm_over_all_steps_stands_before_a_loop_or_at_its_entrance():
    text = edges((1, 1, "f6", "")) + 'f5{norm = "batch_all"} f6{norm = "batch_all"} f4 f3'
    net = SpikingNet(text, (4,)).double()
    xs = train_of((4,), constant=False)
    seen = kit.Recorder()
    with net.observe(seen):
        net.run_by_layer(xs)
    current = torch.cat([c for name, _, c, _ in seen.seen if name == "1.0.0"])
    edge = torch.cat([c for name, _, c, _ in seen.seen if name == "feedback0.0.0"])
    current[1:] -= edge
    torch.testing.assert_close(current.mean((0, 1)), torch.zeros(6).double(), atol=1e-6, rtol=0)
    inside = edges((1, 0, "f5", "")) + 'f5 f6{norm = "batch_all"} f3'
    with pytest.raises(UnsupportedNet, match=r"layer 1\.0\.0: .* in a feedback loop, got 'batch_a"):
        SpikingNet(inside, (4,)).double().run_by_layer(xs)
