"""Poisson rate code: brighter fires more often."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from spikeloom.base.checks import within
from spikeloom.base.errors import DataError
from spikeloom.base.fields import Checked
from spikeloom.base.seeding import Rng, stream_for, uniform
from spikeloom.base.types import InputKind, Values
from spikeloom.encoders.base import ENCODERS, Encoder, check_call

SATURATED = 0.5
"""Share of values firing at every step from which a code says little about them.

Inputs normalised to mean 0 and standard deviation 1 have a third of them beyond 1.
"""


@ENCODERS.register("poisson")
@dataclass(frozen=True)
class Poisson(Checked, Encoder):
    r"""Independent spikes with probability proportional to the value.

    .. math::
        s[t] = \operatorname{sign}(x)\,[u_t < p], \qquad p = r_{max} |x|, \qquad u_t \sim U[0, 1)

    Spikes are -1, 0 or 1; the sign carries mean/std-normalised inputs. The time mean has
    expectation p and variance p(1 - p)/T (times the sign); p above 1 saturates. The comparison is
    strict, hence x = 0 never fires and p = 1 always does. u and p are float32 at every precision:
    runs at two precisions see the same spikes.

    Args:
        max_rate: spikes per step of x = 1, in (0, 1]; rate in Hz times the step in seconds.

    Raises:
        ConfigError: max_rate out of range.

    Source:
        Panda et al. 2020, sec. 3 (Poisson inputs); signed form as in the code of Rathi et al. 2020,
        which compares with <=.

    Example:
        >>> Poisson().encode(torch.tensor([[0.0, 1.0, -1.0]]), 2, torch.Generator()).tolist()
        [[[0.0, 1.0, -1.0]], [[0.0, 1.0, -1.0]]]
    """

    max_rate: Annotated[float, within(0, 1, "(]", "a probability per step")] = 1.0
    about: ClassVar[str] = "random spikes, firing probability max_rate * |x| per step, signed"
    called: ClassVar[str] = "encoders.poisson"

    def caution(self, x: Tensor) -> str | None:
        """Say where most values fire at every step, whatever their size."""
        seen = x[x != 0].abs()
        beyond = float((self.max_rate * seen > 1).double().mean()) if len(seen) else 0.0
        if beyond <= SATURATED:
            return None
        return (
            f"encoders.poisson: expected most values in [-1, 1] / max_rate, got {100 * beyond:.0f} "
            f"% of the nonzero values outside it, up to {float(seen.max()):.3g}; these fire at "
            "every step; set data.scale to the largest stored value."
        )

    def encode(self, x: Tensor, steps: int, rng: Rng) -> Tensor:
        """Draw the spikes of every sample from its own stream "poisson".

        Shape:
            x: [B, ...]; result: [T, B, ...], contiguous.

        Raises:
            ConfigError: steps below 1.
            ShapeError: x has no batch dimension or is no float tensor.
            DataError: x holds NaN, which would give no spikes.
        """
        check_call("encoders.poisson", x, steps)
        if bool(x.isnan().any()):
            raise DataError.of("encoders.poisson", "x without NaN", "NaN", "correct the data set")
        # Drawn and compared in float32 at every precision: the same sample gives the same train.
        u = uniform(  # [B, T, ...]: the whole train of a sample comes from one stream
            stream_for(rng, "poisson"),
            x.shape[0],
            (steps, *x.shape[1:]),
            dtype=torch.float32,
            device=x.device,
        )
        p = self.max_rate * x.abs().to(torch.float32)
        s = torch.where(u < p.unsqueeze(1), x.sign().unsqueeze(1), 0.0)
        return s.transpose(0, 1).contiguous()

    def gives(self, values: Values) -> InputKind:
        """Return "events"."""
        return "events"
