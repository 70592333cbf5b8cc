"""Backpropagation through time with surrogate gradients."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from spikeloom.base.autograd import backpropagate
from spikeloom.base.citation import Citation
from spikeloom.base.types import Batch
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.module.site import Site
from spikeloom.nets.readout import Loss, Objective
from spikeloom.rules.base import (
    NO_STEPS,
    RULES,
    TIME_MEAN,
    Commit,
    LearningRule,
    RuleFacts,
    RuleReport,
    Trial,
    Trials,
    refuse_tail,
)


@RULES.register("bptt")
@dataclass(frozen=True)
class Bptt(LearningRule):
    r"""The full gradient of the unrolled net, with the surrogate slope in place of dH/du.

    .. math:: \nabla_W L = \sum_t \delta[t]\, p[t]^T, \quad \delta\ through\ layers\ and\ time

    Args:
        loss: "end": one loss on the features reduced over T, after T steps (AGD of Panda et al.);
            "step": the mean over t of the losses of every step.

    Raises:
        ConfigError: another place for the loss.

    Source:
        Neftci, Mostafa & Zenke 2019; Panda et al. 2020, sec. 3.1 (loss at the end).
    """

    loss: Literal["end", "step"] = "end"

    facts: ClassVar[RuleFacts] = RuleFacts(
        title="backpropagation through time (approximate gradient descent)",
        source=Citation(
            "Neftci, Mostafa & Zenke",
            "Surrogate Gradient Learning in Spiking Neural Networks",
            "IEEE Signal Processing Magazine",
            2019,
            "arXiv:1901.09948",
        ),
        order="layer",
        memory="linear",
    )
    trials: ClassVar[Trials] = Trials(
        variants=({"loss": "step"},),
        trained=(Trial(TIME_MEAN), Trial("c4 M c4 f2")),
        refused=(
            replace(NO_STEPS, options={"loss": "step"}),
            Trial(refusal="loss: expected end or step, got 'mean'", options={"loss": "mean"}),
        ),
    )

    @property
    def loss_at(self) -> Literal["end", "step"]:
        """As the option says."""
        return self.loss

    def prepare(self, net: SpikingNet, head_sites: tuple[Site, ...], sample: Batch) -> None:
        """Refuse a loss at every step where features exist at the end only."""
        if self.loss == "step":
            refuse_tail(net, "bptt")

    def learn(
        self, net: SpikingNet, batch: Batch, objective: Objective, commit: Commit
    ) -> RuleReport:
        """Run the net, then one backward pass; one commit."""
        logits, value = self._loss(net(batch.xs, rng=batch.rng), objective)
        backpropagate([value])
        commit()
        return RuleReport(value.detach(), logits.detach())

    def _loss(self, features: Tensor, objective: Objective) -> Loss:
        if self.loss == "end":
            return objective.over(features)
        steps = [objective(h) for h in features.unbind(0)]
        logits = torch.stack([step.logits for step in steps]).mean(0)
        return Loss(logits, torch.stack([step.value for step in steps]).mean())
