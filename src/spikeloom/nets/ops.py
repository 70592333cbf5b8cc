"""Ops: the functions through which a learning rule changes how a network is computed.

A rule replaces parts of the computation by functions of a `Visit`. The types below (`Plain`,
`Credited`, `MeanCurrent`, ...) tell the engine which optimisations are safe. Any other function
works too, without those optimisations.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor, nn

from spikeloom.nets.module.build import Component
from spikeloom.nets.module.credit import Credit
from spikeloom.nets.module.site import Site
from spikeloom.nets.module.synapse import Synapse
from spikeloom.nets.spec.layer import LayerSpec
from spikeloom.neurons.base import State, Theta, Unit, detach_state


@dataclass(frozen=True, slots=True)
class Visit:
    """Where and when a function of a rule is called.

    Args:
        site: one layer in one pass.
        step: index t where steps are computed one by one (in time order and inside feedback
            loops); None where a whole train is computed at once, and for rates.
        copies: number of equal steps that the input stands for. A constant input is computed once
            for all T steps, in both orders; its gradient is then the sum over these steps.
    """

    site: Site
    step: int | None = None
    copies: int = 1

    @property
    def name(self) -> str:
        """Name of the site."""
        return self.site.name

    @property
    def spec(self) -> LayerSpec:
        """The site's layer."""
        return self.site.spec

    @property
    def synapse(self) -> Synapse:
        """The site's linear map."""
        return self.site.synapse

    @property
    def unit(self) -> Unit | None:
        """The site's neuron model; None for a layer without neurons."""
        return self.site.unit


Map: TypeAlias = Callable[[Visit, Tensor], Tensor]
"""A function of a `Visit` and a tensor that returns a tensor."""


@dataclass(frozen=True)
class Plain:
    """The site's own linear map with ordinary autograd: no change by a rule."""

    def __call__(self, visit: Visit, x: Tensor) -> Tensor:
        r"""Apply the map.

        Shape:
            x: [N, \*in_shape]; result: [N, \*out_shape].
        """
        return visit.synapse(x)


@dataclass(frozen=True)
class OnWeights:
    r"""A function that replaces the maps of sites with weights; other sites are unchanged.

    It is never called at pools, so that a pool may be computed together with the unit before it.

    Args:
        function: called at sites with weights.

    Shape:
        function: [N, \*in_shape] -> [N, \*out_shape].
    """

    function: Map

    def __call__(self, visit: Visit, x: Tensor) -> Tensor:
        """Apply the function, or the plain map where there are no weights."""
        synapse = visit.site.synapse
        return self.function(visit, x) if synapse.weighted else synapse(x)


def itself(visit: Visit, x: Tensor) -> Tensor:
    """Return the input unchanged."""
    return x


class Credited:
    r"""Maps whose weight gradient uses a presynaptic signal that the rule supplies.

    .. math:: \nabla_W L = \sum_t \delta[t]\, \hat p[t]^T

    :math:`\delta` is the gradient of the map's output, and :math:`\hat p` what `presynaptic`
    returns, e.g. a trace of the input. Sites without weights are unchanged. The sums are collected
    here until the rule calls `flush`, which it must do before the weights change. The effective
    weight (e.g. standardised) is computed once per batch for all steps.

    Args:
        presynaptic: returns :math:`\hat p` from the input of a map with weights; by default the
            input itself.

    Shape:
        presynaptic: [N, \*in_shape] -> [N, \*in_shape].
    """

    def __init__(self, presynaptic: Map = itself) -> None:
        self.presynaptic = presynaptic
        self._credit = Credit()

    def __call__(self, visit: Visit, x: Tensor) -> Tensor:
        """Apply the map. Nothing here keeps its output, so the caller may overwrite it."""
        synapse = visit.site.synapse
        if not synapse.weighted:
            return synapse(x)
        return self._credit.apply(synapse, x, self.presynaptic(visit, x))

    def flush(self) -> None:
        """Add every sum to the gradient of its weight, and drop the sums."""
        self._credit.flush()


@dataclass(frozen=True)
class Carry:
    """Functions applied to a state between one step and the next; `then` appends another.

    Args:
        functions: applied in this order.

    Example:
        >>> keep.then(cut) == cut, cut.then(keep) == cut
        (True, True)
    """

    functions: tuple[Callable[[Visit, Any], Any], ...] = ()

    def __call__(self, visit: Visit, state: Any) -> Any:
        """Apply all functions."""
        for function in self.functions:
            state = function(visit, state)
        return state

    def then(self, after: "Carry | Callable[[Visit, Any], Any]") -> "Carry":
        """Return a `Carry` that applies `after` last."""
        more = after.functions if isinstance(after, Carry) else (after,)
        return Carry((*self.functions, *more))


def _detached(visit: Visit, state: State) -> State:
    return detach_state(state)


keep = Carry()
"""Pass the state on unchanged."""

cut = Carry((_detached,))
"""Detach the state: no gradient flows between steps, so the state may be kept in short form."""


@dataclass(frozen=True)
class MeanCurrent:
    r"""A backward pass of a unit that depends on its weighted mean current only.

    .. math::
        z = \sum_t w[t]\, c[t], \qquad G = \sum_t w[t]\, \frac{\partial L}{\partial s[t]}, \qquad
        \frac{\partial L}{\partial c[t]} = b(T, z, \theta, G)

    The forward pass is the unit's own. Of the currents only z is stored for the backward pass.

    Args:
        weights: returns w of a site for T steps; they sum to 1.
        backward: takes the visit, T, z, the trained quantities :math:`\theta` and G. Returns b,
            which is the gradient at every step, and the gradients of the trained quantities by
            name. The caller sums the latter to the shapes of the quantities.

    Shape:
        weights: T numbers; z, G, b: [B, ...].
    """

    weights: Callable[[Visit, int], tuple[float, ...]]
    backward: Callable[[Visit, int, Tensor, Theta, Tensor], tuple[Tensor, dict[str, Tensor]]]


class Trains(NamedTuple):
    r"""Inputs, currents and outputs of the sites of a component at all steps, by site name.

    Args:
        inputs: input of each synapse.
        currents: input of each unit, with norm, shortcut and feedback added.
        outputs: output of each unit: spikes, before amplitude and low-pass.

    Shape:
        each: [T, B, ...]; for a feedback edge the last T - delay steps.
    """

    inputs: dict[str, Tensor]
    currents: dict[str, Tensor]
    outputs: dict[str, Tensor]


@dataclass(frozen=True)
class Gradients:
    r"""The gradients that a rule's own backward pass returns.

    Args:
        currents: gradient of the current of the component's first site (`Component.entrance`).
            Autograd continues from there through that site's norm and synapse.
        trained: gradients of all other parameters inside: those of the unit and, in a loop, also
            those of the synapses and norms after the first current.

    Shape:
        currents: [T, B, ...]; trained: each in the shape of its parameter.
    """

    currents: Tensor
    trained: Mapping[nn.Parameter, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class OwnBackward:
    r"""A backward pass over a whole train that the rule writes itself, for a layer or a loop.

    The forward pass is the net's own, compiled kernels included. A component is one unit, from its
    current to its spikes. Where feedback or lateral edges close a loop, it is everything from the
    current of the loop's first layer to the output of its last block. Training with dropout inside
    a loop is refused.

    Args:
        backward: returns the gradients from the component, its trains and the gradient of its
            output. `component.sites` and `component.edges` give synapses, units and delays.

    Shape:
        gradient of the output: [T, B, ...].
    """

    backward: Callable[[Component, Trains, Tensor], Gradients]


@dataclass(frozen=True)
class Ops:
    r"""The functions that a learning rule may replace; the defaults give the plain network.

    Any function of a visit and a tensor works. The types above tell the engine more about a
    function, so that it can combine steps or overwrite buffers.

    Args:
        synapse: map from a site's input to its current, before the norm: `Plain`, `Credited`,
            `OnWeights`, or a function that is called at every site, pools included.
        carry: applied to a unit's state between two steps: `keep`, `cut`, or a function. It is
            also applied to feedback values and to low-pass states.
        emit: applied to a site's spikes, before gain and low-pass.
        sequence: replaces the run of a unit over a whole train. `OwnBackward` works for a stateful
            unit or a feedback loop; `MeanCurrent`, or a function from currents to outputs, works
            for a single unit. None runs the unit step by step. It is an error in time order and
            for rates, where it would not be called.
        amplitude: applied to a trained threshold that scales its unit's outputs, before scaling;
            `cut` where the rule computes the thresholds' gradient itself.

    Shape:
        synapse: [N, \*in_shape] -> [N, \*out_shape]. N = B in time order, inside feedback loops
        and for a constant train (`Visit.copies`); N = T B else.
        emit: [B, ...] in time order and inside feedback loops; [T, B, ...] else.
        sequence: [T, B, ...] -> [T, B, ...].
    """

    synapse: Map = Plain()
    carry: Callable[[Visit, State], State] = keep
    emit: Map = keep
    sequence: Map | MeanCurrent | OwnBackward | None = None
    amplitude: Map = keep


PLAIN = Ops()
