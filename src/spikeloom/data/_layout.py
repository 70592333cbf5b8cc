"""How a folder of pictures is laid out: its parts, its classes."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from spikeloom.base.errors import DataError
from spikeloom.data._columns import Columns
from spikeloom.data._sources import FolderSource, ParquetSource, Source

PARTS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
SHELVES = ("", "data", "plain_text")
"""Subfolders in which copies of a hub's repository keep their parquet files."""
ENDINGS = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm"),
)
WORDS = "words.txt"
VAL_LABELS = "val_annotations.txt"


def find_parts(
    name: str, path: Path, columns: Columns, classes: int | None = None
) -> dict[str, Source]:
    """Find the parts of a set in a folder, or take one parquet file for training data.

    A folder holds parquet files (`train.parquet`, `train-00000-of-00002.parquet`,
    `train/*.parquet`, the same in `data/`), folders of classes in `train/` and so on, or folders of
    classes.

    Args:
        name: of the set.
        path: of the folder or file.
        columns: for parquet.
        classes: K where the set has a fixed one.

    Returns:
        Sources by part: train, and perhaps validation and test.

    Raises:
        DataError: no training data in any of these layouts, or a class without pictures.
    """

    def parquet(part: str, files: Sequence[Path]) -> Source:
        return ParquetSource(f"{name}-{part}", tuple(files), columns, classes)

    path = path.absolute()
    if path.is_file():
        return {"train": parquet("train", [path])}
    for shelf in SHELVES:
        files = {part: parquet_files(path / shelf, part) for part in PARTS}
        if files["train"]:
            return {part: parquet(part, found) for part, found in files.items() if found}
    folders = {part: _subfolder(path, part) for part in PARTS}
    if folders["train"] is None:
        if not _class_folders(path):
            raise DataError.of(
                path,
                "train.parquet, a folder train or a folder per class",
                _shown(path),
                "see docs/howto/data.md for the layouts",
            )
        return {"train": _folder_source(f"{name}-train", path, path)}
    sources: dict[str, Source] = {}
    for part, folder in folders.items():
        if folder is not None and (part == "train" or _filled(folder)):
            listed = part == "validation" and (folder / VAL_LABELS).is_file()
            make = _listed_source if listed else _folder_source
            sources[part] = make(f"{name}-{part}", folder, path)
    return sources


def parquet_files(folder: Path, part: str) -> list[Path]:
    """Return the parquet files of a part in a folder, in the order of their names."""
    for word in PARTS[part]:
        for pattern in (f"{word}.parquet", f"{word}[-_.]*.parquet", f"{word}/*.parquet"):
            if found := sorted(folder.glob(pattern)):
                return found
    return []


def has_pictures(path: Path) -> bool:
    """Whether a folder looks like a set, from names alone."""
    shelves = (path / shelf for shelf in SHELVES)
    return any(parquet_files(shelf, "train") for shelf in shelves) or (
        _subfolder(path, "train") is not None
    )


def _subfolder(path: Path, part: str) -> Path | None:
    return next((path / word for word in PARTS[part] if (path / word).is_dir()), None)


def _filled(folder: Path) -> bool:
    """Whether a part has classes: Tiny ImageNet's test folder has pictures without labels."""
    names = [one.name for one in _class_folders(folder)]
    return bool(names) and names != ["images"] or (folder / VAL_LABELS).is_file()


def _class_folders(folder: Path) -> list[Path]:
    """Return the folders of classes, numbers in their order, other names alphabetically."""
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise DataError.caused(folder, "a folder of pictures", error, "check its rights") from error
    found = [one for one in inside if not one.name.startswith((".", "__")) and one.is_dir()]
    numbers = all(one.name.isdecimal() for one in found)
    return sorted(found, key=lambda one: (int(one.name), "") if numbers else (0, one.name))


def _folder_source(name: str, folder: Path, top: Path) -> FolderSource:
    files: list[str] = []
    y: list[int] = []
    classes = _class_folders(folder)
    if not classes:
        raise DataError.of(folder, "a folder per class", "none", "sort the pictures")
    for number, one in enumerate(classes):
        if folder.resolve().is_relative_to(one.resolve()):
            raise DataError.of(
                one, "a class folder", "a link to a folder that contains it", "remove it"
            )
        own = _picture_files(one)
        if not own:
            raise DataError.of(
                one, f"pictures of class '{one.name}'", "none", "add some, or remove the folder"
            )
        files += own
        y += [number] * len(own)
    words = _words(top)
    return FolderSource(name, tuple(files), tuple(y), tuple(words(one.name) for one in classes))


def _listed_source(name: str, folder: Path, top: Path) -> FolderSource:
    """Read Tiny ImageNet's validation part: one folder of pictures, and a list of their classes."""
    listing, words = folder / VAL_LABELS, _words(top)
    rows = [line.split("\t") for line in _lines(listing)]
    for row, fields in enumerate(rows):
        if len(fields) < 2:
            raise DataError.of(
                f"{listing}: row {row}", "a file and a class", fields, "fetch it again"
            )
    names = sorted({fields[1] for fields in rows})
    if not names:
        raise DataError.of(listing, "a file and a class per row", "none", "fetch it again")
    number = {name: k for k, name in enumerate(names)}
    return FolderSource(
        name,
        tuple(f"{folder}/images/{fields[0]}" for fields in rows),
        tuple(number[fields[1]] for fields in rows),
        tuple(map(words, names)),
    )


def _picture_files(folder: Path) -> list[str]:
    """Return the pictures in and below a folder; links to folders are not followed."""
    found: list[str] = []
    for here, below, names in os.walk(folder):
        below[:] = sorted(name for name in below if not name.startswith((".", "__")))
        found += [
            f"{here}/{name}"
            for name in sorted(names)
            if name.lower().endswith(ENDINGS) and not name.startswith(".")
        ]
    return found


def _words(top: Path) -> Callable[[str], str]:
    """Return a function that names a class: by words.txt, else by its folder."""
    words = {}
    if (top / WORDS).is_file():
        for line in _lines(top / WORDS):
            code, _, text = line.partition("\t")
            words[code] = text.split(",")[0].strip() or code
    count = Counter(words.values())
    clear = {code: f"{one} ({code})" if count[one] > 1 else one for code, one in words.items()}
    return lambda code: clear.get(code, code)  # e.g. two cranes, one a bird


def _lines(file: Path) -> list[str]:
    """Read a small table of text, without empty lines."""
    try:
        return [line for line in file.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError.caused(file, "text", error, "fetch it again") from error


def _shown(path: Path) -> str:
    names = sorted(one.name for one in path.iterdir())[:5] if path.is_dir() else []
    return ", ".join(names) or "nothing"
