"""Every row of the page on other libraries: the right side, run, is the left side's equation.

Currents are random, or multiples of 1/4 with constants that make every sum exact, so that
potentials meet thresholds. No other library is imported; their equations stand in `peerloops`.
"""

import math
import re
from pathlib import Path
from types import SimpleNamespace

import peerloops as peers
import pytest
import torch

from spikeloom.base.errors import ConfigError
from spikeloom.neurons import integrate_fire, leaky, surrogate
from spikeloom.neurons.integrate_fire import SpikingState
from spikeloom.neurons.module import Neuron
from spikeloom.neurons.peers import UNIT_NAMES
from spikeloom.neurons.trains import run_train

PAGE = Path(__file__).parents[2] / "docs/howto/migrate.md"
HERE = {
    "IF": integrate_fire.IF,
    "LIF": leaky.LIF,
    "exp": math.exp,
    **{
        kind.__name__: kind for kind in map(surrogate.SURROGATES.find, surrogate.SURROGATES.names())
    },
}
T, B, N = 25, 4, 32


def rows(heading):
    """Return left cell -> expression on the right, of the tables under a heading."""
    text = PAGE.read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## )", text, re.M | re.S)
    cells = [line.split(" | ") for line in section.splitlines() if line.startswith("| ")]
    found = [(row[0].removeprefix("| "), row[1]) for row in cells if row[0] != "| theirs"]
    assert len(dict(found)) == len(found)
    return {left: right.strip("`") for left, right in found}


NEURONS, SLOPES = rows("Neurons"), rows("Surrogates")


def ours(expression, **numbers):
    return eval(expression, HERE, numbers)  # noqa: S307


SJ = {"v_reset": 0.0, "decay_input": True, "detach_reset": False, "tau": None}
SNN = {"reset": "subtract", "delay": True, "alpha": None}
NORSE = {"v_leak": 0.0, "v_reset": 0.0, "recurrent": None, "subtract": False}
SINABS = {"tau_syn": None, "most": None, "zero": False, "norm_input": True, "min_v_mem": None}

CASES = {
    "`LIFNode(tau)`": (SJ, {}),
    "`LIFNode(tau, v_reset=None)`": (SJ, {"v_reset": None}),
    "`LIFNode(tau, decay_input=False, v_reset=None)`": (
        SJ,
        {"v_reset": None, "decay_input": False},
    ),
    "`LIFNode(tau, v_reset=q)`": (SJ, {"v_reset": -0.25}),
    "`LIFNode(tau, detach_reset=True)`": (SJ, {"detach_reset": True}),
    "`IFNode()`": (SJ, {"leak": False}),
    "`IFNode(v_reset=None)`": (SJ, {"leak": False, "v_reset": None}),
    "`ParametricLIFNode(init_tau)`": (SJ, {}),
    "`Leaky(beta)`": (SNN, {}),
    '`Leaky(beta, reset_mechanism="zero")`': (SNN, {"reset": "zero"}),
    '`Leaky(beta, reset_mechanism="none")`': (SNN, {"reset": "none"}),
    '`Leaky(beta, reset_mechanism="zero", reset_delay=False)`': (
        SNN,
        {"reset": "zero", "delay": False},
    ),
    "`Leaky(beta, learn_beta=True, learn_threshold=True)`": (SNN, {}),
    "`Synaptic(alpha, beta)`": (SNN, {"synaptic": True}),
    '`Synaptic(alpha, beta, reset_mechanism="none")`': (SNN, {"synaptic": True, "reset": "none"}),
    "`LIFCell(p)`": (NORSE, {"v_reset": -0.125}),
    "`LIFCell(p)` with `v_leak`": (NORSE, {"v_leak": 0.25, "v_reset": -0.125}),
    "`LIFBoxCell(p)`": (NORSE, {"tau_syn_inv": None, "v_reset": -0.125}),
    "`LIFBoxCell(p)` with `reset_subtract`": (NORSE, {"tau_syn_inv": None, "subtract": True}),
    "`LIFRecurrentCell(p)`": (NORSE, {"recurrent": True}),
    "`LIF(tau_mem)`": (SINABS, {}),
    "`LIF(tau_mem, spike_fn=MaxSpike(n))`": (SINABS, {"most": 2}),
    "`LIF(tau_mem, spike_fn=SingleSpike)`": (SINABS, {"most": 1}),
    "`LIF(tau_mem, norm_input=False, spike_fn=SingleSpike)`": (
        SINABS,
        {"most": 1, "norm_input": False},
    ),
    "`LIF(tau_mem, min_v_mem=m)`": (SINABS, {"min_v_mem": -0.25}),
    "`LIF(tau_mem, reset_fn=MembraneReset(), spike_fn=SingleSpike)`": (
        SINABS,
        {"most": 1, "zero": True},
    ),
    "`LIF(tau_mem, tau_syn, spike_fn=SingleSpike)`": (SINABS, {"most": 1, "synaptic": True}),
    "`IAF()`": (SINABS, {"leak": False}),
    "`IAF(spike_fn=SingleSpike)`": (SINABS, {"leak": False, "most": 1}),
}


def test_every_row_has_its_loop():
    assert set(CASES) == set(NEURONS)
    assert set(SLOPE_CASES) == set(SLOPES)


def currents(exact):
    draw = torch.Generator().manual_seed(7)
    if exact:
        return torch.randint(-4, 9, (T, B, N), generator=draw).double() / 4
    return 0.35 + 0.9 * torch.randn((T, B, N), generator=draw, dtype=torch.float64)


def spikingjelly(case, exact):
    p = SimpleNamespace(**SJ | case)
    tau, p.v_threshold = (2.0, 0.5) if exact else (2.7, 0.6)
    p.inverse = None if case.get("leak") is False else 1 / tau
    p.slope = peers.logistic(4.0)
    q = p.v_reset or 0.0
    names = {"tau": tau, "init_tau": tau, "v_threshold": p.v_threshold, "q": q}
    return p, peers.spikingjelly, names | {"r": surrogate.Sigmoid(4.0)}, (1.0, q)


def snntorch(case, exact):
    p = SimpleNamespace(**SNN | case)
    p.beta, p.threshold = (0.5, 0.75) if exact else (0.83, 0.9)
    p.alpha = (0.5 if exact else 0.63) if case.get("synaptic") else None
    p.slope = peers.arctan(2.0)
    names = {"alpha": p.alpha, "beta": p.beta, "threshold": p.threshold}
    return p, peers.snntorch, names | {"r": surrogate.Arctan(2.0)}, (1.0, 0.0)


def norse(case, exact):
    p = SimpleNamespace(**{"tau_syn_inv": 256.0 if exact else 211.0, **NORSE, **case})
    p.tau_mem_inv, p.v_th = (512.0, 0.5) if exact else (137.0, 0.4)
    p.dt = 2.0**-10 if exact else 0.001
    if case.get("recurrent"):
        draw = torch.Generator().manual_seed(3)
        p.recurrent = torch.randint(-2, 3, (N, N), generator=draw).double() / 8
    p.slope = peers.superspike
    names = {name: getattr(p, name) for name in ("dt", "tau_mem_inv", "tau_syn_inv", "v_leak")}
    names |= {"v_reset": p.v_reset, "v_th": p.v_th, "r": surrogate.FastSigmoid(1.0)}
    return p, peers.norse, names, (1.0, p.v_leak)


def sinabs(case, exact):
    p = SimpleNamespace(**SINABS | case)
    tau_mem, tau_syn = (1 / math.log(2), 1 / math.log(2)) if exact else (3.1, 2.3)
    p.spike_threshold = 0.5 if exact else 0.4
    p.alpha_mem = None if case.get("leak") is False else math.exp(-1 / tau_mem)
    p.alpha_syn = math.exp(-1 / tau_syn) if case.get("synaptic") else None
    p.slope = peers.single_exponential(p.spike_threshold)
    beta = p.alpha_syn or 1.0
    v_th = p.spike_threshold / beta
    slope = ours(SLOPES[SINGLE], grad_width=0.5, grad_scale=1.0, v_th=v_th)
    names = {"tau_mem": tau_mem, "tau_syn": tau_syn, "spike_threshold": p.spike_threshold}
    names |= {"n": p.most, "m": p.min_v_mem, "r": slope}
    return p, peers.sinabs, names, (beta, 0.0)


SINGLE = "sinabs `SingleExponential(grad_width, grad_scale)`"
SIDES = {id(SJ): spikingjelly, id(SNN): snntorch, id(NORSE): norse, id(SINABS): sinabs}


def close(mine, theirs):
    torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("exact", [False, True], ids=["random", "at thresholds"])
@pytest.mark.parametrize("row", CASES)
def test_a_neuron_is_the_loop(row, exact):
    kind, case = CASES[row]
    p, loop, names, (factor, shift) = SIDES[id(kind)](case, exact)
    neuron = Neuron(ours(NEURONS[row], **names)).double()
    with torch.no_grad():
        for parameter in neuron.parameters():  # starts were rounded to float32
            name = "alpha" if parameter is getattr(neuron, "raw_alpha", None) else "v_th"
            start = getattr(neuron.unit, name)
            parameter.fill_(math.log(start / (1 - start)) if name == "alpha" else start)
    trained = {}
    if "Parametric" in row:  # w of 1 / tau = sigmoid(w)
        trained["raw_alpha"] = torch.tensor(
            -math.log(names["init_tau"] - 1), dtype=torch.float64, requires_grad=True
        )
        p.inverse = torch.sigmoid(trained["raw_alpha"])
    elif "learn" in row:
        trained["raw_alpha"] = p.beta = torch.tensor(
            p.beta, dtype=torch.float64, requires_grad=True
        )
        trained["raw_v_th"] = p.threshold = torch.tensor(
            p.threshold, dtype=torch.float64, requires_grad=True
        )
    xs = currents(exact)
    weights = [torch.randn(xs.shape, generator=torch.Generator().manual_seed(k)) for k in (1, 2)]
    leaf, other = xs.clone().requires_grad_(), xs.clone().requires_grad_()
    s, v = loop(leaf, p)
    state = start_of(neuron, p, xs)
    if p.__dict__.get("recurrent") is None:
        found = neuron.record(other, state)
        mine, potentials = found.out, factor * found.states.v + shift
        ties = int((found.u == neuron.unit.v_th).sum())
        assert not exact or ties >= 5
    else:
        mine, potentials = by_step(neuron, other, p.recurrent)
    assert torch.equal(mine, s), f"{int((mine != s).sum())} spikes differ"
    assert 0.03 < s.mean() < 1.5 and (s.max() > 1) == (p.__dict__.get("most", 1) != 1)
    close(potentials, v)

    def loss(s, v):
        return (s * weights[0]).sum() + (v * weights[1]).sum()

    theirs = torch.autograd.grad(loss(s, v), [leaf, *trained.values()])
    parts = [getattr(neuron, name) for name in trained]
    grads = torch.autograd.grad(loss(mine, potentials), [other, *parts])
    close(grads[0], theirs[0])
    for name, my_grad, their_grad in zip(trained, grads[1:], theirs[1:], strict=True):
        to_ours = 1.0
        if name == "raw_alpha":
            alpha = neuron.unit.alpha
            to_ours = -1.0 if "Parametric" in row else alpha * (1 - alpha)
        close(my_grad, to_ours * their_grad)
    if state is None and p.__dict__.get("recurrent") is None:
        kernel_agrees(neuron, xs, s.detach())


def start_of(neuron, p, xs):
    """Return the state to start from, where theirs is not at rest."""
    rest = p.__dict__.get("v_leak")
    if not rest:
        return None
    state = neuron.unit.init(xs[0])
    return SpikingState(state.v - rest, state.s, state.i, state.wait)


def by_step(neuron, xs, recurrent):
    spikes, potentials, s, state = [], [], torch.zeros_like(xs[0]), None
    for x in xs:
        s, state = neuron.step(x + s @ recurrent.T, state)
        spikes.append(s)
        potentials.append(state.v)
    return torch.stack(spikes), torch.stack(potentials)


def kernel_agrees(neuron, xs, spikes):
    theta = {name: value.detach() for name, value in neuron.theta().items()}
    grads = []
    for kernels in ("reference", "compiled"):
        leaf = xs.clone().requires_grad_()
        out, _ = run_train(neuron.unit, leaf, theta, kernels=kernels)
        assert torch.equal(out, spikes)
        grads += torch.autograd.grad((out * xs).sum(), leaf)
    close(grads[1], grads[0])


SLOPE_CASES = {
    "SpikingJelly `ATan(alpha)`": lambda a: peers.arctan(a),
    "SpikingJelly `Sigmoid(alpha)`": lambda a: peers.logistic(a),
    "SpikingJelly `PiecewiseQuadratic(alpha)`": lambda a: (
        lambda x: torch.where(x.abs() > 1 / a, 0.0, a - a**2 * x.abs())
    ),
    "SpikingJelly `PiecewiseExp(alpha)`": lambda a: lambda x: a / 2 * (-a * x.abs()).exp(),
    "SpikingJelly `Rect(alpha)`": lambda a: lambda x: a * (x.abs() < 0.5 / a).double(),
    "SpikingJelly `SoftSign(alpha)`": lambda a: lambda x: 1 / (2 * a * (1 / a + x.abs()) ** 2),
    "SpikingJelly `SuperSpike(alpha)`": lambda a: lambda x: a / (1 + x.abs()) ** 2,
    "snnTorch `atan(alpha)`": lambda a: peers.arctan(a),
    "snnTorch `sigmoid(slope)`": lambda a: lambda x: a * (-a * x).exp() / ((-a * x).exp() + 1) ** 2,
    "snnTorch `fast_sigmoid(slope)`": lambda a: lambda x: 1 / (a * x.abs() + 1) ** 2,
    'Norse `"super"`': lambda a: peers.superspike,
    SINGLE: lambda a: peers.single_exponential(0.75, a, 1.25),
    "sinabs `PeriodicExponential(grad_width, grad_scale)`": lambda a: peers.periodic_exponential(
        a, 1.25
    ),
}


@pytest.mark.parametrize("a", [0.5, 1.5, 3.0])
@pytest.mark.parametrize("row", SLOPE_CASES)
def test_a_slope_is_the_formula(row, a):
    names = {"alpha": a, "slope": a, "grad_width": a, "grad_scale": 1.25, "v_th": 0.75}
    mine = ours(SLOPES[row], **names)
    u = torch.linspace(-2.2, 3.1, 4001, dtype=torch.float64)
    v_th = 1.0 if "Periodic" in row else 0.75
    torch.testing.assert_close(mine.slope(u, v_th), SLOPE_CASES[row](a)(u), rtol=1e-12, atol=1e-15)


def test_names_that_swap_or_differ_are_refused_with_ours():
    page = PAGE.read_text(encoding="utf-8")
    for name in ("v_threshold", "spike_threshold", "decay_input", "norm_input", "min_v_mem"):
        assert f"`{name}`" in page and name in UNIT_NAMES
        with pytest.raises(ConfigError, match=f"unknown field '{name}'; .* here"):
            leaky.LIF(**{name: 1.0})
