"""Small rules with what the library's own do not have yet: memory, direct changes, inner rules."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from spikeloom.base.citation import Citation
from spikeloom.rules.base import RULES, LearningRule, RuleFacts, RuleReport, Trials
from spikeloom.rules.bptt import Bptt
from spikeloom.rules.commit import NewValue
from spikeloom.rules.memory import Memory, averaged, local, same
from spikeloom.rules.wrapping import Wrapping
from trainkit import registered

TEST = Citation("Nobody", "A test", "here", 2026)


@dataclass(frozen=True)
class Hebb(LearningRule):
    """A hidden layer by Hebb's rule, the head by its gradient.

    Args:
        rate: of the change.
        signs: the weights become the signs of their correlations instead.

    Source:
        A test.
    """

    rate: float = 0.1
    signs: bool = False

    facts: ClassVar[RuleFacts] = RuleFacts("correlations of spikes", TEST, "layer", "linear")

    def prepare(self, net, head_sites, sample):
        return Memory(
            mean=averaged(torch.zeros(net.features, dtype=sample.xs.dtype)),
            loss=averaged(0.0),
            seen=same(0),
            last=local(torch.zeros(0, dtype=torch.int64)),
        )

    def learn(self, net, batch, objective, commit):
        with torch.no_grad():
            features = net(batch.xs, rng=batch.rng)
        logits, value = objective.over(features)
        value.backward()
        before, after = batch.xs.flatten(2), features.to(batch.xs.dtype)
        change = self.rate * torch.einsum("tbo,tbi->oi", after, before) / after[..., 0].numel()
        if self.signs:
            change = NewValue(torch.sign(batch.across.mean(change, batch.size) - 0.01))
        known = commit.memory
        memory = known.replace(
            mean=0.5 * known["mean"] + 0.5 * after.mean((0, 1)),
            loss=0.5 * known["loss"] + 0.5 * value.item(),
            seen=known["seen"] + round(batch.across.total(batch.size)),
            last=batch.rng.index.clone(),
        )
        commit(updates={net.sites[0].synapse.weight: change}, memory=memory)
        return RuleReport(value.detach(), logits.detach())


@dataclass(frozen=True)
class Gained(LearningRule):
    """BPTT with a gain on the loss that is trained itself, kept above 0.5, and a step that halves.

    Source:
        A test.
    """

    facts: ClassVar[RuleFacts] = RuleFacts("a trained gain", TEST, "layer", "linear")

    def prepare(self, net, head_sites, sample):
        gain = nn.Parameter(torch.ones((), dtype=sample.xs.dtype))
        return Memory(gain=same(gain), step=averaged(0.25))

    def learn(self, net, batch, objective, commit):
        logits, value = objective.over(net(batch.xs, rng=batch.rng))
        memory = commit.memory
        (memory["gain"] * value).backward()
        commit(memory=memory.replace(step=memory["step"] / 2))
        return RuleReport(value.detach(), logits.detach())

    @torch.no_grad()
    def project(self, net, memory):
        memory["gain"].clamp_(0.5, 1.0 + memory["step"])


@dataclass(frozen=True)
class Through(Wrapping):
    """A rule around another that changes nothing, or halves gradients.

    Source:
        A test.
    """

    share: float = 1.0

    facts: ClassVar[RuleFacts] = RuleFacts("what another rule does", TEST, "layer", "linear")
    trials: ClassVar[Trials] = Trials(variants=({"inner": Bptt(), "share": 0.5},))

    def before_update(self, net, commit, updates):
        for one in net.parameters():
            if one.grad is not None and self.share != 1:
                one.grad.mul_(self.share)
        return updates


@contextmanager
def small_rules() -> Iterator[None]:
    """Register them inside the block."""
    with (
        registered(RULES, "hebb", Hebb),
        registered(RULES, "gained", Gained),
        registered(RULES, "through", Through),
    ):
        yield
