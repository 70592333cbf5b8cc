"""Labelled rules that change weights themselves: right ones, and ones with one fault each."""

import re

import torch
from local import Keeping, Local

from spikeloom.base.seeding import derive_seed
from spikeloom.nets.ops import OnWeights, Ops, cut
from spikeloom.rules.base import NO_STEPS, RuleReport, Trials
from spikeloom.rules.commit import Within
from spikeloom.rules.memory import Memory, averaged, same
from spikeloom.rules.steps import learn_by_step

GOAL = 0.3
"""Rate of neurons."""


class HebbByError(Local):
    """Weights change by input times slope times error, sent to each layer by random weights.

    Source: a test.
    """

    rate = 4.0
    trials = Trials(refused=(NO_STEPS,), epochs=300)

    def prepare(self, net, head_sites, sample):
        super().prepare(net, head_sites, sample)
        width = sum(site.spec.out for site in head_sites) or net.features
        return Memory({site.name: same(drawn(site, width).to(sample.xs)) for site in net.sites})

    def learn(self, net, batch, objective, commit):
        fired = {}

        def emit(visit, s):
            fired[visit.name] = s
            return s.detach()

        named = {f"net.{name}": p for name, p in net.named_parameters()}
        updates = {name: torch.zeros_like(p) for name, p in named.items()}
        state, loss, logits = None, 0.0, 0.0
        for x in batch.xs:
            h, state = net.step(x, state, Ops(carry=cut, emit=emit), rng=batch.rng)
            answer = objective(h.detach())
            self.learn_head(answer.value / batch.steps, objective, updates)
            error = self.sent(objective.error(h).error)
            reached = {name: s for name, s in fired.items() if s.requires_grad}
            errors = [(error @ commit.memory[name]).view_as(s) for name, s in reached.items()]
            grads = torch.autograd.grad(
                [*reached.values()], [*named.values()], errors, allow_unused=True
            )
            for name, grad in zip(named, grads, strict=True):
                updates[name] -= 0 if grad is None else self.rate / batch.steps * grad
            loss = loss + answer.value.detach() / batch.steps
            logits = logits + answer.logits.detach() / batch.steps
        self.update_weights(net, batch, commit, updates)
        return RuleReport(loss, logits)

    def learn_head(self, value, objective, updates):
        if value.requires_grad:
            value.backward()

    def sent(self, error):
        return error

    def update_weights(self, net, batch, commit, updates):
        commit(updates=updates)


def drawn(site, width):
    draw = torch.Generator().manual_seed(derive_seed(site.name, "feedback"))
    size = torch.Size(site.out_shape).numel()
    return 2 * torch.rand(width, size, generator=draw, dtype=torch.float64) - 1


class WithoutBiases(HebbByError):
    """The same without biases of maps, which stay as they are.

    Source: a test.
    """

    def update_weights(self, net, batch, commit, updates):
        weights = [name for name in updates if not re.fullmatch(r"net\.plan\.synapses.*bias", name)]
        commit(updates={name: updates[name] for name in weights})


class DeltaHead(HebbByError):
    """The same with the head by the delta rule: nothing has a gradient.

    Source: a test.
    """

    head_rate = -1.0

    def learn_head(self, value, objective, updates):
        head = [p for site in objective.sites for p in site.synapse.parameters()]
        if head:
            for p, grad in zip(head, torch.autograd.grad(value, head), strict=True):
                updates[p] = updates.get(p, 0) + self.head_rate * grad


class Homeostatic(Local):
    """SLTT for weights; biases bring the rates of neurons, remembered as a mean, to a goal.

    Source: a test.
    """

    def prepare(self, net, head_sites, sample):
        super().prepare(net, head_sites, sample)
        return Memory({name: averaged(torch.zeros_like(p)) for name, p in biases(net).items()})

    def learn(self, net, batch, objective, commit):
        by_site, memory, rates = biases(net), commit.memory, {}

        def synapse(visit, x):
            own = visit.synapse
            bias = own.bias.detach() if visit.name in by_site else own.bias
            return own.apply_map(x, own.effective_weight(), bias)

        def emit(visit, s):
            if visit.name in by_site:
                mean = s.detach().transpose(0, 1).flatten(1).mean(1) / batch.steps
                rates[visit.name] = rates.get(visit.name, 0) + mean
            return s

        report = learn_by_step(
            net,
            batch,
            objective,
            Ops(OnWeights(synapse), cut, emit),
            active=range(batch.steps),
            after_step=lambda: None,
            may_hold=True,
        )
        means = {name: 0.5 * memory[name] + 0.5 * rate for name, rate in rates.items()}
        updates = {}
        for name, mean in means.items():
            bias = by_site[name]
            updates[bias] = updates.get(bias, 0) + 0.01 * (GOAL - mean)
        commit(updates=updates, memory=memory.replace(means))
        return report


def biases(net):
    """Biases of populations by site; passes of a block share theirs."""
    found = {
        site.name: getattr(site.synapse, "bias", None)
        for site in net.sites
        if site.role == "body" and site.neuron is not None
    }
    return {name: bias for name, bias in found.items() if bias is not None}


RIGHT = [HebbByError, WithoutBiases, DeltaHead, Homeostatic]


class Leaks(HebbByError):
    """Source: a weight changes by one sample's input times its neighbour's error."""

    def sent(self, error):
        return error.roll(1, 0)


class AddsUp(HebbByError):
    """Source: adds the samples' changes up, and calls that linear."""

    def update_weights(self, net, batch, commit, updates):
        commit(updates={name: batch.size * change for name, change in updates.items()})


class Twice(HebbByError):
    """Source: makes its changes, and hands them over too."""

    def update_weights(self, net, batch, commit, updates):
        with torch.no_grad():
            for name, p in net.named_parameters():
                p += updates[f"net.{name}"]
        commit(updates=updates)


class CommitsTwice(HebbByError):
    """Source: hands its changes over twice."""

    def update_weights(self, net, batch, commit, updates):
        commit(updates=updates)
        commit(updates=updates)


class ForgetsALayer(HebbByError):
    """Source: leaves the first layer as it is."""

    def update_weights(self, net, batch, commit, updates):
        commit(updates={name: one for name, one in updates.items() if ".0_0." not in name})


class ZeroForALayer(HebbByError):
    """Source: adds zeros to the weights of the first layer."""

    def update_weights(self, net, batch, commit, updates):
        commit(updates={name: 0 * one if ".0_0." in name else one for name, one in updates.items()})


class Compiled(HebbByError):
    """Source: doubles its changes on compiled kernels."""

    def update_weights(self, net, batch, commit, updates):
        factor = 2 if net.execution.kernels == "compiled" else 1
        commit(updates={name: factor * change for name, change in updates.items()})


class Stale(HebbByError, Keeping):
    """Source: reads its memory once and goes on with a count of its own, which it commits."""

    def prepare(self, net, head_sites, sample):
        return Memory(back=super().prepare(net, head_sites, sample), calls=same(0))

    def learn(self, net, batch, objective, commit):
        return super().learn(net, batch, objective, Within(commit, "back"))

    def update_weights(self, net, batch, commit, updates):
        memory = commit.outer.memory
        self.kept["calls"] = self.kept.get("calls", memory["calls"]) + 1
        share = 1 / (1 + self.kept["calls"])
        updates = {name: share * change for name, change in updates.items()}
        commit.outer(updates=updates, memory=memory.replace(calls=self.kept["calls"]))


class Uphill(DeltaHead):
    """Source: adds the head's gradient to its weights."""

    head_rate = 1.0
