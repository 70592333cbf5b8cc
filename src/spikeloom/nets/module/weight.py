"""Effective weights: what a synapse multiplies with, computed from its trained weight."""

import torch
from torch import Tensor, nn

from spikeloom.base.tracing import transformed
from spikeloom.nets.spec.layer import MaskSpec


class Standardised(nn.Module):
    r"""Scaled weight standardisation per output channel.

    .. math:: \hat W = g\,\frac{W - mean(W)}{\sqrt{n\,var(W) + \epsilon}}

    n is the fan-in, var the unbiased variance, :math:`\epsilon = 10^{-4}`, and g a trained gain
    that starts at 1. Mean and variance are taken over the weights of one output channel.

    Source:
        Brock et al. 2021 (NF-Net); Xiao et al. 2022 (OTTT code).
    """

    eps = 1e-4

    def __init__(self, weight: Tensor, out_axis: int) -> None:
        super().__init__()
        self.axes = [axis for axis in range(weight.dim()) if axis != out_axis]
        shape = [1] * weight.dim()
        shape[out_axis] = weight.shape[out_axis]
        self.gain = nn.Parameter(torch.ones(shape))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the standardised weight."""
        fan_in = weight.numel() // self.gain.numel()
        mean = weight.mean(self.axes, keepdim=True)
        var = weight.var(self.axes, keepdim=True)
        return (weight - mean) * torch.rsqrt(var * fan_in + self.eps) * self.gain


class Masked(nn.Module):
    """A fixed random subset of the weights; the others are 0 and get no gradient."""

    mask: Tensor

    def __init__(self, weight: Tensor, spec: MaskSpec) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(spec.seed)
        mask = (torch.rand(weight.shape, generator=generator, device="cpu") < spec.density).to(
            weight.dtype
        )
        if not spec.self_connections:
            mask *= 1 - torch.eye(*weight.shape[:2]).reshape(
                *weight.shape[:2], *[1] * (weight.dim() - 2)
            )
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the kept weights."""
        return weight * self.mask


class Shrunk(nn.Module):
    r"""Bounded Frobenius norm.

    .. math:: \hat W = W \min(1, b / \|W\|_F)

    No gradient flows through the factor.

    Source:
        Xiao et al. 2023 (SPIDE), whose code estimates the norm from 64 random vectors.
    """

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.limit = bound

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight with a norm of at most the bound."""
        return weight * (self.limit / weight.detach().norm()).clamp(max=1.0)


class Restricted(nn.Module):
    r"""Bounded spectral norm with a trained scale.

    .. math:: \hat W = clamp(\gamma, -b, b)\, W / \sigma(W)

    :math:`\sigma = u^T W v` is the largest singular value of W as a matrix [first axis, rest]. It
    is estimated by power iteration: ten steps at the start, then one step per forward in training,
    none in evaluation. No gradient flows through u and v. The trained scale :math:`\gamma` starts
    at the norm of W, or at the bound b if that is smaller.

    Source:
        Xiao et al. 2021 (IDE, b = 1).
    """

    u: Tensor
    v: Tensor
    start_steps = 10

    def __init__(self, weight: Tensor, bound: float) -> None:
        super().__init__()
        self.bound = bound
        matrix = weight.detach().flatten(1)
        self.register_buffer("u", torch.ones(matrix.shape[0]) / matrix.shape[0] ** 0.5)
        self.register_buffer("v", torch.zeros(matrix.shape[1]))
        for _ in range(self.start_steps):
            self._follow(matrix)
        sigma = self.u @ matrix @ self.v
        self.gamma = nn.Parameter(sigma.detach().clamp(max=bound))

    @torch.no_grad()
    def _follow(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Do one step of power iteration and return u and v.

        Under a torch transform they are not stored, since its tensors are invalid after it ends.
        """
        v = nn.functional.normalize(matrix.t() @ self.u, dim=0)
        u = nn.functional.normalize(matrix @ v, dim=0)
        if type(u) is Tensor and not transformed(u):
            self.u, self.v = u, v
        return u, v

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight with spectral norm |clamp(gamma)|, up to the error of the iteration."""
        matrix = weight.flatten(1)
        u, v = self._follow(matrix.detach()) if self.training else (self.u, self.v)
        return weight * (self.gamma.clamp(-self.bound, self.bound) / (u @ matrix @ v))
