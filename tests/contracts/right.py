"""Rules that are right but unusual: the battery must pass them all."""

from dataclasses import replace
from typing import Any

import torch
from local import FACTS, Local

from spikeloom.base.autograd import add_gradient
from spikeloom.base.errors import UnsupportedNet
from spikeloom.base.seeding import derive_seed
from spikeloom.nets.ops import Credited, OnWeights, Ops, cut
from spikeloom.rules.base import NO_STEPS, RuleReport, Trial, Trials
from spikeloom.rules.memory import Memory, averaged, same


class ReadsStates(Local):
    """SLTT whose errors fade with the potential of each neuron.

    Source: a test; states are read by attribute.
    """

    def ops(self, net, batch, memory):
        last: dict[str, Any] = {}

        def carry(visit, state):
            last[visit.name] = state.v.detach() if hasattr(state, "v") else None
            return state

        def emit(visit, s):
            v = last.get(visit.name)
            gate = 1.0 if v is None or v.shape != s.shape else torch.sigmoid(v)
            return gate * s + (1 - gate) * s.detach()

        return Ops(carry=cut.then(carry), emit=emit)


class KeepsCurrents(Local):
    """SLTT whose weight gradients are made by hand from currents it keeps.

    Source: a test.
    """

    def ops(self, net, batch, memory):
        kept = []

        def synapse(visit, x):
            current = visit.synapse(x)
            assert all(torch.equal(now, before) for now, before in kept)
            kept[:] = [(current, current.detach().clone())]
            return current

        return Ops(synapse=OnWeights(synapse), carry=cut)


class Traced(Local):
    """OTTT's gradient with a trace of its own.

    Source: a test.
    """

    def ops(self, net, batch, memory):
        traces: dict[str, torch.Tensor] = {}

        def trace(visit, x):
            if visit.site.external:
                return x
            traces[visit.name] = 0.5 * traces.get(visit.name, 0.0) + x.detach()
            return traces[visit.name]

        return Ops(synapse=Credited(trace), carry=cut)


class Noisy(Local):
    """SLTT with noise on all spikes, drawn for each sample.

    Source: a test.
    """

    def ops(self, net, batch, memory):
        def emit(visit, s):
            rng = batch.rng.stream_for(f"{visit.name}/{visit.step}")
            kind = {"dtype": s.dtype, "device": s.device}
            return s + 0.2 * (rng.uniform(tuple(s.shape[1:]), **kind) - 0.5)

        return Ops(carry=cut, emit=emit)


class Remembers(Local):
    """SLTT whose hidden errors shrink with the mean loss of the batches before.

    Source: a test.
    """

    def prepare(self, net, head_sites, sample):
        super().prepare(net, head_sites, sample)
        return Memory(loss=averaged(0.0))

    def factor(self, net, batch, memory):
        return 1.0 / (1.0 + memory["loss"])

    def update(self, commit, report):
        loss = 0.9 * commit.memory["loss"] + 0.1 * report.loss.item()
        commit(memory=commit.memory.replace(loss=loss))


class Owns(Local):
    """SLTT whose hidden errors have a trained size, which falls to one half.

    Source: a test.
    """

    def prepare(self, net, head_sites, sample):
        super().prepare(net, head_sites, sample)
        weight = next(net.parameters())
        return Memory(size=same(torch.nn.Parameter(weight.new_tensor([0.9]))))

    def factor(self, net, batch, memory):
        return memory["size"].item()

    def learn(self, net, batch, objective, commit):
        size = commit.memory["size"]
        add_gradient(size, 0.1 * (size.detach() - 0.5))
        return super().learn(net, batch, objective, commit)


class Lateral(Local):
    """SLTT on nets with lateral neurons; their edges pass no gradient.

    Source: a test.
    """

    trials = Trials(
        body='{feedback = [{source = 0, target = 0, layers = "f12", restrict = 0.5}]} f12 f8',
        refused=(NO_STEPS, Trial("c4 f2", "expected feedback, got none")),
    )

    def prepare(self, net, head_sites, sample):
        super().prepare(net, head_sites, sample)
        if not net.spec.feedback:
            raise UnsupportedNet("rules.local: expected feedback, got none; add an edge.")


class Hebbian(Local):
    """Weights grow where input and output are active together, and decay; the head has labels.

    Source: a test.
    """

    facts = replace(FACTS, needs_labels=False)

    def learn(self, net, batch, objective, commit):
        kept: dict[str, tuple[Any, torch.Tensor]] = {}
        grown: dict[str, torch.Tensor] = {}

        def synapse(visit, x):
            if visit.site.role != "readout":
                kept[visit.name] = (visit.synapse, x)
            return visit.synapse(x)

        def emit(visit, s):
            if visit.name in kept and s.dim() == kept[visit.name][1].dim() == 2:
                product = s.detach().T @ kept[visit.name][1].detach() / (len(s) * batch.steps)
                grown[visit.name] = grown.get(visit.name, 0.0) + product
            return s.detach()

        state, loss, logits = None, 0.0, 0.0
        ops = Ops(synapse=OnWeights(synapse), carry=cut, emit=emit)
        for x in batch.xs:
            with torch.no_grad():
                h, state = net.step(x, state, ops, rng=batch.rng)
            answer = objective(h)
            if answer.value.requires_grad:
                (answer.value / batch.steps).backward()
            loss = loss + answer.value.detach() / batch.steps
            logits = logits + answer.logits.detach() / batch.steps
        for name, change in grown.items():
            weight = kept[name][0].weight
            add_gradient(weight, 0.1 * weight.detach() - change)
        commit()
        return RuleReport(loss, logits)


class Inner(Local):
    """SLTT that learns from every batch three times, with an update each.

    Source: a test.
    """

    def commits(self, steps):
        return 3

    def learn(self, net, batch, objective, commit):
        reports = [super(Inner, self).learn(net, batch, objective, commit) for _ in range(3)]
        return reports[0]


class Alternating(Local):
    """SLTT that updates hidden layers first and the head with what they then give.

    Source: a test.
    """

    facts = replace(FACTS, memory="linear")

    def commits(self, steps):
        return 2

    def learn(self, net, batch, objective, commit):
        def head_alone(visit, x):
            return visit.synapse(x) if visit.site.role == "readout" else visit.synapse(x).detach()

        def but_head(visit, x):
            own = visit.synapse
            if visit.site.role != "readout":
                return own(x)
            bias = None if own.bias is None else own.bias.detach()
            return own.apply_map(x, own.effective_weight().detach(), bias)

        report = None
        for synapse in (but_head, head_alone):
            ops = Ops(synapse=OnWeights(synapse), carry=cut)
            losses = [objective(h, ops) for h in net.run_by_time(batch.xs, ops, rng=batch.rng)]
            value = torch.stack([loss.value for loss in losses]).mean()
            if value.requires_grad:
                value.backward()
            commit()
            logits = torch.stack([loss.logits for loss in losses]).mean(0)
            report = report or RuleReport(value.detach(), logits.detach())
        return report


class ChoosesSteps(Local):
    """SLTT at half of the steps, drawn for each batch.

    Source: a test.
    """

    def active(self, batch):
        seed = derive_seed(batch.rng.seed, batch.rng.epoch, batch.number, "steps")
        order = torch.randperm(batch.steps, generator=torch.Generator().manual_seed(seed))
        return {*order[: (batch.steps + 1) // 2].tolist()}


class RandomFeedback(Local):
    """Errors go back through fixed random weights (feedback alignment).

    Source: a test.
    """

    def ops(self, net, batch, memory):
        def synapse(visit, x):
            own = visit.synapse
            if visit.site.external:
                return own(x)
            seed = derive_seed(visit.name.rpartition(".")[0] or visit.name, "feedback")
            draw = torch.Generator().manual_seed(seed)
            weight = own.effective_weight()
            back = torch.rand(weight.shape, generator=draw, dtype=torch.float64).to(weight.dtype)
            through = own.apply_map(x, (back - 0.3) * weight.detach().abs().mean(), None)
            return own.apply_map(x.detach(), weight, own.bias) + through - through.detach()

        return Ops(synapse=OnWeights(synapse), carry=cut)


class NotLinear(Local):
    """SLTT whose hidden errors grow with the loss of the whole batch.

    Source: a test.
    """

    facts = replace(FACTS, linear_in_batch=False)
    share: float = 1.0

    def learn(self, net, batch, objective, commit):
        stepper, loss = net.stepper(Ops(carry=cut), rng=batch.rng), 0.0
        with torch.no_grad():
            for x in batch.xs:
                loss += objective(stepper(x)).value.item() / batch.steps
        share = replace(self, share=0.5 + loss)
        return super(NotLinear, share).learn(net, batch, objective, commit)

    def factor(self, net, batch, memory):
        return self.share


class ByLayer(Local):
    """Backpropagation through whole trains, with errors damped at every layer.

    Source: a test.
    """

    facts = replace(FACTS, order="layer", memory="linear")
    trials = Trials()

    def prepare(self, net, head_sites, sample):
        """Take any net."""

    def learn(self, net, batch, objective, commit):
        damped = Ops(emit=lambda visit, s: 0.5 * s + 0.5 * s.detach())
        run = net.run_by_time if net.spec.feedback else net.run_by_layer
        loss = objective.over(run(batch.xs, damped, rng=batch.rng), damped)
        loss.value.backward()
        commit()
        return RuleReport(loss.value.detach(), loss.logits.detach())


RIGHT = [
    Local,
    ReadsStates,
    KeepsCurrents,
    Traced,
    Noisy,
    Remembers,
    Owns,
    Lateral,
    Hebbian,
    Inner,
    Alternating,
    ChoosesSteps,
    RandomFeedback,
    NotLinear,
    ByLayer,
]
