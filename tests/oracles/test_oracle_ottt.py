"""OTTT against the authors' own code (ottt_mlp.md says how the arrays were made)."""

import pytest
import torch
from mlp_oracle import arrays, assert_close, case, check_forward, check_gradients

from spikeloom.nets.module.synapse import Synapse
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.surrogate import Sigmoid
from spikeloom.rules.ottt import Ottt

DATA = arrays("ottt_mlp")
UNIT = LIF(alpha=0.5, surrogate=Sigmoid(4.0))

both_inputs = pytest.mark.parametrize("view", [True, False], ids=["view", "copy"])


@both_inputs
def test_forward(view):
    check_forward(case(DATA, UNIT, view=view), DATA)


@both_inputs
def test_gradients(view):
    one = case(DATA, UNIT, view=view)
    report = one.learn(Ottt())
    check_gradients(one, DATA, "grad")
    assert_close(report.loss, DATA["loss_per_step"].sum(), "loss")
    assert_close(report.logits, DATA["output"].mean(0), "logits")


@both_inputs
def test_gradients_of_the_mixed_loss(view):
    one = case(DATA, UNIT, view=view, mse=0.05, mse_target="onehot")
    report = one.learn(Ottt())
    check_gradients(one, DATA, "gradmix")
    assert_close(report.loss, DATA["loss_per_step_mix"].sum(), "loss")


@both_inputs
def test_loss_per_step(view):
    for suffix, mse in (("", 0.0), ("_mix", 0.05)):
        one = case(DATA, UNIT, view=view, mse=mse)
        with torch.no_grad():
            objective = one.head.bind(one.batch.target, one.batch.rng)
            losses = [objective(h).value / 6 for h in one.net(one.batch.xs)]
        assert_close(torch.stack(losses), DATA[f"loss_per_step{suffix}"], "loss")


@both_inputs
def test_first_layer_trace_changes_that_weight_alone(view):
    one = case(DATA, UNIT, view=view)
    one.learn(Ottt(first_layer_trace=True))
    check_gradients(one, DATA, "grad", fc1_weight="grad_inputtrace")


@both_inputs
def test_traces(view, monkeypatch):
    one = case(DATA, UNIT, view=view)
    seen: dict[int, list[torch.Tensor]] = {}
    original = Synapse.credited

    def credited(self, x, presynaptic, into=None):
        if presynaptic is not x:  # the first layer keeps no trace
            seen.setdefault(id(self), []).append(presynaptic.clone())
        return original(self, x, presynaptic, into)

    monkeypatch.setattr(Synapse, "credited", credited)
    one.learn(Ottt())
    _, fc2, fc3 = one.synapses()
    assert set(seen) == {id(fc2), id(fc3)}
    assert_close(torch.stack(seen[id(fc2)]), DATA["trace__lif1"], "trace 1")
    assert_close(torch.stack(seen[id(fc3)]), DATA["trace__lif2"], "trace 2")


@both_inputs
def test_online(view):
    one = case(DATA, UNIT, view=view)
    parameters = [*one.net.parameters(), *one.head.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
    outputs = []

    def commit():
        optimizer.step()
        optimizer.zero_grad()

    class Shown:
        """The head's objective, noting logits and loss of each step."""

        def __init__(self, inner):
            self.inner = inner
            self.losses = []

        def __call__(self, h, ops):
            loss = self.inner(h, ops)
            outputs.append(loss.logits.detach())
            self.losses.append(loss.value.detach() / 6)
            return loss

    shown = Shown(one.head.bind(one.batch.target, one.batch.rng))
    report = Ottt(update="online").learn(one.net, one.batch, shown, commit)
    assert_close(torch.stack(outputs), DATA["output_online"], "output")
    assert_close(torch.stack(shown.losses), DATA["loss_per_step_online"], "loss")
    assert_close(report.loss, DATA["loss_per_step_online"].sum(), "loss")
    for layer, synapse in zip(("fc1", "fc2", "fc3"), one.synapses(), strict=True):
        for kind in ("weight", "bias"):
            after = DATA[f"online_param_after__{layer}.{kind}"]
            assert_close(getattr(synapse, kind).detach(), after, layer)


def test_the_oracle_was_used_in_full():
    used = {"input", "label", "output", "output_online", "loss_per_step", "loss_per_step_mix"}
    used |= {"loss_per_step_online"}
    prefixes = ("param", "grad", "gradmix", "grad_inputtrace", "online_param_after")
    prefixes += ("spike", "v_before_reset", "trace")
    left = {key for key in DATA if key not in used and key.split("__")[0] not in prefixes}
    assert not left
