"""Optical digits: 1,797 images of 8x8 that come with scikit-learn, for tests and first steps."""

import math
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import torch

from spikeloom.base.errors import DataError
from spikeloom.data._split import part_samples
from spikeloom.data.base import DATA, DataInfo, Samples, Scaling, Splits

SHAPE = (1, 8, 8)
CLASSES = 10


def load_digits(
    root: Path | None = None,
    *,
    train_size: int | None = None,
    validation: int | None = None,
    normalise: bool = False,
) -> Splits:
    """Load the digits under their stored split: 1,197 train, 250 validation, 350 test.

    The split is the package file digits_split.txt, one letter per image: the last 350 images of
    `stratified_order` are the test part, the 250 before them validation. Writers are not recorded,
    so a writer's digits stand in several parts: accuracies are for known hands.

    Args:
        root: not read; the images come with scikit-learn.
        train_size: how many training images to keep; None for all.
        validation: None for the stored part; a number draws that many out of all images that are
            not test.
        normalise: use mean and deviation of the training part.

    Shape:
        x: [N, 1, 8, 8], uint8, 0..16.

    Raises:
        ConfigError: sizes that 1,447 images cannot fill.
        DataError: scikit-learn is absent or holds other images.

    Source:
        Alpaydin and Kaynak 1998, UCI Optical Recognition of Handwritten Digits (its test file).
    """
    letters = stored_split()
    try:
        from sklearn.datasets import load_digits as bundled
    except ImportError:
        raise DataError(
            "data.digits: expected scikit-learn, which holds the images, found none; "
            "pip install scikit-learn."
        ) from None
    pixels, target = bundled(return_X_y=True)
    if pixels.shape != (len(letters), math.prod(SHAPE)):
        raise DataError(
            f"data.digits: expected {len(letters)} images of 8x8, got {list(pixels.shape)}; "
            "use a released version of scikit-learn."
        )
    x = torch.from_numpy(pixels).to(torch.uint8).view(-1, *SHAPE)  # [N, 1, 8, 8]
    y = torch.from_numpy(target).long()

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
        source="comes with scikit-learn",
    )
)
