"""Files of a run: written whole or not at all, read without running anything."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from spikeloom.base.errors import ConfigError, DataError
from spikeloom.train import checksum

FORMAT = 3
"""Version of the run folder; a newer library opens older runs or says what to do."""


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
    """Word what goes wrong when a place is written.

    Raises:
        ConfigError: the system refuses.
    """
    try:
        yield
    except OSError as error:
        came = error.strerror or error
        raise ConfigError(
            f"{path}: expected a folder that can be written, got '{came}'; choose another place "
            "with --out or free some space."
        ) from None


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


def write_weights(
    path: Path, tensors: Mapping[str, Tensor], extra: Mapping[str, str] | None = None
) -> None:
    """Write tensors as safetensors, with texts and a checksum of both in the header."""
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    texts = {"format": str(FORMAT)} | dict(extra or {})
    texts[checksum.KEY] = checksum.of_tensors(plain, texts)
    write_bytes(path, _ordered(save(plain, metadata=texts)))


def _ordered(content: bytes) -> bytes:
    """Put the texts of a safetensors header in order, so that equal tensors give equal files."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text = text.ljust(-(-len(text) // 8) * 8)  # tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text + content[end:]


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors; runs no code from the file.

    Raises:
        DataError: the file is missing, damaged or of a newer format.
    """
    return read_tensors(path)[0]


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors and the texts in the header; runs no code from the file.

    Raises:
        DataError: the file is missing, damaged or of a newer format.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = path.read_bytes()
        tensors = load(content)
        end = 8 + int.from_bytes(content[:8], "little")
        extra = json.loads(content[8:end]).get("__metadata__", {})
    except (OSError, SafetensorError, ValueError, RuntimeError, MemoryError) as error:
        raise _damaged(path, "a safetensors file", error) from None
    check_tensors(path, tensors, extra)
    return tensors, extra


def check_tensors(path: Path, tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> None:
    """Hold tensors and header texts against their checksum; formats 1 and 2 may have none.

    Raises:
        DataError: other values than were written, or a newer format.
    """
    version = check_format(path, texts.get("format", 1))
    stored = texts.get(checksum.KEY)
    if stored is None and version < checksum.FIRST:
        return
    if version < checksum.FIRST:
        found = checksum.of_values(tensors)
    else:
        found = checksum.of_tensors(tensors, texts)
    if stored != found:
        raise _altered(path)


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
        raise DataError(f"{path}: expected a format of 1 or more, got {version!r}; copy it again.")
    if number > FORMAT:
        named = isinstance(writer, str)
        came = f"{number} from {writer if named else 'a newer spikeloom'}"
        todo = f"update to {writer} or later" if named else "update spikeloom"
        raise NewerFormat(
            f"{path}: expected format {FORMAT} at most, got {came}; {todo} to open it."
        )
    return number


def read_json(path: Path) -> dict[str, Any]:
    """Read a record and hold it against its checksum, which is left out of the result.

    Raises:
        DataError: the file is missing, damaged or of a newer format.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, "a JSON record", error) from None
    return _opened(path, record)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines as `read_json` reads a record.

    Raises:
        DataError: the file is missing, or a line damaged or of a newer format.
    """
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, "JSON lines", error) from None
    return [_opened(path, line) for line in lines]


def _opened(path: Path, record: object) -> dict[str, Any]:
    """Return a record as it was before it was sealed; records of older formats have no checksum.

    Raises:
        DataError: other values than were written, no record at all, or a newer format.
    """
    if not isinstance(record, dict):
        raise _damaged(path, "a JSON record", f"a {type(record).__name__}")
    version = 1
    if "format" in record:
        version = check_format(path, record["format"], record.get(checksum.WRITER))
    content = {key: value for key, value in record.items() if key != checksum.KEY}
    if checksum.KEY in record:
        try:
            found = checksum.of_record(content)
        except (ValueError, RecursionError) as error:
            raise _damaged(path, "a JSON record", error) from None
        if found != record[checksum.KEY]:
            raise _altered(path)
    elif version >= checksum.FIRST:
        raise _altered(path)
    content.pop(checksum.WRITER, None)
    return content


def _altered(path: Path) -> DataError:
    return DataError(
        f"{path}: expected the values that were written, got others, by their checksum; copy the "
        "file again, or train again with --force."
    )


def _damaged(path: Path, expected: str, came: object) -> DataError:
    return DataError(f"{path}: expected {expected}, got '{came}'; train again.")
