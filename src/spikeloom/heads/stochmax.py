"""Stochastic softmax (stochmax, DropMax): classes are dropped at random while training."""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from spikeloom.base.checks import above, at_least, within
from spikeloom.base.citation import Citation
from spikeloom.base.fields import checked
from spikeloom.base.seeding import Rng, stream_for, uniform
from spikeloom.heads.base import HEADS, Decay, Head, Reduction
from spikeloom.heads.losses import batch_mean, cross_entropy, widened
from spikeloom.nets.module.site import Site
from spikeloom.nets.ops import PLAIN, Ops, Visit
from spikeloom.nets.readout import Loss

Variant = Literal["softmax", "random", "determ", "panda", "qp", "dropmax"]
Start = Literal["prior", "zero"]

EPS = 1e-20
CLAMP = 1e-6
"""Uniform draws stay this far from 0 and 1, so that their logits are finite."""

RETAIN_START = -1.2
"""Bias of the retain map at the start: rho = 0.23, what other classes have after training."""

RHO_TARGET = "retain probability, targets"
RHO_RIVALS = "retain probability, rivals"
ENTROPY = "mask entropy per class"

COLLAPSED = 0.01
"""A mask has collapsed where the rivals (all classes but the target) have a lower mean rho."""

ALIKE = 0.05
"""rho is stuck where its mean over targets exceeds that over rivals by less than this."""

CERTAIN = 0.02
"""A mask is certain where its mean entropy per class, in nats, is this or less; 0.69 is most."""


@HEADS.register("stochmax")
class Stochmax(Head):
    r"""Softmax over a random subset of classes, which always keeps the target.

    Three linear maps read the same features: logits o, retain logits a, posterior logits r.

    .. math::
        p(y|x,z) = \frac{(z_y + \epsilon) e^{o_y}}{\sum_k (z_k + \epsilon) e^{o_k}}, \quad
        \rho = \sigma(a), \quad q = \sigma(sg(a) + r)

    The mask is a binary concrete draw of a probability given by its logit l,
    :math:`z_k = \sigma((l_k + logit(u_k)) / \tau)`, soft, one per sample and batch, with
    :math:`z_y := 1`. Terms of the loss, each summed over classes and averaged over the batch:

    - :math:`L_{ce} = -\log p(y|x,z)`
    - :math:`L_{kl} = \sum_{k \ne y} KL(q_k \| \rho_k) - \log \rho_y`
    - :math:`L_{aux} = -\log \sigma(r_y) - \sum_{k \ne y} \log(1 - \sigma(r_k))`
    - :math:`L_{ent} = \sum_k \rho_k \log \rho_k + (1-\rho_k) \log(1-\rho_k)`

    ============  ==========  ===========================================  ========
    variant       mask        terms besides L_ce                           adaptive
    ============  ==========  ===========================================  ========
    ``softmax``   z = 1       none                                         no
    ``random``    of `keep`   none                                         no
    ``determ``    z = rho     `entropy` x L_ent                            no
    ``panda``     of rho      `entropy` x L_ent                            no
    ``qp``        of rho      -log rho_y, `entropy` x L_ent                yes
    ``dropmax``   of q        L_kl, L_aux, `entropy` x L_ent               yes
    ============  ==========  ===========================================  ========

    ``dropmax``, the default, is the full method of Lee et al. Panda et al. 2020 (eq. 7) state a
    Bernoulli mask with probabilities from h and no further terms. ``panda`` follows this literally,
    with L_ent, without which every rival is dropped. It is not adaptive: the target is forced, so
    no term lifts its rho, and rivals are only pushed down. ``qp`` adds the missing term, L_kl with
    the rivals' q equal to rho. With o fixed and entropy weight 1 the target's a then ends where
    :math:`a \sigma(a) = 1`, at rho = 0.782.

    The two branches, retain and posterior, always have a bias, start at their prior, and carry no
    weight decay. Inference is deterministic: softmax of o + log(rho + eps), o for "softmax" and
    "random"; nothing is forced.

    Args:
        features: D; use rates (``reduce="mean"``), so that rho keeps its range whatever T is.
        classes: K.
        variant: which mask and terms, see the table.
        tau: temperature of the concrete draw.
        entropy: weight of L_ent.
        keep: retain probability of "random".
        samples: S > 0 predicts by Monte Carlo instead, the mean of p(y|x,z) over S hard masks
            z ~ Ber(rho), the same for all samples.
        start: biases of the branches at the start: "prior", -1.2 for a and -log(K - 1) for r, or
            "zero". From zero, the terms besides L_ce dominate hundreds of updates.
        bias: whether the map of the logits has one.
        reduce: how a train becomes one vector.
        decay: lambda of "membrane" and "weighted".
        seed: of the initial weights.

    Raises:
        ConfigError: a setting out of range.

    Source:
        Lee et al. 2018 and its code (tau, eps, term weights, decay); Panda et al. 2020, sec. 5.
    """

    about: ClassVar[str] = "stochastic softmax: rival classes are dropped at random in training"
    source: ClassVar[Citation | None] = Citation(
        "Lee et al.", "DropMax: Adaptive Variational Softmax", "NeurIPS", 2018, "arXiv:1712.07834"
    )
    maps: ClassVar[tuple[str, ...]] = ("readout", "retain", "posterior")
    branches: ClassVar[tuple[str, ...]] = ("retain", "posterior")

    @checked("head.stochmax")
    def __init__(
        self,
        features: int,
        classes: int,
        *,
        variant: Variant = "dropmax",
        tau: Annotated[float, above(0)] = 0.1,
        entropy: Annotated[float, at_least(0)] = 1.0,
        keep: Annotated[float, within(0, 1, "()", "a probability")] = 0.5,
        samples: Annotated[int, at_least(0)] = 0,
        start: Start = "prior",
        bias: bool = True,
        reduce: Reduction = "mean",
        decay: Decay = 0.5,
        seed: int = 0,
    ) -> None:
        super().__init__(features, classes, bias=bias, reduce=reduce, decay=decay, seed=seed)
        self.variant: Variant = variant
        self.samples = samples
        self.tau = tau
        self.entropy = entropy
        self.keep = keep
        if start == "prior":
            self._start(retain=RETAIN_START, posterior=-math.log(classes - 1))

    @torch.no_grad()
    def _start(self, **biases: float) -> None:
        for name, value in biases.items():
            bias = self._synapse(name).bias
            assert bias is not None
            bias.fill_(value)

    @property
    def inference_sites(self) -> tuple[Site, ...]:
        """The logits' site, and that of rho where a prediction reads it."""
        return self.sites[: 1 if self.variant in ("softmax", "random") else 2]

    def logits(self, h: Tensor, ops: Ops = PLAIN) -> Tensor:
        """Return o + log(rho + eps), its Monte Carlo counterpart, or o where there is no rho.

        Shape:
            h: [B, D]; result: [B, K].
        """
        o = widened(self.scores(h, ops))
        if self.variant in ("softmax", "random"):
            return o
        rho = torch.sigmoid(widened(ops.synapse(Visit(self.sites[1]), h)))
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

    def loss(
        self,
        h: Tensor,
        target: Tensor,
        *,
        noise: Tensor | None,
        ops: Ops = PLAIN,
        weights: Tensor | None = None,
    ) -> Loss:
        """Return inference logits and the training loss.

        Shape:
            h: [B, D]; target, weights: [B]; noise: [B, K].
        """
        o = widened(self.scores(h, ops))
        if self.variant == "softmax":
            return Loss(o, cross_entropy(o, target, weights))
        if self.variant == "random":
            assert noise is not None
            keep = math.log(self.keep / (1 - self.keep))
            z = concrete(torch.full_like(o, keep), noise, self.tau)
            return Loss(o, masked_cross_entropy(o, z, target, weights))
        hit = F.one_hot(target, self.classes).to(torch.bool)
        a = widened(ops.synapse(Visit(self.sites[1]), h))
        rho = torch.sigmoid(a)
        logits = o.detach() + torch.log(rho.detach() + EPS)
        value = self.entropy * negative_entropy(a, weights)
        if self.variant == "determ":
            return Loss(logits, value + masked_cross_entropy(o, rho, target, weights))
        assert noise is not None
        if self.variant == "dropmax":
            r = widened(ops.synapse(Visit(self.sites[2]), h))
            q_logit = a.detach() + r
            value = value + posterior_kl(q_logit, a, hit, weights) + auxiliary(r, hit, weights)
        else:
            q_logit = a
            if self.variant == "qp":
                value = value + target_term(a, target, weights)
        z = concrete(q_logit, noise, self.tau)
        return Loss(logits, value + masked_cross_entropy(o, z, target, weights))

    def cautions(self) -> tuple[str, ...]:
        """Warn of variants without a term that fits the mask to the label."""
        if self.variant not in ("determ", "panda"):
            return ()
        return (
            f"head.stochmax: variant '{self.variant}' is not adaptive: no term lifts the retain "
            "probability of the target, so the mask ends no better than a random one; use variant "
            "'qp' or 'dropmax'.",
        )

    def figures(self, h: Tensor, target: Tensor, ops: Ops = PLAIN) -> dict[str, Tensor]:
        """Return mean rho of targets and of rivals, and the mask's mean entropy per class in nats.

        Empty where the variant has no rho.

        Shape:
            h: [B, D]; target: [B]; each value: [].
        """
        if self.variant in ("softmax", "random"):
            return {}
        a = widened(ops.synapse(Visit(self.sites[1]), h))
        rho = torch.sigmoid(a)
        hit = F.one_hot(target, self.classes).to(torch.bool)
        return {
            RHO_TARGET: rho[hit].mean(),
            RHO_RIVALS: rho[~hit].mean(),
            ENTROPY: -negative_entropy(a) / self.classes,
        }

    def findings(self, figures: Mapping[str, float]) -> tuple[str, ...]:
        """Say where rho is stuck: the same for targets and rivals, all dropped, or certain."""
        if RHO_TARGET not in figures:
            return ()
        target, rivals = figures[RHO_TARGET], figures[RHO_RIVALS]
        came = f"rho {target:.3f} for targets, {rivals:.3f} for rivals on validation"
        if rivals < COLLAPSED:
            return (
                f"head.stochmax: the mask has collapsed: {came}. Rivals are dropped nearly always, "
                "rho has become the classifier and the logits learn little; raise head.entropy or "
                "use variant 'dropmax'.",
            )
        if figures[ENTROPY] <= CERTAIN:
            return (
                f"head.stochmax: the mask is certain: {came}, entropy {figures[ENTROPY]:.3f} nats "
                "per class. It hardly varies and the retain map hardly learns; lower the learning "
                "rate or raise head.entropy.",
            )
        if target - rivals < ALIKE:
            return (
                f"head.stochmax: the mask does not tell classes apart: {came}. Dropping is no "
                "better than at random; train longer or use variant 'qp' or 'dropmax'.",
            )
        return ()


def concrete(logit: Tensor, u: Tensor, tau: float) -> Tensor:
    r"""Draw a binary concrete variable from the logit of its probability.

    .. math:: z = \sigma((l + logit(u)) / \tau), \qquad P(z > 1/2) = \sigma(l)

    Logits go in as they are: far from 0 their sigmoid rounds to 0 or 1 and could not be undone.
    """
    return torch.sigmoid((logit + torch.logit(u.clamp(CLAMP, 1 - CLAMP))) / tau)


def masked_cross_entropy(
    o: Tensor, z: Tensor, target: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Return -log p(y | x, z) with z_y := 1, averaged over the batch."""
    z = z.scatter(1, target.unsqueeze(1), 1.0)
    return cross_entropy(o + torch.log(z + EPS), target, weights)


def posterior_kl(q_logit: Tensor, a: Tensor, hit: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return sum over rivals of KL(q || rho), minus log rho of the target; batch mean.

    q and rho enter as logits: clamped, a saturated rho would lose the gradient that brings it back.
    """
    kept = torch.sigmoid(q_logit) * (F.softplus(-a) - F.softplus(-q_logit))
    dropped = torch.sigmoid(-q_logit) * (F.softplus(a) - F.softplus(q_logit))
    return batch_mean(torch.where(hit, F.softplus(-a), kept + dropped).sum(1), weights)


def target_term(a: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return -log rho of the target, batch mean: `posterior_kl` where q is rho for rivals."""
    return batch_mean(F.softplus(-a.gather(1, target.unsqueeze(1))).squeeze(1), weights)


def auxiliary(r: Tensor, hit: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return L_aux, the binary cross entropy of sigma(r) with the label; batch mean."""
    return batch_mean(torch.where(hit, F.softplus(-r), F.softplus(r)).sum(1), weights)


def negative_entropy(a: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return sum over classes of rho log rho + (1 - rho) log(1 - rho), rho = sigma(a); batch mean.

    Its gradient by a is a rho (1 - rho).
    """
    kept, dropped = torch.sigmoid(a) * F.softplus(-a), torch.sigmoid(-a) * F.softplus(a)
    return -batch_mean((kept + dropped).sum(1), weights)
