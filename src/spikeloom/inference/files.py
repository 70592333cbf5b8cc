"""A user's own pictures and arrays as samples of a trained net, read without running code."""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from spikeloom.base.errors import DataError
from spikeloom.data import DATA, Samples, Scaling
from spikeloom.data.decode import Decoder, Reading, bombs_refused
from spikeloom.data.npy import ARRAY_FAULTS, read_header
from spikeloom.data.units import is_whole, stored_array
from spikeloom.program.inputs import Inputs
from spikeloom.program.recipe import Recipe

LARGEST_FILE = 2**30
"""Most bytes of a file, and of an unpacked array, that are read."""

ARRAYS = (".npy", ".npz")

Recording: TypeAlias = Callable[[Path], Tensor]
"""Reads a recording as one sample is stored."""


@dataclass(frozen=True)
class Given:
    """A file's samples, ready for `Workbench.batch`.

    Args:
        path: as the user wrote it.
        samples: in the stored units of the training data; labels are zeros without a meaning.
        single: whether the file is one sample, not a batch of them.
        notes: what was done to it.
    """

    path: Path
    samples: Samples
    single: bool
    notes: tuple[str, ...] = ()


def recordings_of(recipe: Recipe) -> Recording | None:
    """Return what reads one recording of the kind that a recipe's data are; None for other data."""
    name = recipe.data.name
    info = DATA.find(name) if name in DATA.names() else None
    if info is None or info.read is None:
        return None
    read, options = info.read, info.filled(recipe.data.options)
    return lambda path: read(path, options)


def read_file(
    path: Path, inputs: Inputs, *, invert: bool = False, recording: Recording | None = None
) -> Given:
    """Read one file as samples for a net that was trained on `inputs`.

    Pictures are read as in training, by the same `Decoder`, and their grey levels brought from
    black..white to the data's 0..peak, rounded where it stores whole numbers. Arrays (.npy, .npz)
    keep their shape and type: values of the kind that the data store are taken as stored; floats
    where the data store whole numbers are what the net sees of them, e.g. 0 to 1 for grey levels;
    whole numbers where the data store floats are refused. Recordings are read as in training.

    Args:
        path: of the file.
        inputs: what the net was trained on.
        invert: turn light into dark, once the picture is read.
        recording: reads files that are no arrays, where the data are recordings.

    Raises:
        DataError: the file is missing, damaged, unsafe, or holds something else; it is named.
    """
    if path.is_dir():
        raise DataError.of(path, "a file", "a folder", "name the files in it")
    if not path.exists():
        raise DataError.of(path, "a file", "found none", "check the path")
    if not path.is_file():
        raise DataError.of(path, "a plain file", "something else", "save it as a file")
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise DataError.of(path, f"{LARGEST_FILE} bytes at most", size, "predict in parts")
    notes: list[str] = []
    if path.suffix.lower() in ARRAYS:
        x = stored_array(str(path), _read_array(path, inputs))
        x, scaling = _in_stored_units(path, x, inputs)
        single = x.dim() == len(inputs.in_shape)
        x = x.unsqueeze(0) if single else x
    elif recording is not None:
        x, scaling, single = recording(path).unsqueeze(0), None, True
    else:
        x, scaling, single = _read_picture(path, inputs, notes).unsqueeze(0), None, True
    scaling = scaling or inputs.build_scaling()
    if invert:
        if float(x.min()) < 0 or float(x.max()) > scaling.peak:
            raise DataError.of(
                path,
                f"values from 0 to {scaling.peak:g} to invert",
                f"{float(x.min()):g} to {float(x.max()):g}",
                "leave --invert out",
            )
        x = scaling.peak - x.to(torch.promote_types(x.dtype, torch.float32))
        notes.append("inverted")
    samples = Samples(x, torch.zeros(len(x), dtype=torch.int64), scaling)
    return Given(path, samples, single, tuple(notes))


def _in_stored_units(path: Path, x: Tensor, inputs: Inputs) -> tuple[Tensor, Scaling]:
    """Return an array's values with the scaling that makes network input of them.

    Values of the kind that the training data store are taken as those are. Floats where the data
    store whole numbers are what the net sees of them; whole numbers where it stores floats could be
    anything.

    Raises:
        DataError: values that are not finite, or outside the range of the training data, or whole
            numbers for floats.
    """
    scaling = inputs.build_scaling()
    kind = str(x.dtype).removeprefix("torch.")
    if is_whole(x) and not inputs.whole:
        raise DataError.of(
            path,
            f"floats, as data '{inputs.data}' has",
            f"{kind} of unknown scale",
            "save floats, e.g. x / 255 for grey levels",
        )
    if x.is_floating_point() and not bool(x.isfinite().all()):
        place = tuple((~x.isfinite()).nonzero()[0].tolist())
        raise DataError.of(
            path, "finite values", f"{float(x[place])} at {list(place)}", "correct the file"
        )
    if x.is_floating_point() and inputs.whole:
        scaling = replace(scaling, peak=1.0)
    low, high = float(x.min()), float(x.max())
    if inputs.whole and inputs.bounded and (low < 0 or high > scaling.peak):
        raise DataError.of(
            path,
            f"whole numbers from 0 to {inputs.scaling.peak:g} or floats from 0 to 1, as data "
            f"'{inputs.data}' has",
            f"{low:g} to {high:g} in {kind}",
            "scale the array",
        )
    return x, scaling


def _read_array(path: Path, inputs: Inputs) -> np.ndarray:
    """Read the array of a .npy or .npz file, its header first.

    Raises:
        DataError: the file is damaged, too large, of another shape, or holds several arrays.
    """
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as file:
                _check_header(path, file, path.stat().st_size, inputs)
            return np.load(path, allow_pickle=False)
        with zipfile.ZipFile(path) as archive:
            names = [one.removesuffix(".npy") for one in archive.namelist()]
            name = "x" if "x" in names else names[0] if len(names) == 1 else None
            if name is None:
                raise DataError.of(
                    path,
                    "one array, or one named 'x'",
                    ", ".join(names[:6]) or "none",
                    "save it alone",
                )
            member = archive.getinfo(archive.namelist()[names.index(name)])
            with archive.open(member) as file:
                _check_header(path, file, member.file_size, inputs)
            with archive.open(member) as file:
                return np.lib.format.read_array(file, allow_pickle=False)
    except DataError:
        raise
    except ARRAY_FAULTS as error:
        raise DataError.caused(path, "a plain array", error, "save it again") from None


def _check_header(path: Path, file: Any, size: int, inputs: Inputs) -> None:
    """Refuse an array by its header, before memory is allocated for it."""
    shape, dtype = read_header(file)
    wanted = inputs.in_shape
    if shape != wanted and (len(shape) != 1 + len(wanted) or shape[1:] != wanted or not shape[0]):
        sizes = ", ".join(map(str, wanted))
        raise DataError.of(path, f"an array [{sizes}] or [N, {sizes}]", list(shape), "reshape it")
    needed = prod(shape) * dtype.itemsize
    if needed > LARGEST_FILE:
        raise DataError.of(path, f"{LARGEST_FILE} bytes at most", needed, "predict in parts")
    if needed > size:
        raise ValueError(f"{size} bytes for an array of {needed}")


def _read_picture(path: Path, inputs: Inputs, notes: list[str]) -> Tensor:
    """Read a picture as the training data would store it, [C, H, W].

    Raises:
        DataError: the file is no picture, or the training data are no pictures.
    """
    shape = inputs.in_shape
    if len(shape) != 3 or shape[0] not in (1, 3) or (inputs.whole and inputs.scaling.peak == 1):
        raise DataError.of(
            path,
            f"an array (.npy or .npz) of shape {list(shape)}, since data '{inputs.data}' are "
            "no grey or colour pictures",
            "another file",
            "save an array",
        )
    decoder = Decoder(shape[1:], grey=shape[0] == 1, reading=inputs.build_reading() or Reading())
    with bombs_refused():
        picture = decoder.read(path, str(path))
    notes += picture.notes
    x, white = torch.from_numpy(picture.pixels.astype(np.float32)), 255.0
    if picture.pixels.dtype != np.uint8:
        inputs.check_depth(str(path), whole=False)
        white = 1.0
    x = x * (inputs.scaling.peak / white)
    return x.round() if inputs.whole else x
