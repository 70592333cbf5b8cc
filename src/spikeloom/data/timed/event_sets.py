"""Data sets of event recordings: N-MNIST, SHD, SSC, and a user's own files."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from spikeloom.base.checks import at_least
from spikeloom.base.errors import ConfigError, DataError
from spikeloom.base.extras import install_line, installed
from spikeloom.data._split import Count, Text, hold_out, part_samples
from spikeloom.data.base import DATA, DataInfo, Samples, Splits
from spikeloom.data.timed.archive import (
    ARCHIVE,
    INDEX,
    check_complete,
    find_folder,
    read_file,
    read_index,
    read_recordings,
)
from spikeloom.data.timed.binning import By, Frames, Recordings, Steps, Window
from spikeloom.data.timed.class_folders import list_classes, read_classes
from spikeloom.data.timed.event_files import read_events, read_hdf5, read_nmnist
from spikeloom.data.timed.events import Sensor
from spikeloom.data.timed.kept import kept_arrays

NMNIST, NMNIST_FOLDERS = "nmnist", ("nmnist", "nmnist-small")
CAMERA = Sensor(34, 34)
UNITS = 700
STEPS = 10

Size = Annotated[int, at_least(1, most=10**5)]


def load_nmnist(
    root: Path | None = None,
    *,
    path: Text | Path | None = None,
    steps: Steps = STEPS,
    by: By = "time",
    window: Window | None = None,
    binary: bool = False,
    train_size: Count | None = None,
    validation: Count | None = None,
    normalise: bool = False,
) -> Splits:
    """Load N-MNIST: digits recorded by a moving event camera, 34 x 34 pixels.

    The folder holds the unpacked files `Train/0/*.bin` to `Test/9/*.bin`, or `recordings.tar.xz`
    with a table `index.csv` (columns file, label, split).

    Args:
        root: folder of the data sets; None for `data_root()`.
        path: folder of the data set; None for nmnist or nmnist-small below the root.
        steps: number of frames of a sample, T.
        by: how events become frames: "time", "count" or "voxel" (see `Frames`).
        window: duration of a frame in microseconds, with by = "time"; None divides each recording
            into T equal frames.
        binary: whether a frame holds 1 for pixels with events, in place of their number.
        train_size: number of training recordings to keep; None for all.
        validation: number of training recordings to use for validation; None for a tenth.
        normalise: whether to normalise each polarity with mean and deviation of the training part.

    Shape:
        x: [N, T, 2, 34, 34], counts as uint8; bool if binary. For voxels [N, T, 1, 34, 34],
            float32.

    Raises:
        ConfigError: options that cannot be combined, or too few recordings for the sizes.
        DataError: a file is missing, damaged, or in another format.

    Source:
        Orchard et al. 2015, "Converting static image datasets to spiking neuromorphic datasets
        using saccades".
    """
    frames = Frames(steps, by, window, binary)
    frames.check(f"data.{NMNIST}")
    folder = find_folder(NMNIST, NMNIST_FOLDERS, root, path)
    packed = (folder / ARCHIVE).is_file()
    read = _packed_nmnist(folder) if packed else read_classes(list_classes(folder), read_nmnist)
    arrays = kept_arrays(NMNIST, folder / ARCHIVE, repr(frames), lambda: frames.make(read, CAMERA))
    for part in ("train", "test"):
        if f"x_{part}" not in arrays:
            raise DataError.of(folder, f"recordings of part {part}", "none", "fetch it again")
    splits = _parted(
        NMNIST,
        (frames.samples(arrays, "train"), frames.samples(arrays, "test")),
        classes=10,
        validation=validation,
        train_size=train_size,
        normalise=normalise,
    )
    return replace(splits, labels=tuple("0123456789"))


def load_events(
    root: Path | None = None,
    *,
    path: Text | Path,
    height: Size,
    width: Size,
    steps: Steps = STEPS,
    by: By = "time",
    window: Window | None = None,
    binary: bool = False,
    train_size: Count | None = None,
    validation: Count | None = None,
    test: Count | None = None,
    normalise: bool = False,
) -> Splits:
    """Load a user's own recordings, in one folder per class.

    The class folders may lie in `train/` and `test/`. Files end in .bin or .bs2 (N-MNIST's format)
    or in .aedat (AEDAT 2.0 or 3.1).

    Args:
        root: folder that a relative path starts from; None for the current folder, else
            `data_root()`.
        path: folder of the recordings.
        height: height of the sensor in pixels.
        width: width of the sensor in pixels.
        steps: number of frames of a sample, T.
        by: how events become frames: "time", "count" or "voxel" (see `Frames`).
        window: duration of a frame in microseconds, with by = "time"; None divides each recording
            into T equal frames.
        binary: whether a frame holds 1 for pixels with events, in place of their number.
        train_size: number of training recordings to keep; None for all.
        validation: number of training recordings to use for validation; None for a tenth.
        test: number of training recordings to use for test if there is no test folder; None for a
            tenth.
        normalise: whether to normalise each polarity with mean and deviation of the training part.

    Shape:
        x: as for `load_nmnist`, [N, T, 2, H, W].

    Raises:
        ConfigError: options that cannot be combined, or too few recordings for the sizes.
        DataError: a file is damaged, or an event lies outside the sensor; names the file.
    """
    frames = Frames(steps, by, window, binary)
    frames.check("data.events")
    listed = list_classes(find_folder("events", (), root, path))
    if "test" in listed.parts and test is not None:
        todo = "leave it out"
        raise ConfigError.of("data.events.test", "no size beside a test folder", test, todo)
    arrays = frames.make(read_classes(listed, read_events), Sensor(height, width))
    train = frames.samples(arrays, "train")
    if "test" in listed.parts:
        held = frames.samples(arrays, "test")
    else:
        count = max(1, len(train) // 10) if test is None else test
        train, held = hold_out("data.events.test", train, count)
    splits = _parted(
        "events",
        (train, held),
        classes=len(listed.names),
        validation=validation,
        train_size=train_size,
        normalise=normalise,
    )
    return replace(splits, labels=listed.names)


def load_heidelberg(
    name: str,
    classes: int,
    root: Path | None = None,
    *,
    path: Text | Path | None = None,
    steps: Steps = 100,
    by: By = "time",
    window: Window | None = 14_000,
    binary: bool = False,
    train_size: Count | None = None,
    validation: Count | None = None,
    normalise: bool = False,
) -> Splits:
    """Load SHD or SSC: spikes of 700 channels from a model of the cochlea, in HDF5 files.

    Args:
        name: "shd" or "ssc", the start of the file names: `shd_train.h5`, `shd_test.h5`; SSC also
            has `ssc_valid.h5`.
        classes: number of classes, 20 for SHD and 35 for SSC.
        root: folder of the data sets; None for `data_root()`.
        path: folder of the files; None for shd or ssc below the root.
        steps: number of frames of a sample, T.
        by: how events become frames: "time", "count" or "voxel" (see `Frames`).
        window: duration of a frame in microseconds, with by = "time"; "none" divides each recording
            into T equal frames.
        binary: whether a frame holds 1 for channels with spikes, in place of their number.
        train_size: number of training recordings to keep; None for all.
        validation: number of training recordings to use for validation; None for the validation
            file if there is one, else a tenth.
        normalise: whether to normalise each channel with mean and deviation of the training part.

    Shape:
        x: [N, T, 700], counts as uint8; bool if binary; float32 for voxels.

    Raises:
        ConfigError: the library h5py is not installed, or options that cannot be combined.
        DataError: a file is missing, damaged, or in another format.

    Source:
        Cramer et al. 2020, "The Heidelberg spiking data sets for the systematic evaluation of
        spiking neural networks".
    """
    frames = Frames(steps, by, window if by == "time" else None, binary)
    frames.check(f"data.{name}")
    folder = find_folder(name, (name,), root, path)

    def part(word: str) -> Samples:
        file = folder / f"{name}_{word}.h5"
        if not file.is_file():
            raise DataError.of(file, "a data file", "found none", "put it there, unpacked")
        recordings = ((word, *recording) for recording in read_hdf5(file))
        arrays = frames.make(recordings, Sensor(0, UNITS, 1))
        if f"x_{word}" not in arrays:
            raise DataError.of(file, "recordings", "none", "fetch it again")
        return frames.samples(arrays, word)

    own = validation is None and (folder / f"{name}_valid.h5").is_file()
    return _parted(
        name,
        (part("train"), part("test")),
        classes=classes,
        validation=part("valid") if own else validation,
        train_size=train_size,
        normalise=normalise,
    )


def _parted(
    name: str,
    parts: tuple[Samples, Samples],
    *,
    classes: int,
    validation: Samples | int | None,
    train_size: int | None,
    normalise: bool,
) -> Splits:
    """Make splits of training and test parts; by default a tenth of training is for validation."""
    train, test = parts
    return part_samples(
        name,
        train,
        test,
        classes=classes,
        validation=max(1, len(train) // 10) if validation is None else validation,
        train_size=train_size,
        normalise=normalise,
    )


def _packed_nmnist(folder: Path) -> Recordings:
    """Yield the recordings of an archive, with labels and parts from index.csv."""
    index = read_index(folder, ("file", "label", "split"))
    if index is None:
        raise DataError.of(folder / INDEX, "a table of files", "found none", "fetch it again")
    seen = set()
    for stored in read_recordings(folder, ".bs2"):
        row = index.get(stored.name, {})
        good = row.get("label", "").isdecimal() and row.get("split") in ("train", "test")
        if not good:
            came = f"{row.get('label')} and {row.get('split')}" if row else "none"
            expected = f"a label and a part (train or test) in {INDEX}"
            raise DataError.of(stored.where, expected, came, "fetch both again")
        seen.add(stored.name)
        yield row["split"], int(row["label"]), stored.where, read_nmnist(stored)
    check_complete(folder, index, seen)


def _steps(options: Mapping[str, Any]) -> int:
    return options["steps"]


def _read(path: Path, options: Mapping[str, Any]) -> Tensor:
    """Read a user's own recording as frames, with the options of training."""
    stored = read_file(path)
    sensor = Sensor(options.get("height", CAMERA.height), options.get("width", CAMERA.width))
    frames = Frames(options["steps"], options["by"], options["window"], options["binary"])
    return torch.from_numpy(frames.frames(read_events(stored), sensor, stored.where))


def _nmnist_state(root: Path) -> str:
    there = any((root / folder).is_dir() for folder in NMNIST_FOLDERS)
    return "ready" if there else "missing: nmnist/Train, nmnist/Test"


def _heidelberg_state(name: str, root: Path) -> str:
    files = [f"{name}_train.h5", f"{name}_test.h5"]
    lacking = [file for file in files if not (root / name / file).is_file()]
    if lacking:
        return f"missing: {', '.join(lacking)} in {name}/"
    return "ready" if installed("h5py") else f"missing: the library h5py ({install_line('h5py')})"


DATA.register(NMNIST)(
    DataInfo(
        "digits seen by a moving event camera (N-MNIST); [T, 2, H, W]",
        (STEPS, *CAMERA.shape),
        10,
        load_nmnist,
        source="unpack Train.zip and Test.zip of garrickorchard.com/datasets/n-mnist there",
        state=_nmnist_state,
        steps=_steps,
        read=_read,
    )
)
DATA.register("events")(
    DataInfo(
        "your own recordings of an event camera (.bin, .bs2, .aedat)",
        None,
        None,
        load_events,
        source="a folder per class, in train/ and test/",
        state=lambda root: "give path",
        steps=_steps,
        read=_read,
    )
)


def _publish(name: str, classes: int, about: str) -> None:
    DATA.register(name)(
        DataInfo(
            about,
            (100, UNITS),
            classes,
            partial(load_heidelberg, name, classes),
            source="unpack the .h5 files of zenkelab.org/datasets there",
            state=partial(_heidelberg_state, name),
            steps=_steps,
        )
    )


_publish("shd", 20, "spoken digits as spikes of 700 channels (Heidelberg); [T, D]")
_publish("ssc", 35, "speech commands as spikes of 700 channels; [T, D]")
