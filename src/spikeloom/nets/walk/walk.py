"""Walks: each computes the same plan in one order.

`Walk` defines how blocks, passes and joins are computed from sites. Its subclasses compute a site:
`StepWalk` for one step, `trains.TrainWalk` for a whole train, `RateWalk` for rates.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from spikeloom.base.errors import ConfigError
from spikeloom.base.seeding import Rng, stream_for, uniform
from spikeloom.kernels.runs import TrainOptions
from spikeloom.nets.how import How, Setting, cheap_names, decide
from spikeloom.nets.module.build import Block, Edge, Pass, Plan
from spikeloom.nets.module.fit import fit_channels
from spikeloom.nets.module.site import Site
from spikeloom.nets.ops import Visit
from spikeloom.nets.walk.state import Held, NetState, Observer
from spikeloom.neurons.base import State, Theta
from spikeloom.neurons.trains import run_train

_NOTHING: Theta = {}


class Walk:
    """Computes blocks, passes and joins, the same for every order.

    Args:
        plan: the net.
        setting: order, rule and options of this call.
        hows: decisions made before in this setting, by site name; new ones are added here.
        rng: random streams for dropout in training.
        observers: called for every site that runs.
    """

    def __init__(
        self,
        plan: Plan,
        setting: Setting,
        hows: dict[str, How],
        rng: Rng | None,
        observers: tuple[Observer, ...],
    ) -> None:
        self.plan = plan
        self.setting = setting
        self.ops = setting.ops
        self.rng = rng
        self.observers = observers
        self.added: dict[str, Tensor] = {}
        self.outputs: dict[int, Tensor] = {}
        self._thetas: dict[str, Theta] = {}
        self._hows = hows
        self._cheap: frozenset[str] | None = None
        self._sources = {edge.spec.source for edge in plan.edges}

    def how(self, site: Site) -> How:
        """Return how a site is computed in this walk."""
        name = site.name
        if name not in self._hows:
            if self._cheap is None:
                self._cheap = cheap_names(self.plan, self.setting)
            self._hows[name] = decide(site, self.setting, self._cheap)
        return self._hows[name]

    def visit(self, site: Site, copies: int = 1) -> Visit:
        """Return the `Visit` to pass to a function of the rule."""
        return Visit(site, None, copies)

    def current(self, site: Site, x: Tensor) -> Tensor:
        """Return the current of the unit: synapse, then norm."""
        raise NotImplementedError

    def fire(self, site: Site, x: Tensor, current: Tensor) -> Tensor:
        """Return the input of the next synapse: unit, dropout, amplitude, low-pass."""
        raise NotImplementedError

    def fit(self, block: Block, turn: int, y: Tensor) -> Tensor:
        """Return a pass's output with the number of channels that the next pass takes."""
        raise NotImplementedError

    def blocks(self, x: Tensor, first: int, end: int) -> Tensor:
        """Run blocks first..end-1."""
        for block in self.plan.blocks[first:end]:
            for turn, one in enumerate(block.passes):
                if turn > 0:
                    x = self.fit(block, turn, x)
                x = self._pass(block, one, x)
            if block.number in self._sources:
                self.outputs[block.number] = x
        return x

    def add(self, edge: Edge, value: Tensor) -> None:
        """Note the value of a feedback edge, to be added to the current of its target."""
        target = self.plan.blocks[edge.spec.target].passes[0].sites[0].name
        self.added[target] = self.added[target] + value if target in self.added else value

    def sent(self, edge: Edge) -> Tensor:
        """Return the output of an edge's source block."""
        value = self.outputs[edge.spec.source]
        return value.detach() if edge.spec.detach else value

    def path(self, sites: tuple[Site, ...], x: Tensor) -> Tensor:
        """Run a chain of sites."""
        for site in sites:
            x = self.fire(site, x, self.current(site, x))
        return x

    def _pass(self, block: Block, one: Pass, x: Tensor) -> Tensor:
        spec, y = block.spec, x
        joins = spec.join != "none"
        # The shortcut runs first. `StepWalk.hold_prefix` stops at the first site that changes over
        # time, which may lie in the body; constant parts of the shortcut must be held before.
        shortcut = self.path(one.shortcut, x) if joins and spec.tap == "input" else None
        for site in one.sites:
            if self.how(site).joined:
                continue
            current = self.current(site, y)
            if spec.join == "before_unit" and site is one.sites[-1]:
                assert shortcut is not None
                current = _meet("add", current, shortcut)
            if site.name in self.added:
                current = current + self.added[site.name]
            y = self.fire(site, y, current)
            if joins and shortcut is None and site.unit is not None:
                shortcut = self.path(one.shortcut, y)
        if not joins or spec.join == "before_unit":
            return y
        assert shortcut is not None
        return _meet(spec.join, y, shortcut)

    def normalised(self, site: Site, x: Tensor, *, copies: int = 1) -> Tensor:
        """Run synapse and norm; batch statistics are taken over the whole of x."""
        if site.norm is None:
            return self.ops.synapse(self.visit(site, copies), x)
        if self.how(site).norm == "folded":
            return site.folded(x)
        return site.normalise(self.ops.synapse(self.visit(site, copies), x), steps=copies)

    def theta(self, site: Site) -> Theta:
        """Return the trained quantities of a site's unit, read once per walk."""
        if site.neuron is None or not site.neuron.unit.learn:
            return _NOTHING
        if site.name not in self._thetas:
            self._thetas[site.name] = site.neuron.theta()
        return self._thetas[site.name]

    def mask(self, site: Site, like: Tensor, label: str) -> Tensor:
        """Draw one dropout mask [B, ...], scaled by 1 / (1 - dropout) to keep the mean.

        Raises:
            ConfigError: the net was called without rng.
        """
        if self.rng is None:
            raise ConfigError(
                f"net layer {site.name}: expected a random stream for its dropout in training, "
                "got none; pass rng= (a SampleRng or a torch.Generator)."
            )
        stream = stream_for(self.rng, label)
        # always float32: in half precision the rounded draws would change the dropped share
        draw = uniform(
            stream, like.shape[0], tuple(like.shape[1:]), dtype=torch.float32, device=like.device
        )
        return (draw >= site.spec.dropout).to(like.dtype) / (1 - site.spec.dropout)

    def scaled(self, site: Site, out: Tensor) -> Tensor:
        """Multiply an output by its site's amplitude."""
        if site.spec.gain == 1 and site.spec.amplitude == "unit":
            return out
        amplitude = site.amplitude()
        if isinstance(amplitude, Tensor):
            amplitude = self.ops.amplitude(self.visit(site), amplitude)
        return out * amplitude

    def report(self, site: Site, x: Tensor | None, current: Tensor, out: Tensor) -> None:
        """Pass the tensors of one call of a site to the observers; time is their first axis."""
        for observer in self.observers:
            observer.see(site, x, current, out)


class _PrefixDone(Exception):  # noqa: N818 - a signal, not an error
    """Raised to stop `StepWalk.hold_prefix` at the first layer whose input changes over time."""


class StepWalk(Walk):
    """Computes one time step; `after` returns the new state.

    Args:
        args: as for `Walk`.
        before: state before the step.
        held: values of a constant input from `hold_prefix`.
        holding: in `hold_prefix`, the number of steps that the input stands for; 0 else.
    """

    def __init__(
        self, *args: Any, before: NetState, held: Held | None = None, holding: int = 0
    ) -> None:
        super().__init__(*args)
        self.before = before
        self.edges = self.plan.edges
        self.held = held or Held()
        self.holding = holding
        self.units: dict[str, State] = {}
        self.psp: dict[str, Tensor] = {}
        self.masks = dict(before.masks)
        self.fits = dict(before.fits)

    def visit(self, site: Site, copies: int = 1) -> Visit:
        """Return the `Visit` to pass to a function of the rule, with the present step."""
        return Visit(site, self.before.t, copies)

    def filter_input(self, x: Tensor, decay: float, scale: float) -> Tensor:
        """Low-pass the network's input."""
        last = self.before.psp.get("input")
        self.psp["input"] = scale * x if last is None else decay * last + scale * x
        return self.psp["input"]

    def hold_prefix(self, x: Tensor) -> Held:
        """Compute everything that a constant input keeps constant, and return it."""
        with suppress(_PrefixDone):
            self.blocks(x, 0, len(self.plan.blocks))
        return self.held

    def feed(self) -> None:
        """Compute what feedback edges add in this step, from outputs `delay` steps ago."""
        for edge in self.edges:
            queue = self.before.feedback.get(edge.number, ())
            if len(queue) == edge.spec.delay:
                self.add(edge, self.path(edge.sites, queue[0]))

    def after(self) -> NetState:
        """Return the state after this step."""
        feedback = {edge.number: self._queue(edge) for edge in self.edges}
        before = self.before
        return NetState(before.t + 1, self.units, self.psp, self.masks, self.fits, feedback)

    def _queue(self, edge: Edge) -> tuple[Tensor, ...]:
        value = self.ops.carry(self.visit(edge.sites[0]), self.sent(edge))
        return (*self.before.feedback.get(edge.number, ()), value)[-edge.spec.delay :]

    def current(self, site: Site, x: Tensor) -> Tensor:
        """Return the held current, or synapse and norm of this step."""
        for values in (self.held.outputs, self.held.currents):
            if site.name in values:
                return values[site.name]
        if self.holding and not site.static_input:
            raise _PrefixDone
        current = self.normalised(site, x, copies=self.holding or 1)
        if self.holding and site.static_input and not site.static:
            self.held.currents[site.name] = current
        return current

    def fire(self, site: Site, x: Tensor, current: Tensor) -> Tensor:
        """Advance the unit by one step."""
        name = site.name
        if name in self.held.outputs:
            return self.held.outputs[name]
        if self.holding and not site.static:
            return current  # this value is not used: only outputs of static sites are held
        out = current
        if site.neuron is not None:
            unit = site.neuron.unit
            if unit.stateful:
                how = self.how(site)
                # a held current is read again in later steps, so it must not be overwritten
                spare = how.spare and name not in self.held.currents
                outs, state = run_train(
                    unit,
                    current.unsqueeze(0),
                    self.theta(site),
                    self.before.units.get(name),
                    kernels=how.loop,
                    options=TrainOptions(how.pool, local=how.short, spent=spare),
                )
                out = outs.squeeze(0)
                self.units[name] = self.ops.carry(self.visit(site), state)
            else:
                out = unit.step(None, current, self.theta(site))[0]
            out = self.ops.emit(self.visit(site), out)
        if self.observers:
            x_in = None if self.reused(site) else x.unsqueeze(0)
            self.report(site, x_in, current.unsqueeze(0), out.unsqueeze(0))
        out = self.scaled(site, self._dropped(site, out))
        if site.spec.psp is not None:
            last = self.before.psp.get(name)
            out = site.spec.psp.scale * out
            out = out if last is None else site.spec.psp.decay * last + out
            self.psp[name] = self.ops.carry(self.visit(site), out)
        if self.holding:
            self.held.outputs[name] = out
        return out

    def reused(self, site: Site) -> bool:
        """Whether a site's current was computed for an earlier step."""
        return site.name in self.held.currents and self.before.t > 0

    def _dropped(self, site: Site, out: Tensor) -> Tensor:
        if not (self.setting.training and site.spec.dropout):
            return out
        if not site.spec.dropout_held:
            return out * self.mask(site, out, f"{site.name}/{self.before.t}")
        if site.name not in self.masks:
            self.masks[site.name] = self.mask(site, out, site.name)
        return out * self.masks[site.name]

    def fit(self, block: Block, turn: int, y: Tensor) -> Tensor:
        """Fit channels, remembering the choice of "topk"."""
        key = f"{block.number}.{turn}"
        y, state = fit_channels(
            y,
            block.in_shape[0],
            block.spec.fit,
            kept_channels(self.plan, block),
            self.fits.get(key),
        )
        if state is not None:
            self.fits[key] = state
        return y


class RateWalk(Walk):
    """Computes one pass in which each unit returns its steady rate for a constant current."""

    def current(self, site: Site, x: Tensor) -> Tensor:
        """Return the current for a rate: synapse, then norm."""
        return self.normalised(site, x)

    def fire(self, site: Site, x: Tensor, current: Tensor) -> Tensor:
        """Return the steady rate, with dropout, amplitude and the gain of the low-pass."""
        out = current
        if site.neuron is not None:
            rate = site.neuron.unit.rate(current, self.theta(site))
            out = self.ops.emit(self.visit(site), rate)
        if self.observers:
            self.report(site, x.unsqueeze(0), current.unsqueeze(0), out.unsqueeze(0))
        if self.setting.training and site.spec.dropout:
            out = out * self.mask(site, out, site.name)
        out = self.scaled(site, out)
        psp = site.spec.psp
        return out if psp is None else out * (psp.scale / (1 - psp.decay))

    def fit(self, block: Block, turn: int, y: Tensor) -> Tensor:
        """Fit channels by their rates."""
        return fit_channels(
            y, block.in_shape[0], block.spec.fit, kept_channels(self.plan, block), None
        )[0]


def is_constant(train: Tensor) -> bool:
    """Whether a train [T, ...] is one step repeated, as an expanded view or with T = 1."""
    return train.shape[0] == 1 or train.stride(0) == 0


def only_step(train: Tensor) -> Tensor:
    """Return the step that a constant train [T, ...] repeats.

    For T = 1 squeeze is used: its backward pass copies nothing, that of indexing does.
    """
    return train.squeeze(0) if train.shape[0] == 1 else train[0]


def low_pass(
    train: Tensor, decay: float, scale: float, carry: Callable[[int, Tensor], Tensor] | None = None
) -> Tensor:
    """Filter a train over time: y[t] = decay y[t-1] + scale s[t], y[-1] = 0.

    `carry`, if given, is applied to (t, y[t]); the next step reads its result in place of y[t].
    """
    parts: list[Tensor] = []
    last = None
    for t, step in enumerate(train.unbind(0)):
        last = scale * step if last is None else scale * step + decay * last
        parts.append(last)
        last = last if carry is None else carry(t, last)
    return torch.stack(parts)


def _meet(join: str, y: Tensor, shortcut: Tensor) -> Tensor:
    """Join two signals; if both are one step repeated, only one step is computed."""
    if y.shape[0] > 1 and is_constant(y) and is_constant(shortcut):
        return _meet(join, y[:1], shortcut[:1]).expand_as(y)
    if join == "add":
        return y + shortcut
    return y * shortcut if join == "and" else (1 - y) * shortcut


def kept_channels(plan: Plan, block: Block) -> Tensor | None:
    """Return the channels that fit = "drop" keeps between passes; None if it drops none."""
    return None if block.kept is None else plan.get_buffer(f"kept_{block.number}")
