"""Where encoded pictures and their labels come from: parquet files, folders, a hub's data set."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from spikeloom.base.errors import DataError
from spikeloom.base.extras import need
from spikeloom.data._columns import Columns, class_numbers, find_columns
from spikeloom.data.decode import Encoded

if TYPE_CHECKING:
    import datasets
    import pyarrow.parquet

ROWS = 256


@dataclass(frozen=True)
class Labels:
    """Class numbers of all pictures of a part, and the names of the classes where known."""

    y: np.ndarray
    names: tuple[str, ...] = ()


class Source(Protocol):
    """Encoded pictures of one part of a set."""

    @property
    def name(self) -> str:
        """Set and part, for messages and the names of cache entries."""
        ...

    def stamp(self) -> str:
        """Return a digest that changes with the content; quick, opens no picture."""
        ...

    def labels(self) -> Labels:
        """Read and check all labels, before any picture is decoded."""
        ...

    def pictures(self) -> Iterator[tuple[str, Encoded | None]]:
        """Yield where a picture stands, and the picture, in the order of the labels.

        None is a row without one.
        """
        ...


@dataclass(frozen=True)
class ParquetSource:
    """Rows of parquet files, one after the other.

    Args:
        name: of set and part.
        files: absolute, in order.
        columns: named by the user; found by their types where None.
        classes: K where the set has a fixed one.
    """

    name: str
    files: tuple[Path, ...]
    columns: Columns = Columns()
    classes: int | None = None

    def stamp(self) -> str:  # noqa: D102
        return _digest(*map(_identity, map(str, self.files)), self.columns, self.classes)

    def labels(self) -> Labels:  # noqa: D102
        names, parts = (), []
        for file in self.files:
            with _reading(file) as parquet:
                columns, own = self._columns(file, parquet)
                names = names or own
                parts.append((str(file), parquet.read(columns=[columns.label]).column(0)))
        y, names = class_numbers(parts, names, self.classes)
        return Labels(y, names)

    def pictures(self) -> Iterator[tuple[str, Encoded | None]]:  # noqa: D102
        for file in self.files:
            with _reading(file) as parquet:
                columns, _ = self._columns(file, parquet)
                batches = parquet.iter_batches(ROWS, columns=[columns.image])
                yield from _encoded(str(file), (batch.column(0) for batch in batches))

    def _columns(
        self, file: Path, parquet: "pyarrow.parquet.ParquetFile"
    ) -> tuple[Columns, tuple[str, ...]]:
        return find_columns(str(file), parquet.schema_arrow, self.columns)


@dataclass(frozen=True)
class FolderSource:
    """Picture files with a class each.

    Args:
        name: of set and part.
        files: absolute, in order; text, since a hundred thousand paths take a second to make.
        y: class number of each.
        names: of the classes.
    """

    name: str
    files: tuple[str, ...]
    y: tuple[int, ...]
    names: tuple[str, ...]

    def stamp(self) -> str:  # noqa: D102
        return _digest(*map(_identity_if_there, self.files), self.y, self.names)

    def labels(self) -> Labels:  # noqa: D102
        return Labels(np.array(self.y, np.int64), self.names)

    def pictures(self) -> Iterator[tuple[str, Encoded | None]]:  # noqa: D102
        return ((file, Path(file)) for file in self.files)


@dataclass(frozen=True, eq=False)
class TableSource:
    """One part of a data set of the library `datasets`.

    Args:
        name: of set and part.
        identity: what names the content, e.g. hub name, revision and part.
        fetch: returns the rows; called only when the cache does not hold them.
        columns: as for `ParquetSource`.
    """

    name: str
    identity: tuple[str, ...]
    fetch: "Callable[[], datasets.Dataset]"
    columns: Columns = Columns()

    def stamp(self) -> str:  # noqa: D102
        return _digest(self.identity, self.columns)

    def labels(self) -> Labels:  # noqa: D102
        rows, columns, names = self._rows()
        column = rows.select_columns([str(columns.label)])[:].column(0)
        y, names = class_numbers([(self.name, column)], names, None)
        return Labels(y, names)

    def pictures(self) -> Iterator[tuple[str, Encoded | None]]:  # noqa: D102
        rows, columns, _ = self._rows()
        tables = rows.select_columns([str(columns.image)]).iter(ROWS)
        return _encoded(self.name, (array for table in tables for array in table.column(0).chunks))

    def _rows(self) -> tuple[Any, Columns, tuple[str, ...]]:
        dataset = self.fetch()
        columns, names = find_columns(self.name, dataset.features.arrow_schema, self.columns)
        return dataset.with_format("arrow"), columns, names


def _encoded(where: str, arrays: Iterable[Any]) -> Iterator[tuple[str, Encoded | None]]:
    """Yield place and bytes of pictures stored as bytes, or as a struct of bytes and path."""
    import pyarrow

    row = 0
    for array in arrays:
        if pyarrow.types.is_struct(array.type):
            array = array.flatten()[array.type.get_field_index("bytes")]  # nulls of both levels
        for one in array:
            yield f"{where}: row {row}", one.as_py()
            row += 1


@contextmanager
def _reading(file: Path) -> Iterator["pyarrow.parquet.ParquetFile"]:
    """Open a parquet file; what is wrong with it, then or while it is read, becomes one line."""
    need("pyarrow", str(file), "parquet files")
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(
            file, memory_map=True, page_checksum_verification=True
        ) as parquet:
            yield parquet
    except FileNotFoundError:
        raise DataError.of(file, "a parquet file", "found none", "put it there") from None
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError.caused(file, "a whole parquet file", error, "fetch it again") from error


def _identity(file: str) -> tuple[str, int, int, int]:
    """Return what tells one version of a file from another without reading it.

    A file that is written or replaced gets a new time of change, which no program can set; the date
    of its content can be set to anything.
    """
    try:
        facts = os.stat(file)  # noqa: PTH116
    except OSError as error:
        raise DataError.caused(file, "a readable file", error, "fetch or remove it") from error
    return file, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _identity_if_there(file: str) -> tuple[str, int, int, int] | None:
    """Return the identity of a picture; None where it cannot be read, which decoding reports."""
    try:
        return _identity(file)
    except DataError:
        return None


def _digest(*parts: object) -> str:
    return hashlib.sha256("\x1f".join(map(repr, parts)).encode()).hexdigest()
