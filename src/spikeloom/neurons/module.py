"""The torch module around a unit: it owns the trained quantities and no state."""

import math
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from spikeloom.base.checks import at_least
from spikeloom.base.errors import ConfigError, ShapeError
from spikeloom.base.fields import checked
from spikeloom.neurons.base import State, Theta, Unit
from spikeloom.neurons.declared import TRAINED_BOUNDS
from spikeloom.neurons.recording import Recording, record_train
from spikeloom.neurons.trains import run_train


class Neuron(nn.Module):
    """A population of neurons with one unit, for any torch model.

    A call maps a train of currents to a train of spikes and starts from the initial state, so there
    is nothing to reset. `run` and `step` take and return a state, `record` returns the potentials
    too.

    Args:
        unit: the equation.
        channels: number of channels; required if the unit trains a value per channel.
        spatial: number of axes after the channel axis (2 for images), for the same units.

    Raises:
        ConfigError: no unit, sizes out of range, a unit that trains a value per channel without
            `channels`, or a name in `learn` that the unit does not have.

    Example:
        >>> from spikeloom.neurons.leaky import LIF
        >>> Neuron(LIF(alpha=0.5))(torch.full((3, 1, 1), 0.75)).flatten().tolist()
        [0.0, 1.0, 0.0]
    """

    @checked("neurons.Neuron")
    def __init__(
        self,
        unit: Unit,
        channels: Annotated[int, at_least(1)] | None = None,
        spatial: Annotated[int, at_least(0)] = 0,
    ) -> None:
        super().__init__()
        self.unit = unit
        if unit.learn and unit.per_channel and channels is None:
            raise ConfigError.of(
                "neurons.Neuron",
                f"channels for {type(unit).__name__} with per_channel",
                "none",
                "pass channels=",
            )
        shape = (channels, *[1] * spatial) if unit.per_channel and channels is not None else ()
        for name in unit.learn:
            if not hasattr(unit, name):
                raise ConfigError.of(
                    "neurons.Neuron",
                    f"{type(unit).__name__}.{name}, named in learn, to be the number at which it "
                    "starts",
                    "no such attribute",
                    "add it",
                )
            start = float(getattr(unit, name))
            if name == "alpha":
                start = math.log(start / (1 - start))
            self.register_parameter(f"raw_{name}", nn.Parameter(torch.full(shape, start)))

    def theta(self) -> Theta:
        """Return the trained quantities: v_th as it is, alpha as the logistic of its parameter."""
        # by attribute, not from `_parameters`: parametrizations and functional_call replace it
        values: dict[str, Tensor] = {name: getattr(self, f"raw_{name}") for name in self.unit.learn}
        if "alpha" in values:
            values["alpha"] = torch.sigmoid(values["alpha"])
        return values

    @torch.no_grad()
    def project(self) -> None:
        """Clamp trained quantities to the bounds that the unit declares (`trained_bounds`).

        Call it after a step of the optimizer. A quantity under a parametrization is set through its
        `right_inverse`.

        Raises:
            ConfigError: a value under a parametrization without `right_inverse` is out of bounds.
        """
        bounds = TRAINED_BOUNDS.of(self.unit) if self.unit.learn else None
        for name, (least, most) in (bounds or {}).items():
            if name in self.unit.learn:
                self._bound(name, least, most)

    def _bound(self, name: str, least: float, most: float) -> None:
        raw = f"raw_{name}"
        value: Tensor = getattr(self, raw)
        if not is_parametrized(self, raw):
            value.clamp_(least, most)
            return
        if bool(((value < least) | (value > most)).any()):
            try:
                setattr(self, raw, value.clamp(least, most))
            except (RuntimeError, NotImplementedError) as error:
                raise ConfigError.of(
                    "neurons.Neuron",
                    f"{name} in [{least}, {most}]",
                    f"{float(value.min()):.3g} to {float(value.max()):.3g} from a parametrization "
                    "that cannot be set",
                    "give it a right_inverse, or bounds of its own",
                ) from error

    def run(self, currents: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Map a train of currents to the train of outputs and the last state.

        Args:
            currents: weighted input, bias included.
            state: that an earlier call returned; None for the initial state.

        Shape:
            currents, outputs: [T, B, ...].

        Raises:
            ShapeError: rank below 2.
        """
        self._check_train(currents)
        theta = self.theta()
        if not self.unit.stateful:
            return self.unit.step(None, currents, theta)
        return run_train(self.unit, currents, theta, state)

    def step(self, current: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Advance one step; the same as `run` for a train of one step.

        Args:
            current: weighted input of this step, bias included.
            state: that the last step returned; None for the initial state.

        Returns:
            The outputs, and the state to pass to the next step.

        Shape:
            current, outputs: [B, ...].

        Raises:
            ShapeError: a current without axes, or a state that belongs to another shape.

        Example:
            >>> from spikeloom.neurons.leaky import LIF
            >>> neuron, state, spikes = Neuron(LIF(alpha=0.5)), None, []
            >>> for current in torch.full((3, 1), 0.75):
            ...     s, state = neuron.step(current, state)
            ...     spikes.append(s.item())
            >>> spikes, state.v.item()
            ([0.0, 1.0, 0.0], 0.8125)
        """
        if current.dim() < 1:
            expected = "the current of one step [B, ...]"
            raise ShapeError.of(
                "neurons.Neuron.step", expected, "a single number", "add the axis of samples"
            )
        if not self.unit.stateful:
            return self.unit.step(None, current, self.theta())
        out, state = run_train(self.unit, current.unsqueeze(0), self.theta(), state)
        return out.squeeze(0), state

    def record(self, currents: Tensor, state: State = None) -> Recording:
        """Map a train of currents to the outputs, states and potentials of every step.

        The outputs are those of `run`. It uses the reference loop and stores every step, so it is
        slower than `run`.

        Args:
            currents: weighted input, bias included.
            state: that an earlier call returned; None for the initial state.

        Shape:
            currents: [T, B, ...].

        Raises:
            ShapeError: rank below 2.

        Example:
            >>> from spikeloom.neurons.leaky import LIF
            >>> found = Neuron(LIF(alpha=0.5)).record(torch.full((3, 1), 0.75))
            >>> found.u.flatten().tolist(), found.states.v.flatten().tolist()
            ([0.75, 1.125, 0.8125], [0.75, 0.125, 0.8125])
        """
        self._check_train(currents)
        return record_train(self.unit, currents, self.theta(), state)

    @staticmethod
    def _check_train(currents: Tensor) -> None:
        if currents.dim() < 2:
            raise ShapeError.of(
                "neurons.Neuron",
                "currents [T, B, ...] with time as the first axis",
                f"shape {tuple(currents.shape)}",
                "add the missing axes",
            )

    def forward(self, currents: Tensor) -> Tensor:
        """Map a train of currents to the train of outputs, from the initial state."""
        return self.run(currents)[0]

    def extra_repr(self) -> str:
        """Show the equation."""
        return repr(self.unit)
