"""The baseline: the ReLU net of the same spec, by ordinary backpropagation, at T = 1."""

from dataclasses import dataclass
from typing import ClassVar

from spikeloom.base.autograd import backpropagate
from spikeloom.base.citation import Citation
from spikeloom.base.errors import UnsupportedNet
from spikeloom.base.types import Batch
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.module.site import Site
from spikeloom.nets.readout import Objective
from spikeloom.rules.base import RULES, Commit, LearningRule, RuleFacts, RuleReport, Trial, Trials


@RULES.register("ann")
@dataclass(frozen=True)
class Ann(LearningRule):
    """Backpropagation in a net without spikes.

    Source:
        Rumelhart, Hinton & Williams 1986.
    """

    facts: ClassVar[RuleFacts] = RuleFacts(
        title="backpropagation in the ReLU net of the same spec",
        source=Citation(
            "Rumelhart, Hinton & Williams",
            "Learning representations by back-propagating errors",
            "Nature",
            1986,
        ),
        order="layer",
        memory="constant",
        spiking=False,
    )
    trials: ClassVar[Trials] = Trials(
        refused=(
            Trial("c4 f2", "expected a net without spiking units, got one; build it", steps=1),
            Trial('c4{unit="relu"} f2', "expected T = 1, got 2; set steps = 1", steps=2),
        )
    )

    def prepare(self, net: SpikingNet, head_sites: tuple[Site, ...], sample: Batch) -> None:
        """Refuse nets that spike and inputs with more than one step."""
        if net.spec.spiking:
            todo = "build it from spec.as_ann()"
            raise UnsupportedNet.of("rules.ann", "a net without spiking units", "one", todo)
        if sample.steps != 1:
            raise UnsupportedNet.of("rules.ann", "T = 1", sample.steps, "set steps = 1")

    def learn(
        self, net: SpikingNet, batch: Batch, objective: Objective, commit: Commit
    ) -> RuleReport:
        """One forward and one backward pass; one commit."""
        logits, value = objective.over(net.run_by_layer(batch.xs, rng=batch.rng))
        backpropagate([value])
        commit()
        return RuleReport(value.detach(), logits.detach())
