"""How a net is computed: options that change speed and memory, and results only by rounding."""

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
    """How a net is computed. Results are the same up to rounding; speed and memory differ.

    Args:
        kernels: which loop runs the neurons through time. "auto" uses compiled kernels where they
            exist and the train is large enough, "compiled" uses them wherever they exist,
            "reference" never uses them.
        layout: memory layout of images: "rows" (channel after channel, torch's default) or
            "channels_last". "auto" uses "channels_last" on a CPU, where it makes convolutions
            faster, and "rows" elsewhere.
        memory: "saving" keeps less between the forward and the backward pass of a whole train:
            one bit per spike, and the currents of cheap layers are computed again. Gradients are
            the same. Rules that run step by step keep little anyway.
        worth: size of a train (elements times steps) from which "auto" uses a compiled kernel.
        order: order of computation where the learning rule does not set it. "layer" runs each
            layer over the whole train; feedback loops inside run step by step. "auto" does the
            same, except that it runs a net with feedback step by step as a whole. Results differ
            by rounding only. "auto" keeps this choice, so that learning curves of nets with
            feedback stay reproducible to the bit.

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
        """Return which loop runs a unit over a train of `elements` currents."""
        if self.kernels != "auto":
            return self.kernels
        return "compiled" if elements >= self.worth else "reference"

    def channels_last(self, device: str) -> bool:
        """Whether images are stored channels last on a kind of device, e.g. "cpu"."""
        return self.layout == "channels_last" or (self.layout == "auto" and device == "cpu")

    def arranged(self, x: Tensor) -> Tensor:
        r"""Return images in the chosen memory layout; later layers keep it.

        A train that is one image repeated (an expanded view) stays an expanded view.

        Shape:
            x, result: [B, C, H, W] or [T, B, C, H, W].
        """
        # under vmap only the default layout works
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
    # With one channel both layouts are the same memory. Torch tells them apart by the strides.
    height, width = images.shape[2:]
    return images.contiguous().as_strided(images.shape, (height * width, 1, width, 1))
