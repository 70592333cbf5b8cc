"""What a sample of each class counts in the loss."""

import torch
from torch import Tensor

from spikeloom.base.errors import ConfigError
from spikeloom.data import Splits
from spikeloom.program.stage import Stage


def class_weights(stage: Stage, splits: Splits) -> Tensor | None:
    r"""Return what a sample of each class counts in the loss of a stage.

    .. math:: w_c = N / (K N_c) \quad \text{for "balanced"}

    N training samples, N_c of them of class c, K classes that occur. Their sum over the training
    part is N, so the loss keeps its scale, and no weight differs from 1 where classes are equal.

    Args:
        stage: with the setting.
        splits: whose training part is counted.

    Returns:
        Float64, 0 for a class without samples; None where every sample counts 1.

    Shape:
        result: [K].

    Raises:
        ConfigError: another number of weights than classes.
    """
    chosen = stage.class_weights
    if chosen is None:
        return None
    if splits.train.y.is_floating_point():
        raise ConfigError.of(
            "class_weights", "none, since targets are real numbers", chosen, "drop them"
        )
    if isinstance(chosen, tuple):
        if len(chosen) != splits.classes:
            raise ConfigError.of(
                "class_weights",
                f"{splits.classes} numbers, one per class of data '{splits.name}'",
                len(chosen),
                'give as many, or "balanced"',
            )
        weights = torch.tensor(chosen, dtype=torch.float64)
    else:
        counts = torch.bincount(splits.train.y.cpu(), minlength=splits.classes).double()
        there = counts > 0
        weights = torch.where(there, counts.sum() / (there.sum() * counts.clamp(min=1)), 0.0)
        if bool((weights[there] == 1).all()):
            return None
    return None if bool((weights == 1).all()) else weights
