"""Checksums of a run's files, so that no damaged value is taken for a good one.

A record carries the checksum of all its other keys, a safetensors file the checksum of its header's
texts and of every tensor's name, type, shape and bytes. Whitespace and the order of keys are free.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

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
    return _hash(json.dumps(record, sort_keys=True).encode()).hexdigest()


def of_tensors(tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> str:
    """Return the checksum of tensors and of the texts beside them, the checksum left out."""
    others = {key: text for key, text in texts.items() if key != KEY}
    total = _hash(json.dumps(others, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        total.update(_bytes(tensor))
    return total.hexdigest()


def of_values(tensors: Mapping[str, Tensor]) -> str:
    """Return the checksum that a state of format 2 has: of names and bytes alone."""
    total = _hash()
    for name in sorted(tensors):
        total.update(name.encode())
        total.update(_bytes(tensors[name]))
    return total.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    values = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
    return values.numpy().data


def _hash(start: bytes = b"") -> "hashlib.blake2b":
    return hashlib.blake2b(start, digest_size=16)
