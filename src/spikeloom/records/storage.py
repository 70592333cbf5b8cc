"""JSON files of runs: written whole or not at all, read without running anything."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spikeloom.base.errors import ConfigError, DataError
from spikeloom.records import checksum

FORMAT = 3
"""Version of run folders and comparisons; older ones open, newer ones say what to do.

1 had no recipe, stages and environment in a run's record; 2 had no checksums.
"""


class NewerFormat(DataError):
    """A file was written by a newer library: it is whole, and not ours to replace."""


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file's content atomically.

    Raises:
        ConfigError: the folder cannot be written; the old content stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def remove(path: Path) -> None:
    """Remove a file that may be there.

    Raises:
        ConfigError: the folder cannot be written.
    """
    with writing(path):
        path.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors of the system while a file is written into one line.

    Raises:
        ConfigError: the system refuses.
    """
    try:
        yield
    except OSError as error:
        todo = "choose another place with --out or free some space"
        raise ConfigError.caused(path, "a folder that can be written", error, todo) from None


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a table as JSON, without a checksum: for the user, not for a run folder."""
    write_bytes(path, (json.dumps(record, indent=2, allow_nan=False) + "\n").encode())


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record as JSON with its checksum."""
    write_json(path, checksum.seal(record))


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write records as JSON lines, each with its checksum."""
    text = "".join(json.dumps(checksum.seal(record)) + "\n" for record in records)
    write_bytes(path, text.encode())


def check_format(path: Path, version: object, writer: object = None) -> int:
    """Return the version of a file's format; refuse what a newer library wrote.

    Args:
        path: of the file.
        version: as it stands there.
        writer: who wrote it, e.g. "spikeloom 0.3.0", where the file says so.

    Raises:
        NewerFormat: the version is newer than this library's.
        DataError: it is none.
    """
    number = version
    if isinstance(number, str) and number.isascii() and number.isdigit() and len(number) < 10:
        number = int(number)
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise DataError.of(path, "a format of 1 or more", f"{version!r}", "copy it again")
    if number > FORMAT:
        named = isinstance(writer, str)
        came = f"{number} from {writer if named else 'a newer spikeloom'}"
        todo = f"update to {writer} or later" if named else "update spikeloom"
        raise NewerFormat.of(path, f"format {FORMAT} at most", came, f"{todo} to open it")
    return number


def read_json(path: Path) -> dict[str, Any]:
    """Read a record and check its checksum, which is left out of the result.

    Raises:
        DataError: the file is missing, damaged or of a newer format.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError.caused(path, "a JSON record", error, "train again") from None
    return _opened(path, record)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines as `read_json` reads a record.

    Raises:
        DataError: the file is missing, or a line damaged or of a newer format.
    """
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, RecursionError) as error:
        raise DataError.caused(path, "JSON lines", error, "train again") from None
    return [_opened(path, line) for line in lines]


def _opened(path: Path, record: object) -> dict[str, Any]:
    """Return a record as it was before it was sealed; records of older formats have no checksum.

    Raises:
        DataError: other values than were written, no record at all, or a newer format.
    """
    if not isinstance(record, dict):
        raise DataError.caused(path, "a JSON record", f"a {type(record).__name__}", "train again")
    version = 1
    if "format" in record:
        version = check_format(path, record["format"], record.get(checksum.WRITER))
    content = {key: value for key, value in record.items() if key != checksum.KEY}
    if checksum.KEY in record:
        try:
            found = checksum.of_record(content)
        except (ValueError, RecursionError) as error:
            raise DataError.caused(path, "a JSON record", error, "train again") from None
        if found != record[checksum.KEY]:
            raise altered(path)
    elif version >= checksum.FIRST:
        raise altered(path)
    content.pop(checksum.WRITER, None)
    return content


def altered(path: Path) -> DataError:
    """Build the error for a file that holds other values than were written."""
    return DataError.of(
        path,
        "the values that were written",
        "others, by their checksum",
        "copy the file again, or train again with --force",
    )
