"""Files of a run: written whole or not at all, read without running anything."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from spikeloom.base.errors import ConfigError, DataError

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
    """Write a record as JSON."""
    write_bytes(path, (json.dumps(record, indent=2, allow_nan=False) + "\n").encode())


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write records as JSON lines."""
    text = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)
    write_bytes(path, text.encode())


def write_weights(
    path: Path, tensors: Mapping[str, Tensor], extra: Mapping[str, str] | None = None
) -> None:
    """Write tensors as safetensors, with texts in the header."""
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(plain, metadata={"format": str(FORMAT)} | dict(extra or {})))


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
    check_format(path, extra.get("format", 1))
    return tensors, extra


def check_format(path: Path, version: object) -> None:
    """Refuse what a newer library wrote; older files are read.

    Raises:
        NewerFormat: the version is newer than this library's.
        DataError: it is none.
    """
    if isinstance(version, str) and version.isascii() and version.isdigit():
        version = int(version)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise DataError(f"{path}: expected a format of 1 or more, got {version!r}; copy it again.")
    if version > FORMAT:
        raise NewerFormat(
            f"{path}: expected format {FORMAT} at most, got {version} from a newer spikeloom; "
            "update spikeloom to open it."
        )


def read_json(path: Path) -> dict[str, Any]:
    """Read a record.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, "a JSON record", error) from None
    if not isinstance(record, dict):
        raise _damaged(path, "a JSON record", f"a {type(record).__name__}")
    if "format" in record:
        check_format(path, record["format"])
    return record


def _damaged(path: Path, expected: str, came: object) -> DataError:
    return DataError(f"{path}: expected {expected}, got '{came}'; train again.")
