"""SLTT, SLTT-K and BPTT against the authors' own code (sltt_mlp.md says how it was run)."""

import pytest
import torch
from mlp_oracle import arrays, assert_close, case, check_forward, check_gradients

from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.surrogate import Triangle
from spikeloom.rules.bptt import Bptt
from spikeloom.rules.sltt import Sltt

DATA = arrays("sltt_mlp")
TAUS = {"": 1.1, "tau2_": 2.0}

both_inputs = pytest.mark.parametrize("view", [True, False], ids=["view", "copy"])
both_taus = pytest.mark.parametrize("prefix", TAUS, ids=["tau1.1", "tau2"])


def problem(prefix, view, **head_options):
    unit = LIF(alpha=1 - 1 / TAUS[prefix], surrogate=Triangle(1.0, 1.0))
    return case(DATA, unit, view=view, **head_options)


@both_taus
@both_inputs
def test_forward(prefix, view):
    check_forward(problem(prefix, view), DATA, prefix)


@both_taus
@both_inputs
def test_gradients(prefix, view):
    one = problem(prefix, view)
    report = one.learn(Sltt())
    check_gradients(one, DATA, f"{prefix}grad")
    assert_close(report.logits, DATA[f"{prefix}output"].mean(0), "logits")
    if not prefix:
        assert_close(report.loss, DATA["loss_per_step"].sum(), "loss")


@both_taus
@both_inputs
def test_full_backpropagation_through_time(prefix, view):
    one = problem(prefix, view)
    report = one.learn(Bptt(loss="step"))
    check_gradients(one, DATA, f"{prefix}bptt_grad")
    assert_close(report.logits, DATA[f"{prefix}output"].mean(0), "logits")


@both_inputs
def test_gradients_of_the_mixed_loss(view):
    one = problem("", view, mse=0.05, mse_target="ones")
    report = one.learn(Sltt())
    check_gradients(one, DATA, "gradmix")
    assert_close(report.loss, DATA["loss_per_step_mix"].sum(), "loss")


@both_inputs
def test_gradients_of_chosen_steps(view):
    one = problem("", view)
    assert DATA["gradK_steps"].tolist() == [1, 4]
    report = one.learn(Sltt(given=(1, 4)))
    check_gradients(one, DATA, "gradK")
    assert_close(report.loss, DATA["loss_per_step"].sum(), "the loss reported is that of all steps")


@both_inputs
def test_loss_per_step(view):
    for suffix, options in (("", {}), ("_mix", {"mse": 0.05, "mse_target": "ones"})):
        one = problem("", view, **options)
        with torch.no_grad():
            objective = one.head.bind(one.batch.target, one.batch.rng)
            losses = [objective(h).value / 6 for h in one.net(one.batch.xs)]
        assert_close(torch.stack(losses), DATA[f"loss_per_step{suffix}"], "loss")


@pytest.mark.parametrize(("prefix", "cosine"), [("", 0.99976), ("tau2_", 0.983)])
def test_the_published_nearness_to_bptt(prefix, cosine):
    parts = []
    for rule in (Sltt(), Bptt(loss="step")):
        one = problem(prefix, view=True)
        one.learn(rule)
        grads = [p.grad.flatten() for synapse in one.synapses() for p in synapse.parameters()]
        parts.append(torch.cat(grads))
    assert torch.cosine_similarity(*parts, dim=0).item() == pytest.approx(cosine, abs=5e-4)


def test_the_oracle_was_used_in_full():
    used = {"input", "label", "output", "loss_per_step", "loss_per_step_mix", "gradK_steps"}
    prefixes = ("param", "grad", "gradmix", "gradK", "bptt_grad", "spike", "v_before_reset")
    left = {
        key
        for key in (name.removeprefix("tau2_") for name in DATA)
        if key not in used and key.split("__")[0] not in prefixes
    }
    assert not left
