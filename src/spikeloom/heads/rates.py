"""Rates head: the last population's rates are the scores; nothing is trained behind it."""

from typing import Annotated, ClassVar

from torch import Tensor

from spikeloom.base.citation import Citation
from spikeloom.base.errors import ConfigError
from spikeloom.base.fields import checked
from spikeloom.heads.base import HEADS, Decay, Head, Reduction
from spikeloom.heads.losses import widened
from spikeloom.heads.mix import SHARE, Mix
from spikeloom.heads.softmax import Softmax
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.ops import PLAIN, Ops
from spikeloom.nets.readout import Loss


@HEADS.register("rates")
class Rates(Head):
    r"""Cross entropy or squared error on rates, one spiking neuron per class.

    .. math::
        L = (1 - m)\,CE(a, y) + m\,\frac{1}{BK} \sum_{b,k} (a_{bk} - c_{bk})^2, \quad
        a_k = \sum_t w[t]\, o_k[t] / \sum_t w[t]

    o are the outputs of the net's last population with their amplitude, so scores lie between 0
    and that amplitude. c is `correct` for the right class and `wrong` for the others; m = 1 is the
    squared error on firing rates. A rule with a loss at every step takes it on each step's o. The
    net keeps its last layer in the body: write it in brackets, ``[f10]``.

    Args:
        features: number of classes as well.
        classes: the same number.
        mse: m, in [0, 1]; 0 is plain cross entropy, 1 plain squared error.
        correct: target rate of the right class, times the amplitude; a target count where `reduce`
            counts.
        wrong: target rate of every other class.
        reduce: how a train becomes rates.
        decay: lambda of "weighted".
        seed: not used, since there are no weights; every head has it.

    Raises:
        ConfigError: features and classes differ, m outside [0, 1], or a right class whose target
            is not above the others'.

    Source:
        Meng et al. 2022 (DSR, code) for cross entropy; Lee et al. 2016 for squared error on spike
        counts. snnTorch's `mse_count_loss` is T times ours with m = 1.
    """

    about: ClassVar[str] = (
        "cross entropy or squared error on the rates of a last population, one neuron per class"
    )
    source: ClassVar[Citation | None] = None
    maps: ClassVar[tuple[str, ...]] = ()

    @checked("head.rates")
    def __init__(
        self,
        features: int,
        classes: int,
        *,
        mse: Annotated[float, SHARE] = 0.0,
        correct: float = 1.0,
        wrong: float = 0.0,
        reduce: Reduction = "mean",
        decay: Decay = 0.5,
        seed: int = 0,
    ) -> None:
        if features != classes:
            raise ConfigError.of(
                "head.rates",
                "one feature per class",
                f"{features} features and {classes} classes",
                f"end the net with [f{classes}]",
            )
        super().__init__(features, classes, reduce=reduce, decay=decay, seed=seed)
        self.mix = Mix("head.rates", mse, correct, wrong)

    @classmethod
    def of(cls, net: SpikingNet, **options: object) -> "Rates":
        """Build the head of a net that ends with a population.

        Raises:
            ConfigError: the net ends with a linear readout, which belongs to another head.
        """
        if net.spec.readout is not None:
            classes = net.spec.readout.out
            raise ConfigError.of(
                "head.rates",
                "a net that ends with a population",
                f"a readout f{classes}",
                f"put it in brackets, [f{classes}]",
            )
        return cls(net.features, net.features, **options)  # pyright: ignore[reportArgumentType]

    @classmethod
    def baseline(cls) -> type[Head]:
        """Return the softmax head: in a ReLU net the last layer is linear."""
        return Softmax

    def scores(self, h: Tensor, ops: Ops = PLAIN) -> Tensor:
        """Return the rates themselves.

        Shape:
            h, result: [B, K].
        """
        return h

    def loss(
        self,
        h: Tensor,
        target: Tensor,
        *,
        noise: Tensor | None,
        ops: Ops = PLAIN,
        weights: Tensor | None = None,
    ) -> Loss:
        """Return rates and loss.

        Shape:
            h: [B, K]; target, weights: [B].
        """
        o = widened(h)
        return Loss(o, self.mix.loss(o, target, weights=weights))
