r"""Solvers for the adjoint equation of an equilibrium, :math:`v = J^T v + b`.

All of them ask for products with the Jacobian alone, and start at v = b, the first term of the
series :math:`\sum_k (J^T)^k b`. Norms are those of the whole vector: a batch is one system.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from spikeloom.base.checks import at_least, within
from spikeloom.base.extras import need
from spikeloom.base.fields import Checked

Product = Callable[[Tensor], Tensor]
Name = Literal["broyden", "anderson", "gmres", "fixed_point"]
Tolerance = Annotated[float, within(0, 1, "()", "a tolerance")]
Products = Annotated[int, at_least(1, "product")]

ROUNDINGS = 8
"""Smallest tolerance, in relative roundings of the type in use."""

DIVERGED = 1e6
"""A search ends when its residual is this many times the first one."""


@dataclass(frozen=True)
class Solution:
    r"""The result of a solver: the iterate with the smallest residual.

    Args:
        value: v.
        residual: :math:`\|J^T v - v + b\| / \|b\|`.
        products: number of products with the Jacobian.
        converged: whether the residual is below the tolerance.
    """

    value: Tensor
    residual: float
    products: int
    converged: bool

    @property
    def diverged(self) -> bool:
        """Whether even the best iterate is worse than v = 0, or not finite."""
        return not math.isfinite(self.residual) or self.residual > 1


@dataclass(frozen=True)
class Solver(Checked):
    r"""How :math:`v = J^T v + b` is solved.

    Args:
        name: "broyden" (rank-one updates of an inverse), "anderson" (mixing of past residuals),
            "gmres" (scipy's, on the CPU), "fixed_point" (:math:`v \leftarrow v + \omega r(v)`).
        tolerance: residual relative to b at which it stops, `ROUNDINGS` of the type at least.
        limit: products with the Jacobian at most.
        damping: :math:`\omega` of "fixed_point", in (0, 1].
        memory: past iterates that "anderson" mixes.

    Raises:
        ConfigError: a setting out of range, or gmres without scipy.

    Source:
        Xiao et al. 2021 (code) for Broyden's method; Anderson 1965; Saad & Schultz 1986.

    Example:
        >>> halved = Solver().solve(lambda v: v / 2, torch.ones(3))
        >>> halved.value
        tensor([2., 2., 2.])
    """

    name: Name = "broyden"
    tolerance: Tolerance = 1e-6
    limit: Products = 30
    damping: Annotated[float, within(0, 1, "(]", "a damping")] = 0.5
    memory: Annotated[int, at_least(1, "iterate")] = 5

    called: ClassVar[str] = "solver"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name == "gmres":
            need("scipy", "solver.name", "'gmres'")

    def solve(self, product: Product, b: Tensor, precision: torch.dtype | None = None) -> Solution:
        """Solve the equation.

        Args:
            product: J^T v for a v.
            b: right side.
            precision: type in which products are computed; that of b by default.

        Shape:
            b, v: [N].
        """
        norm = float(b.norm())
        if norm == 0 or not math.isfinite(norm):
            return Solution(b, 0.0 if norm == 0 else math.inf, 0, norm == 0)
        tolerance = max(self.tolerance, ROUNDINGS * torch.finfo(precision or b.dtype).eps)
        search = _Search(product, b, tolerance * norm, self.limit)
        if self.name == "gmres":
            _gmres(search)
        else:
            {"broyden": _broyden, "anderson": _anderson, "fixed_point": _fixed_point}[self.name](
                search, self
            )
        residual = search.best_norm / norm
        return Solution(search.best, residual, search.products, residual <= tolerance)


class _Search:
    """Counts products, and keeps the best iterate."""

    def __init__(self, product: Product, b: Tensor, enough: float, limit: int) -> None:
        self.product, self.b, self.enough, self.limit = product, b, enough, limit
        self.best, self.best_norm = b, math.inf
        self.first = self.last = math.inf
        self.products = 0

    def residual(self, v: Tensor) -> Tensor:
        """Return r(v) = J^T v - v + b."""
        r = self.product(v) - v + self.b
        self.products += 1
        norm = float(r.norm())
        self.first = norm if self.products == 1 else self.first
        self.last = norm
        if norm < self.best_norm:
            self.best, self.best_norm = v, norm
        return r

    @property
    def over(self) -> bool:
        """Whether to stop: solved, at the limit of products, or diverged."""
        lost = not math.isfinite(self.last) or self.last > DIVERGED * self.first
        return lost or self.best_norm <= self.enough or self.products >= self.limit


def _fixed_point(search: _Search, solver: Solver) -> None:
    v = search.b
    r = search.residual(v)
    while not search.over:
        v = v + solver.damping * r
        r = search.residual(v)


def _broyden(search: _Search, solver: Solver) -> None:
    """Update the inverse -I + sum u w^T so that it maps the last change of r to that of v."""
    us: list[Tensor] = []
    ws: list[Tensor] = []

    def inverse(x: Tensor) -> Tensor:
        return sum((u * (w @ x) for u, w in zip(us, ws, strict=True)), -x)

    def transposed(x: Tensor) -> Tensor:
        return sum((w * (u @ x) for u, w in zip(us, ws, strict=True)), -x)

    v = search.b
    r = search.residual(v)
    while not search.over:
        step = -inverse(r)
        v = v + step
        before, r = r, search.residual(v)
        change = r - before
        w = transposed(step)
        scale = w @ change
        if float(scale) == 0 or not bool(torch.isfinite(scale)):
            return
        us.append((step - inverse(change)) / scale)
        ws.append(w)


def _anderson(search: _Search, solver: Solver) -> None:
    """Mix past iterates so that their residuals cancel best."""
    v = search.b
    r = search.residual(v)
    vs, rs = [v], [r]
    while not search.over:
        if len(rs) > 1:
            falls = torch.stack([one - r for one in rs[:-1]], 1)
            moves = torch.stack([one - v for one in vs[:-1]], 1)
            mix = torch.linalg.lstsq(falls, -r.unsqueeze(1)).solution.squeeze(1)
            v = v + moves @ mix + (r + falls @ mix)
        else:
            v = v + r
        r = search.residual(v)
        vs, rs = [*vs, v][-solver.memory - 1 :], [*rs, r][-solver.memory - 1 :]


def _gmres(search: _Search) -> None:
    """Let scipy solve (I - J^T) v = b."""
    from scipy.sparse.linalg import LinearOperator, gmres

    like = search.b
    b = like.cpu().numpy()

    def apply(v: object) -> object:
        found = torch.as_tensor(v, dtype=like.dtype, device=like.device).reshape(-1)
        search.products += 1
        return (found - search.product(found)).cpu().numpy()

    size = (b.size, b.size)
    operator = LinearOperator(size, matvec=apply, dtype=b.dtype)  # pyright: ignore[reportCallIssue]
    steps = max(1, search.limit - 1)
    found, _ = gmres(operator, b, rtol=search.enough / float(like.norm()), restart=steps, maxiter=1)
    search.residual(torch.as_tensor(found, dtype=like.dtype, device=like.device))
