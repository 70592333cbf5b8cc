"""Which column holds the pictures and which the labels, and what the labels say."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from spikeloom.base.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pyarrow

LABEL_NAMES = ("label", "labels", "fine_label", "target", "class", "y")


@dataclass(frozen=True)
class Columns:
    """Names of two columns; None for one that the file's types tell."""

    image: str | None = None
    label: str | None = None


def find_columns(
    where: str, schema: "pyarrow.Schema", asked: Columns
) -> tuple[Columns, tuple[str, ...]]:
    """Find the columns of pictures and labels: by the metadata of `datasets`, else by type.

    Returns:
        Both names, and the classes' names where the schema has them.

    Raises:
        ConfigError: a name that is no column.
        DataError: no column fits, or several do, or the metadata cannot be read.
    """
    from pyarrow import types

    for option, name in (("image", asked.image), ("label", asked.label)):
        if name is not None and name not in schema.names:
            raise ConfigError.of(
                where,
                f"a column '{name}'",
                ", ".join(schema.names),
                f"set the option {option} to one of them",
            )
    marks = _marks(where, schema)
    encoded = [field.name for field in schema if _holds_bytes(field.type)]
    pictures = [name for name in encoded if marks.get(name, {}).get("_type") == "Image"] or encoded
    labels = [
        name
        for name in schema.names
        if name not in pictures and marks.get(name, {}).get("_type") == "ClassLabel"
    ]
    if not labels:
        plain = [
            field.name
            for field in schema
            if not types.is_nested(field.type) and field.name not in pictures
        ]
        labels = plain if len(plain) == 1 else [name for name in plain if name in LABEL_NAMES]
    columns = replace(
        asked,
        image=asked.image or _only(where, "image", pictures, schema.names),
        label=asked.label or _only(where, "label", labels, schema.names),
    )
    mark = marks.get(str(columns.label), {})
    names = mark.get("names", ()) if mark.get("_type") == "ClassLabel" else ()
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise _unreadable(where, f"classes {names!r}")
    return columns, tuple(names)


def _marks(where: str, schema: "pyarrow.Schema") -> dict[str, dict[str, Any]]:
    """Return what the library datasets wrote about each column; nothing where another wrote."""
    text = (schema.metadata or {}).get(b"huggingface")
    if text is None:
        return {}
    try:
        marks = (json.loads(text).get("info") or {}).get("features") or {}
        return {name: mark for name, mark in marks.items() if isinstance(mark, dict)}
    except (ValueError, AttributeError, RecursionError) as error:
        raise _unreadable(where, str(error)) from error


def _unreadable(where: str, came: str) -> DataError:
    return DataError.of(
        where,
        "columns as the library datasets describes them",
        f"'{' '.join(came.split())[:120]}'",
        "write the file again",
    )


def class_numbers(
    parts: Sequence[tuple[str, "pyarrow.ChunkedArray"]],
    names: tuple[str, ...],
    classes: int | None,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Make class numbers of the label columns of some files.

    Whole numbers stay as they are, text is numbered in alphabetical order.

    Args:
        parts: file and column, in order.
        names: of the classes, where the schema has them.
        classes: K where the set has a fixed one.

    Returns:
        Numbers [N], int64, and the names.

    Raises:
        DataError: a missing label, one out of range, or labels that are neither text nor whole
            numbers; the message names file and row.
    """
    import pyarrow

    if names and classes is not None and len(names) != classes:
        raise DataError.of(
            parts[0][0],
            f"{classes} classes",
            f"a schema that names {len(names)}",
            "fetch it again, or read it as data = { name = 'images', path = ... }",
        )
    if not any(len(column) for _, column in parts):
        raise DataError.of(parts[0][0], "rows", "none", "fetch it again")
    known = classes if classes is not None else len(names) or None
    for where, column in parts:
        if column.null_count:
            row = column.is_null().to_numpy().argmax()
            raise DataError.of(f"{where}: row {row}", "a label", "none", "correct the row")
    kinds = {column.type for _, column in parts}
    if all(pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind) for kind in kinds):
        texts = [column.to_numpy(zero_copy_only=False).astype(str) for _, column in parts]
        found, y = np.unique(np.concatenate(texts), return_inverse=True)
        return y.astype(np.int64), tuple(found.tolist())
    for where, column in parts:
        if not pyarrow.types.is_integer(column.type):
            values = column.to_numpy(zero_copy_only=False)
            nan = column.type in (pyarrow.float32(), pyarrow.float64()) and np.isnan(values).any()
            row = int(np.isnan(values).argmax()) if nan else 0
            raise DataError.of(
                f"{where}: row {row}",
                "whole numbers or text as labels",
                f"{values[row] if len(values) else 'none'} ({column.type})",
                "convert the column",
            )
    numbers = [column.to_numpy().astype(np.int64) for _, column in parts]
    for (where, _), y in zip(parts, numbers, strict=True):
        wrong = np.flatnonzero(
            (y < 0) | (y >= (np.iinfo(np.int64).max if known is None else known))
        )
        if len(wrong):
            most = "" if known is None else f"..{known - 1}"
            raise DataError.of(
                f"{where}: row {wrong[0]}", f"a label in 0{most}", y[wrong[0]], "correct the row"
            )
    return np.concatenate(numbers), names


def no_bytes(where: str) -> DataError:
    """Build the error for a row without a picture."""
    return DataError.of(where, "a picture", "none", "remove the row or fetch it again")


def _holds_bytes(kind: "pyarrow.DataType") -> bool:
    """Whether a column may hold encoded pictures: bytes, or a struct of bytes and path."""
    from pyarrow import types

    if types.is_struct(kind):
        at = kind.get_field_index("bytes")
        return at >= 0 and _holds_bytes(kind.field(at).type)
    return types.is_binary(kind) or types.is_large_binary(kind)


def _only(where: str, option: str, found: list[str], there: Sequence[str]) -> str:
    if len(found) == 1:
        return found[0]
    came = f"several ({', '.join(found)})" if found else f"none among {', '.join(there)}"
    raise DataError.of(where, f"one column of {option}s", came, f"set {option} = '...'")
