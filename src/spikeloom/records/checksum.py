"""Checksums of records, so that a damaged value is noticed.

A record carries the checksum of all its other keys. Whitespace and the order of keys are free.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

KEY = "digest"
"""Where a checksum stands in a record, and in the texts of a safetensors header."""

WRITER = "written_by"
"""Where a record with a format says which version of the library wrote it."""

FIRST = 3
"""First format whose files all have a checksum; older ones open without."""


def seal(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with its checksum, and with its writer where it has a format."""
    from spikeloom import __version__

    writer = {WRITER: f"spikeloom {__version__}"} if "format" in record else {}
    whole = json.loads(json.dumps(dict(record) | writer, allow_nan=False))
    return whole | {KEY: of_record(whole)}


def of_record(record: Mapping[str, Any]) -> str:
    """Return the checksum of a record as JSON has it: text keys, lists, no checksum in it."""
    return digest(json.dumps(record, sort_keys=True).encode()).hexdigest()


def digest(start: bytes = b"") -> "hashlib.blake2b":
    """Begin a checksum."""
    return hashlib.blake2b(start, digest_size=16)
