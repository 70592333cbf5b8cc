"""IDE and SPIDE: rates at an equilibrium, and the one linear system both solve."""

import sys
from dataclasses import replace

import pytest
import torch
from rate_nets import Along, Problem, cosine

from spikeloom.base.errors import ConfigError
from spikeloom.meters.peak import peak_allocated
from spikeloom.neurons.integrate_fire import IF
from spikeloom.neurons.leaky import LIF
from spikeloom.rules.by_rate import OnceWeights, settle
from spikeloom.rules.dsr import Dsr
from spikeloom.rules.ide import Ide
from spikeloom.rules.linear_solve import Solver
from spikeloom.rules.spide import Spide

F64 = torch.float64
LATERAL = '{feedback = [{source = 0, target = 0, layers = "f12{bias = false}"}]} f12 f4'
AROUND = '{feedback = [{source = 2, target = 0, layers = "f12{bias = false}"}]} f12 f10 f8 f4'
MAPS = '{feedback = [{source = 1, target = 0, layers = "t4s2{output_padding = 1}"}]} c4 c6s2 f4'
NETS = {"lateral": (LATERAL, (6,)), "around": (AROUND, (6,)), "maps": (MAPS, (2, 6, 6))}
UNIT = IF(v_th=2.0)

every_net = pytest.mark.parametrize("name", NETS)


def problem(name, unit=UNIT, **options):
    text, shape = NETS[name]
    return Problem(text, unit, shape=shape, **options)


def dense(one):
    """Return the gradients with (I - J^T) v = J^T g solved as a matrix."""
    weights = OnceWeights()
    found = settle(one.net, one.batch, weights)
    objective = one.head.bind(one.batch.target, one.batch.rng)
    train = found.features.requires_grad_()
    (g,) = torch.autograd.grad(objective.over(train).value, train)
    (start,) = found.sources.values()
    start = start.detach().requires_grad_()
    features, ends = one.net.rate_map(found.x, {0: start}, weights.ops)
    (end,) = ends.values()
    size = start.numel()
    rows = [
        torch.autograd.grad(end, start, row.view(end.shape), retain_graph=True)[0].flatten()
        for row in torch.eye(size, dtype=F64)
    ]
    jacobian = torch.stack(rows)
    (first,) = torch.autograd.grad(features, start, g.sum(0), retain_graph=True)
    v = torch.linalg.solve(torch.eye(size, dtype=F64) - jacobian.t(), first.flatten())
    one.clear()
    torch.autograd.backward([features, end], [g.sum(0), v.view(end.shape)])
    return one.grads()


@every_net
@pytest.mark.parametrize("solver", ["broyden", "anderson", "gmres", "fixed_point"])
def test_every_solver_gives_the_dense_gradient(name, solver):
    one = problem(name)
    found = one.learn(Ide(solver=solver, limit=200))
    expected = dense(one)
    for key, grad in found.items():
        assert torch.allclose(grad, expected[key], rtol=1e-8, atol=1e-11), key
    assert any(bool(grad.any()) for key, grad in found.items() if "feedback" in key)


@pytest.mark.parametrize("unit", [UNIT, LIF(alpha=0.9, v_th=2.0)], ids=["if", "lif"])
def test_rates_are_exact_but_for_what_is_left(unit):
    """v_th a_T = (K_{T-1} / K_T) W a_{T-1} + F(x) - v_T / K_T; v_T before the leak."""
    one, steps = problem("lateral", unit, steps=9), 9
    site, edge = one.net.sites
    with one.net.observe(one):
        settle(one.net, one.batch, OnceWeights())
    s, c = torch.cat(one.seen["0.0.0"][1]), torch.cat(one.seen["0.0.0"][0])
    _, state = run(unit, c)
    weights = unit.alpha ** torch.arange(steps - 1, -1, -1, dtype=F64)
    now, before = weights.sum(), weights[1:].sum()
    rate = torch.tensordot(weights, s, 1) / now
    earlier = torch.tensordot(weights[1:], s[:-1], 1) / before
    drive = site.synapse(one.batch.xs[0])
    expected = before / now * edge.synapse(earlier) + drive - state.v / now
    assert torch.allclose(2.0 * rate, expected, atol=1e-12)


def run(unit, c):
    from spikeloom.neurons.trains import run_train

    return run_train(unit, c, {})


@every_net
def test_residuals_fall_with_the_number_of_steps(name):
    residuals = []
    for steps in (16, 256):
        one = problem(name, steps=steps)
        weights = OnceWeights()
        with torch.no_grad():
            found = settle(one.net, one.batch, weights)
            _, ends = one.net.rate_map(found.x, found.sources, weights.ops)
        residuals.append(max((ends[n] - a).abs().mean() for n, a in found.sources.items()))
    assert residuals[1] < residuals[0] / 6


@pytest.mark.parametrize("solver", ["broyden", "anderson", "gmres", "fixed_point"])
def test_solvers_reach_their_tolerance_and_say_so(solver):
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(40, 40, generator=generator, dtype=F64) / 40**0.5 / 2.5
    b = torch.randn(40, generator=generator, dtype=F64)
    found = Solver(solver, tolerance=1e-8, limit=200).solve(lambda v: matrix.t() @ v, b)
    assert found.converged and found.residual <= 1e-8 and found.products <= 200
    true = torch.linalg.solve(torch.eye(40, dtype=F64) - matrix.t(), b)
    assert torch.allclose(found.value, true, atol=1e-6)
    short = Solver(solver, tolerance=1e-8, limit=3).solve(lambda v: matrix.t() @ v, b)
    assert not short.converged and 1e-8 < short.residual < 1 and short.products <= 4
    wild = Solver("fixed_point", limit=200).solve(lambda v: 3 * v, b)
    assert not wild.converged and (wild.diverged or wild.residual > 0.5)


def test_gmres_names_the_extra_that_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(
        ConfigError, match=r"^rules.ide.solver: .* scipy for 'gmres', got none; pip in"
    ):
        Ide(solver="gmres")
    assert Ide().solver == "broyden"


@pytest.mark.parametrize("rule", [Ide(), Spide(back_steps=10)], ids=["ide", "spide"])
def test_memory_does_not_grow_with_time(rule):
    """To the byte, simulation and head included."""
    peaks = []
    for steps in (8, 128):
        one = Problem(LATERAL, UNIT, steps=steps)
        objective = one.head.bind(one.batch.target, one.batch.rng)

        def step(one=one, objective=objective):
            rule.learn(one.net, one.batch, objective, lambda: None)

        step()
        peaks.append(peak_allocated(step))
    assert peaks[0] == peaks[1] > 0


def test_without_feedback_one_layer_is_dsr():
    one = problem("lateral")
    one.net.sites[1].synapse.weight.data.zero_()
    found = one.learn(Ide())
    other = Problem("f12 f4", UNIT)
    expected = other.learn(Dsr())
    for key, grad in expected.items():
        assert torch.allclose(found[key], grad, rtol=1e-12, atol=1e-14), key


BACKWARD = IF(v_th=2.0, fire_fraction=0.5)


@every_net
def test_more_backward_steps_come_closer_to_the_limit_which_is_near_ide(name):
    """Between the limit and IDE stand the masks: of rates here, of currents there."""
    one = problem(name, BACKWARD, steps=400)
    limit = one.learn(Spide(back_steps=6000))
    gaps = []
    for steps in (50, 800):
        found = one.learn(Spide(back_steps=steps))
        gaps.append(sum(float((found[key] - limit[key]).square().sum()) for key in found) ** 0.5)
    assert gaps[1] < gaps[0] / 6
    assert cosine(limit, one.learn(Ide())) > 0.99


def test_the_sign_of_the_loss_is_the_sign_of_the_gradient():
    one = problem("around", BACKWARD)
    direction = torch.randn(5, 8, generator=one.generator, dtype=F64)
    up, down = (one.learn(Spide(), Along(sign * direction)) for sign in (1, -1))
    assert all(torch.equal(up[key], -down[key]) for key in up)
    assert any(bool(grad.any()) for grad in up.values())


def test_without_feedback_it_goes_back_through_clamps():
    one = Problem("f12 f10 f4", BACKWARD, steps=400)
    found, expected = one.learn(Spide(back_steps=3000)), one.learn(Dsr())
    assert cosine(found, expected) > 0.999


def test_units_that_always_or_never_fire_learn_nothing():
    one = Problem("f12 f10 f4", BACKWARD, steps=20)
    bias = one.net.sites[0].synapse.bias.data
    bias[:4], bias[4:8] = 50.0, -50.0
    grad = one.learn(Spide(back_steps=200))["plan.synapses.0_0.weight"]
    assert not grad[:8].any() and bool(grad[8:].any())


def test_the_scale_is_divided_out_again():
    one = problem("lateral", BACKWARD, steps=50)
    small, large = (one.learn(Spide(back_steps=4000, scale=scale)) for scale in (2.0, 4.0))
    assert cosine(small, large) > 0.999
    key = "plan.synapses.0_0.weight"
    assert 0.97 < float(small[key].norm() / large[key].norm()) < 1.03


@pytest.mark.parametrize("bad", [{"scale": 0.0}, {"level": -1.0}, {"back_steps": 0}])
def test_settings_of_spide_are_checked(bad):
    with pytest.raises(ConfigError, match=f"rules.spide.{next(iter(bad))}: expected"):
        replace(Spide(), **bad)


@pytest.mark.parametrize("linearise", ["rates", "map"])
def test_running_statistics_move_once_per_batch(linearise):
    text = LATERAL.replace("f12 f4", 'f12{norm = "batch_step"} f4')
    one = Problem(text, UNIT, steps=9)
    (norm,) = one.net.plan.norms.values()
    current = one.net.sites[0].synapse(one.batch.xs[0]).detach()
    one.learn(Ide(linearise=linearise))
    assert norm.training and norm.momentum == 0.1
    assert torch.allclose(norm.running_mean, 0.1 * current.mean(0))
    assert torch.allclose(norm.running_var, 0.9 + 0.1 * current.var(0))
