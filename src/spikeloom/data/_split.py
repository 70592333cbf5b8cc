"""How training data is parted: stratified, the same for ever, nested in size."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from spikeloom.base.errors import ConfigError, DataError
from spikeloom.base.seeding import derive_seed
from spikeloom.data.base import Samples, Scaling, Splits, check_samples


def part_samples(
    name: str,
    train: Samples,
    test: Samples,
    *,
    classes: int,
    validation: Samples | int,
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
        validation: a part of its own, or how many samples to take from `train`.
        train_size: how many training samples to keep; None for all.
        normalise: subtract the mean and divide by the deviation of the training part kept.

    Raises:
        ConfigError: sizes that the training data cannot fill, or normalise is no bool.
        DataError: as listed at `Splits`, with rows counted as stored.
    """
    where = f"data.{name}"
    if not isinstance(normalise, bool):  # the text "false" of a hand-made table would pass for true
        raise ConfigError(f"{where}.normalise: expected true or false, got {normalise!r}; set one.")
    check_samples(f"{where}.train", train, classes)
    order = stratified_order(train.y)
    if not isinstance(validation, Samples):
        check_size(f"{where}.validation", validation, len(train) - 1)
        head = len(train) - validation
        validation = _rows(train, order[head:])
        order = order[:head]
    if train_size is not None:
        check_size(f"{where}.train_size", train_size, len(order))
        order = order[:train_size]
    train = _rows(train, order)
    if normalise:
        scaling = measure(f"{where}.train", train)
        train, validation, test = (
            replace(part, scaling=scaling) for part in (train, validation, test)
        )
    return Splits(name, classes, train, validation, test)


def stratified_order(y: Tensor) -> Tensor:
    """Shuffle rows so that every stretch holds the classes in their overall proportions.

    Rows are ranked within their class by a hash of the row number, and the ranks of all classes are
    interleaved evenly: a stretch is off by about one sample per class. No generator is involved, so
    the order depends on no library's version.

    Shape:
        y: [N]; result: [N], int64, a permutation.
    """
    labels = y.cpu().numpy()
    keys = np.array([derive_seed("spikeloom.data", row) for row in range(len(labels))])
    place = np.empty(len(labels))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(keys[rows])]
        place[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    return torch.from_numpy(np.lexsort((keys, place)))


def measure(where: str, samples: Samples) -> Scaling:
    """Return the scaling of `samples`, with mean and deviation of each channel in float64.

    Raises:
        DataError: samples without channels, or a channel that is constant.
    """
    x, peak = samples.x, samples.scaling.peak
    if x.ndim < 2:
        raise DataError(
            f"{where}: normalise needs channels in dimension 1, got x {list(x.shape)}; "
            "give x [N, C, ...]."
        )
    others = [axis for axis in range(x.ndim) if axis != 1]
    count = x.numel() // x.shape[1]
    per_channel = (-1, *[1] * (x.ndim - 2))
    mean = x.new_zeros(x.shape[1], dtype=torch.float64)
    square = mean.clone()
    for rows in x.split(4096):  # in stretches, for the float64 copy is 8 times the stored bytes
        mean += rows.double().sum(others)
    mean /= count
    for rows in x.split(4096):
        square += (rows.double() - mean.view(per_channel)).square().sum(others)
    std = (square / count).sqrt()
    if not bool((std > 0).all()):
        raise DataError(
            f"{where}: normalise needs varying channels, got channel {int(std.argmin())} constant; "
            "drop the channel or set normalise = false."
        )
    return Scaling(peak, tuple((mean / peak).tolist()), tuple((std / peak).tolist()))


def check_size(where: str, size: object, most: int) -> None:
    """Refuse a size that the training data cannot fill.

    Raises:
        ConfigError: size is no integer in 1..most.
    """
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= most:
        raise ConfigError(
            f"{where}: expected 1 to {most} samples, got {size!r}; the training data holds no more."
        )


def _rows(samples: Samples, index: Tensor) -> Samples:
    """Return some rows, in this order."""
    return replace(samples, x=samples.x[index], y=samples.y[index])
