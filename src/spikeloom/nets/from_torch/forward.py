"""Reads a user's `forward` with `torch.fx`, in training and in evaluation mode."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import Parameter, signature
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from spikeloom.base.torch_private import made_by_compile, version
from spikeloom.nets.from_torch.graph import Reader
from spikeloom.nets.from_torch.layers import AS_IT_IS, check, place, refusal


def read_forward(module: nn.Module) -> Reader:
    """Return the steps of a module's forward; the result of the last step is the module's.

    The forward is traced twice, in training and in evaluation mode. The module is left unchanged.

    Raises:
        UnsupportedNet: a part that cannot be read; the message names its place.
    """
    _check_forwards(module)
    modes = [(part, part.training) for part in module.modules()]
    try:
        readings: list[Reader] = []
        for training in (True, False):
            for part, _ in modes:
                part.training = training
            with _undisturbed(module):
                readings.append(Reader(module))
    finally:
        for part, training in modes:
            part.training = training
    return _agreed(module, *readings)


def _agreed(module: nn.Module, training: Reader, evaluation: Reader) -> Reader:
    """Return the steps if both modes have the same ones; only dropouts may differ."""
    same = len(training.steps) == len(evaluation.steps)
    pairs = zip(training.steps, evaluation.steps, strict=True) if same else ()
    for first, second in pairs:
        same = same and first.key == second.key
        check(
            first.where,
            not second.drops,
            "a dropout that is off in evaluation mode",
            "a dropout that is on",
            "pass training=self.training or use nn.Dropout",
        )
        if first.drops is False:
            first.layer = nn.Identity()
    if not same:
        raise refusal(
            place("", module),
            "a forward that does the same in training and evaluation mode",
            "different operations in each mode, or at each call",
            "give each its own module",
        )
    return training


def _check_forwards(module: nn.Module) -> None:
    """Refuse modules that run something else than their class's forward with one input."""
    for path, part in module.named_modules():
        where = place(path, part)
        made = isinstance(part, torch.jit.ScriptModule) or made_by_compile(part)
        todo = "use the module it was made from; the net can be compiled"
        check(where, not made, "a module of Python's", "a compiled one", todo)
        called = type(part).__call__ is nn.Module.__call__ or isinstance(part, fx.GraphModule)
        plain = "forward" not in vars(part) and called
        check(where, plain, "a forward of its class", "one set by hand", "write a class with it")
    given = list(signature(type(module).forward).parameters.values())[1:]
    named = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    needed = [one for one in given if one.default is Parameter.empty and one.kind in named]
    single = len(given) > 0 and given[0].kind in named[:2] and needed in ([], given[:1])
    names = ", ".join(str(one) for one in given) or "none"
    check(place("", module), single, "a forward with one input", names, AS_IT_IS)


def _streams() -> tuple[Any, Any, Any]:
    """Return the states of the random generators of torch, Python and NumPy."""
    numpys = np.random.get_state(legacy=False)  # noqa: NPY002
    return torch.get_rng_state(), random.getstate(), numpys


@contextmanager
def _undisturbed(module: nn.Module) -> Iterator[None]:
    """Refuse a forward that draws random numbers or changes its module; undo the changes."""
    parts = [(path, part, dict(vars(part))) for path, part in module.named_modules()]
    buffers = [(one, one.clone(), version(one)) for one in module.buffers()]
    torchs, *others = _streams()
    try:
        yield
    finally:
        torchs_now, *others_now = _streams()
        drew = not torch.equal(torchs, torchs_now) or repr(others) != repr(others_now)
        torch.set_rng_state(torchs)
        random.setstate(others[0])
        np.random.set_state(others[1])  # noqa: NPY002
        changed = [
            f"{place(path, part)}: {name}"
            for path, part, before in parts
            for name in {*vars(part), *before}
            if vars(part).get(name, parts) is not before.get(name, parts)
        ]
        for _, part, before in parts if changed else ():
            vars(part).clear()
            vars(part).update(before)
        with torch.no_grad():
            written = [
                one.copy_(kept)
                for one, kept, before in buffers
                # without version counters in this torch, compare the values
                if version(one) != before and not (type(before) is object and one.equal(kept))
            ]
    if drew:
        came = "random numbers drawn by forward"
        raise refusal(place("", module), "a forward without random numbers", came, "use nn.Dropout")
    if changed or written:
        raise refusal(
            place("", module),
            "a forward that changes nothing",
            f"a new value of {changed[0] if changed else 'a buffer'}",
            "a net keeps no state between calls: return values, or use Neuron",
        )
