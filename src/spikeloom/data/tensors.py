"""A user's own tensors, from memory or from a .safetensors or .npz file."""

import zipfile
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from spikeloom.base.checks import at_least, expect
from spikeloom.base.errors import ConfigError, DataError
from spikeloom.data._split import Count, Text, hold_out, part_samples
from spikeloom.data.base import DATA, DataInfo, Samples, Scaling, Splits, check_samples
from spikeloom.data.npy import ARRAY_FAULTS, check_archive
from spikeloom.data.places import first_there, in_words, places_of
from spikeloom.data.units import (
    REAL,
    Scale,
    axes_advice,
    peak_of,
    stored_array,
    stored_tensor,
    time_axis,
    values_of,
)

Pair = tuple[Tensor, Tensor]

REQUIRED = ("x_train", "y_train", "x_test", "y_test")
OPTIONAL = ("x_validation", "y_validation")


def splits_from_tensors(
    x: Tensor,
    y: Tensor,
    *,
    test: Pair | int,
    validation: Pair | int | None = None,
    train_size: int | None = None,
    normalise: bool = False,
    classes: int | None = None,
    scale: Scale = None,
    time: bool | None = None,
) -> Splits:
    """Make a data set of tensors.

    Args:
        x: training data: booleans, whole numbers or floats.
        y: labels of any integer type, or real targets [N] or [N, K] for task "regress".
        test: pair (x, y) of the test part, or how many samples to take from x as such.
        validation: likewise, taken from what is left; None takes a tenth.
        train_size: how many training samples to keep; None for all.
        normalise: use mean and deviation of the training part, per channel.
        classes: K; None for the largest label plus 1.
        scale: the stored value that becomes 1 at the net, or "pictures" for 255, "counts" for 1.
            None takes floats and booleans as they are, whole numbers with a time axis as
            counts, and bytes without one as grey levels 0..255.
        time: whether dimension 1 is time. None leaves it to the rank, which says so for all but
            [N, A, B].

    Shape:
        x: [N, D], [N, C, H, W], or with time [N, T, C], [N, T, C, H, W]; y: [N].

    Raises:
        ConfigError: sizes that the data cannot fill, a scale out of range, or a time axis where
            there is none.
        DataError: as listed at `Splits`, or values whose meaning must be stated.

    Example:
        >>> x, y = torch.rand(100, 3), torch.arange(100) % 2
        >>> splits = splits_from_tensors(x, y, test=20)
        >>> len(splits.train), len(splits.validation), len(splits.test)
        (72, 8, 20)
    """
    if normalise is True and time_axis("data", x.shape[1:], time) is None:
        raise DataError.of(
            "data.normalise",
            "to know which axis holds the channels",
            list(x.shape),
            f"state time = true or false. {axes_advice(x.shape[1:])}",
        )
    meaning = scale, time
    train = _samples("train", (x, y), *meaning)
    held = _samples("test", test, *meaning) if isinstance(test, tuple) else test
    own = (
        _samples("validation", validation, *meaning)
        if isinstance(validation, tuple)
        else validation
    )
    if train.y.is_floating_point():
        expect(classes is None, "data.tensors.classes", "none for real targets", classes, "drop it")
        classes = train.y.shape[1]
    elif classes is None:
        parts = (part for part in (train, own, held) if isinstance(part, Samples))
        classes = 1 + max((int(part.y.max()) for part in parts if part.y.numel()), default=0)
    check_samples("data.tensors.train", train, classes)
    if not isinstance(held, Samples):
        train, held = hold_out("data.tensors.test", train, held)
    return part_samples(
        "tensors",
        train,
        held,
        classes=classes,
        validation=own,
        train_size=train_size,
        normalise=normalise,
    )


def load_tensors(
    root: Path | None = None,
    *,
    path: Text | Path,
    train_size: Count | None = None,
    validation: Count | None = None,
    normalise: bool = False,
    classes: Annotated[int, at_least(2)] | None = None,
    scale: Scale = None,
    time: bool | None = None,
) -> Splits:
    """Load a file with x_train, y_train, x_test, y_test and perhaps x_validation, y_validation.

    Nothing is unpickled.

    Args:
        root: folder that a relative path starts from; None for the current folder, else
            `data_root()`.
        path: of the file, ending in .safetensors or .npz.
        train_size: how many training samples to keep; None for all.
        validation: how many samples to take from x_train; None for the file's own part, else a
            tenth.
        normalise: use mean and deviation of the training part, per channel.
        classes: K; None for the largest label plus 1.
        scale: as for `splits_from_tensors`.
        time: likewise; a recipe with encoder "frames" states it.

    Raises:
        ConfigError: another kind of file, sizes that it cannot fill, or a validation size where the
            file has its own part.
        DataError: the file is missing or damaged, lacks or misspells a key, or as at `Splits`.
    """
    places = places_of(path, root=root)
    file = first_there(places) or places[0]
    if file.suffix not in _READERS:
        raise ConfigError.of(
            "data.tensors.path", "a file in .safetensors or .npz", f"'{file.name}'", "convert it"
        )
    if not file.is_file():
        raise DataError.of(in_words(places), "a data file", "found none", "set the option path")
    arrays = _READERS[file.suffix](file)
    _check_keys(file, set(arrays))
    own = "x_validation" in arrays
    if own and validation is not None:
        raise ConfigError.of(
            "data.tensors.validation",
            f"no size, as {file.name} has its own part",
            validation,
            "leave the option out",
        )
    return splits_from_tensors(
        arrays["x_train"],
        arrays["y_train"],
        test=(arrays["x_test"], arrays["y_test"]),
        validation=(arrays["x_validation"], arrays["y_validation"]) if own else validation,
        train_size=train_size,
        normalise=normalise,
        classes=classes,
        scale=scale,
        time=time,
    )


def _check_keys(file: Path, keys: set[str]) -> None:
    missing, unknown = {*REQUIRED} - keys, keys - {*REQUIRED, *OPTIONAL}
    if unknown or missing or len({*OPTIONAL} & keys) == 1:
        raise DataError.of(
            file,
            f"the keys {', '.join(REQUIRED)} and perhaps {', '.join(OPTIONAL)}",
            ", ".join(sorted(keys)[:20]) or "none",
            "rename or add",
        )


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise DataError.caused(file, "plain arrays", error, "write the file again") from error


def _read_npz(file: Path) -> dict[str, Tensor]:
    try:
        with zipfile.ZipFile(file) as packed:
            _check_keys(file, {name.removesuffix(".npy") for name in packed.namelist()})
            check_archive(packed)
        with np.load(file, allow_pickle=False) as archive:
            arrays = {key: np.asarray(archive[key]) for key in archive.files}
        return {key: stored_array(f"{file}: {key}", array) for key, array in arrays.items()}
    except DataError:
        raise
    except ARRAY_FAULTS as error:
        raise DataError.caused(file, "plain arrays", error, "write the file again") from error


_READERS = {".safetensors": _read_safetensors, ".npz": _read_npz}


def _samples(part: str, pair: Pair, scale: Scale, time: bool | None) -> Samples:
    """Wrap a pair; labels of any integer type become int64."""
    where = f"data.tensors.{part}"
    x, y = pair
    x = stored_tensor(where, x)
    if y.dtype not in REAL and (y.is_floating_point() or y.is_complex() or y.dtype == torch.bool):
        expected = "y of an integer type, or floats of 16 to 64 bits"
        raise DataError.of(where, expected, y.dtype, "give class numbers, or numbers to answer")
    if not y.is_floating_point():
        y = y.long()
    elif y.ndim == 1:
        y = y.unsqueeze(1)
    time = time_axis("data", x.shape[1:], time)
    scaling = Scaling(peak_of("data", x, scale, time), time=bool(time))
    values = values_of(x, scale, scaling)
    if values == "counts" and x.is_floating_point() and not bool((x == x.round()).all()):
        raise DataError.of(
            where,
            "whole numbers where scale = 'counts'",
            f"{x[x != x.round()][0].item():.6g}",
            "leave scale out for values as they are",
        )
    return Samples(x, y, scaling, values=values)


DATA.register("tensors")(
    DataInfo(
        "your own arrays in a .safetensors or .npz file",
        None,
        None,
        load_tensors,
        source="a file with x_train, y_train, x_test, y_test",
        state=lambda root: "give path",
    )
)
