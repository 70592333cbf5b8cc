"""Stochastic softmax (stochmax, DropMax): classes are dropped at random while training."""

import math
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from spikeloom.base.citation import Citation
from spikeloom.base.errors import ConfigError
from spikeloom.base.seeding import Rng, stream_for, uniform
from spikeloom.heads.base import HEADS, Head, Reduction
from spikeloom.nets.ops import PLAIN, Ops
from spikeloom.nets.readout import Loss
from spikeloom.nets.site import Site

Variant = Literal["softmax", "random", "determ", "panda", "dropmax"]

EPS = 1e-20
CLAMP = 1e-6
"""Probabilities and uniform draws stay this far from 0 and 1, so that logits are finite."""


@HEADS.register("stochmax")
class Stochmax(Head):
    r"""Softmax over a random subset of classes, which always keeps the target.

    Three linear maps read the same features: logits o, retain logits a, posterior logits r.

    .. math::
        p(y|x,z) = \frac{(z_y + \epsilon) e^{o_y}}{\sum_k (z_k + \epsilon) e^{o_k}}, \quad
        \rho = \sigma(a), \quad q = \sigma(sg(a) + r)

    The mask is a binary concrete draw
    :math:`z_k = \sigma((logit(q_k) + logit(u_k)) / \tau)`, soft, one per sample and batch,
    with :math:`z_y := 1`. Terms of the loss, each summed over classes and averaged over the batch:

    - :math:`L_{ce} = -\log p(y|x,z)`
    - :math:`L_{kl} = \sum_{k \ne y} KL(q_k \| \rho_k) - \log \rho_y`
    - :math:`L_{aux} = -\log \sigma(r_y) - \sum_{k \ne y} \log(1 - \sigma(r_k))`
    - :math:`L_{ent} = \sum_k \rho_k \log \rho_k + (1-\rho_k) \log(1-\rho_k)`

    ============  ========================================  =======================
    variant       mask                                      terms besides L_ce
    ============  ========================================  =======================
    ``softmax``   z = 1                                     none
    ``random``    concrete draw of a constant `keep`        none
    ``determ``    z = rho, no draw                          `entropy` x L_ent
    ``panda``     concrete draw of rho                      `entropy` x L_ent
    ``dropmax``   concrete draw of the posterior q          L_kl, L_aux, `entropy` x L_ent
    ============  ========================================  =======================

    Panda et al. 2020 (eq. 7) state a Bernoulli mask with probabilities from h and no further
    terms: that is ``panda`` with ``entropy=0``. Without a term that holds rho up the loss falls
    by dropping every rival, so the default keeps L_ent at weight 1. ``dropmax``, the default, is
    the full method of Lee et al. Inference is deterministic: softmax of o + log(rho + eps), o for
    "softmax" and "random"; nothing is forced. Weight decay is the optimizer's.

    Args:
        features: D; use rates (``reduce="mean"``), so that rho keeps its range whatever T is.
        classes: K.
        variant: which mask and terms, see the table.
        tau: temperature of the concrete draw.
        entropy: weight of L_ent.
        keep: retain probability of "random".
        samples: S > 0 predicts by Monte Carlo instead, the mean of p(y|x,z) over S hard masks
            z ~ Ber(rho), the same for all samples.
        bias: whether the maps have one.
        reduce: how a train becomes one vector.
        decay: lambda of "membrane" and "weighted".
        seed: of the initial weights.

    Raises:
        ConfigError: a setting out of range.

    Source:
        Lee et al. 2018 and its code (tau, eps, term weights); Panda et al. 2020, sec. 5.
    """

    about: ClassVar[str] = "stochastic softmax: rival classes are dropped at random in training"
    source: ClassVar[Citation | None] = Citation(
        "Lee et al.",
        "DropMax: Adaptive Variational Softmax",
        "NeurIPS",
        2018,
        "arXiv:1712.07834",
    )
    maps: ClassVar[tuple[str, ...]] = ("readout", "retain", "posterior")

    def __init__(
        self,
        features: int,
        classes: int,
        *,
        variant: Variant = "dropmax",
        tau: float = 0.1,
        entropy: float = 1.0,
        keep: float = 0.5,
        samples: int = 0,
        bias: bool = True,
        reduce: Reduction = "mean",
        decay: float = 0.5,
        seed: int = 0,
    ) -> None:
        super().__init__(features, classes, bias=bias, reduce=reduce, decay=decay, seed=seed)
        where = "head.stochmax"
        if variant not in get_args(Variant):
            raise ConfigError(
                f"{where}.variant: expected one of {get_args(Variant)}, got {variant!r}; fix it."
            )
        if not tau > 0:
            raise ConfigError(f"{where}.tau: expected a value above 0, got {tau}; change it.")
        if not entropy >= 0:
            raise ConfigError(f"{where}.entropy: expected 0 or more, got {entropy}; change it.")
        if not 0 < keep < 1:
            raise ConfigError(f"{where}.keep: expected (0, 1), got {keep}; change it.")
        if samples < 0:
            raise ConfigError(f"{where}.samples: expected 0 or more, got {samples}; change it.")
        self.variant: Variant = variant
        self.samples = samples
        self.tau = tau
        self.entropy = entropy
        self.keep = keep

    @property
    def inference_sites(self) -> tuple[Site, ...]:
        """The logits' site, and that of rho where a prediction reads it."""
        return self.sites[: 1 if self.variant in ("softmax", "random") else 2]

    def logits(self, h: Tensor, ops: Ops = PLAIN) -> Tensor:
        """Return o + log(rho + eps), its Monte Carlo counterpart, or o where there is no rho.

        Shape:
            h: [B, D]; result: [B, K].
        """
        o = _full(self.scores(h, ops))
        if self.variant in ("softmax", "random"):
            return o
        rho = torch.sigmoid(_full(ops.synapse(self.sites[1], h)))
        if not self.samples:
            return o + torch.log(rho + EPS)
        # the same draws for every sample: a prediction does not depend on its batch
        generator = torch.Generator().manual_seed(0)
        u = torch.rand((self.samples, 1, self.classes), generator=generator, device="cpu")
        z = (u.to(rho) < rho).to(rho.dtype)  # [S, B, K]
        p = torch.log_softmax(o + torch.log(z + EPS), dim=2)
        return torch.logsumexp(p, dim=0) - math.log(self.samples)

    def draw(self, batch: int, rng: Rng, like: Tensor) -> Tensor | None:
        """Return one uniform draw per sample and class, [B, K]."""
        if self.variant in ("softmax", "determ"):
            return None
        dtype = torch.promote_types(like.dtype, torch.float32)
        stream = stream_for(rng, "stochmax")
        return uniform(stream, batch, (self.classes,), dtype=dtype, device=like.device)

    def loss(self, h: Tensor, target: Tensor, *, noise: Tensor | None, ops: Ops = PLAIN) -> Loss:
        """Return inference logits and the training loss.

        Shape:
            h: [B, D]; target: [B]; noise: [B, K].
        """
        o = _full(self.scores(h, ops))
        hit = F.one_hot(target, self.classes).to(torch.bool)
        if self.variant == "softmax":
            return Loss(o, F.cross_entropy(o, target))
        if self.variant == "random":
            assert noise is not None
            z = concrete(torch.full_like(o, self.keep), noise, self.tau)
            return Loss(o, masked_cross_entropy(o, z, target))
        a = _full(ops.synapse(self.sites[1], h))
        rho = torch.sigmoid(a)
        logits = o.detach() + torch.log(rho.detach() + EPS)
        value = self.entropy * negative_entropy(rho)
        if self.variant == "determ":
            return Loss(logits, value + masked_cross_entropy(o, rho, target))
        assert noise is not None
        if self.variant == "panda":
            z = concrete(rho, noise, self.tau)
            return Loss(logits, value + masked_cross_entropy(o, z, target))
        r = _full(ops.synapse(self.sites[2], h))
        q = torch.sigmoid(a.detach() + r)
        value = value + masked_cross_entropy(o, concrete(q, noise, self.tau), target)
        return Loss(logits, value + posterior_kl(q, a, hit) + auxiliary(r, hit))


def concrete(q: Tensor, u: Tensor, tau: float) -> Tensor:
    """Draw a binary concrete variable: sigmoid((logit q + logit u) / tau)."""
    q, u = q.clamp(CLAMP, 1 - CLAMP), u.clamp(CLAMP, 1 - CLAMP)
    return torch.sigmoid((torch.logit(q) + torch.logit(u)) / tau)


def masked_cross_entropy(o: Tensor, z: Tensor, target: Tensor) -> Tensor:
    """Return -log p(y | x, z) with z_y := 1, averaged over the batch."""
    z = z.scatter(1, target.unsqueeze(1), 1.0)
    return F.cross_entropy(o + torch.log(z + EPS), target)


def posterior_kl(q: Tensor, a: Tensor, hit: Tensor) -> Tensor:
    """Return sum over rivals of KL(q || rho), minus log rho of the target; batch mean.

    rho enters as its logit a: clamped, a saturated rho would lose the gradient that brings it back.
    """
    q = q.clamp(CLAMP, 1 - CLAMP)
    rivals = q * (torch.log(q) + F.softplus(-a)) + (1 - q) * (torch.log1p(-q) + F.softplus(a))
    return torch.where(hit, F.softplus(-a), rivals).sum(1).mean()


def auxiliary(r: Tensor, hit: Tensor) -> Tensor:
    """Return the term that makes r carry the label; batch mean."""
    return torch.where(hit, F.softplus(-r), F.softplus(r)).sum(1).mean()


def negative_entropy(rho: Tensor) -> Tensor:
    """Return sum over classes of rho log rho + (1 - rho) log(1 - rho); batch mean."""
    rho = rho.clamp(CLAMP, 1 - CLAMP)
    return (rho * torch.log(rho) + (1 - rho) * torch.log1p(-rho)).sum(1).mean()


def _full(o: Tensor) -> Tensor:
    """Return o in float32 or better: log rho underflows in half precision."""
    return o.to(torch.promote_types(o.dtype, torch.float32))
