"""The one writer and the one reader of typed records.

A record is read in three steps: its checksum and version are checked, characters that are no text
are replaced, and every value is checked against its type. Older versions open: what
they called otherwise is an alias of a field, what they did not write has a default.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from spikeloom.base.errors import DataError
from spikeloom.records.comparison import ComparisonRecord
from spikeloom.records.part import Part
from spikeloom.records.run import EnvironmentRecord, EpochRecord, RunRecord, TrainedRecord
from spikeloom.records.samples import SamplesRecord
from spikeloom.records.storage import read_json, read_lines, write_lines, write_record

P = TypeVar("P", bound=Part)

_TITLES: dict[type[Part], str] = {
    RunRecord: "a run",
    TrainedRecord: "a run",
    ComparisonRecord: "a comparison",
    SamplesRecord: "sample traces",
    EpochRecord: "an epoch's metrics",
    EnvironmentRecord: "the environment of a run",
}

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What could move a terminal's cursor, turn a line's direction, or not be written at all."""

_NUMBERS = (int, float)


class ForeignRecord(DataError):
    """A file is whole and says its format, but is no such record; it is never replaced."""


def save_record(path: Path, record: Part) -> None:
    """Write a record with its checksum.

    Raises:
        ConfigError: the folder cannot be written; the old content stays.
    """
    write_record(path, record.table())


def save_epochs(path: Path, curve: Iterable[EpochRecord]) -> None:
    """Write the epochs of a run, one a line.

    Raises:
        ConfigError: as `save_record`.
    """
    write_lines(path, [epoch.table() for epoch in curve])


def open_record(path: Path, kind: type[P]) -> P:
    """Read a record of this version or an older one.

    Args:
        path: of the file.
        kind: what it holds.

    Raises:
        NewerFormat: a newer library wrote it.
        DataError: the file is missing, or holds something else.
    """
    return as_record(kind, open_table(path), path)


def open_run(path: Path) -> TrainedRecord:
    """Read the record of a finished run: a `RunRecord`, unless it is a trial of a tuning.

    Raises:
        NewerFormat: a newer library wrote it.
        DataError: as `open_record`.
    """
    table = open_table(path)
    return as_record(TrainedRecord if table.get("final") is False else RunRecord, table, path)


def open_epochs(path: Path) -> tuple[EpochRecord, ...]:
    """Read the epochs of a run.

    Raises:
        NewerFormat, DataError: as `open_record`.
    """
    return tuple(as_record(EpochRecord, cleaned(line, path), path) for line in read_lines(path))


def open_table(path: Path) -> dict[str, Any]:
    """Read a record whose keys are not known here, such as a recipe.

    Raises:
        NewerFormat: a newer library wrote it.
        DataError: the file is missing or damaged.
    """
    return cleaned(read_json(path), path)


def as_record(kind: type[P], table: Mapping[str, Any], path: Path) -> P:
    """Check a table against its type.

    Args:
        kind: what it should be.
        table: as JSON gives it.
        path: where it was read, for messages.

    Raises:
        DataError: a key is missing or of another kind; `ForeignRecord` where it says its format.
    """
    if kind is RunRecord and table.get("final") is False:
        raise DataError.of(
            path,
            "a run that was tested",
            "a trial of a tuning",
            "name the folder of its comparison",
        )
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the top"
        refusal = ForeignRecord if "format" in table else DataError
        raise refusal.of(
            path,
            f"{_TITLES.get(kind, 'a record')} of spikeloom",
            f"something else at {place} ({first['msg']})",
            "name a folder that `spikeloom train` or `compare` wrote",
        ) from None
    except RecursionError:
        raise DataError.of(
            path, "a record of spikeloom", "one nested without end", "train again"
        ) from None


def cleaned(value: Any, path: Path) -> Any:
    """Replace characters that are no text, in every string of a record.

    Raises:
        DataError: it is nested too deep.
    """

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return _UNPRINTABLE.sub("\ufffd", value)
        if isinstance(value, list):
            return [part if type(part) in _NUMBERS else clean(part) for part in value]
        if isinstance(value, dict):
            return {clean(key): clean(part) for key, part in value.items()}
        return value

    try:
        return clean(value)
    except RecursionError as error:
        raise DataError.caused(path, "a JSON record", error, "train again") from None
