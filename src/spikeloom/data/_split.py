"""How training data is split: stratified, always the same, small parts inside larger ones."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from spikeloom.base.checks import FILLED, at_least, expect
from spikeloom.base.errors import DataError
from spikeloom.base.fields import conform
from spikeloom.base.seeding import derive_seed
from spikeloom.data.base import Samples, Scaling, Splits, check_samples

Count = Annotated[int, at_least(1, "sample")]
"""How many samples a part is to have."""

Text = Annotated[str, FILLED]


def part_samples(
    name: str,
    train: Samples,
    test: Samples,
    *,
    classes: int,
    validation: Samples | int | None,
    train_size: int | None,
    normalise: bool,
) -> Splits:
    """Take validation and training part out of the training data.

    The data is put in `stratified_order`: validation is its tail, training its head. So every
    train_size sees the same validation part, and a larger training part contains the smaller.

    Args:
        name: of the set.
        train: training data.
        test: test part, left as it is.
        classes: K.
        validation: a part of its own, or how many samples to take from `train`; None for a tenth.
        train_size: how many training samples to keep; None for all.
        normalise: subtract the mean and divide by the standard deviation of the training part kept.

    Raises:
        ConfigError: sizes that the training data cannot fill, or normalise is no bool.
        DataError: as listed at `Splits`, with rows counted as stored.
    """
    where = f"data.{name}"
    conform(bool, normalise, f"{where}.normalise")
    check_samples(f"{where}.train", train, classes)
    order = stratified_order(train.y)
    if not isinstance(validation, Samples):
        size = tenth(train) if validation is None else validation
        check_size(f"{where}.validation", size, len(train) - 1)
        head = len(train) - size
        validation = train.select(order[head:])
        order = order[:head]
    if train_size is not None:
        check_size(f"{where}.train_size", train_size, len(order))
        order = order[:train_size]
    train = train.select(order)
    if normalise:
        scaling = measure(f"{where}.train", train)
        train, validation, test = (
            replace(part, scaling=scaling, values="real") for part in (train, validation, test)
        )
    return Splits(name, classes, train, validation, test)


def stratified_order(y: Tensor) -> Tensor:
    """Shuffle rows so that any contiguous part has the overall proportions of the classes.

    Real targets count as one class. Rows are ranked within their class by a hash of the row number,
    and the ranks of all classes are interleaved evenly: a contiguous part is off by about one
    sample per class. No random generator is used, so the order depends on no library's version.

    Shape:
        y: [N, ...]; result: [N], int64, a permutation.
    """
    labels = np.zeros(len(y)) if y.is_floating_point() else y.cpu().numpy()
    keys = np.array([derive_seed("spikeloom.data", row) for row in range(len(labels))])
    place = np.empty(len(labels))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(keys[rows])]
        place[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    return torch.from_numpy(np.lexsort((keys, place)))


def hold_out(where: str, samples: Samples, count: int) -> tuple[Samples, Samples]:
    """Split samples into the rest and `count` held out, both in `stratified_order`.

    Raises:
        ConfigError: the samples are too few.
    """
    check_size(where, count, len(samples) - 1)
    order = stratified_order(samples.y)
    return samples.select(order[:-count]), samples.select(order[-count:])


def tenth(samples: Samples) -> int:
    """Return how many samples a part gets that has no size of its own."""
    return max(1, len(samples) // 10)


def measure(where: str, samples: Samples) -> Scaling:
    """Return the scaling of `samples`, with mean and standard deviation of each channel in float64.

    They are taken over samples, space and, with a time axis, time. Bytes are counted, so that their
    sums are exact.

    Raises:
        DataError: samples without channels, or a channel that is constant.
    """
    x, peak = samples.store, samples.scaling.peak
    if x.ndim < 2:
        raise DataError.of(
            where,
            "channels in dimension 1 to normalise",
            f"x {list(x.shape)}",
            "give x [N, C, ...]",
        )
    mean, square = (_of_bytes if x.dtype == torch.uint8 else _of_floats)(samples)
    std = square.sqrt()
    if not bool((std > 0).all()):
        raise DataError.of(
            where,
            "channels that vary, to normalise them",
            f"channel {int(std.argmin())} constant",
            "drop the channel or set normalise = false",
        )
    means, deviations = ((value / peak).tolist() for value in (mean, std))
    return replace(samples.scaling, mean=tuple(means), std=tuple(deviations))


def _stretches(samples: Samples) -> Iterator[Tensor]:
    """Yield the samples as [n, C, ...] in chunks, since sums need wider types than the store."""
    for rows in torch.arange(len(samples)).split(4096):
        yield samples.raw(rows)[0].movedim(samples.scaling.channel_axis, 1)


def _channels(samples: Samples) -> int:
    return samples.store.shape[samples.scaling.channel_axis]


def _of_bytes(samples: Samples) -> tuple[Tensor, Tensor]:
    """Return mean and variance of each channel from counts of the 256 values."""
    value = torch.arange(256, dtype=torch.float64)
    counts = torch.zeros(_channels(samples), 256, dtype=torch.int64)
    for x in _stretches(samples):
        for channel in range(x.shape[1]):
            counts[channel] += torch.bincount(x[:, channel].flatten(), minlength=256)
    count = counts[0].sum()
    mean = (counts * value).sum(1) / count
    return mean, (counts * (value - mean.unsqueeze(1)).square()).sum(1) / count


def _of_floats(samples: Samples) -> tuple[Tensor, Tensor]:
    """Return mean and variance of each channel from two passes."""
    others = [axis for axis in range(samples.store.ndim) if axis != 1]
    channels = _channels(samples)
    count = len(samples) * math.prod(samples.shape) // channels
    per_channel = (-1, *[1] * (samples.store.ndim - 2))
    mean = samples.store.new_zeros(channels, dtype=torch.float64)
    square = mean.clone()
    for x in _stretches(samples):
        mean += x.double().sum(others)
    mean /= count
    for x in _stretches(samples):
        square += (x.double() - mean.view(per_channel)).square().sum(others)
    return mean, square / count


def check_size(where: str, size: object, most: int) -> None:
    """Refuse a size that the training data cannot fill.

    Raises:
        ConfigError: size is no integer in 1..most.
    """
    count: int = conform(Count, size, where)
    todo = "the training data holds no more"
    expect(count <= most, where, f"{most} samples at most", count, todo)
