"""The tiny network of the OTTT and SLTT oracles, and how its arrays are read."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from spikeloom.base.seeding import SampleRng
from spikeloom.base.types import Batch
from spikeloom.heads.softmax import Softmax
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.ops import Ops
from spikeloom.nets.spec.grammar import parse
from spikeloom.neurons.base import Unit

STEPS, SAMPLES = 6, 5
LAYERS = ("fc1", "fc2", "fc3")
TOLERANCE = 1e-13
"""The .md files promise 1e-12 in float64; differences seen here are below 1e-15."""


def arrays(name: str) -> dict[str, Tensor]:
    """Read the oracle's arrays."""
    with np.load(Path(__file__).parent / f"{name}.npz") as data:
        return {key: torch.from_numpy(data[key]) for key in data if data[key].dtype.kind in "fi"}


class Case(NamedTuple):
    """Network, head and batch of one oracle."""

    net: SpikingNet
    head: Softmax
    batch: Batch

    def synapses(self):
        return [*(site.synapse for site in self.net.sites), self.head.site.synapse]

    def learn(self, rule, commit=lambda: None):
        rule.prepare(self.net, self.head.sites, self.batch)
        objective = self.head.bind(self.batch.target, self.batch.rng)
        return rule.learn(self.net, self.batch, objective, commit)


def case(data: dict[str, Tensor], unit: Unit, *, view: bool, **head_options) -> Case:
    """Build the oracle's problem; `view` gives the constant input as one expanded tensor."""
    net = SpikingNet(parse("f16 f14 f10", unit=unit), (12,)).double()
    head = Softmax.of(net, **head_options).double()
    xs = data["input"].expand(STEPS, SAMPLES, 12)
    rng = SampleRng(0, 0, torch.arange(SAMPLES))
    one = Case(net, head, Batch(xs if view else xs.clone(), data["label"], rng))
    with torch.no_grad():
        for layer, synapse in zip(LAYERS, one.synapses(), strict=True):
            synapse.weight.copy_(data[f"param__{layer}.weight"])
            synapse.bias.copy_(data[f"param__{layer}.bias"])
    return one


def check_gradients(one: Case, data: dict[str, Tensor], prefix: str, **other: str) -> None:
    """Compare every gradient with `<prefix>__<layer>.<weight or bias>`; `other` by parameter."""
    for layer, synapse in zip(LAYERS, one.synapses(), strict=True):
        for kind in ("weight", "bias"):
            key = other.get(f"{layer}_{kind}", prefix)
            assert_close(getattr(synapse, kind).grad, data[f"{key}__{layer}.{kind}"], layer)


def check_forward(one: Case, data: dict[str, Tensor], prefix: str = "") -> None:
    """Compare logits, spikes and potentials at the threshold, by time and by layer."""
    spikes: dict[str, list[Tensor]] = {}
    potentials: dict[str, list[Tensor]] = {}

    class Watch:
        def see(self, site, x_in, current, s_out):
            spikes.setdefault(site.name, []).append(s_out)

    def keep(visit, state):
        potentials.setdefault(visit.name, []).append(state.v)
        return state

    for run in (one.net.run_by_time, one.net.run_by_layer):
        spikes.clear()
        potentials.clear()
        with torch.no_grad(), one.net.observe(Watch()):
            features = run(one.batch.xs, Ops(carry=keep))
            logits = torch.stack([one.head.logits(h) for h in features])
        assert_close(logits, data[f"{prefix}output"], "output")
        for row, site in enumerate(one.net.sites, 1):
            s = torch.cat(spikes[site.name])
            assert torch.equal(s, data[f"{prefix}spike__lif{row}"])
            before_reset = torch.stack(potentials[site.name]) + s  # the threshold is 1
            assert_close(before_reset, data[f"{prefix}v_before_reset__lif{row}"], site.name)


def assert_close(ours: Tensor, theirs: Tensor, what: str) -> None:
    assert ours.shape == theirs.shape and ours.dtype == torch.float64
    assert (ours - theirs).abs().max().item() < TOLERANCE, what
