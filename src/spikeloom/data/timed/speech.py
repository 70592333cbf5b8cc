"""Free Spoken Digit Dataset (FSDD): recordings of digits as log-mel frames, split by speaker."""

import io
import re
import wave
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch

from spikeloom.base.checks import at_least, expect
from spikeloom.base.errors import DataError, addressed
from spikeloom.base.seeding import derive_seed
from spikeloom.data._split import Count, Text, part_samples
from spikeloom.data.base import DATA, DataInfo, Samples, Scaling, Splits, Watcher
from spikeloom.data.timed.archive import (
    ARCHIVE,
    INDEX,
    SHELF,
    Stored,
    check_complete,
    find_folder,
    read_file,
    read_index,
    read_recordings,
)
from spikeloom.data.timed.kept import Arrays, kept_arrays
from spikeloom.data.timed.mel import Mel

NAME, FOLDER = "spoken_digits", "fsdd"
RATE = 8000
STEPS, BANDS = 40, 32
FILE_NAME = re.compile(r"(\d)_([^_]+)_(\d+)\.wav")

Speakers = Annotated[int, at_least(1, "speaker")]


def load_spoken_digits(
    root: Path | None = None,
    *,
    path: Text | Path | None = None,
    steps: Annotated[int, at_least(1, "step", most=10**5)] = STEPS,
    bands: Annotated[int, at_least(1, "band", most=1000)] = BANDS,
    test_speakers: Speakers = 1,
    validation_speakers: Speakers = 1,
    seed: Annotated[int, at_least(0)] = 0,
    train_size: Count | None = None,
    validation: Count | None = None,
    normalise: bool = False,
    progress: Watcher | None = None,
) -> Splits:
    """Load the recordings as log-mel frames of 32 ms, one every 20 ms (see `Mel`).

    The speakers of the test and validation parts do not occur in training. The seed sets a random
    order of speakers: the first are for test, the next for validation. Recordings longer than
    `steps` frames are cut, shorter ones are filled with silence; a note says how many.

    Args:
        root: folder of the data sets; None for `data_root()`.
        path: folder of the recordings; None for fsdd below the root.
        steps: number of frames of a sample, T.
        bands: number of mel bands, M.
        test_speakers: number of speakers for test.
        validation_speakers: number of speakers for validation; not used if `validation` is set.
        seed: seed of the order of speakers.
        train_size: number of training recordings to keep; None for all.
        validation: number of recordings to take from the training speakers for validation; None
            for separate validation speakers.
        normalise: whether to normalise each band with mean and deviation of the training part.
        progress: called with the number of recordings read so far and the total number.

    Shape:
        x: [N, T, M], float32 in [0, 1].

    Raises:
        ConfigError: too few speakers, or too few recordings for the sizes.
        DataError: a file is missing, damaged, or in another format.

    Source:
        Jackson et al., Free Spoken Digit Dataset, github.com/Jakobovski/free-spoken-digit-dataset.
    """
    with addressed("mel.bands", f"data.{NAME}.bands"):
        mel = Mel(bands, RATE)
    folder = find_folder(NAME, (FOLDER,), root, path)
    read = kept_arrays(
        NAME, folder / ARCHIVE, repr(mel), lambda: _recordings(folder, mel, progress)
    )
    lengths, speakers = read["lengths"], read["speakers"]
    order = sorted(set(speakers.tolist()), key=lambda speaker: derive_seed(NAME, seed, speaker))
    held = test_speakers + (validation_speakers if validation is None else 0)
    expect(
        held < len(order),
        f"data.{NAME}.test_speakers",
        f"fewer than the {len(order)} speakers of {folder} for test and validation",
        held,
        "leave one for training",
    )
    starts = np.cumsum(lengths) - lengths
    frames = read["frames"]

    def part(heard: list[str]) -> Samples:
        rows = np.flatnonzero(np.isin(speakers, heard))
        x = np.zeros((len(rows), steps, bands), np.float32)
        for place, row in enumerate(rows):
            count = min(steps, lengths[row])
            x[place, :count] = frames[starts[row] : starts[row] + count]
        y = torch.from_numpy(read["labels"][rows])
        return Samples(torch.from_numpy(x), y, Scaling(time=True))

    splits = part_samples(
        NAME,
        part(order[held:]),
        part(order[:test_speakers]),
        classes=10,
        validation=part(order[test_speakers:held]) if validation is None else validation,
        train_size=train_size,
        normalise=normalise,
    )
    note = (
        f"of {len(lengths)} recordings {(lengths > steps).sum()} are longer than {steps} frames "
        f"and cut, {(lengths < steps).sum()} shorter and continued by silence; test speakers: "
        f"{', '.join(order[:test_speakers])}"
    )
    return replace(splits, labels=tuple("0123456789"), notes=(note,))


def _recordings(folder: Path, mel: Mel, progress: Watcher | None) -> Arrays:
    """Read all recordings, and compare them with the index if there is one.

    Returns:
        "labels", "speakers" and "lengths" (in frames), each [N], and "frames" of all recordings
        one after another, [sum of lengths, M].

    Raises:
        DataError: a recording is damaged or missing, or its label in the index differs from that
            in its name.
    """
    index = read_index(folder, ("file", "label"))
    labels, speakers, frames, seen = [], [], [], set()
    for stored in read_recordings(folder, ".wav"):
        label, speaker = _said(stored)
        row = (index or {}).get(stored.name)
        if row is not None and row["label"] != str(label):
            came = f"{row['label']} in {INDEX}"
            raise DataError.of(stored.where, f"digit {label}, as its name says", came, "check it")
        labels.append(label)
        speakers.append(speaker)
        frames.append(mel.frames(_signal(stored)))
        seen.add(stored.name)
        if progress is not None and index is not None:
            progress(len(labels), len(index))
    if index is not None:
        check_complete(folder, index, seen)
    return {
        "labels": np.array(labels, np.int64),
        "speakers": np.array(speakers),
        "lengths": np.array([len(one) for one in frames]),
        "frames": np.concatenate(frames),
    }


def _said(stored: Stored) -> tuple[int, str]:
    """Return digit and speaker of a recording, from its file name.

    Raises:
        DataError: the name has another form.
    """
    match = FILE_NAME.fullmatch(stored.name)
    if match is None:
        raise DataError.of(stored.where, "a name digit_speaker_take.wav", stored.name, "rename it")
    return int(match[1]), match[2]


def _signal(stored: Stored) -> np.ndarray:
    """Return the signal of a recording, in [-1, 1).

    Raises:
        DataError: it is damaged, empty or in another format.
    """
    try:
        with wave.open(io.BytesIO(stored.content)) as sound:
            kind = sound.getnchannels(), 8 * sound.getsampwidth(), sound.getframerate()
            promised, content = sound.getnframes(), sound.readframes(sound.getnframes())
    except (wave.Error, EOFError, RuntimeError) as error:
        raise DataError.caused(stored.where, "a sound in .wav", error, "fetch it again") from error
    if kind != (1, 16, RATE):
        raise DataError.of(
            stored.where,
            f"1 channel of 16 bits at {RATE} Hz",
            f"{kind[0]} of {kind[1]} at {kind[2]}",
            "convert it",
        )
    if not content or len(content) != 2 * promised:
        came = f"{len(content) // 2} of {promised}" if promised else "none"
        raise DataError.of(stored.where, "all samples", came, "fetch it again")
    return np.frombuffer(content, "<i2") / 2**15


def _read(path: Path, options: Mapping[str, Any]) -> torch.Tensor:
    """Read a user's own recording as frames [T, M], cut or filled with silence as in training."""
    frames = Mel(options["bands"], RATE).frames(_signal(read_file(path)))[: options["steps"]]
    x = torch.zeros(options["steps"], options["bands"])
    x[: len(frames)] = torch.from_numpy(frames)
    return x


def _steps(options: Mapping[str, Any]) -> int:
    return options["steps"]


def _state(root: Path) -> str:
    """Return "ready", or what is missing, for the list of data sets."""
    folder = root / FOLDER
    there = (folder / ARCHIVE).is_file() or (folder / SHELF).is_dir()
    return "ready" if there else f"missing: {FOLDER}/{ARCHIVE}"


DATA.register(NAME)(
    DataInfo(
        "spoken digits of six speakers, test speakers unheard; [T, D]",
        (STEPS, BANDS),
        10,
        load_spoken_digits,
        source="put recordings/ of github.com/Jakobovski/free-spoken-digit-dataset into fsdd/",
        state=_state,
        steps=_steps,
        read=_read,
    )
)
