"""Opening a run folder: net and head with the weights it kept, running nothing from its files."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikeloom.base.errors import ConfigError, DataError
from spikeloom.data import Splits
from spikeloom.data.units import is_whole
from spikeloom.nets.module.size import least_parameters
from spikeloom.program.inputs import Inputs, describe_inputs, load_splits
from spikeloom.program.recipe import Recipe, build_recipe
from spikeloom.program.setup import Workbench, set_up
from spikeloom.program.tables import build_model
from spikeloom.records import checkpoint, names, storage

LARGEST_RECORD = 64 * 2**20
"""Bytes of a JSON file that is still read; a record of thousands of epochs has a few million."""

LARGEST_SAMPLE = 2**26
"""Values of one sample that a run folder may ask for."""

DEPTH = 3
"""How many folders below the one named a run is looked for: comparison, entry, seed."""


def find_run(path: Path) -> Path:
    """Return the run folder that a path names: itself, or the only one below it.

    Raises:
        DataError: there is none, or more than one; the message lists them.
    """
    if (path / names.RECIPE).is_file():
        return path
    if not path.is_dir():
        came = "a file" if path.exists() else "none"
        raise DataError(f"{path}: expected a run folder, got {came}; name the folder.")
    runs = sorted(_runs_below(path))
    if len(runs) == 1:
        return runs[0]
    if not runs:
        raise DataError(
            f"{path}: expected a run folder, found no {names.RECIPE} there or below; name the "
            "folder that `spikeloom train` wrote."
        )
    shown = ", ".join(str(one) for one in runs[:6])
    more = f" and {len(runs) - 6} more" if len(runs) > 6 else ""
    raise DataError(f"{path}: expected one run, found {len(runs)}: {shown}{more}; name one.")


def is_finished(folder: Path) -> bool:
    """Whether the run in a folder has ended."""
    return (folder / names.RESULT).is_file()


def open_recipe(folder: Path) -> Recipe:
    """Read and check recipe.json.

    Raises:
        DataError: the file is missing, damaged, or of a newer library.
        ConfigError: a value in it is not known here, with its path.
    """
    for name in (names.RESULT, names.INPUTS):  # a newer recipe may have keys unknown here
        if (folder / name).exists():
            _read_record(folder / name)
    path = folder / names.RECIPE
    table = _read_record(path, versioned=False)
    try:
        return build_recipe(table, str(path))
    except RecursionError:
        raise DataError(
            f"{path}: expected a recipe, got one nested too deep; copy it again."
        ) from None


def open_inputs(folder: Path, recipe: Recipe | None = None) -> Inputs:
    """Return what the run was trained on, from inputs.json or else from the data itself.

    Raises:
        DataError: neither is there, or the file is damaged.
    """
    path = folder / names.INPUTS
    if not path.exists():
        recipe = recipe or open_recipe(folder)
        return Inputs.model_validate(describe_inputs(load_splits(recipe)))
    try:
        inputs = build_model(Inputs, _read_record(path), str(path))
        inputs.build_scaling()
        inputs.build_reading()
    except ConfigError as error:
        raise DataError(str(error)) from None
    if prod(inputs.in_shape) > LARGEST_SAMPLE:
        raise DataError(
            f"{path}: expected samples of {LARGEST_SAMPLE} values at most, got "
            f"{list(inputs.in_shape)}; copy the run again."
        )
    return inputs


def fit_data(splits: Splits, inputs: Inputs) -> Splits:
    """Return data as a trained net takes it: of its shape and classes, normalised as in training.

    The peak stays the data's own, since it says what its stored values mean.

    Raises:
        DataError: samples of another shape, number of classes or axis of time, or the values or
            pictures of the set the net was trained on, read in another way.
    """
    if splits.shape != inputs.in_shape or splits.classes != inputs.classes:
        raise DataError(
            f"data '{splits.name}': expected samples {list(inputs.in_shape)} of {inputs.classes} "
            f"classes, as the net was trained on ('{inputs.data}'), got {list(splits.shape)} of "
            f"{splits.classes}; choose other data."
        )
    trained, own = inputs.build_scaling(), splits.scaling
    where, todo = f"data '{splits.name}'", "leave the option out"
    if trained.mean and trained.time != own.time:
        raise DataError(
            f"{where}: expected time = {str(trained.time).lower()}, as in training, got the "
            f"opposite; {todo}."
        )
    same = splits.name == inputs.data and describe_inputs(splits)["stored"] == inputs.stored
    if same and own.peak != trained.peak:
        raise DataError(
            f"{where}: expected {trained.peak:g} as the stored value that becomes 1, as in "
            f"training, got {own.peak:g}; set data.scale = {trained.peak:g}."
        )
    inputs.check_depth(where, whole=is_whole(splits.train.store))
    reading = inputs.build_reading()
    if None not in (reading, splits.reading) and reading != splits.reading:
        raise DataError(
            f"{where}: expected pictures {reading}, as in training, got {splits.reading}; {todo}."
        )
    scaling = replace(splits.scaling, mean=trained.mean, std=trained.std)
    if scaling == splits.scaling:
        return splits
    parts = {name: replace(part, scaling=scaling) for name, part in splits.parts()}
    return replace(splits, **parts)


def open_run(
    folder: Path, *, splits: Splits | None = None, data: bool = True, device: str | None = None
) -> Workbench:
    """Open a run: everything its recipe names, with the weights it kept.

    Nothing in the folder is executed: JSON is validated as a recipe, weights are safetensors.

    Args:
        folder: of the run, finished or not.
        splits: data to work on in the place of the recipe's; see `fit_data`.
        data: read the recipe's data; False puts black samples in its place where the run's
            inputs.json says what they look like, so that a run opens without its data.
        device: "auto", "cpu" or "cuda"; None for the recipe's, or whatever there is instead of
            a CUDA device.

    Raises:
        DataError: a file is missing, damaged or of a newer library, or weights and net differ.
        ConfigError: the recipe names something that is not known here.
    """
    folder = find_run(folder)
    recipe = open_recipe(folder)
    weights = folder / names.WEIGHTS
    if not weights.is_file():
        raise DataError(
            f"{weights}: expected the weights of a run, found none; train for an epoch first."
        )
    _check_size(recipe, weights)
    if device is None:
        device = "auto" if recipe.device == "cuda" else recipe.device
    recipe = recipe.model_copy(update={"device": device})
    if splits is not None or (folder / names.INPUTS).exists():
        inputs = open_inputs(folder, recipe)
        if splits is None and data:
            splits = load_splits(recipe, inputs=inputs)
        splits = inputs.stand_in() if splits is None else fit_data(splits, inputs)
    bench = set_up(recipe, splits, prepared=False)
    _load(bench, weights)
    return bench


def _runs_below(path: Path) -> Iterator[Path]:
    """Yield run folders below a folder; links are not followed."""
    for root, folders, files in os.walk(path):
        here = Path(root)
        if names.RECIPE in files:
            yield here
            folders.clear()
        elif len(here.relative_to(path).parts) >= DEPTH:
            folders.clear()


def _read_record(path: Path, *, versioned: bool = True) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"{path}: expected a JSON record, found none; copy the run again.")
    size = path.stat().st_size
    if size > LARGEST_RECORD:
        raise DataError(
            f"{path}: expected a record of {LARGEST_RECORD} bytes at most, got {size}; copy the "
            "run again."
        )
    record = storage.read_json(path)
    if versioned:
        storage.check_format(path, record.get("format"))
    return record


def _check_size(recipe: Recipe, path: Path) -> None:
    """Refuse a net that the file cannot fill, before memory is taken for it."""
    least = least_parameters(recipe.net.spec())
    size = path.stat().st_size
    if 4 * least > size:
        raise DataError(
            f"{path}: expected weights of the recipe's net, {4 * least} bytes or more, got a file "
            f"of {size}; copy the run again."
        )


def _load(bench: Workbench, path: Path) -> None:
    """Copy the stored weights into net and head; names, shapes and types must agree.

    Raises:
        DataError: they do not, or a weight is not finite; the message names it.
    """
    modules = bench.modules()
    expected = modules.state_dict()
    with _safetensors(path) as file:
        texts = file.metadata() or {}
        storage.check_format(path, texts.get("format", 1))
        shapes = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        for name in bench.head.absent_in_older("head."):
            if name not in shapes:
                expected.pop(name)
        _compare(path, {name: list(one.shape) for name, one in expected.items()}, shapes)
        stored = {name: file.get_tensor(name) for name in expected}
    for name, tensor in stored.items():
        _check_weight(path, name, tensor, expected[name])
    checkpoint.check_tensors(path, stored, texts)
    modules.load_state_dict(stored)


def _compare(path: Path, expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    todo = "weights and recipe are of different runs; copy the run again."
    for name, shape in expected.items():
        if name not in found:
            raise DataError(f"{path}: expected a weight '{name}' {shape}, found none; {todo}")
        if found[name] != shape:
            raise DataError(f"{path}: expected '{name}' as {shape}, got {found[name]}; {todo}")
    for name in found:
        if name not in expected:
            raise DataError(f"{path}: expected no weight '{name[:80]}', got one; {todo}")


def _check_weight(path: Path, name: str, tensor: Tensor, like: Tensor) -> None:
    if tensor.dtype != like.dtype:
        raise DataError(
            f"{path}: expected '{name}' in {like.dtype}, got {tensor.dtype}; copy the run again."
        )
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        raise DataError(
            f"{path}: expected finite weights, got NaN or infinity in '{name}'; train again."
        )


@contextmanager
def _safetensors(path: Path) -> Iterator[Any]:
    """Map a safetensors file into memory; only its header is read before tensors are asked for."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except DataError:
        raise
    except (SafetensorError, OSError, ValueError, RuntimeError, MemoryError) as error:
        came = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path}: expected a safetensors file, got '{came}'; train again."
        ) from None
