"""Streaming: one frame in, the answer so far out, all state in the caller's hands."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spikeloom.base.errors import ConfigError, ShapeError
from spikeloom.heads.base import Head
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.ops import PLAIN, Ops
from spikeloom.nets.walk.state import Held, NetState, pick_rows


@dataclass(frozen=True)
class StreamState:
    """All a stream carries from frame to frame: a value.

    Args:
        net: what the network carries; None before the first frame.
        total: weighted sum of the features so far.
        weight: sum of their weights.
        held: what a constant input makes constant, where `Stream.start` was given one.

    Shape:
        total: [B, D], or [B, ...] where blocks read the time mean: then a plain sum.
    """

    net: NetState | None = None
    total: Tensor | None = None
    weight: float = 0.0
    held: Held | None = None

    @property
    def steps(self) -> int:
        """Number of frames seen."""
        return 0 if self.net is None else self.net.t

    def pick(self, rows: Tensor) -> "StreamState":
        """Return the state of some samples of the batch.

        Shape:
            rows: [N], their places in the batch.
        """
        return pick_rows(self, rows)


class Stream:
    r"""A network and its head, fed with one frame at a time.

    After t frames the logits are those of a run of t steps on the same frames, up to rounding.
    The head's reduction over time advances with each frame: no train is stored, so memory does not
    grow with the number of frames.

    Net and head must be in evaluation: in training their batch statistics and dropout would belong
    to single frames.

    Args:
        net: the network.
        head: its head.
        ops: how synapses are computed, e.g. those of an `EventEngine`.

    Raises:
        ShapeError: the head reads another number of features than the net has.

    Example:
        >>> net = SpikingNet("c4 P f10", (1, 8, 8)).eval()
        >>> stream = Stream(net, Head.of(net).eval())
        >>> state = stream.start()
        >>> for frame in torch.ones(3, 1, 8, 8):
        ...     logits, state = stream.step(frame, state)
        >>> logits.shape, state.steps
        (torch.Size([10]), 3)
    """

    def __init__(self, net: SpikingNet, head: Head, ops: Ops = PLAIN) -> None:
        read = head.features
        if read != net.features:
            raise ShapeError(
                f"stream: expected a head that reads {net.features} features, got {read}; build "
                "it with Head.of(net)."
            )
        self._net = net
        self._head = head
        self._ops = ops

    @torch.no_grad()
    def start(self, constant: Tensor | None = None) -> StreamState:
        r"""Return the state before the first frame.

        Args:
            constant: the frame, where all frames will be the same: what depends on it alone is
                computed here, once.

        Shape:
            constant: [B, \*in_shape].
        """
        if constant is None:
            return StreamState()
        self._check()
        return StreamState(held=self._net.hold(constant, self._ops, steps=1))

    @torch.no_grad()
    def step(self, frame: Tensor, state: StreamState) -> tuple[Tensor, StreamState]:
        r"""Take one frame.

        Args:
            frame: the input of this step.
            state: what the last step left, or `start()`.

        Returns:
            The logits after all frames so far, and the state to carry on.

        Shape:
            frame: [B, \*in_shape] or one sample's, \*in_shape; logits: [B, K] or [K].

        Raises:
            ShapeError: the frame does not fit the net.
            ConfigError: net or head are in training mode.
        """
        self._check()
        if frame.dim() == len(self._net.in_shape):
            logits, state = self.step(frame.unsqueeze(0), state)
            return logits[0], state
        h, after = self._net.step(frame, state.net, self._ops, held=state.held)
        kept = 1.0 if self._net.spec.tail is not None else self._head.memory
        total = h if state.total is None else kept * state.total + h
        weight = self._head.memory * state.weight + 1
        state = replace(state, net=after, total=total, weight=weight)
        return self._head.logits(self._reduced(state), self._ops), state

    def _reduced(self, state: StreamState) -> Tensor:
        """Return the features so far as the head reads them, [B, D]."""
        total, weight = state.total, state.weight
        assert total is not None
        if self._net.spec.tail is None:
            return total / weight if self._head.averages else total
        # behind a mean over time the features of all steps are alike
        h = self._net.finish((total / state.steps).unsqueeze(0), self._ops)[0]
        return h if self._head.averages else h * weight

    def _check(self) -> None:
        if self._net.training or self._head.training:
            raise ConfigError(
                "stream: expected net and head in evaluation mode, got training mode; call "
                "net.eval() and head.eval() first."
            )
