"""Tensors of a run: written whole or not at all, read without running anything.

A safetensors file carries a checksum of its header's texts and of every tensor's name, type, shape
and bytes.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from spikeloom.base.errors import DataError
from spikeloom.records import checksum
from spikeloom.records.storage import FORMAT, altered, check_format, write_bytes


def write_weights(
    path: Path, tensors: Mapping[str, Tensor], extra: Mapping[str, str] | None = None
) -> None:
    """Write tensors as safetensors, with texts and a checksum of both in the header."""
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    texts = {"format": str(FORMAT)} | dict(extra or {})
    texts[checksum.KEY] = of_tensors(plain, texts)
    write_bytes(path, _ordered(save(plain, metadata=texts)))


def _ordered(content: bytes) -> bytes:
    """Put the texts of a safetensors header in order, so that equal tensors give equal files."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text = text.ljust(-(-len(text) // 8) * 8)  # tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text + content[end:]


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
        raise DataError.caused(path, "a safetensors file", error, "train again") from None
    check_tensors(path, tensors, extra)
    return tensors, extra


def check_tensors(path: Path, tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> None:
    """Check tensors and header texts against their checksum; formats 1 and 2 may have none.

    Raises:
        DataError: other values than were written, or a newer format.
    """
    version = check_format(path, texts.get("format", 1))
    stored = texts.get(checksum.KEY)
    if stored is None and version < checksum.FIRST:
        return
    found = of_values(tensors) if version < checksum.FIRST else of_tensors(tensors, texts)
    if stored != found:
        raise altered(path)


def of_tensors(tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> str:
    """Return the checksum of tensors and of the texts beside them, the checksum left out."""
    others = {key: text for key, text in texts.items() if key != checksum.KEY}
    total = checksum.digest(json.dumps(others, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        total.update(_bytes(tensor))
    return total.hexdigest()


def of_values(tensors: Mapping[str, Tensor]) -> str:
    """Return the checksum that a state of format 2 has: of names and bytes alone."""
    total = checksum.digest()
    for name in sorted(tensors):
        total.update(name.encode())
        total.update(_bytes(tensors[name]))
    return total.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    values = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
    return values.numpy().data
