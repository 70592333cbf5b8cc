"""Rules that are wrong, each in one way."""

from dataclasses import replace
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from local import FACTS, Local

from spikeloom.nets.ops import OnWeights, Ops, Plain, cut
from spikeloom.nets.readout import Loss
from spikeloom.nets.walk.walk import is_constant
from spikeloom.rules.base import RuleReport


class LargeBatches(Local):
    """Source: wrong only above 16,384 elements."""

    def factor(self, net, batch):
        return 2.0 if batch.xs.numel() > 1 << 14 else 1.0


class ConstantInput(Local):
    """Source: wrong only where the input is one tensor seen T times."""

    def factor(self, net, batch):
        return 2.0 if is_constant(batch.xs) else 1.0


class Watched(Local):
    """Source: wrong only under an observer."""

    def factor(self, net, batch):
        return 2.0 if net._observers else 1.0


class Order(Local):
    """Source: depends on the order of the batch."""

    def factor(self, net, batch):
        return 1.0 + float(batch.target[0])


CALLS = {"count": 0, "size": 0}


class Previous(Local):
    """Source: depends on what ran before it."""

    def factor(self, net, batch):
        CALLS["count"] += 1
        return 1.0 + 0.1 * (CALLS["count"] % 7)


class PreviousSize(Local):
    """Source: divides by the size of the last batch, whoever learned from it."""

    def factor(self, net, batch):
        last, CALLS["size"] = CALLS["size"] or batch.size, batch.size
        return batch.size / last


class AcrossSamples(Local):
    """Source: a sample's error leaks into its neighbour's."""

    def ops(self, net, batch):
        def emit(visit, s):
            return s + 0.5 * (s.roll(1, 0) - s.roll(1, 0).detach())

        return Ops(carry=cut, emit=emit)


class NotAddedUp(Local):
    """Source: its own weight gradient replaces what was there."""

    def learn(self, net, batch, objective, commit):
        for parameter in net.parameters():
            parameter.grad = None
        return super().learn(net, batch, objective, commit)


class ReadsPotentials(Local):
    """Source: reads the potential of whatever passes between steps, feedback too."""

    def ops(self, net, batch):
        gates = {}

        def carry(visit, state):
            gates[visit.name] = torch.sigmoid(state.v)
            return state

        def emit(visit, s):
            gate = gates.get(visit.name, 1.0)
            return gate * s + (1 - gate) * s.detach()

        return Ops(carry=cut.then(carry), emit=emit)


class KeepsPlainCurrents(Local):
    """Source: keeps the currents of a map that says it is plain, so that they are overwritten."""

    def ops(self, net, batch):
        currents = {}

        class Noting(Plain):
            def __call__(self, visit, x):
                currents[visit.name] = visit.synapse(x)
                return currents[visit.name]

        def emit(visit, s):
            gate = torch.sigmoid(currents[visit.name].detach()) if visit.name in currents else 1.0
            return gate * s + (1 - gate) * s.detach()

        return Ops(synapse=Noting(), carry=cut, emit=emit)


class ForgetsPools(Local):
    """Source: sends no error through pools."""

    def ops(self, net, batch):
        def synapse(visit, x):
            return visit.synapse(x if visit.spec.weighted else x.detach())

        return Ops(synapse=synapse, carry=cut)


class AllPoolsAreMeans(Local):
    """Source: has average pools in the place of all pools."""

    def ops(self, net, batch):
        def synapse(visit, x):
            if visit.spec.kind == "max_pool":
                return F.avg_pool2d(x, visit.spec.kernel)
            return visit.synapse(x)

        return Ops(synapse=synapse, carry=cut)


def scaled(objective, factor):
    """An objective whose gradients are multiplied, with the loss as it was."""

    def ask(h, *rest):
        loss = objective(h, *rest)
        return Loss(loss.logits, factor * loss.value + (1 - factor) * loss.value.detach())

    return ask


class OverChosenSteps(Local):
    """Source: divides by the number K of chosen steps where T is due."""

    def active(self, batch):
        return (0, 2) if batch.steps > 2 else range(batch.steps)

    def learn(self, net, batch, objective, commit):
        factor = batch.steps / len(self.active(batch))
        return super().learn(net, batch, scaled(objective, factor), commit)


class Twice(Local):
    """Source: goes backward twice, and keeps both gradients."""

    def learn(self, net, batch, objective, commit):
        super().learn(net, batch, objective, lambda: None)
        return super().learn(net, batch, objective, commit)


class MeanTwice(Local):
    """Source: divides a mean over the batch by its size."""

    def learn(self, net, batch, objective, commit):
        return super().learn(net, batch, scaled(objective, 1 / batch.size), commit)


class OwnLoss(Local):
    """Source: has the cross entropy in the place of the objective."""

    def learn(self, net, batch, objective, commit):
        def ask(h, *rest):
            loss = objective(h, *rest)
            if not loss.logits.requires_grad:  # a step that is not learned from
                return loss
            return Loss(loss.logits, F.cross_entropy(loss.logits, batch.target))

        return super().learn(net, batch, ask, commit)


class ForgetsReduction(Local):
    """Source: takes the mean of features, whatever the weights over T."""

    def learn(self, net, batch, objective, commit):
        loss = objective(net.run_by_time(batch.xs, Ops(carry=cut)).mean(0))
        loss.value.backward()
        commit()
        return RuleReport(loss.value.detach(), loss.logits.detach())


class LastLoss(Local):
    """Source: reports the loss of the last step."""

    def learn(self, net, batch, objective, commit):
        values = []

        def ask(h, *rest):
            values.append(objective(h, *rest))
            return values[-1]

        report = super().learn(net, batch, ask, commit)
        return replace(report, loss=values[-1].value.detach())


class DetachesBranches(Local):
    """Source: trains the first map of a head alone."""

    def ops(self, net, batch):
        def synapse(visit, x):
            current = visit.synapse(x)
            first = visit.site.role != "readout" or visit.name == "readout"
            return current if first else current.detach()

        return Ops(synapse=OnWeights(synapse), carry=cut)


class WritesWeights(Local):
    """Source: moves the weights itself."""

    def learn(self, net, batch, objective, commit):
        report = super().learn(net, batch, objective, commit)
        with torch.no_grad():
            for p in net.parameters():
                p.data.add_(0 if p.grad is None else p.grad, alpha=-0.01)
        return report


class ReadsStatistics(Local):
    """Source: depends on running statistics of norms."""

    def factor(self, net, batch):
        means = [one.mean() for name, one in net.named_buffers() if "running" in name]
        return 1.0 + float(sum(means))


class NormsInEval(Local):
    """Source: learns with norms as they are in evaluation."""

    def learn(self, net, batch, objective, commit):
        norms = [site.norm for site in net.sites if site.norm is not None]
        for norm in norms:
            norm.eval()
        report = super().learn(net, batch, objective, commit)
        for norm in norms:
            norm.train()
        return report


class Float32Inside(Local):
    """Source: computes errors in float32."""

    def ops(self, net, batch):
        return Ops(carry=cut, emit=lambda visit, s: s.float().to(s.dtype))


class DrawsInSecret(Local):
    """Source: draws from torch's own generator and puts its state back."""

    def factor(self, net, batch):
        with torch.random.fork_rng():
            return 1.0 + float(torch.rand(1))


class SingleSample(Local):
    """Source: wrong on a batch of one sample, whose spread is taken for 0."""

    def factor(self, net, batch):
        return 1.0 if batch.size > 1 else 0.0


class SkipsFirstStep(Local):
    """Source: learns from the second step on, at T = 1 nothing."""

    def active(self, batch):
        return range(1, batch.steps)


class ReadsMemoryOrder(Local):
    """Source: takes maps for rows in memory, which they are in one layout alone."""

    def ops(self, net, batch):
        def emit(visit, s):
            if s.dim() != 4:
                return s
            ramp = torch.linspace(0, 1, s.numel(), dtype=s.dtype)
            gate = ramp.as_strided(s.shape, s.stride())
            return gate * s + (1 - gate) * s.detach()

        return Ops(carry=cut, emit=emit)


class LastPass(Local):
    """Source: credits a shared weight for its first pass alone."""

    def ops(self, net, batch):
        def synapse(visit, x):
            own = visit.synapse
            if visit.site.role != "body" or visit.name.endswith(".0"):
                return own(x)
            bias = None if own.bias is None else own.bias.detach()
            return own.apply_map(x, own.effective_weight().detach(), bias)

        return Ops(synapse=OnWeights(synapse), carry=cut)


class IgnoresBias(Local):
    """Source: trains no bias."""

    def ops(self, net, batch):
        def synapse(visit, x):
            own = visit.synapse
            bias = None if own.bias is None else own.bias.detach()
            return own.apply_map(x, own.effective_weight(), bias)

        return Ops(synapse=OnWeights(synapse), carry=cut)


class LeavesNotes(Local):
    """Source: keeps its traces in the net."""

    def learn(self, net, batch, objective, commit):
        net.sites[0].synapse.trace = SimpleNamespace(steps=batch.steps)
        return super().learn(net, batch, objective, commit)


class LabelsInSecret(Local):
    """Source: says that it needs no labels."""

    facts = replace(FACTS, needs_labels=False)
