"""The network module: runs by step, by layer or on rates, and keeps no state between calls."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from spikeloom.base.errors import ShapeError
from spikeloom.base.fields import checked
from spikeloom.base.seeding import Rng
from spikeloom.base.torch_private import Converted
from spikeloom.kernels.source.jit import compiler
from spikeloom.nets.execution import Execution
from spikeloom.nets.how import Decided, How, Order, Setting, torch_now
from spikeloom.nets.module.build import Plan
from spikeloom.nets.module.init import initialise
from spikeloom.nets.module.input import check_input, check_sequence
from spikeloom.nets.module.site import Site
from spikeloom.nets.module.size import measure
from spikeloom.nets.module.synapse import Shape
from spikeloom.nets.ops import PLAIN, Ops
from spikeloom.nets.spec.grammar import parse
from spikeloom.nets.spec.net import NetSpec
from spikeloom.nets.walk.stepper import Stepper
from spikeloom.nets.walk.trains import TrainWalk
from spikeloom.nets.walk.walk import (
    Held,
    NetState,
    Observer,
    RateWalk,
    StepWalk,
    is_constant,
    low_pass,
)

if TYPE_CHECKING:
    from spikeloom.nets.from_torch.link import Link


class SpikingNet(Converted):
    """A deep spiking network built from a `NetSpec`.

    A call on a train [T, B, ...] starts from the initial state; `step` takes and returns the state.
    It returns the features at every step, for a head. The spec's readout belongs to the head.

    Args:
        spec: the network, or its text.
        in_shape: one sample's shape, (C, H, W) or (D,).
        seed: of the initial weights (see `nets.module.init`).
        execution: how it is computed; the attribute may be changed at any time.

    Raises:
        ConfigError, ShapeError, UnsupportedNet: a net that cannot be built; names the layer.

    Example:
        >>> net = SpikingNet("c8 P f16 f10", (1, 8, 8))
        >>> net(torch.rand(4, 2, 1, 8, 8)).shape
        torch.Size([4, 2, 16])
    """

    @checked("net")
    def __init__(
        self,
        spec: NetSpec | str,
        in_shape: Shape,
        *,
        seed: int = 0,
        execution: Execution | None = None,
    ) -> None:
        super().__init__()
        self.execution = Execution() if execution is None else execution
        self.spec = parse(spec) if isinstance(spec, str) else spec
        self.in_shape = tuple(in_shape)
        if len(self.in_shape) not in (1, 3) or min(self.in_shape) < 1:
            raise ShapeError(
                f"net: expected an input shape (C, H, W) or (D,), got {self.in_shape}; fix it."
            )
        measure(self.spec, self.in_shape)  # refuses nets that do not fit into memory
        self.plan = Plan(self.spec, self.in_shape)
        self.sites: tuple[Site, ...] = self.plan.sites
        self.last_linear: nn.Linear | None = None
        self.link: Link | None = None
        self.prepared: list[object] = []  # rules that accepted this net
        self._observers: tuple[Observer, ...] = ()
        self._settings: list[Setting] | None = None
        self._decided = Decided()  # for calls without a rule
        self._end = len(self.plan.blocks) if self.spec.tail is None else self.spec.tail
        self._convolves = any(site.spec.kind.startswith("conv") for site in self.sites)
        initialise(self.sites, torch.Generator().manual_seed(seed))

    @classmethod
    def from_torch(
        cls,
        module: nn.Module,
        in_shape: Shape,
        *,
        norm: Literal["batch_step", "batch_all"] = "batch_step",
    ) -> "SpikingNet":
        """Build a net around a user's own module; both train the same parameters.

        The module is a Sequential, or has a forward for one step [B, ...] with our `Neuron` between
        the layers. The page docs/howto/from_torch.md lists what is translated, which later changes
        the net follows, and what is refused. A last Linear without neurons is left to the head
        (`Head.of`); it is not among the net's own parameters. Net and module are compared once, on
        a small random input.

        Args:
            module: layers of torch and `Neuron`, in Sequentials and modules of your own.
            in_shape: one sample's shape, (C, H, W) or (D,).
            norm: batch norms take statistics over the batch at each step ("batch_step"), or over
                batch and time together ("batch_all").

        Raises:
            ConfigError: another `norm`, or no module.
            ShapeError, UnsupportedNet: a part that cannot be translated, named by place and class.
                Later calls of the net raise them if the module changed in an unsupported way.
        """
        from spikeloom.nets.from_torch.translate import translate  # imports this module

        return translate(module, in_shape, norm)

    def converted(self, convert: Callable[[nn.Module], object]) -> None:
        """Convert or move the last linear layer along with the net; the net's head uses it."""
        if self.last_linear is not None:
            convert(self.last_linear)

    def train(self, mode: bool = True) -> "SpikingNet":
        """Set training mode, also of a module that the net was made from."""
        super().train(mode)
        if self.link is not None:
            self.link.module.train(mode)
        return self

    @property
    def backend(self) -> str:
        """What runs the neurons: a compiler with its version, or "reference" for plain torch."""
        return "reference" if self.execution.kernels == "reference" else compiler()

    @property
    def features(self) -> int:
        """Number of features D the head reads."""
        return math.prod(self.plan.out_shape)

    def forward(self, xs: Tensor, rng: Rng | None = None, ops: Ops = PLAIN) -> Tensor:
        """Run in the order that `Execution.order` sets."""
        by_time = self.spec.feedback and self.execution.order == "auto"
        return (self.run_by_time if by_time else self.run_by_layer)(xs, ops, rng=rng)

    def step(
        self,
        x: Tensor,
        state: NetState | None,
        ops: Ops = PLAIN,
        *,
        rng: Rng | None = None,
        held: Held | None = None,
    ) -> tuple[Tensor, NetState]:
        r"""Advance one time step.

        Blocks that read the mean over time (the spec's `tail`) do not run here; see `finish`.

        Args:
            x: input of this step.
            state: state after the last step; None for the initial state.
            ops: functions of a learning rule.
            rng: random streams for dropout in training.
            held: result of `hold`, if the input is the same at every step.

        Returns:
            Features of this step, and the new state.

        Shape:
            x: [B, \*in_shape]; features: [B, D], not flattened if a tail follows.

        Raises:
            ShapeError: x does not fit the net.
            UnsupportedNet: batch_all statistics in training, which need all steps at once.
        """
        return self._step(x, state, ops, rng, held)

    def stepper(
        self, ops: Ops = PLAIN, *, rng: Rng | None = None, held: Held | None = None
    ) -> Stepper:
        """Return an object that runs the net step by step and keeps the state inside.

        Since nobody else reads this state, it may take less memory if `ops` detach it.

        Args:
            ops: functions of a learning rule.
            rng: random streams for dropout in training.
            held: as in `step`.
        """
        decided = self._lasting(ops)
        return Stepper(partial(self._step, ops=ops, rng=rng, held=held, decided=decided))

    def _step(
        self,
        x: Tensor,
        state: NetState | None,
        ops: Ops,
        rng: Rng | None,
        held: Held | None,
        decided: Decided | None = None,
    ) -> tuple[Tensor, NetState]:
        check_input(self, x.unsqueeze(0), in_time=True)
        walking = self._walking("time", ops, rng, len(x), private=decided)
        walk = StepWalk(*walking, before=state or NetState(), held=held)
        x = self._arranged(x)
        if self.spec.input_psp is not None:
            x = walk.filter_input(x, self.spec.input_psp.decay, self.spec.input_psp.scale)
        walk.feed()
        h = walk.blocks(x, 0, self._end)
        return (h.flatten(1) if self.spec.tail is None else h), walk.after()

    def hold(self, x: Tensor, ops: Ops = PLAIN, *, steps: int, rng: Rng | None = None) -> Held:
        r"""Compute the values that stay the same at every step if the input does.

        These are all values up to the first current of a stateful unit. The result is valid as
        long as the weights do not change.

        Args:
            x: input of every step.
            ops: functions of a learning rule.
            steps: number of steps it stands for.
            rng: random streams for dropout in training.

        Shape:
            x: [B, \*in_shape].
        """
        check_input(self, x.unsqueeze(0), in_time=True)
        walk = StepWalk(
            *self._walking("time", ops, rng, len(x), private=self._lasting(ops)),
            before=NetState(),
            holding=steps,
        )
        return Held() if self.spec.input_psp is not None else walk.hold_prefix(self._arranged(x))

    def run_by_time(self, xs: Tensor, ops: Ops = PLAIN, *, rng: Rng | None = None) -> Tensor:
        r"""Run all layers at one step, then at the next step.

        Shape:
            xs: [T, B, \*in_shape]; result: [T, B, D].

        Raises:
            ShapeError: xs does not fit the net.
            UnsupportedNet: batch_all statistics in training.
        """
        check_input(self, xs, in_time=True)
        held = None
        if is_constant(xs) and len(xs) > 1:
            held = self.hold(xs[0], ops, steps=len(xs), rng=rng)
        stepper = self.stepper(ops, rng=rng, held=held)
        return self.finish(torch.stack([stepper(x) for x in xs.unbind(0)]), ops, rng=rng)

    def run_by_layer(self, xs: Tensor, ops: Ops = PLAIN, *, rng: Rng | None = None) -> Tensor:
        r"""Run layer after layer, each on the whole train; same result as `run_by_time`.

        Blocks inside a feedback loop run step by step.

        Shape:
            xs: [T, B, \*in_shape]; result: [T, B, D].

        Raises:
            ShapeError: xs does not fit the net.
            UnsupportedNet: batch_all statistics in training inside a feedback loop.
        """
        check_input(self, xs, in_time=False)
        walk = TrainWalk(*self._walking("layer", ops, rng, xs.shape[1], steps=len(xs)))
        xs, psp = self._arranged(xs), self.spec.input_psp
        if psp is not None:
            xs = low_pass(xs, psp.decay, psp.scale)
        return self.finish(walk.blocks(xs, 0, self._end), ops, rng=rng)

    def finish(self, h: Tensor, ops: Ops = PLAIN, *, rng: Rng | None = None) -> Tensor:
        """Run the blocks that read the mean over time, once, and flatten the features.

        Shape:
            h: [T, B, ...]; result: [T, B, D], the same at every t if the net has such blocks.
        """
        if self.spec.tail is None:
            return h.flatten(2)
        walk = TrainWalk(*self._walking("layer", ops, rng, h.shape[1]))
        out = walk.blocks(h.mean(0, keepdim=True), self.spec.tail, len(self.plan.blocks))
        return out.flatten(2).expand(h.shape[0], -1, -1)

    def run_rates(
        self,
        x: Tensor,
        ops: Ops = PLAIN,
        *,
        rng: Rng | None = None,
        fed: Mapping[int, Tensor] | None = None,
    ) -> Tensor:
        r"""Run once with the steady rate of every unit in place of its spikes.

        Args:
            x: constant input.
            ops: functions of a learning rule.
            rng: random streams for dropout in training.
            fed: rate at the start of each feedback edge, by the edge's number.

        Shape:
            x: [B, \*in_shape]; result: [B, D].
        """
        return self.rate_map(x, fed or {}, ops, rng=rng)[0]

    def rate_map(
        self, x: Tensor, fed: Mapping[int, Tensor], ops: Ops = PLAIN, *, rng: Rng | None = None
    ) -> tuple[Tensor, dict[int, Tensor]]:
        r"""Run once on rates, from given rates at the starts of feedback edges to new ones.

        At an equilibrium both are the same.

        Args:
            x: constant input.
            fed: rate at the start of each feedback edge, by the edge's number; other edges send
                nothing.
            ops: functions of a learning rule.
            rng: random streams for dropout in training.

        Returns:
            Features, and the new rates, by the numbers in `fed`.

        Shape:
            x: [B, \*in_shape]; features: [B, D].
        """
        check_input(self, x.unsqueeze(0), in_time=False)
        x = self._arranged(x)
        walk = RateWalk(*self._walking("rates", ops, rng, len(x)))
        for number, rate in fed.items():
            edge = self.plan.edges[number]
            walk.add(edge, walk.path(edge.sites, rate))
        psp = self.spec.input_psp
        if psp is not None:
            x = x * (psp.scale / (1 - psp.decay))
        features = walk.blocks(x, 0, len(self.plan.blocks)).flatten(1)
        return features, {n: walk.outputs[self.plan.edges[n].spec.source] for n in fed}

    @contextmanager
    def observe(self, *observers: Observer) -> Iterator[None]:
        """Inside the block, pass inputs, currents and outputs of all sites to the observers."""
        before = self._observers
        self._observers = (*before, *observers)
        try:
            yield
        finally:
            self._observers = before

    @contextmanager
    def settings(self) -> Iterator[list[Setting]]:
        """Collect the settings of all calls inside the block, to report how each is computed."""
        before, self._settings = self._settings, []
        try:
            yield self._settings
        finally:
            self._settings = before

    def project(self) -> None:
        """Clip trained quantities (thresholds) to their bounds; to be called after an update."""
        for site in self.sites:
            if site.neuron is not None and site.neuron.unit.learn:
                site.neuron.project()

    def _arranged(self, xs: Tensor) -> Tensor:
        return self.execution.arranged(xs) if self._convolves else xs

    def _lasting(self, ops: Ops) -> Decided:
        return self._decided if ops is PLAIN else Decided()

    def _walking(
        self,
        order: Order,
        ops: Ops,
        rng: Rng | None,
        batch: int,
        *,
        steps: int = 1,
        private: Decided | None = None,
    ) -> tuple[Plan, Setting, dict[str, How], Rng | None, tuple[Observer, ...]]:
        check_sequence(self.plan, order, ops, training=self.training)
        setting = Setting(
            order,
            ops,
            self.execution,
            self.training,
            watched=bool(self._observers),
            rows=batch * steps,
            steps=steps,
            private=private is not None,
            **torch_now(order),
        )
        if self._settings is not None and setting not in self._settings:
            self._settings.append(setting)
        hows = (private or self._lasting(ops)).of(setting, self.sites)
        return self.plan, setting, hows, rng, self._observers
