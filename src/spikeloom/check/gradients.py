"""A rule's gradient beside that of backpropagation through time, layer by layer."""

import torch
from torch import Tensor

from spikeloom.check.prepared import DIRECT, GRAD, Prepared
from spikeloom.check.toy import Case, T, Toy
from spikeloom.rules.base import LearningRule
from spikeloom.rules.bptt import Bptt


def beside_bptt(case: Case, *, steps: int = T) -> dict[str, tuple[Tensor, Tensor]]:
    """Return, by layer, the gradient of the rule and of BPTT on the same net, batch and loss.

    The net is the battery's, untrained, in float64. BPTT places its loss where the rule does, at
    every step or at the end: of the two, the one whose value is nearer to the reported one.

    Args:
        case: the rule.
        steps: T.

    Shape:
        values: flat, one entry per weight and bias of the layer. What a rule adds itself stands
            with the opposite sign, as a gradient does.
    """
    own, loss = _gradients(case, case.rule, steps)
    references = [_gradients(case, Bptt(loss=place), steps) for place in ("step", "end")]
    reference, _ = min(references, key=lambda found: abs(found[1] - loss))
    return {name: (own[name], reference[name]) for name in own}


def cosines(case: Case, *, steps: int = T) -> dict[str, float]:
    """Return, by layer, the cosine between the rule's gradient and BPTT's; 0 where one is zero."""
    return {
        name: torch.cosine_similarity(own, reference, dim=0).item()
        for name, (own, reference) in beside_bptt(case, steps=steps).items()
    }


def describe(case: Case) -> str:
    """Return the cosines in words, or why there are none."""
    try:
        found = cosines(case)
    except Exception as fault:  # whatever a broken rule raises: its checks have named it
        return f"none ({type(fault).__name__})"
    return ", ".join(f"{name} {value:+.3f}" for name, value in found.items())


def _gradients(case: Case, rule: LearningRule, steps: int) -> tuple[dict[str, Tensor], float]:
    toy = Toy(case, steps=steps)
    prepared = Prepared(rule, toy.net, toy.head, toy.batch())
    loss = prepared.learn().loss
    changes = prepared.changes()
    down = {
        name: changes.get(name + GRAD, torch.zeros_like(p)) - changes.get(name + DIRECT, 0)
        for name, p in prepared.parameters().items()
    }
    layers = {site.name: prepared.names(site.synapse) for site in toy.sites}
    found = {
        layer: torch.cat([down[name].flatten() for name in names])
        for layer, names in layers.items()
        if names
    }
    return found, loss.item()
