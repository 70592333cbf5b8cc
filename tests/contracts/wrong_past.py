"""Rules that are wrong by what they keep: between batches, nets and runs."""

from local import Keeping, Local

from spikeloom.nets.ops import OnWeights, Ops, cut
from spikeloom.rules.memory import Memory, same


class Unsaved(Keeping):
    """Source: keeps a mean error from batch to batch and saves it nowhere."""

    def factor(self, net, batch, memory):
        self.kept["calls"] = self.kept.get("calls", 0.0) + 1
        return 1.0 + 0.25 * min(self.kept["calls"], 6)


class StaleOnResume(Keeping):
    """Source: reads its memory once and goes on with a count of its own, which it commits."""

    def prepare(self, net, head_sites, sample):
        super().prepare(net, head_sites, sample)
        return Memory(calls=same(0))

    def factor(self, net, batch, memory):
        self.kept["calls"] = self.kept.get("calls", memory["calls"]) + 1
        return 1.0 + 0.25 * min(self.kept["calls"], 6)

    def update(self, commit, report):
        commit(memory=commit.memory.replace(calls=self.kept["calls"]))


class LastMask(Keeping):
    """Source: holds neurons back that were silent in the last batch, and calls it no memory."""

    def ops(self, net, batch, memory):
        masks, seen = dict(self.kept), self.kept

        def emit(visit, s):
            seen[visit.name] = s.detach().mean(0) > 0.1
            mask = masks.get(visit.name, 1.0)
            return mask * s + (1 - 1.0 * mask) * s.detach()

        return Ops(carry=cut, emit=emit)


class LastLength(Keeping):
    """Source: divides by the number of steps of the last batch."""

    def factor(self, net, batch, memory):
        last, self.kept["steps"] = self.kept.get("steps", batch.steps), batch.steps
        return batch.steps / last


class FirstNet(Keeping):
    """Source: goes back through the weights of the first net it has seen."""

    def ops(self, net, batch, memory):
        weights = self.kept.setdefault("weights", {})

        def synapse(visit, x):
            own = visit.synapse
            back = weights.setdefault(visit.name, own.effective_weight().detach().clone())
            through = own.apply_map(x, back, None)
            return own.apply_map(x.detach(), own.effective_weight(), own.bias) + (
                through - through.detach()
            )

        return Ops(synapse=OnWeights(synapse), carry=cut)


class CountsCalls(Keeping):
    """Source: takes every call of the net for a step of training, evaluations too."""

    def prepare(self, net, head_sites, sample):
        super().prepare(net, head_sites, sample)

        def count(module, args):
            self.kept["calls"] = self.kept.get("calls", 0) + 1

        net.register_forward_pre_hook(count)

    def factor(self, net, batch, memory):
        return 1.0 / (1 + self.kept.get("calls", 0))


class HooksWeights(Local):
    """Source: halves gradients by hooks on weights, once more with every net it is prepared for."""

    def prepare(self, net, head_sites, sample):
        super().prepare(net, head_sites, sample)
        for parameter in net.parameters():
            parameter.register_hook(lambda grad: 0.5 * grad)
