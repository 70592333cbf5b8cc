"""Ops: the seams through which a learning rule acts on a network.

A rule writes equations, as functions of a `Visit`. What the engine may do with them, it reads from
their types: nothing here is a promise that a rule's author has to keep.
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
    """Where and when a seam is called.

    Args:
        site: one layer in one pass.
        step: t where steps are computed one by one: in time order, and inside feedback loops; None
            where a whole train is computed at once, and in rates.
        copies: equal steps that the input stands for. A constant input is computed once for T
            steps, in both orders; its gradient is the sum over them.
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
        """Its layer."""
        return self.site.spec

    @property
    def synapse(self) -> Synapse:
        """Its map: call it, or take its weights."""
        return self.site.synapse

    @property
    def unit(self) -> Unit | None:
        """The equation of its population; None for a layer without one."""
        return self.site.unit


Map: TypeAlias = Callable[[Visit, Tensor], Tensor]
"""A function from a visit and a tensor to a tensor."""


@dataclass(frozen=True)
class Plain:
    """The site's own map, with ordinary autograd."""

    def __call__(self, visit: Visit, x: Tensor) -> Tensor:
        r"""Apply the map.

        Shape:
            x: [N, \*in_shape]; result: [N, \*out_shape].
        """
        return visit.synapse(x)


@dataclass(frozen=True)
class OnWeights:
    r"""A function in the place of the maps that have weights; all others are plain.

    Since it is never called at pools, these may be computed together with the units before them.

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
    r"""Maps whose weight gradient is taken at a signal of the rule's.

    .. math:: \nabla_W L = \sum_t \delta[t]\, \hat p[t]^T

    with :math:`\delta` the gradient of the map's output and :math:`\hat p` what `presynaptic`
    returns. Sites without weights are plain. The sums stay here until `flush`, which a rule calls
    before weights change; each weight is shaped once for all of them.

    Args:
        presynaptic: from the input of a map with weights to :math:`\hat p`; the input itself by
            default.

    Shape:
        presynaptic: [N, \*in_shape] -> [N, \*in_shape].
    """

    def __init__(self, presynaptic: Map = itself) -> None:
        self.presynaptic = presynaptic
        self._credit = Credit()

    def __call__(self, visit: Visit, x: Tensor) -> Tensor:
        """Apply the map; its output belongs to nobody else."""
        synapse = visit.site.synapse
        if not synapse.weighted:
            return synapse(x)
        return self._credit.apply(synapse, x, self.presynaptic(visit, x))

    def flush(self) -> None:
        """Add every sum to the gradient of its weight, and forget it."""
        self._credit.flush()


@dataclass(frozen=True)
class Carry:
    """What becomes of a state on its way to the next step; `then` puts one function after another.

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
        """Return this, followed by another."""
        more = after.functions if isinstance(after, Carry) else (after,)
        return Carry((*self.functions, *more))


def _detached(visit: Visit, state: State) -> State:
    return detach_state(state)


keep = Carry()
"""Leave a value as it is."""

cut = Carry((_detached,))
"""Let no gradient pass: what is alone on the way between steps may be kept in a shorter form."""


@dataclass(frozen=True)
class MeanCurrent:
    r"""A unit's train that runs backward through a function of its mean current.

    .. math::
        z = \sum_t w[t]\, c[t], \qquad G = \sum_t w[t]\, \frac{\partial L}{\partial s[t]}, \qquad
        \frac{\partial L}{\partial c[t]} = b(T, z, \theta, G)

    Forward it is the unit. Of the currents only z is stored.

    Args:
        weights: w of a site for T steps, which sum to 1.
        backward: from T, z, trained quantities and G to b, the same for every step, and to the
            gradients of those quantities by name; they are summed to their shapes.

    Shape:
        weights: T numbers; z, G, b: [B, ...].
    """

    weights: Callable[[Visit, int], tuple[float, ...]]
    backward: Callable[[Visit, int, Tensor, Theta, Tensor], tuple[Tensor, dict[str, Tensor]]]


class Trains(NamedTuple):
    r"""What the sites of a component received and gave, by name, at all steps.

    Args:
        inputs: presynaptic trains: what each synapse received.
        currents: what each unit received: norm, shortcut and feedback included.
        outputs: what each unit gave: spikes, before their amplitude and low-pass.

    Shape:
        each: [T, B, ...]; of a feedback edge the last T - delay steps.
    """

    inputs: dict[str, Tensor]
    currents: dict[str, Tensor]
    outputs: dict[str, Tensor]


@dataclass(frozen=True)
class Gradients:
    r"""What a rule's backward pass gives back.

    Args:
        currents: of the entrance's current, whence the gradient goes on through norm and synapse.
        trained: of every parameter behind that current: of the unit, and in a loop of the synapses
            and norms inside.

    Shape:
        currents: [T, B, ...]; trained: each as its parameter.
    """

    currents: Tensor
    trained: Mapping[nn.Parameter, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class OwnBackward:
    r"""Trains that run backward through a function of the rule's: of one layer, or of a loop.

    Forward a component is the net's own, on any kernels. A component is one unit, from its current
    to its spikes; or, where feedback or lateral edges close a loop, all between the current of its
    first layer and the output of its last block, dropout excluded.

    Args:
        backward: from the component, its trains and the gradient of its output to gradients.
            `component.sites` and `component.edges` hold synapses, units and delays.

    Shape:
        gradient of the output: [T, B, ...].
    """

    backward: Callable[[Component, Trains, Tensor], Gradients]


@dataclass(frozen=True)
class Ops:
    r"""What a rule may change; the defaults are the plain network.

    Any function of a visit and a tensor will do. The types above say more about what a function
    is, so that the engine can share, join or overwrite what nobody else sees.

    Args:
        synapse: the map from a site's input to its current (before norm): `Plain`, `Credited`,
            `OnWeights` or a function that is called at every site, pools included.
        carry: what becomes of a state on its way to the next step: `keep`, `cut`, or a function;
            feedback values and low-pass states pass through it too.
        emit: what becomes of a site's spikes before gain and low-pass.
        sequence: a whole train: `OwnBackward` for one stateful unit or a feedback loop; for one
            unit alone `MeanCurrent`, or a function from its currents to its outputs. None runs the
            unit step by step. Where it would not be called it is refused.
        amplitude: what becomes of a trained threshold that scales its unit's outputs, before it
            does; `cut` where a rule has a gradient of its own for thresholds.

    Shape:
        synapse: [N, \*in_shape] -> [N, \*out_shape]; N = B in time order, T B in layer order, and
        B for a constant train (`Visit.copies`); emit: [B, ...], or [T, B, ...] in layer order
        outside feedback loops (there N = B, step by step);
        sequence: [T, B, ...] -> [T, B, ...].
    """

    synapse: Map = Plain()
    carry: Callable[[Visit, State], State] = keep
    emit: Map = keep
    sequence: Map | MeanCurrent | OwnBackward | None = None
    amplitude: Map = keep


PLAIN = Ops()
