"""Reads the recordings of a data set, from one archive in its order, or from single files."""

import csv
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spikeloom.base.errors import DataError
from spikeloom.data.base import data_root
from spikeloom.data.places import first_there, in_words, places_of

ARCHIVE, SHELF, INDEX = "recordings.tar.xz", "recordings", "index.csv"
MOST_BYTES = 2**28
"""Largest recording that is read."""


@dataclass(frozen=True)
class Stored:
    """The content of one recording.

    Args:
        where: path for messages: file, or archive and file.
        name: name of the file, without folders.
        content: bytes of the file.
    """

    where: str
    name: str
    content: bytes


def find_folder(
    name: str, folders: tuple[str, ...], root: Path | None, path: str | Path | None
) -> Path:
    """Return the folder with the recordings of a data set.

    Args:
        name: name of the data set.
        folders: possible folder names below the root; the first that exists is used.
        root: folder of the data sets; None for `data_root()`.
        path: folder given by the user, in place of `folders`; None for none.

    Raises:
        DataError: there is no such folder.
    """
    if path is None:
        places = [(root or data_root()) / folder for folder in folders]
    else:
        places = places_of(path, root=root)
    found = first_there(places)
    if found is None or not found.is_dir():
        todo = "set the option path, or let $SPIKELOOM_DATA name the folder above"
        raise DataError.of(f"data.{name}", f"the folder {in_words(places)}", "found none", todo)
    return found


def read_recordings(folder: Path, ending: str) -> Iterator[Stored]:
    """Yield the recordings of a data set.

    They are read from `recordings.tar.xz` if the folder has it, else from files in `recordings/`,
    else from files in the folder itself.

    Args:
        folder: folder of the data set.
        ending: ending of the file names, e.g. ".wav".

    Raises:
        DataError: there is no recording, or one cannot be read.
    """
    archive, shelf = folder / ARCHIVE, folder / SHELF
    count = 0
    packed = archive.is_file()
    files = shelf if shelf.is_dir() else folder
    for stored in _unpacked(archive, ending) if packed else _files(files, ending):
        count += 1
        yield stored
    if not count:
        expected = f"{ARCHIVE}, or files *{ending} in {SHELF}/"
        raise DataError.of(folder, expected, "found none", "fetch it again")


def read_index(folder: Path, columns: tuple[str, ...]) -> dict[str, dict[str, str]] | None:
    """Return the rows of index.csv, by their column "file"; None if there is no index.csv.

    Args:
        folder: folder of the data set.
        columns: columns that the file must have.

    Raises:
        DataError: the file cannot be read, has no rows, or lacks a column.
    """
    file = folder / INDEX
    if not file.is_file():
        return None
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            reader = csv.DictReader(lines)
            rows = list(reader)
    except (OSError, UnicodeError, csv.Error) as error:
        raise DataError.caused(file, "a table", error, "fetch it again") from error
    lacking = [name for name in columns if name not in (reader.fieldnames or ())]
    if lacking or not rows:
        came = f"none of {', '.join(lacking)}" if lacking else "no row"
        raise DataError.of(file, f"rows of {', '.join(columns)}", came, "fetch it again")
    return {str(row["file"]): row for row in rows}


def check_complete(folder: Path, index: dict[str, dict[str, str]], seen: set[str]) -> None:
    """Check that every recording of the index was read.

    Args:
        folder: folder of the data set.
        index: rows by file name.
        seen: names of the files that were read.

    Raises:
        DataError: recordings are missing; the message names the first.
    """
    lacking = [file for file in index if file not in seen]
    if lacking:
        raise DataError.of(
            folder,
            f"the {len(index)} recordings of {INDEX}",
            f"none called {lacking[0]}" + f" ({len(lacking)} lack)" * (len(lacking) > 1),
            "fetch it again",
        )


def _unpacked(archive: Path, ending: str) -> Iterator[Stored]:
    """Yield the files of an archive in order, without unpacking it to the disk."""
    last = "the first file"
    try:
        with tarfile.open(archive) as packed:
            for member in packed:
                if not member.isfile() or not member.name.endswith(ending):
                    continue
                last = member.name
                where = f"{archive}: {member.name}"
                if member.size > MOST_BYTES:
                    raise DataError.of(
                        where, f"{MOST_BYTES} bytes at most", member.size, "check it"
                    )
                file = packed.extractfile(member)
                assert file is not None, "a member that is a file"
                yield Stored(where, Path(member.name).name, file.read())
    except (OSError, EOFError, tarfile.TarError, lzma.LZMAError, zlib.error) as error:
        where = f"{archive}: after {last}"
        raise DataError.caused(where, "a readable archive", error, "fetch it again") from error


def _files(folder: Path, ending: str) -> Iterator[Stored]:
    yield from map(read_file, sorted(folder.glob(f"*{ending}")))


def read_file(path: Path) -> Stored:
    """Read one recording.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return Stored(str(path), path.name, path.read_bytes())
    except OSError as error:
        raise DataError.caused(path, "a readable file", error, "fetch it again") from error
