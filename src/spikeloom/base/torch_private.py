"""The one door to names that torch does not promise to keep.

Each function asks torch one thing that it has no public name for. Where the name is gone, or does
not answer as it did, the function gives the answer that is always safe: the computation that
follows is slower or takes more memory, or is refused by name, and never gives other numbers. No
other file of the package uses such names (`tests/test_architecture.py`).
"""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as _modules
from torch.nn.utils.prune import BasePruningMethod
from torch.utils.hooks import RemovableHandle

from spikeloom.base.errors import UnsupportedNet

_C: Any = torch._C
_CHANGED = (AttributeError, TypeError, RuntimeError)
"""What a name that is gone, or that wants other arguments, raises."""


def _named(module: str, name: str, otherwise: Any) -> Any:
    """Return what a module of torch calls by a name, or something in its place."""
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError):
        return otherwise


class NoModes:
    """Stands for torch's dispatch modes where there are none: whoever needs one is refused."""

    def __init__(self) -> None:
        raise UnsupportedNet.of(
            "meters.products",
            "a torch that shows its operators to a TorchDispatchMode",
            f"torch {torch.__version__}",
            "use another version to count operations",
        )


TorchDispatchMode: Any = _named("torch.utils._python_dispatch", "TorchDispatchMode", NoModes)
"""Sees every operator of torch while it is on."""

_DEFAULT_DEVICE: Any = _named("torch.utils._device", "DeviceContext", ())


def graph_is_kept() -> bool:
    """Whether this backward pass may be followed by another one through the same graph.

    What a pass stored may be overwritten by it only where none follows. Safe: yes (a copy is made).
    """
    try:
        return _C._autograd._get_current_graph_task_keep_graph() is not False
    except _CHANGED:
        return True


def release_saved(ctx: Any) -> None:
    """Let go of what a backward function has read of its `ctx`, before it has returned.

    Each tensor is then freed as soon as it is used. Safe: they live until the function returns.
    """
    try:
        ctx.maybe_clear_saved_tensors()
    except _CHANGED:
        return


def holders(grads: tuple[Tensor, ...]) -> tuple[int, ...]:
    """Count who holds a gradient, the tensor it is a view of, and their memory.

    The numbers mean nothing by themselves: `base.autograd.is_nobodys` compares them with those of a
    gradient that is nobody else's. Safe: (), which equals no count.

    Args:
        grads: the gradient, in the tuple that a backward function gets.
    """
    try:
        grad = grads[0]
        base = grad._base
        if base is None or not grad.untyped_storage().resizable():  # e.g. an array of numpy's
            return ()
        memory = grad.untyped_storage()._cdata
        counts = (grad._use_count(), base._use_count(), _C._storage_Use_Count(memory))  # pyright: ignore
        return (sys.getrefcount(grad), sys.getrefcount(base), *counts)
    except _CHANGED:
        return ()


def modes_off() -> AbstractContextManager[object] | None:
    """Return a context without torch's modes, which may hold tensors that they saw.

    Safe: None, where there is none.
    """
    make = _named("torch.utils._python_dispatch", "_disable_current_modes", None)
    return None if make is None else make()


def version(x: Tensor) -> object:
    """Return what changes when a tensor is written to; inference tensors do not tell.

    Safe: something new at every call, as if it had been written to.
    """
    try:
        return -1 if x.is_inference() else x._version
    except _CHANGED:
        return object()


def transformed(*made: Tensor) -> bool:
    """Whether a transform of torch.func (grad, vmap, jvp, functionalize) is at work.

    Safe: yes; where tensors are given, whether one has no memory of its own, as a transform's.

    Args:
        made: what a caller is going to keep if there is none.
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


def functionalized() -> bool:
    """Whether one of these transforms is functionalize, which knows torch's own operators alone.

    Safe: yes.
    """
    try:
        stack = _C._functorch.get_interpreter_stack() or ()
        return any(level.key() == _C._functorch.TransformType.Functionalize for level in stack)
    except _CHANGED:
        return True


def dual() -> bool:
    """Whether tensors may carry tangents of forward-mode differentiation. Safe: yes."""
    try:
        return forward_ad._current_level >= 0
    except _CHANGED:
        return True


def traced() -> bool:
    """Whether `torch.jit.trace` is recording. Safe: torch's public, slower answer."""
    try:
        return _C._get_tracing_state() is not None
    except _CHANGED:
        return torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage] - documented


def in_batches(x: Tensor) -> bool:
    """Whether a tensor is one of `is_grads_batched`, which stands for many. Safe: yes."""
    try:
        return _C._functorch.is_legacy_batchedtensor(x)
    except _CHANGED:
        return True


def intercepted(allowed: type) -> bool:
    """Whether a mode other than a default device sees every operator. Safe: yes.

    Args:
        allowed: a class of modes that may look on.
    """
    try:
        # two counts at every call of a net; the modes themselves only where there are some
        dispatch, function = _C._len_torch_dispatch_stack(), _C._len_torch_function_stack()
        if not dispatch and not function:
            return False
        modes = map(_C._get_dispatch_stack_at, range(dispatch))
        if any(not isinstance(mode, allowed) for mode in modes):
            return True
        others = map(_C._get_function_stack_at, range(function))
        return any(not isinstance(mode, _DEFAULT_DEVICE) for mode in others)
    except _CHANGED:
        return True


def kept_by_user() -> bool:
    """Whether what autograd saves now goes through hooks of a user, who may look at it later.

    Torch's own hooks (checkpoints, `save_on_cpu`) show it to nobody. Safe: yes.
    """
    if torch.compiler.is_compiling():
        return False
    try:
        hooks = _C._autograd._top_saved_tensors_default_hooks(False)
        return hooks is not None and not str(getattr(hooks[0], "__module__", "")).startswith(
            "torch."
        )
    except _CHANGED:
        return True


def in_backward() -> bool:
    """Whether autograd is running a backward pass on this thread.

    Safe: read from the stack of calls, which takes longer. Threads that Python did not start are
    the engine's own.
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
        UnsupportedNet: this torch keeps them elsewhere.
    """
    try:
        return [hook for name in _OF_CALLS for hook in getattr(module, f"_{name}").values()]
    except _CHANGED as error:
        raise UnsupportedNet.of(
            type(module).__name__,
            "a torch whose modules show their hooks",
            f"torch {torch.__version__}",
            "use another version",
        ) from error


def hooked(*parts: nn.Module | None) -> bool:
    """Whether a call of one of these modules runs hooks, which a shorter way would leave out.

    Safe: yes.
    """
    try:  # written out, since it is asked for every layer of every call
        c = _modules
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
    except _CHANGED:
        return True


def hooks_made() -> object:
    """Return what changes with every hook that is registered. Safe: something new at every call."""
    made = getattr(RemovableHandle, "next_id", None)
    return object() if made is None else made


def waits(leaf: Tensor) -> bool:
    """Whether a hook waits for a gradient that only autograd would bring to it. Safe: yes."""
    try:
        return bool(leaf._backward_hooks or leaf._post_accumulate_grad_hooks)
    except _CHANGED:
        return True


def prunes(hook: BasePruningMethod, layer: nn.Module, name: str) -> bool:
    """Whether a pruning hook makes a layer's tensor of a name.

    Safe: whether that tensor has a mask, since there is one pruning hook per tensor.
    """
    try:
        return hook._tensor_name == name
    except _CHANGED:
        return hasattr(layer, f"{name}_mask")


def made_by_compile(module: nn.Module) -> bool:
    """Whether a module is what torch.compile made of another one. Safe: the name of its class."""
    return hasattr(module, "_orig_mod") or type(module).__name__ == "OptimizedModule"


def children_of(module: nn.Module) -> Sequence[tuple[str, nn.Module | None]]:
    """Return a module's children by name, those that stand there twice included.

    Safe: from a walk through all modules below, which takes longer.
    """
    try:
        return list(module._modules.items())
    except _CHANGED:
        below = module.named_modules(remove_duplicate=False)
        return [(name, child) for name, child in below if name and "." not in name]


def share_tables(module: nn.Module, layer: nn.Module) -> None:
    """Let a module have a layer's own tables of parameters, buffers and children.

    Raises:
        UnsupportedNet: this torch keeps them elsewhere.
    """
    try:
        for table in ("_parameters", "_buffers", "_modules"):
            module.__dict__[table] = layer.__dict__[table]
    except KeyError as error:
        raise UnsupportedNet.of(
            type(layer).__name__,
            "a torch whose modules keep their parameters in a table",
            f"torch {torch.__version__}",
            "build the net from its text instead",
        ) from error


class Converted(nn.Module):
    """A module that is told when its tensors are moved or converted (`to`, `double`, `cuda`, ..).

    Where torch does not tell, what `converted` would have moved stays, and torch refuses to compute
    with it.
    """

    def converted(self, convert: Callable[[nn.Module], object]) -> None:
        """Do the same to what is no child.

        Args:
            convert: moves or converts a module.
        """

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        result = super()._apply(fn, recurse)
        if recurse:
            self.converted(lambda module: module._apply(fn))
        return result


def graph_of(function: Callable[..., Any], values: Iterator[Any] | Sequence[Any]) -> fx.GraphModule:
    """Return the operators of torch that a function runs on some values.

    Safe: an error, which leads to the reference loop (`kernels.source.program`).
    """
    from torch.fx.experimental.proxy_tensor import make_fx  # slow to import

    return make_fx(function)(*values)
