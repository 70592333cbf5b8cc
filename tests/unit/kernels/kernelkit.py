"""Shared by the tests of kernels: where no compiler is installed, and numbers worth trying."""

import importlib.util
import math

import pytest
import torch

needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("numba") is None, reason="no compiler is installed"
)

ODD = [0.0, -0.0, 1.0, -1.0, 0.5, -2.0, 3.0, 1e-3, -1e-3, 88.0, -104.0, 1e30, -1e30, 1e-42]
ODD += [math.inf, -math.inf, math.nan]
"""Zeros of both signs, small and large, too small for a normal number, and what is no number."""


def leaky(current, thetas, states):
    """Fire at 1, subtract what fired: a step as `Scan` takes it, without a surrogate."""
    (v,) = states
    u = 0.5 * v + current
    s = (u >= 1).to(u.dtype)
    return [s, u - s]


def pairs(dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Return every pair of odd numbers, and many at random."""
    odd = torch.tensor(ODD, dtype=torch.float64).to(dtype)
    draw = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 4000, generator=draw, dtype=torch.float64).to(dtype) * 3
    grid = torch.cartesian_prod(odd, odd)
    return torch.cat([grid[:, 0], one]), torch.cat([grid[:, 1], other])
