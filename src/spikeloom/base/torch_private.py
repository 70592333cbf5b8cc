"""The only file that uses private names of torch, which may change in any version.

Each function answers one question for which torch has no public name. If the private name is gone
or has changed, the function gives the safe answer of its decorator or docstring: the computation is
then slower, takes more memory or is refused, but never gives other numbers.
`tests/test_architecture_calls.py` checks that no other file uses such names.
"""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import wraps
from importlib import import_module
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, fx, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as _modules
from torch.nn.utils.prune import BasePruningMethod
from torch.utils.hooks import RemovableHandle

from spikeloom.base.errors import UnsupportedNet

_C: Any = torch._C
_CHANGED = (AttributeError, TypeError, RuntimeError)
"""Errors of a name that is gone or takes other arguments."""

F = TypeVar("F", bound=Callable[..., Any])


def _safe(answer: object) -> Callable[[F], F]:
    """Return a decorator: the function gives `answer` where torch's names have changed."""

    def wrap(ask: F) -> F:
        @wraps(ask)
        def asked(*args: Any) -> Any:
            try:
                return ask(*args)
            except _CHANGED:
                return answer

        return cast(F, asked)

    return wrap


def _named(module: str, name: str, otherwise: Any) -> Any:
    """Return a name of a module of torch, or `otherwise` if there is none."""
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError):
        return otherwise


def _changed(where: str, expected: str, todo: str = "use another version") -> UnsupportedNet:
    return UnsupportedNet.of(where, f"a torch {expected}", f"torch {torch.__version__}", todo)


class NoModes:
    """Takes the place of `TorchDispatchMode` if torch has none: making one raises an error."""

    def __init__(self) -> None:
        expected = "that shows its operators to a TorchDispatchMode"
        raise _changed("meters.products", expected, "use another version to count operations")


TorchDispatchMode: Any = _named("torch.utils._python_dispatch", "TorchDispatchMode", NoModes)
"""Base of modes: an active one sees every operator of torch."""

_DEFAULT_DEVICE: Any = _named("torch.utils._device", "DeviceContext", ())


@_safe(True)
def graph_is_kept() -> bool:
    """Whether another backward pass may follow through the graph of the one that is running.

    If not, the running pass may overwrite tensors that were saved for it.
    """
    return _C._autograd._get_current_graph_task_keep_graph() is not False


@_safe(None)
def release_saved(ctx: Any) -> None:
    """Release the saved tensors of a backward function before it returns.

    Each is then freed as soon as it is used, else when the function returns.
    """
    ctx.maybe_clear_saved_tensors()


def holders(grads: tuple[Tensor, ...]) -> tuple[int, ...]:
    """Return the reference counts of a gradient, of the tensor it is a view of, and their memory.

    The numbers mean nothing by themselves: `base.autograd.is_nobodys` compares them with those of a
    gradient that nobody else holds. Safe: (), which equals no counts.

    Args:
        grads: the gradient, in the tuple that a backward function gets.
    """
    try:
        grad = grads[0]
        base = grad._base
        if base is None or not grad.untyped_storage().resizable():  # e.g. memory of a numpy array
            return ()
        memory = grad.untyped_storage()._cdata
        counts = (grad._use_count(), base._use_count(), _C._storage_Use_Count(memory))  # pyright: ignore
        return (sys.getrefcount(grad), sys.getrefcount(base), *counts)
    except _CHANGED:
        return ()


def modes_off() -> AbstractContextManager[object] | None:
    """Return a context that turns off torch's modes, which may hold tensors they have seen.

    Safe: None.
    """
    make = _named("torch.utils._python_dispatch", "_disable_current_modes", None)
    return None if make is None else make()


def version(x: Tensor) -> object:
    """Return the version of a tensor, which changes when it is written; -1 for inference tensors.

    Safe: a new object at every call, as if the tensor had been written.
    """
    try:
        return -1 if x.is_inference() else x._version
    except _CHANGED:
        return object()


def transformed(*made: Tensor) -> bool:
    """Whether a transform of torch.func (grad, vmap, jvp, functionalize) is active.

    Safe: True; if tensors are given, whether one of them has no memory, as tensors of transforms.

    Args:
        made: tensors that the caller is going to keep if no transform is active.
    """
    try:
        return _C._functorch.peek_interpreter_stack() is not None
    except _CHANGED:
        return not made or not all(map(_has_memory, made))


def _has_memory(x: Tensor) -> bool:
    try:
        x.data_ptr()
    except RuntimeError:
        return False
    return True


@_safe(True)
def functionalized() -> bool:
    """Whether functionalize is active, the transform that takes torch's own operators only."""
    stack = _C._functorch.get_interpreter_stack() or ()
    return any(level.key() == _C._functorch.TransformType.Functionalize for level in stack)


@_safe(True)
def dual() -> bool:
    """Whether tensors may carry tangents of forward-mode differentiation."""
    return forward_ad._current_level >= 0


def traced() -> bool:
    """Whether `torch.jit.trace` is recording. Safe: torch's public function, which is slower."""
    try:
        return _C._get_tracing_state() is not None
    except _CHANGED:
        return torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage] - documented


@_safe(True)
def in_batches(x: Tensor) -> bool:
    """Whether a tensor is a batch of gradients (`is_grads_batched`)."""
    return _C._functorch.is_legacy_batchedtensor(x)


@_safe(True)
def intercepted(allowed: type) -> bool:
    """Whether a mode sees every operator; modes that only set a default device do not count.

    Args:
        allowed: a class of modes that do not count either.
    """
    # asked at every call of a net: in most calls both stacks are empty, and two counts are enough
    dispatch, function = _C._len_torch_dispatch_stack(), _C._len_torch_function_stack()
    if not dispatch and not function:
        return False
    modes = map(_C._get_dispatch_stack_at, range(dispatch))
    if any(not isinstance(mode, allowed) for mode in modes):
        return True
    others = map(_C._get_function_stack_at, range(function))
    return any(not isinstance(mode, _DEFAULT_DEVICE) for mode in others)


@_safe(True)
def kept_by_user() -> bool:
    """Whether tensors that autograd saves now go through hooks of a user, who may read them later.

    Torch's own hooks (checkpoints, `save_on_cpu`) do not count: they show them to nobody.
    """
    if torch.compiler.is_compiling():
        return False
    hooks = _C._autograd._top_saved_tensors_default_hooks(False)
    return hooks is not None and not str(getattr(hooks[0], "__module__", "")).startswith("torch.")


def in_backward() -> bool:
    """Whether autograd is running a backward pass on this thread.

    Safe: searches the call stack, which takes longer. Threads that Python did not start belong to
    the autograd engine.
    """
    try:
        return _C._current_autograd_node() is not None
    except _CHANGED:
        if threading.current_thread().name.startswith("Dummy-"):
            return True
        engine = {torch.autograd.backward.__code__, torch.autograd.grad.__code__}
        frame = sys._getframe()
        while frame is not None:
            if frame.f_code in engine:
                return True
            frame = frame.f_back
        return False


_OF_CALLS = ("forward_hooks", "forward_pre_hooks", "backward_hooks", "backward_pre_hooks")


def hooks_of(module: nn.Module) -> list[Any]:
    """Return the hooks that a call of a module runs.

    Raises:
        UnsupportedNet: this version of torch keeps them elsewhere.
    """
    try:
        return [hook for name in _OF_CALLS for hook in getattr(module, f"_{name}").values()]
    except _CHANGED as error:
        raise _changed(type(module).__name__, "whose modules show their hooks") from error


@_safe(True)
def hooked(*parts: nn.Module | None) -> bool:
    """Whether a call of one of these modules runs hooks, so that it must not be bypassed."""
    c = _modules  # written out for speed: asked for every layer of every call
    if c._global_forward_hooks or c._global_forward_pre_hooks:
        return True
    if c._global_backward_hooks or c._global_backward_pre_hooks:
        return True
    for part in parts:
        if part is None:
            continue
        if part._forward_hooks or part._forward_pre_hooks:
            return True
        if part._backward_hooks or part._backward_pre_hooks:
            return True
    return False


def hooks_made() -> object:
    """Return a value that changes with every registered hook. Safe: a new object at every call."""
    made = getattr(RemovableHandle, "next_id", None)
    return object() if made is None else made


@_safe(True)
def waits(leaf: Tensor) -> bool:
    """Whether a leaf has hooks for its gradient, which only autograd calls."""
    return bool(leaf._backward_hooks or leaf._post_accumulate_grad_hooks)


def prunes(hook: BasePruningMethod, layer: nn.Module, name: str) -> bool:
    """Whether a pruning hook computes the tensor `name` of a layer.

    Safe: whether that tensor has a mask, since there is one pruning hook per tensor.
    """
    try:
        return hook._tensor_name == name
    except _CHANGED:
        return hasattr(layer, f"{name}_mask")


def made_by_compile(module: nn.Module) -> bool:
    """Whether a module is the result of torch.compile. Safe: decided by the name of its class."""
    return hasattr(module, "_orig_mod") or type(module).__name__ == "OptimizedModule"


def children_of(module: nn.Module) -> Sequence[tuple[str, nn.Module | None]]:
    """Return the children of a module by name, including one that is registered twice.

    Safe: found by a walk through all modules below, which takes longer.
    """
    try:
        return list(module._modules.items())
    except _CHANGED:
        below = module.named_modules(remove_duplicate=False)
        return [(name, child) for name, child in below if name and "." not in name]


def share_tables(module: nn.Module, layer: nn.Module) -> None:
    """Make a module share the parameters, buffers and children of a layer.

    Raises:
        UnsupportedNet: this version of torch keeps them elsewhere.
    """
    try:
        for table in ("_parameters", "_buffers", "_modules"):
            module.__dict__[table] = layer.__dict__[table]
    except KeyError as error:
        expected = "whose modules keep their parameters in a table"
        todo = "build the net from its text instead"
        raise _changed(type(layer).__name__, expected, todo) from error


class Converted(nn.Module):
    """A module that learns when its tensors are moved or converted (`to`, `double`, `cuda`, ..).

    If torch no longer calls `_apply`, modules that are no children stay where they are, and torch
    raises an error when it computes with them.
    """

    def converted(self, convert: Callable[[nn.Module], object]) -> None:
        """Move or convert modules that belong to this one but are no children.

        Args:
            convert: moves or converts a module.
        """

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        result = super()._apply(fn, recurse)
        if recurse:
            self.converted(lambda module: module._apply(fn))
        return result


def graph_of(function: Callable[..., Any], values: Iterator[Any] | Sequence[Any]) -> fx.GraphModule:
    """Return the graph of the operators that a function runs on some values.

    Safe: any error, after which the reference loop runs (`kernels.source.program`).
    """
    from torch.fx.experimental.proxy_tensor import make_fx  # slow to import

    return make_fx(function)(*values)
