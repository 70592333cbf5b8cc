"""Optical digits: 1,797 images of 8x8 in a file of the package, for tests and first steps."""

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spikeloom.data._split import Count, part_samples
from spikeloom.data.base import DATA, DataInfo, Samples, Scaling, Splits

SHAPE = (1, 8, 8)
CLASSES = 10


def load_digits(
    root: Path | None = None,
    *,
    train_size: Count | None = None,
    validation: Count | None = None,
    normalise: bool = False,
) -> Splits:
    """Load the digits under their stored split: 1,197 train, 250 validation, 350 test.

    The split is the package file digits_split.txt, one letter per image: the last 350 images of
    `stratified_order` are the test part, the 250 before them validation. Writers are not recorded,
    so a writer's digits stand in several parts: accuracies hold for writers seen in training.

    Args:
        root: not read; the images come with the package.
        train_size: how many training images to keep; None for all.
        validation: None for the stored part; a number draws that many out of all images that are
            not test.
        normalise: use mean and deviation of the training part.

    Shape:
        x: [N, 1, 8, 8], uint8, 0..16.

    Raises:
        ConfigError: sizes that 1,447 images cannot fill.

    Source:
        Alpaydin and Kaynak 1998, UCI Optical Recognition of Handwritten Digits (its test file), as
        in scikit-learn; see digits_licence.txt.
    """
    x, y = stored_images()
    letters = stored_split()

    def part(*kinds: str) -> Samples:
        rows = torch.tensor([row for row, letter in enumerate(letters) if letter in kinds])
        return Samples(x[rows], y[rows], Scaling(peak=16.0))

    splits = part_samples(
        "digits",
        part("t") if validation is None else part("t", "v"),
        part("e"),
        classes=CLASSES,
        validation=part("v") if validation is None else validation,
        train_size=train_size,
        normalise=normalise,
    )
    return replace(splits, labels=tuple("0123456789"))


def stored_images() -> tuple[Tensor, Tensor]:
    """Return the images and their labels, in scikit-learn's order.

    Shape:
        images: [1797, 1, 8, 8], uint8, 0..16; labels: [1797], int64.
    """
    with files("spikeloom.data").joinpath("digits.npz").open("rb") as file, np.load(file) as stored:
        x, y = torch.from_numpy(stored["pixels"]), torch.from_numpy(stored["labels"])
    return x.view(-1, *SHAPE), y.long()


def stored_split() -> str:
    """Return the stored split, one letter per image: t(rain), v(alidation), (t)e(st)."""
    text = files("spikeloom.data").joinpath("digits_split.txt").read_text("ascii")
    return "".join(line for line in text.splitlines() if not line.startswith("#"))


DATA.register("digits")(
    DataInfo(
        "handwritten digits 8x8, grey, 1,797 images",
        SHAPE,
        CLASSES,
        load_digits,
        source="comes with the package",
    )
)
