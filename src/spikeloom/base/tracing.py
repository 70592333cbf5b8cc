"""What else of torch sees a computation: compilers, tracers, transforms, modes, subclasses.

Compiled loops and packed memory read and write plain memory. All of these follow tensors through
torch's operators, so they would miss what happens there, and code of that kind has to give way.
"""

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as _modules
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.hooks import RemovableHandle

_PLAIN = {Tensor, nn.Parameter, nn.Buffer}


class Spectator(TorchDispatchMode):
    """A mode that looks at matrix products alone, so that compiled loops may run under it."""


def transformed() -> bool:
    """Whether a transform of torch.func (grad, vmap, jvp, functionalize) is at work."""
    functorch = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]
    return functorch.peek_interpreter_stack() is not None


def functionalized() -> bool:
    """Whether one of these transforms is functionalize, which knows torch's own operators alone."""
    functorch = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]
    stack = functorch.get_interpreter_stack() or ()
    return any(level.key() == functorch.TransformType.Functionalize for level in stack)


def dual() -> bool:
    """Whether tensors may carry tangents of forward-mode differentiation."""
    return forward_ad._current_level >= 0


def traced() -> bool:
    """Whether `torch.jit.trace` is recording."""
    return torch._C._get_tracing_state() is not None


def hooked(*parts: nn.Module | None) -> bool:
    """Whether a call of one of these modules runs hooks, which a shorter way would leave out."""
    c = _modules
    anywhere = c._global_forward_hooks or c._global_forward_pre_hooks
    if anywhere or c._global_backward_hooks or c._global_backward_pre_hooks:
        return True
    for part in parts:
        if part is not None and (part._forward_hooks or part._forward_pre_hooks):
            return True
        if part is not None and (part._backward_hooks or part._backward_pre_hooks):
            return True
    return False


def hooks_made() -> object:
    """Return what changes with every hook that is registered; without torch's counter, always."""
    made = getattr(RemovableHandle, "next_id", None)
    return object() if made is None else made


def kept_by_user() -> bool:
    """Whether what autograd saves now goes through hooks of a user, who may look at it later.

    Torch's own hooks (checkpoints, `save_on_cpu`) show it to nobody.
    """
    if torch.compiler.is_compiling():
        return False
    autograd = torch._C._autograd  # pyright: ignore[reportAttributeAccessIssue]
    hooks = autograd._top_saved_tensors_default_hooks(False)
    return hooks is not None and not str(getattr(hooks[0], "__module__", "")).startswith("torch.")


def ordinary(*tensors: Tensor | None) -> bool:
    """Whether memory is all there is to these tensors, and nothing follows what is done to them.

    Args:
        tensors: what is going to be read; None is left out.
    """
    if torch.compiler.is_compiling() or transformed() or dual() or traced() or _intercepted():
        return False
    in_batches = torch._C._functorch.is_legacy_batchedtensor  # pyright: ignore[reportAttributeAccessIssue]
    for x in tensors:  # noqa: SIM110 - called at every step: a generator takes three times as long
        if x is not None and (type(x) not in _PLAIN or in_batches(x)):
            return False
    return True


def _intercepted() -> bool:
    """Whether a mode sees every operator; a default device does not."""
    c = torch._C
    dispatch, function = c._len_torch_dispatch_stack(), c._len_torch_function_stack()  # pyright: ignore
    if not dispatch and not function:
        return False
    modes = map(c._get_dispatch_stack_at, range(dispatch))  # pyright: ignore
    if any(not isinstance(mode, Spectator) for mode in modes):
        return True
    return any(
        not isinstance(c._get_function_stack_at(place), DeviceContext) for place in range(function)
    )
