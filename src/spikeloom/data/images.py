"""Sets of pictures: CIFAR-10 and -100, Tiny ImageNet, and the user's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spikeloom.base.errors import ConfigError, DataError
from spikeloom.base.extras import install_line, installed
from spikeloom.data._columns import Columns
from spikeloom.data._hub import HUB_NAME, Hub, hub_parts
from spikeloom.data._layout import find_parts, has_pictures
from spikeloom.data._sources import ParquetSource, Source
from spikeloom.data._split import Count, Text, hold_out, part_samples, tenth
from spikeloom.data.base import DATA, DataInfo, Samples, Scaling, Splits, Watcher, data_root
from spikeloom.data.broken import BrokenPictures
from spikeloom.data.cache import Decoded, decode_part, find_decoded
from spikeloom.data.decode import Decoder, Fit, Reading, Side
from spikeloom.data.places import first_there, in_words, places_of


@dataclass(frozen=True)
class Known:
    """A published set.

    Args:
        name: in recipes.
        folders: names of its folder under the root; the first that exists is read.
        side: height and width of its pictures.
        classes: K.
        label: column of the labels.
    """

    name: str
    folders: tuple[str, ...]
    side: int
    classes: int
    label: Text | None = None

    def folder(self, root: Path | None) -> Path:
        """Return the folder that is there, else the one to make."""
        base = root or data_root()
        found = (base / name for name in self.folders if has_pictures(base / name))
        return next(found, base / self.folders[0])

    def sources(self, root: Path | None, columns: Columns) -> dict[str, Source]:
        """Return its parts: train and test, for which a validation part stands in.

        Raises:
            DataError: the files are not there.
        """
        folder = self.folder(root)
        sources = find_parts(self.name, folder, columns, self.classes) if folder.is_dir() else {}
        test = sources.get("test") or sources.get("validation")
        if test is None:
            missing = "test.parquet" if sources else "train.parquet and test.parquet"
            raise DataError.of(
                f"data.{self.name}",
                f"{missing} in {folder}",
                "found none",
                f"{DATA.find(self.name).source}, or let $SPIKELOOM_DATA name the folder above",
            )
        return {"train": sources["train"], "test": test}

    def state(self, root: Path) -> str:
        """Return what is there, from names and dates of files."""
        folder = self.folder(root)
        if not has_pictures(folder):
            return f"missing: train.parquet, test.parquet in {folder.name}/"
        try:
            sources = [*self.sources(root, Columns(label=self.label)).values()]
        except DataError as error:
            return f"missing: {str(error).removeprefix(f'data.{self.name}: ').split(';')[0]}"
        if all(find_decoded(source, Decoder()) is not None for source in sources):
            return "decoded"
        if any(isinstance(one, ParquetSource) for one in sources) and not installed("pyarrow"):
            return f"missing: the library pyarrow ({install_line('pyarrow')})"
        return "ready"


def load_known(
    known: Known,
    root: Path | None = None,
    *,
    label: Text | None = None,
    train_size: Count | None = None,
    validation: Count | None = None,
    normalise: bool = False,
    skip_broken: bool = False,
    progress: Watcher | None = None,
) -> Splits:
    """Load a published set of colour pictures from its folder under the root.

    The pictures are decoded once (see `spikeloom.data.cache`) and stay on disk. Tiny ImageNet's
    published test pictures have no labels; as everywhere, its validation pictures are the
    test part.

    Args:
        known: the set.
        root: folder of the data sets; None for `data_root()`.
        label: column of the labels, if the files call it otherwise.
        train_size: how many training pictures to keep; None for all.
        validation: how many pictures to take from the training files; None takes a tenth.
        normalise: use mean and deviation of the training part.
        skip_broken: leave out pictures that cannot be read; `Splits.skipped` names them.
        progress: receives the number of pictures decoded.

    Shape:
        x: [N, 3, side, side], uint8.

    Raises:
        ConfigError: sizes that the training files cannot fill.
        DataError: a file is missing, or a picture or label damaged; the message names file and row.
    """
    sources = known.sources(root, Columns(label=label or known.label))
    frame = (known.side, known.side)
    decoder = Decoder()
    parts = _decode_all(sources, decoder, frame, progress, skip=skip_broken)
    splits = _splits(
        known.name,
        parts,
        known.classes,
        validation=validation,
        train_size=train_size,
        normalise=normalise,
    )
    return replace(splits, reading=decoder.reading)


def load_images(  # noqa: D417 - the options of a recipe, each of them flat
    root: Path | None = None,
    *,
    path: Text | Path,
    size: Side | None = None,
    fit: Fit = "crop",
    grey: bool = False,
    ground: str = "white",
    range: tuple[float, ...] | None = None,
    image: Text | None = None,
    label: Text | None = None,
    revision: Text = "main",
    train_size: Count | None = None,
    validation: Count | None = None,
    test: Count | None = None,
    normalise: bool = False,
    skip_broken: bool = False,
    progress: Watcher | None = None,
) -> Splits:
    """Load your own pictures: parquet files, folders of classes, or a set of the hub.

    Where there is a validation but no test part, it is the test part. Where there is neither, the
    test part is taken from the training data. What is taken is stratified and always the same.

    Args:
        root: folder that a relative path starts from; None for the current folder, else
            `data_root()`.
        path: folder, parquet file or hub name (`owner/name`); layouts as in docs/howto/data.md.
        size: side of a square that all are brought to; None asks for pictures of one size.
        fit: how: "crop" scales the shorter side and keeps the centre, "pad" the longer side and
            fills up with `ground`, "squash" changes the aspect.
        grey: read one channel instead of three.
        ground: colour behind transparent parts: "white", "black" or "#rrggbb"; "none" drops the
            transparency.
        range: stored values that become 0 and 1; None for 0 and 255 of 8 bits, 0 and 65535 of 16.
            Pictures of floats need it.
        image: column of the pictures, where its type does not tell.
        label: column of the labels, likewise.
        revision: of a set of the hub, e.g. a commit; what it named when first read is kept.
        train_size: how many training pictures to keep; None for all.
        validation: how many pictures to take from the training data; None for the set's own part,
            else a tenth.
        test: how many pictures to take as test part where the set has none; None takes a tenth.
        normalise: use mean and deviation of the training part, per channel.
        skip_broken: leave out pictures that cannot be read, or have another size or depth than the
            first; `Splits.skipped` names them.
        progress: receives the number of pictures decoded.

    Shape:
        x: [N, 3 or 1, H, W], uint8, or float32 from 0 to 1 for more than 8 bits or a stated range.

    Raises:
        ConfigError: an option out of range, or a size for a part that the set has itself.
        DataError: nothing at the path, or a picture or label damaged, of another size, or a class
            without pictures; the message names file and row.
    """
    decoder = Decoder(size, grey, Reading(fit, ground, range))
    columns = Columns(image, label)
    places = places_of(path, root=root)
    local = first_there(places)
    if local is not None:
        sources = find_parts(local.stem, local, columns)
    elif HUB_NAME.fullmatch(str(path)):
        sources = hub_parts("images", Hub(str(path), revision), columns)
    else:
        raise DataError.of(
            in_words(places), "a folder of pictures", "found none", "set the option path"
        )
    if "test" not in sources and "validation" in sources:
        sources["test"] = sources.pop("validation")
    for option, value in (("validation", validation), ("test", test)):
        if value is not None and option in sources:
            raise ConfigError.of(
                f"data.images.{option}",
                f"no size, as {path} has its own part",
                value,
                "leave the option out",
            )
    parts = _decode_all(sources, decoder, None, progress, skip=skip_broken)
    splits = _splits(
        "images",
        parts,
        test=test,
        validation=validation,
        train_size=train_size,
        normalise=normalise,
    )
    return replace(splits, reading=decoder.reading)


def _decode_all(
    sources: Mapping[str, Source],
    decoder: Decoder,
    frame: Sequence[int] | None,
    progress: Watcher | None,
    *,
    skip: bool,
) -> dict[str, Decoded]:
    """Open all parts, decoding what the cache lacks; every label is read before any picture.

    Raises:
        BrokenPictures: naming those of all parts, unless they are to be skipped.
    """
    parts = {part: find_decoded(source, decoder) for part, source in sources.items()}
    todo = {part: sources[part].labels() for part, one in parts.items() if one is None}
    total, done = sum(len(labels.y) for labels in todo.values()), 0

    def advance(count: int) -> None:
        nonlocal done
        done = min(done + count, total)
        if progress is not None:
            progress(done, total)

    ready = {part: one for part, one in parts.items() if one is not None}
    dtype = None
    faults = [fault for one in ready.values() for fault in one.skipped if not skip]
    for part in sources:  # train comes first, and says what size and depth the others must have
        if "train" in ready:
            dtype = ready["train"].x.numpy().dtype
            if frame is None:
                _, _, *frame = ready["train"].x.shape
        if part not in ready:
            like = {"frame": frame, "dtype": dtype}
            try:
                ready[part] = decode_part(
                    sources[part], decoder, todo[part], **like, skip=skip, advance=advance
                )
            except BrokenPictures as error:
                faults += error.faults
    if faults:
        raise BrokenPictures(faults)
    return ready


def _splits(
    name: str,
    parts: Mapping[str, Decoded],
    classes: int | None = None,
    *,
    test: int | None = None,
    validation: int | None,
    **options: Any,
) -> Splits:
    """Make a data set of decoded parts; a tenth where a part is absent and has no size."""
    train, others, count, names = _aligned(f"data.{name}", parts, classes)
    if "test" not in others:
        size = tenth(train) if test is None else test
        train, others["test"] = hold_out(f"data.{name}.test", train, size)
    own = others.get("validation", validation)
    splits = part_samples(name, train, others["test"], classes=count, validation=own, **options)
    skipped = tuple(fault.place for one in parts.values() for fault in one.skipped)
    return replace(splits, labels=names, skipped=skipped)


def _aligned(
    where: str, parts: Mapping[str, Decoded], classes: int | None
) -> tuple[Samples, dict[str, Samples], int, tuple[str, ...]]:
    """Make samples whose class numbers mean the same in every part.

    Returns:
        The training data, the other parts, K and the names of the classes.

    Raises:
        DataError: a class of the training data without pictures, or another part with a class that
            the training data lacks.
    """
    train, names = parts["train"], parts["train"].names
    count = classes or len(names) or int(train.y.max()) + 1
    there = np.unique(train.y.numpy())
    if len(there) < count:
        missing = next(k for k in range(count) if k >= len(there) or there[k] != k)
        called = f"{missing} ('{names[missing]}')" if names else f"{missing}"
        raise DataError.of(
            f"{where}.train",
            f"pictures of all {count} classes",
            f"none of class {called}",
            "add some, or number the classes without gaps",
        )
    others = {}
    for part, one in parts.items():
        y = one.y
        if names and one.names and one.names != names:
            unknown = sorted(set(one.names) - set(names))
            if unknown:
                raise DataError.of(
                    f"{where}.{part}",
                    "the classes of the training data",
                    f"'{unknown[0]}'",
                    "add training pictures of it or remove it",
                )
            y = torch.tensor([names.index(name) for name in one.names])[y]
        peak = 1.0 if one.x.is_floating_point() else 255.0
        others[part] = Samples(one.x, y, Scaling(peak))
    return others.pop("train"), others, count, names


def _publish(known: Known, about: str, source: str) -> None:
    shape = (3, known.side, known.side)
    load = partial(load_known, known)
    DATA.register(known.name)(
        DataInfo(about, shape, known.classes, load, source=source, state=known.state)
    )


_publish(
    Known("cifar10", ("cifar10",), 32, 10),
    "photographs 32x32, colour, 10 classes",
    "put both parquet files of huggingface.co/datasets/uoft-cs/cifar10 there",
)
_publish(
    Known("cifar100", ("cifar100",), 32, 100, "fine_label"),
    "photographs 32x32, colour, 100 classes",
    "put both parquet files of huggingface.co/datasets/uoft-cs/cifar100 there",
)
_publish(
    Known("tiny_imagenet", ("tiny-imagenet", "tiny-imagenet-200"), 64, 200),
    "photographs 64x64, colour, 200 classes",
    "unpack cs231n.stanford.edu/tiny-imagenet-200.zip beside that folder",
)
_publish(
    Known("tiny_imagenet_10", ("tiny-imagenet-10",), 64, 10),
    "Tiny ImageNet cut to 10 classes, for quick trials",
    "put 10 of Tiny ImageNet's 200 class folders there, in train/ and val/",
)
DATA.register("images")(
    DataInfo(
        "your own pictures, or a set of the Hugging Face hub",
        None,
        None,
        load_images,
        source="a folder, a parquet file, or a hub name such as uoft-cs/cifar10",
        state=lambda root: "give path",
    )
)
