"""Damaged data files: loaded, or refused in one line.

A kind of file is added to `LOADERS` with what writes an intact one.
"""

import gzip
import io
import struct
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import contents, damaged, put, refusal_without_a_trace
from fuzzing import cases, sweep
from hypothesis import strategies as st
from safetensors.torch import save

from spikeloom.data import Splits
from spikeloom.data.idx import load_idx
from spikeloom.data.tensors import load_tensors

GENERATOR = np.random.default_rng(0)


def idx(array: np.ndarray) -> bytes:
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return head + array.astype(np.uint8).tobytes()


def idx_files(packed: bool) -> dict[str, bytes]:
    files = {}
    for part, count in (("train", 40), ("t10k", 20)):
        images = GENERATOR.integers(0, 256, (count, 28, 28))
        pairs = (("images-idx3", images), ("labels-idx1", np.arange(count) % 10))
        for name, array in pairs:
            content = idx(array)
            if packed:
                files[f"mnist/{part}-{name}-ubyte.gz"] = gzip.compress(content, mtime=0)
            else:
                files[f"mnist/{part}-{name}-ubyte"] = content
    return files


def arrays() -> dict[str, np.ndarray]:
    return {
        "x_train": GENERATOR.random((30, 1, 4, 4), dtype=np.float32),
        "y_train": np.arange(30) % 3,
        "x_test": GENERATOR.random((12, 1, 4, 4), dtype=np.float32),
        "y_test": np.arange(12) % 3,
    }


def npz(parts: Mapping[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez(file, allow_pickle=True, **parts)
    return file.getvalue()


@dataclass(frozen=True)
class Loader:
    """Files below a root, and what reads them."""

    files: Mapping[str, bytes]
    load: Callable[[Path], Splits]


LOADERS: Mapping[str, Loader] = {
    "idx": Loader(idx_files(False), lambda root: load_idx("mnist", root, validation=10)),
    "idx.gz": Loader(
        idx_files(True), lambda root: load_idx("mnist", root, validation=10, normalise=True)
    ),
    "npz": Loader({"a.npz": npz(arrays())}, lambda root: load_tensors(root, path="a.npz")),
    "safetensors": Loader(
        {"a.safetensors": save({key: torch.from_numpy(one) for key, one in arrays().items()})},
        lambda root: load_tensors(root, path="a.safetensors", normalise=True),
    ),
}


def use(splits: Splits) -> None:
    """Take every sample of every part once."""
    for part in (splits.train, splits.validation, splits.test):
        x, y = part.take(torch.arange(len(part)))
        assert torch.isfinite(x).all() and 0 <= int(y.min()) <= int(y.max()) < splits.classes


def check(loader: Loader, root: Path, changed: Mapping[str, bytes | None]) -> str | None:
    for name, content in {**loader.files, **changed}.items():
        (root / name).parent.mkdir(exist_ok=True)
        put(root / name, content)
    return refusal_without_a_trace(root, lambda: use(loader.load(root)))


@pytest.mark.parametrize("name", LOADERS)
@cases(few=25, many=2500)
def test_damaged_files(name, examples, tmp_path):
    loader = LOADERS[name]
    assert check(loader, tmp_path, {}) is None

    @st.composite
    def broken(draw: st.DrawFn) -> dict[str, bytes | None]:
        file = draw(st.sampled_from(sorted(loader.files)))
        return {file: draw(damaged(loader.files[file], tuple(loader.files.values())))}

    sweep(broken(), lambda changed: check(loader, tmp_path, changed), examples)
    assert len(contents(tmp_path)) <= len(loader.files)


TYPES = ["f2", "f4", "f8", ">f4", "i1", "i8", "u1", "u2", "u8", "?", "c8", "S3", "U2", "M8[s]", "O"]
SHAPES = [(30, 1, 4, 4), (30,), (0, 4), (), (30, 0, 4), (1, 30), (29, 1, 4, 4), (30, 16), (3, 16)]
IMPOSSIBLE = (ValueError, TypeError, OverflowError, IndexError)
VALUES = [0.0, 1.0, 2.0, -1.0, 255.0, 1e12, float("nan"), float("inf"), 3.5]


@st.composite
def odd_arrays(draw: st.DrawFn) -> dict[str, np.ndarray]:
    """Arrays of which one or two have an odd type, shape, value or name."""
    parts = arrays()
    for _ in range(draw(st.integers(1, 2))):
        name = draw(st.sampled_from(sorted(parts)))
        change = draw(st.sampled_from([odd_type, odd_shape, odd_value, odd_name]))
        with warnings.catch_warnings(), np.errstate(all="ignore"), suppress(*IMPOSSIBLE):
            warnings.simplefilter("ignore")  # of numpy, about what is done here on purpose
            change(draw, parts, name)
    return parts


def odd_type(draw: st.DrawFn, parts: dict[str, np.ndarray], name: str) -> None:
    parts[name] = parts[name].astype(draw(st.sampled_from(TYPES)))


def odd_shape(draw: st.DrawFn, parts: dict[str, np.ndarray], name: str) -> None:
    parts[name] = np.resize(parts[name], draw(st.sampled_from(SHAPES)))


def odd_value(draw: st.DrawFn, parts: dict[str, np.ndarray], name: str) -> None:
    array, value = parts[name].copy(), draw(st.sampled_from(VALUES))
    if draw(st.booleans()):
        array = array.astype("f8")
    array.flat[slice(None) if draw(st.booleans()) else draw(st.integers(0, 11))] = value
    parts[name] = array


def odd_name(draw: st.DrawFn, parts: dict[str, np.ndarray], name: str) -> None:
    parts[draw(st.sampled_from(["x", "x_validation", "é", "../y"]))] = parts[name]


@cases(few=40, many=3000)
def test_odd_arrays(examples, tmp_path):
    loader = LOADERS["npz"]
    sweep(odd_arrays(), lambda parts: check(loader, tmp_path, {"a.npz": npz(parts)}), examples)
