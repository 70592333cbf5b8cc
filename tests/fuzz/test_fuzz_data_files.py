"""Damaged data files: loaded, or refused in one line.

A kind of file is added to `LOADERS` with what writes intact ones and what reads them.
"""

import gzip
import io
import struct
import warnings
import zipfile
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
from spikeloom.data.images import load_images
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


def png(value: int) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def parquet_files() -> dict[str, bytes]:
    import pyarrow
    import pyarrow.parquet

    files = {}
    for part, count in (("train", 24), ("test", 8)):
        columns = {"image": [png(row) for row in range(count)], "label": np.arange(count) % 2}
        file = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.table(columns), file)
        files[f"set/{part}.parquet"] = file.getvalue()
    return files


@dataclass(frozen=True)
class Loader:
    """What makes files below a root, and what reads them."""

    files: Callable[[], dict[str, bytes]]
    load: Callable[[Path], Splits]


LOADERS: Mapping[str, Loader] = {
    "idx": Loader(lambda: idx_files(False), lambda root: load_idx("mnist", root, validation=10)),
    "idx.gz": Loader(
        lambda: idx_files(True), lambda root: load_idx("mnist", root, validation=10, normalise=True)
    ),
    "npz": Loader(lambda: {"a.npz": npz(arrays())}, lambda root: load_tensors(root, path="a.npz")),
    "safetensors": Loader(
        lambda: {"a.safetensors": save({k: torch.from_numpy(v) for k, v in arrays().items()})},
        lambda root: load_tensors(root, path="a.safetensors", normalise=True),
    ),
    "parquet": Loader(parquet_files, lambda root: load_images(root, path="set")),
    "folders": Loader(
        lambda: {f"set/{name}/{row}.png": png(row) for name in "ab" for row in range(12)},
        lambda root: load_images(root, path="set"),
    ),
}


def use(splits: Splits) -> None:
    """Take every sample of every part once."""
    for part in (splits.train, splits.validation, splits.test):
        x, y = part.take(torch.arange(len(part)))
        assert torch.isfinite(x).all() and 0 <= int(y.min()) <= int(y.max()) < splits.classes


def check(loader: Loader, root: Path, files: Mapping[str, bytes | None]) -> str | None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        put(root / name, content)
    return refusal_without_a_trace(root, lambda: use(loader.load(root)))


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path_factory) -> Path:
    """A folder for decoded pictures that is this test's own."""
    folder = tmp_path_factory.mktemp("decoded")
    monkeypatch.setenv("SPIKELOOM_CACHE", str(folder))
    return folder


@st.composite
def broken(draw: st.DrawFn, files: Mapping[str, bytes]) -> dict[str, bytes | None]:
    """All files, one of them damaged."""
    name = draw(st.sampled_from(sorted(files)))
    return {**files, name: draw(damaged(files[name], tuple(files.values())))}


@pytest.mark.parametrize("name", LOADERS)
@cases(few=20, many=1500)
def test_damaged_files(name, examples, tmp_path):
    loader = LOADERS[name]
    files = loader.files()
    assert check(loader, tmp_path, files) is None
    sweep(broken(files), lambda changed: check(loader, tmp_path, changed), examples)


@cases(few=20, many=1500)
def test_damaged_cache(examples, tmp_path, cache):
    """What lies decoded on disk may go wrong too; it is decoded again then, or refused."""
    loader = LOADERS["parquet"]
    assert check(loader, tmp_path, loader.files()) is None
    whole = contents(cache)
    assert any(name.endswith("pixels.npy") for name in whole)

    def again(files: Mapping[str, bytes | None]) -> None:
        for name, content in files.items():
            (cache / name).parent.mkdir(parents=True, exist_ok=True)
            put(cache / name, content)
        check(loader, tmp_path, {})

    sweep(broken(whole), again, examples)


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


@cases(few=20, many=2000)
def test_damaged_arrays_in_a_whole_archive(examples, tmp_path):
    """The checksums of the archive are right; the arrays inside are not."""
    parts = {}
    for name, array in arrays().items():
        file = io.BytesIO()
        np.save(file, array)
        parts[f"{name}.npy"] = file.getvalue()

    def packed(inside: Mapping[str, bytes | None]) -> None:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in inside.items():
                if content is not None:
                    archive.writestr(name, content)
        check(LOADERS["npz"], tmp_path, {"a.npz": file.getvalue()})

    sweep(broken(parts), packed, examples)
