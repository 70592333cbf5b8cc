"""The rule that seeded rules derive from: credit within a step, through plain seams."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from spikeloom.base.citation import Citation
from spikeloom.check.toy import Case
from spikeloom.nets.ops import Credited, Ops, cut
from spikeloom.rules.base import NO_STEPS, LearningRule, RuleFacts, RuleReport, Trials, refuse_tail
from spikeloom.rules.steps import learn_by_step

FACTS = RuleFacts("a seeded rule", Citation("Nobody", "A test", "here", 2026), "time", "constant")


@dataclass(frozen=True)
class Local(LearningRule):
    """SLTT through plain seams, with what each seed adds.

    Source:
        A test.
    """

    facts: ClassVar[RuleFacts] = FACTS
    trials: ClassVar[Trials] = Trials(refused=(NO_STEPS,))

    def prepare(self, net, head_sites, sample) -> None:
        refuse_tail(net, "local")

    def factor(self, net: Any, batch: Any, memory: Any) -> float:
        """Return what hidden errors are multiplied by at every layer."""
        return 1.0

    def ops(self, net: Any, batch: Any, memory: Any) -> Ops:
        share = self.factor(net, batch, memory)
        return Ops(carry=cut, emit=lambda visit, s: share * s + (1 - share) * s.detach())

    def active(self, batch: Any) -> Any:
        return range(batch.steps)

    def learn(self, net, batch, objective, commit) -> RuleReport:
        ops = self.ops(net, batch, commit.memory)
        report = learn_by_step(
            net,
            batch,
            objective,
            ops,
            active=self.active(batch),
            after_step=lambda: None,
            may_hold=True,
        )
        if isinstance(ops.synapse, Credited):
            ops.synapse.flush()
        self.update(commit, report)
        return report

    def update(self, commit: Any, report: RuleReport) -> None:
        """Commit what the batch has left."""
        commit()


@dataclass(frozen=True)
class Keeping(Local):
    """A rule with a place for what it keeps between batches.

    Source:
        A test.
    """

    kept: dict[str, Any] = field(default_factory=dict, init=False, compare=False, repr=False)


def case_of(kind: type[Local]) -> Case:
    """Return a seeded rule under test."""
    frozen = kind if "__dataclass_params__" in vars(kind) else dataclass(frozen=True)(kind)
    return Case("local", frozen())
