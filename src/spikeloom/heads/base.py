"""What every head shares: sites, reductions over time, and objectives bound to a batch."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from spikeloom.base.checks import at_least, within
from spikeloom.base.citation import Citation
from spikeloom.base.errors import ConfigError, ShapeError
from spikeloom.base.fields import checked
from spikeloom.base.registry import Registry
from spikeloom.base.seeding import Rng
from spikeloom.base.types import check_labels
from spikeloom.heads.error import error_of
from spikeloom.heads.losses import widened
from spikeloom.nets.from_torch.lent import LentSynapse
from spikeloom.nets.module.init import initialise
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.module.site import Site
from spikeloom.nets.module.synapse import Synapse, multiply
from spikeloom.nets.ops import PLAIN, Ops, Visit
from spikeloom.nets.readout import Error, Loss
from spikeloom.nets.spec.net import LayerSpec
from spikeloom.neurons.reduction import sum_over_time

HEADS: Registry[type["Head"]] = Registry("head", "spikeloom.heads", ("about", "of", "loss"))

Decay = Annotated[float, within(0, 1, "()", "a decay")]
Reduction = Literal["mean", "count", "membrane", "weighted", "last"]


class Head(nn.Module):
    r"""The last linear map :math:`o = W h + b` and a loss on it.

    `reads` says what `loss` takes at the end: the train "reduced" over time, or the whole "train"
    (losses on spike times or counts). A rule with a loss at every step reads every step's
    features; a rule with one loss at the end hands over the whole train, which is reduced first:

    - "mean": rates, which keep their range at every T
    - "count": the sum, also the potential of an integrator without leak
    - "membrane": :math:`\sum_t \lambda^{T-t} h[t]`, the last potential of one with leak
    - "weighted": the same over :math:`\sum_t \lambda^{T-t}`
    - "last": the last step's

    Since the map is linear, reducing features or logits is the same (but for the bias, which a
    count and a membrane add once).

    Args:
        features: D.
        classes: K.
        bias: whether the maps have one.
        reduce: how a train becomes one vector.
        decay: lambda of "membrane" and "weighted", in (0, 1).
        seed: of the initial weights.

    Raises:
        ConfigError: a setting out of range.
    """

    about: ClassVar[str] = ""
    labels: ClassVar[bool] = True
    """Whether its loss takes class numbers as targets; else it takes K real numbers."""
    fewest: ClassVar[int] = 2
    """Smallest K: of one class there is nothing to choose."""
    reads: ClassVar[Literal["reduced", "train"]] = "reduced"
    source: ClassVar[Citation | None] = None
    maps: ClassVar[tuple[str, ...]] = ("readout",)
    branches: ClassVar[tuple[str, ...]] = ()
    """Maps beside the logits that always have a bias and carry no weight decay."""

    @checked("head")
    def __init__(
        self,
        features: Annotated[int, at_least(1, "feature")],
        classes: int,
        *,
        bias: bool = True,
        reduce: Reduction = "mean",
        decay: Decay = 0.5,
        seed: int = 0,
    ) -> None:
        super().__init__()
        at_least(self.fewest, "classes").check("head.classes", classes)
        self.features = features
        self.classes = classes
        self.reduce: Reduction = reduce
        self.decay = decay
        specs = {
            name: LayerSpec("linear", classes, bias=bias or name in self.branches, unit=None)
            for name in self.maps
        }
        self.synapses = nn.ModuleDict(
            {name: Synapse(spec, (features,), name) for name, spec in specs.items()}
        )
        self.sites = tuple(
            Site(name=name, spec=spec, synapse=self._synapse(name), role="readout")
            for name, spec in specs.items()
        )
        initialise(self.sites, torch.Generator().manual_seed(seed))
        self.register_load_state_dict_pre_hook(_fill_in)

    @classmethod
    def of(cls, net: SpikingNet, **options: object) -> "Head":
        """Build the head a network asks for: its features, its readout's width and bias.

        A network made by `from_torch` hands over its last linear layer. The head has the net's type
        and lies on its device (`follow`); move it along where the net moves later.

        Raises:
            ConfigError: the net has no readout.
        """
        readout = net.spec.readout
        if readout is None:
            raise ConfigError.of(
                "head",
                "a net that ends with its classes, as in 'c64 P f10'",
                "none",
                "add f<classes> or build the head with features= and classes=",
            )
        head = cls(net.features, readout.out, bias=readout.bias, **options)  # pyright: ignore[reportArgumentType]
        head.follow(net)
        last = net.plan.blocks[-1] if net.plan.blocks else None
        for site in head.sites:
            site.source = last.source if last else None
            site.upstream = last.upstream if last else None
            site.external = last is None
        if net.last_linear is not None:
            site = head.site
            lent = LentSynapse(site.spec, (net.features,), site.name, net.last_linear)
            site.synapse = head.synapses[site.name] = lent
        return head

    def follow(self, net: SpikingNet) -> None:
        """Move to the type and device of the last weights before the head.

        These are the ones its features come from: a last linear layer that `from_torch` left to
        the head, else the last layer of the body with weights, else any other floating-point
        tensor of the net. A net without any leaves the head where it is.
        """
        like = _last_weights(net)
        if like is not None:
            self.to(device=like.device, dtype=like.dtype)

    @classmethod
    def baseline(cls) -> "type[Head]":
        """Return the head of the ReLU net of the same spec."""
        return cls

    def absent_in_older(self, prefix: str = "") -> tuple[str, ...]:
        """Return the names of weights that older runs may lack, and that then load as 0.

        There, branches had a bias only where the logits had one.
        """
        if not self.maps or self.site.synapse.bias is not None:
            return ()
        return tuple(f"{prefix}synapses.{name}.bias" for name in self.branches)

    def _synapse(self, name: str) -> Synapse:
        synapse = self.synapses[name]
        assert isinstance(synapse, Synapse)
        return synapse

    @property
    def site(self) -> Site:
        """The site of the logits."""
        return self.sites[0]

    @property
    def inference_sites(self) -> tuple[Site, ...]:
        """The sites a prediction needs."""
        return self.sites[:1]

    def undecayed(self) -> tuple[nn.Parameter, ...]:
        """Return the parameters that no weight decay falls on: those of the branches."""
        return tuple(one for name in self.branches for one in self._synapse(name).parameters())

    def cautions(self) -> tuple[str, ...]:
        """Return what a user should know of the settings before training."""
        return ()

    def figures(self, h: Tensor, target: Tensor, ops: Ops = PLAIN) -> Mapping[str, Tensor]:
        """Return figures to watch, by name: means over a batch of evaluation.

        Their means over the validation part are recorded with every epoch.

        Shape:
            h: [B, D]; target: [B]; each value: [].
        """
        return {}

    def findings(self, figures: Mapping[str, float]) -> tuple[str, ...]:
        """Return sentences on what `figures` show to be wrong after training, and what to do."""
        return ()

    def scores(self, h: Tensor, ops: Ops = PLAIN) -> Tensor:
        """Return o = W h + b.

        Shape:
            h: [B, D]; result: [B, K].

        Raises:
            ShapeError: features of another number, type or device than the head's weights.
        """
        self._check_features(h)
        return ops.synapse(Visit(self.site), h)

    def _check_features(self, h: Tensor) -> None:
        weight = self.site.synapse.weight
        if h.dim() != 2 or h.shape[1] != self.features:
            raise ShapeError.of(
                "head",
                f"features [B, {self.features}]",
                tuple(h.shape),
                "reduce a train over time first (head.reduced), or build the head with "
                "Head.of(net)",
            )
        if h.device != weight.device:
            raise ShapeError.of(
                "head",
                f"features on {weight.device}, where its weights are",
                h.device,
                "move the head along with the net",
            )
        if not multiply(h, weight):
            raise ShapeError.of(
                "head",
                f"features of type {weight.dtype}, as its weights",
                h.dtype,
                "convert the head along with the net, e.g. head.double()",
            )

    def logits(self, h: Tensor, ops: Ops = PLAIN) -> Tensor:
        """Return the logits of a prediction: their softmax is p(y | x).

        In float32 at least, and in float64 where the head is.

        Shape:
            h: [B, D]; result: [B, K].
        """
        return widened(self.scores(h, ops))

    def draw(self, batch: int, rng: Rng, like: Tensor) -> Tensor | None:
        """Return the noise one batch needs, drawn once; None for a head without."""
        return None

    def loss(
        self,
        h: Tensor,
        target: Tensor,
        *,
        noise: Tensor | None,
        ops: Ops = PLAIN,
        weights: Tensor | None = None,
    ) -> Loss:
        """Return logits and loss, the mean over samples of loss times weight (`batch_mean`).

        A head without the argument `weights` cannot be trained with class weights.

        Shape:
            h: [B, D]; target, weights: [B].
        """
        raise NotImplementedError

    def reduced(self, hs: Tensor) -> Tensor:
        """Reduce a train of features over time.

        Shape:
            hs: [T, B, D]; result: [B, D].
        """
        return hs[-1] if self.reduce == "last" else sum_over_time(hs, self.weights(len(hs)))

    def weights(self, steps: int) -> list[float]:
        """Return the weight of each of T steps in `reduced`."""
        weights = [self.memory**age for age in range(steps - 1, -1, -1)]
        whole = sum(weights) if self.averages else 1.0
        return [weight / whole for weight in weights]

    @property
    def memory(self) -> float:
        """Weight of an earlier step's features when one more step arrives: 1, lambda or 0."""
        return {"mean": 1.0, "count": 1.0, "last": 0.0}.get(self.reduce, self.decay)

    @property
    def averages(self) -> bool:
        """Whether the reduction divides by the sum of its weights."""
        return self.reduce in ("mean", "weighted")

    def bind(self, target: Tensor, rng: Rng, weights: Tensor | None = None) -> "BoundObjective":
        """Return the objective of one batch.

        Args:
            target: labels.
            rng: random streams.
            weights: of the samples; None for 1 each.

        Shape:
            target, weights: [B].

        Raises:
            ShapeError: labels that are no class numbers, or out of range.
        """
        self.check_target(target)
        return BoundObjective(self, target, rng, {}, weights)

    @classmethod
    def takes_weights(cls) -> bool:
        """Whether its loss can weigh samples."""
        return "weights" in inspect.signature(cls.loss).parameters

    def check_target(self, target: Tensor) -> None:
        """Refuse labels that are no class numbers."""
        check_labels("head", target)
        low, high = int(target.min()), int(target.max())
        if low < 0 or high >= self.classes:
            raise ShapeError.of(
                "head",
                f"labels from 0 to {self.classes - 1}",
                f"{low}..{high}",
                "fix the data or the width of the readout",
            )


def _fill_in(head: Head, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Fill in the weights that older runs lack, before they are loaded."""
    for name in head.absent_in_older(prefix):
        state.setdefault(name, torch.zeros(head.classes))


def _last_weights(net: SpikingNet) -> Tensor | None:
    """Return the floating-point tensor whose type and device a head of the net takes."""
    body = [site.synapse for site in net.sites if site.role == "body" and site.spec.weighted]
    candidates = (
        *([net.last_linear.weight] if net.last_linear is not None else []),
        *(synapse.weight for synapse in reversed(body)),
        *reversed([*net.parameters()]),
        *reversed([*net.buffers()]),
    )
    return next((one for one in candidates if one.is_floating_point()), None)


@dataclass(frozen=True)
class BoundObjective:
    """A head's loss for one batch; noise is drawn at the first call and kept."""

    head: Head
    target: Tensor
    rng: Rng
    _noise: dict[str, Tensor | None]
    sample_weights: Tensor | None = None

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites of the head."""
        return self.head.sites

    def __call__(self, h: Tensor, ops: Ops = PLAIN) -> Loss:
        """Return logits and loss for one step's features [B, D]."""
        if "mask" not in self._noise:
            self._noise["mask"] = self.head.draw(len(self.target), self.rng, h)
        given = {} if self.sample_weights is None else {"weights": self.sample_weights}
        return self.head.loss(h, self.target, noise=self._noise["mask"], ops=ops, **given)

    def over(self, hs: Tensor, ops: Ops = PLAIN) -> Loss:
        """Return logits and loss for a train of features [T, B, D]."""
        return self(hs if self.head.reads == "train" else self.head.reduced(hs), ops)

    def error(self, h: Tensor, ops: Ops = PLAIN) -> Error:
        """Return the error at the outputs, for features [B, D] or a train [T, B, D]."""
        if h.dim() == 3 and self.head.reads != "train":
            h = self.head.reduced(h)
        return error_of(self, h, ops)

    def weights(self, steps: int) -> list[float] | None:
        """Return the weights with which `over` reduces T steps to one; None where it reads all."""
        own = type(self.head).reduced is not Head.reduced
        return None if own or self.head.reads == "train" else self.head.weights(steps)
