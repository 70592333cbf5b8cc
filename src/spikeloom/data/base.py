"""What a data set is: three parts of samples and labels, checked once, at the border."""

import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, get_type_hints

import torch
from torch import Tensor

from spikeloom.base.errors import ConfigError, DataError, ShapeError, unknown_name
from spikeloom.base.fields import conform
from spikeloom.base.registry import Registry
from spikeloom.base.types import Values
from spikeloom.data.decode import Reading
from spikeloom.data.units import REAL, WHOLE
from spikeloom.tasks.classify import Classify
from spikeloom.tasks.regress import Regress

DATA: Registry["DataInfo"] = Registry("data set", "spikeloom.data", ("about", "load", "state"))

Watcher: TypeAlias = Callable[[int, int], None]
"""Called with the number of pictures decoded so far, and in all."""


@dataclass(frozen=True)
class Scaling:
    r"""How stored values become network input: :math:`(x / peak - mean_c) / std_c`.

    Args:
        peak: stored value that becomes 1.
        mean: per channel, after division by peak; empty for no normalisation.
        std: per channel, above 0; as long as `mean`.
        time: whether dimension 1 of [B, ...] is time, so that channels are dimension 2.

    Raises:
        DataError: a constant out of range.
    """

    peak: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    time: bool = False

    def __post_init__(self) -> None:
        if not 0.0 < self.peak < float("inf"):
            expected = "a finite number above 0"
            raise DataError.of("data.scaling.peak", expected, self.peak, "give e.g. 255")
        if len(self.mean) != len(self.std) or not all(0.0 < s < float("inf") for s in self.std):
            raise DataError.of(
                "data.scaling",
                "mean and std of the same length, std above 0",
                f"{self.mean} and {self.std}",
                "give one pair per channel",
            )

    @property
    def channel_axis(self) -> int:
        """Dimension of [B, ...] that holds the channels."""
        return 2 if self.time else 1

    def apply(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Scale stored values, computing in at least float32.

        Shape:
            x: [B, C, ...], with a time axis [B, T, C, ...]; result: as x.

        Raises:
            ShapeError: another number of channels than means.
        """
        x = x.to(torch.promote_types(dtype, torch.float32)) / self.peak
        if self.mean:
            axis = self.channel_axis
            if x.ndim <= axis or x.shape[axis] != len(self.mean):
                raise ShapeError.of(
                    "data.scaling",
                    f"x [B, {'T, ' * (axis - 1)}{len(self.mean)}, ...]",
                    list(x.shape),
                    "give one mean and std per channel",
                )
            per_channel = (-1, *[1] * (x.ndim - axis - 1))
            mean, std = (x.new_tensor(v).view(per_channel) for v in (self.mean, self.std))
            x = x.sub_(mean).div_(std)  # x is fresh from the division above
        return x.to(dtype)

    def stored_zero(self, x: Tensor) -> Tensor:
        """Return what is stored where the network sees 0: the mean of each channel, else 0.

        Shape:
            x: pictures [B, C, H, W], stored values; result: [C, 1, 1] of x's type, rounded for
                integers.
        """
        zero = torch.tensor(self.mean or [0.0] * x.shape[1], dtype=torch.float64) * self.peak
        if not x.is_floating_point():
            zero = zero.round()
        return zero.to(x.device, x.dtype).view(-1, *[1] * (x.ndim - 2))


@dataclass(frozen=True, eq=False)
class Samples:
    """Stored samples and their labels; checked as part of `Splits`.

    Parts of one set share its store: shuffling and splitting copy row numbers, never samples, so
    that a memory-mapped store stays on disk.

    Args:
        store: what holds the samples: booleans, whole numbers or floats.
        y: class numbers of the samples, in their order.
        scaling: how `take` makes network input of stored values.
        rows: where in the store each sample stands; None where sample n is row n.
        values: what scaled samples are: "real", "events" or "counts", said by the data set.

    Shape:
        store: [M, C, ...], with a time axis [M, T, C, ...]; y and rows: [N], int64; M = N without
            rows.
    """

    store: Tensor
    y: Tensor
    scaling: Scaling = Scaling()
    rows: Tensor | None = None
    values: Values = "real"

    def __len__(self) -> int:
        return len(self.store if self.rows is None else self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.store.shape[1:])

    @property
    def x(self) -> Tensor:
        """All samples as stored, in their order [N, ...]; copied unless the store is just that."""
        return self.store if self.rows is None else self.store[self.rows]

    def raw(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return these samples as they are stored, and their labels.

        Shape:
            index: [B], int64; results: [B, ...] and [B].
        """
        rows = index if self.rows is None else self.rows[index]
        return self.store.index_select(0, rows), self.y[index]  # twenty times faster than x[rows]

    def select(self, index: Tensor) -> "Samples":
        """Return some of these samples, in the order of `index`, on the same store."""
        rows = index if self.rows is None else self.rows[index]
        return replace(self, y=self.y[index], rows=rows)

    def take(self, index: Tensor, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """Return the scaled samples and labels of these rows.

        Shape:
            index: [B], int64; results: [B, ...] and [B].

        Raises:
            ShapeError: dtype is no float type.
        """
        if not dtype.is_floating_point:
            raise ShapeError.of("data.take.dtype", "a float type", dtype, "take e.g. float32")
        x, y = self.raw(index)
        return self.scaling.apply(x, dtype), y

    def to(self, device: torch.device | str) -> "Samples":
        """Return these samples on a device, without the rest of their store."""
        return replace(self, store=self.x.to(device), y=self.y.to(device), rows=None)


@dataclass(frozen=True, eq=False)
class Splits:
    """A data set: parts for training, for choices (validation) and for the reported result (test).

    Args:
        name: of the set, used in messages.
        classes: K, number of classes, 2 or more; of real targets, how many numbers each holds.
        train: to learn from.
        validation: taken from training data, never from the test part.
        test: to report.
        labels: names of the classes 0..K-1; empty where unknown.
        reading: how pictures became samples; None where samples are no pictures read from files.
        skipped: places of pictures that could not be read and were left out.
        notes: remarks on the samples, e.g. how many were cut; shown when training starts.

    Raises:
        DataError: an empty part, labels outside 0..K-1, values that are not finite, parts that
            differ in sample shape or scaling, or another number of names than classes; the message
            names part and row.
    """

    name: str
    classes: int
    train: Samples
    validation: Samples
    test: Samples
    labels: tuple[str, ...] = ()
    reading: Reading | None = None
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.labels and len(self.labels) != self.classes:
            raise DataError.of(
                f"data.{self.name}",
                f"{self.classes} names of classes",
                len(self.labels),
                "give one per class, or none",
            )
        if self.classes < 2 and not self.train.y.is_floating_point():
            raise DataError.of(
                f"data.{self.name}",
                "at least 2 classes",
                self.classes,
                "a classifier needs a choice",
            )
        for part, samples in self.parts():
            where = f"data.{self.name}.{part}"
            check_samples(where, samples, self.classes)
            if samples.values != self.values:
                raise DataError.of(
                    where,
                    f"{self.values} as in train",
                    samples.values,
                    "prepare all parts in the same way",
                )
            if samples.shape != self.shape or samples.scaling != self.scaling:
                raise DataError.of(
                    where,
                    f"samples {list(self.shape)} with {self.scaling} as in train",
                    f"{list(samples.shape)} with {samples.scaling}",
                    "prepare all parts in the same way",
                )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.train.shape

    @property
    def scaling(self) -> Scaling:
        """How stored values become network input, the same for all parts."""
        return self.train.scaling

    @property
    def values(self) -> Values:
        """What scaled samples are, the same for all parts."""
        return self.train.values

    def parts(self) -> Iterator[tuple[str, Samples]]:
        """Yield name and samples of train, validation and test."""
        yield from (("train", self.train), ("validation", self.validation), ("test", self.test))


def check_samples(where: str, samples: Samples, classes: int) -> None:
    """Refuse a part that cannot be learned from or scored.

    Raises:
        DataError: as listed at `Splits`, naming `where` and the first bad row.
    """
    x, y, rows = samples.store, samples.y, samples.rows
    count = x.shape[:1] if rows is None else rows.shape
    if x.ndim < 1 or y.shape[:1] != count or (y.ndim > 1 and not y.is_floating_point()):
        raise DataError.of(
            where,
            "one label per sample",
            f"x {list(x.shape)} and y {list(y.shape)}",
            "give x [N, ...] and y [N]",
        )
    if x.numel() == 0 or len(samples) == 0:
        raise DataError.of(where, "at least one sample", f"x {list(x.shape)}", "fill the part")
    if y.dtype not in (torch.int64, *REAL) or x.dtype not in WHOLE + REAL:
        raise DataError.of(
            where,
            "x of booleans, whole numbers or floats of 16 to 64 bits, and y int64 or such floats",
            f"{x.dtype} and {y.dtype}",
            "convert them",
        )
    (Regress() if y.is_floating_point() else Classify()).check(where, y, classes)
    if x.is_floating_point():
        finite = x.isfinite().reshape(len(x), -1).all(1)
        wrong = (~(finite if rows is None else finite[rows])).nonzero()
        if len(wrong):
            raise DataError.of(
                where,
                "finite values",
                f"NaN or infinity at row {int(wrong[0])}",
                "remove or correct the sample",
            )


@dataclass(frozen=True)
class DataInfo:
    """Entry of the registry: facts for a listing, known without opening a file.

    Args:
        about: one line.
        shape: of one sample; None where the file decides.
        classes: K; None where the file decides.
        load: `load(root, **options)`; every loader has the options train_size, validation and
            normalise. One that takes long has `progress` too, which is no option of a recipe.
        source: where to get the files and where to put them, one line.
        state: `state(root)` -> "ready", "decoded" (ready and in the cache) or "missing: ...", from
            the existence of files alone.
        steps: `steps(options)` -> T of samples with a time axis, from all options; None where
            samples have none, or a file decides.
        read: `read(path, options)` -> a user's own recording as a sample is stored; None where
            files are arrays or pictures.
    """

    about: str
    shape: tuple[int, ...] | None
    classes: int | None
    load: Callable[..., Splits]
    source: str = ""
    state: Callable[[Path], str] = lambda root: "ready"
    steps: Callable[[Mapping[str, Any]], int] | None = None
    read: Callable[[Path, Mapping[str, Any]], Tensor] | None = None

    def length(self, chosen: Mapping[str, Any]) -> int | None:
        """Return T of the samples under some options; None where that is not known beforehand.

        Args:
            chosen: options of a user; wrong ones are refused by whoever loads the set.
        """
        try:
            return None if self.steps is None else self.steps(self.filled(chosen))
        except ConfigError:
            return None

    def filled(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Return all options: those that are chosen, typed, and the defaults of the others."""
        hints, parameters = self.hints, inspect.signature(self.load).parameters
        own = {name: conform(hints[name], chosen[name], name) for name in hints if name in chosen}
        return {name: parameters[name].default for name in self.options} | own

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options that `load` takes."""
        parameters = tuple(inspect.signature(self.load).parameters)[1:]
        return tuple(name for name in parameters if name != "progress")

    @property
    def hints(self) -> dict[str, Any]:
        """Types of the options, with their ranges; one loader may serve several sets by partial."""
        load = getattr(self.load, "func", self.load)
        hints = get_type_hints(load, include_extras=True)
        return {name: hint for name, hint in hints.items() if name in self.options}


def data_root() -> Path:
    """Return the folder of the data sets: $SPIKELOOM_DATA, else ~/.cache/spikeloom."""
    return Path(os.environ.get("SPIKELOOM_DATA") or "~/.cache/spikeloom").expanduser()


def load_data(
    name: str, root: Path | None = None, *, progress: Watcher | None = None, **options: object
) -> Splits:
    """Load a registered set.

    Args:
        name: of the set.
        root: folder of the data sets; None for `data_root()`.
        progress: called with (pictures decoded, pictures in all) while a set is decoded, which
            happens once; not called where that was done before.
        options: for the loader: train_size, validation, normalise and the set's own.

    Raises:
        ConfigError: unknown set or option, or an option out of range.
        DataError: a file is missing, damaged or holds something else than promised.
    """
    info = DATA.find(name, "data")
    hints = info.hints
    for option, value in options.items():
        if option not in info.options:
            raise unknown_name(f"data.{name}", "option", option, info.options)
        options[option] = conform(hints.get(option, Any), value, f"data.{name}.{option}")
    parameters = inspect.signature(info.load).parameters
    for option in info.options:
        if parameters[option].default is inspect.Parameter.empty and option not in options:
            raise ConfigError.of(f"data.{name}", f"the option {option}", "none", "set it")
    if progress is not None and "progress" in parameters:
        options["progress"] = progress
    return info.load(root, **options)
