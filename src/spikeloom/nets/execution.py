"""How a net is computed, as a value: the results are the same up to rounding, the cost is not."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from spikeloom.base.checks import at_least
from spikeloom.base.fields import Checked
from spikeloom.base.torch_private import transformed
from spikeloom.neurons.trains import WORTH, Kernels

Layout = Literal["auto", "rows", "channels_last"]
Memory = Literal["plain", "saving"]


@dataclass(frozen=True)
class Execution(Checked):
    """How a net is computed.

    Args:
        kernels: "auto" takes compiled loops where they exist and trains are large enough,
            "compiled" wherever they exist, "reference" never.
        worth: elements times steps that are large enough.
        order: in which a call of the net goes, where a rule does not say: "layer" takes whole
            trains, feedback loops step by step between them. "auto" does so too, but takes nets
            with feedback step by step altogether. The results are the same where sums are exact;
            elsewhere the last bits differ, and the learning curves of such nets with them, which
            is why "auto" stays as it is.
        layout: how images lie in memory: "rows" (each map by itself) or "channels_last", with
            which convolutions on a CPU are fastest, and which "auto" takes there.
        memory: "saving" stores less between forward and backward pass of a whole train: spikes in
            a bit each, and currents of cheap layers not at all; gradients are the same. Rules
            that go step by step store next to nothing already.

    Raises:
        ConfigError: another choice.
    """

    kernels: Kernels = "auto"
    layout: Layout = "auto"
    memory: Memory = "plain"
    worth: Annotated[int, at_least(0)] = WORTH
    order: Literal["auto", "layer"] = "auto"

    called: ClassVar[str] = "execution"

    def loop_for(self, elements: int) -> Kernels:
        """Return which loop takes a unit through a train of so many currents."""
        if self.kernels != "auto":
            return self.kernels
        return "compiled" if elements >= self.worth else "reference"

    def channels_last(self, device: str) -> bool:
        """Whether images lie with their channels last on a kind of device."""
        return self.layout == "channels_last" or (self.layout == "auto" and device == "cpu")

    def arranged(self, x: Tensor) -> Tensor:
        r"""Return images in the layout; what follows keeps it. An expanded train stays expanded.

        Shape:
            x: [B, C, H, W] or [T, B, C, H, W].
        """
        # vmap knows no other layout than rows
        if not self.channels_last(x.device.type) or transformed():
            return x
        if x.dim() == 4:
            return _channels_last(x)
        steps = x.shape[0]
        once = steps > 1 and x.stride(0) == 0
        images = x[0] if once else x.flatten(0, 1)
        images = _channels_last(images)
        return images.expand(steps, *images.shape) if once else images.unflatten(0, (steps, -1))


def _channels_last(images: Tensor) -> Tensor:
    if images.shape[1] > 1:
        return images.contiguous(memory_format=torch.channels_last)
    # maps of one channel lie both ways; only their strides can say which is meant
    height, width = images.shape[2:]
    return images.contiguous().as_strided(images.shape, (height * width, 1, width, 1))
