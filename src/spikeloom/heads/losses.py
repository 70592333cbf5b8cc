"""Parts of losses that heads share."""

import torch
import torch.nn.functional as F
from torch import Tensor


def widened(o: Tensor) -> Tensor:
    """Return scores in float32 at least, for what is computed from them."""
    return o.to(torch.promote_types(o.dtype, torch.float32))


def batch_mean(values: Tensor, weights: Tensor | None = None) -> Tensor:
    r"""Return the mean over samples of value times weight.

    .. math:: \frac{1}{B} \sum_b w_b \ell_b

    Divided by B and not by the sum of weights, so that a sample's part does not depend on the other
    samples: the parts of several processes add up to the batch.

    Shape:
        values, weights: [B]; result: [].
    """
    return values.mean() if weights is None else (values * weights.to(values.dtype)).mean()


def cross_entropy(o: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the cross entropy as `batch_mean` takes it.

    Shape:
        o: [B, K]; target, weights: [B]; result: [].
    """
    if weights is None:
        return F.cross_entropy(o, target)
    return batch_mean(F.cross_entropy(o, target, reduction="none"), weights)
