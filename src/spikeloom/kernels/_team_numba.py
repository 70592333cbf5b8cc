"""What compiled code needs to share work between threads: addresses, and a counter for all."""

# pyright: reportMissingImports=false
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@intrinsic
def pointer(typingctx: Any, address: Any) -> Any:
    """Return an address (int64) as a pointer, for `numba.carray`."""
    if address != types.int64:
        return None

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(types.voidptr))

    return types.voidptr(address), build


@intrinsic
def claim(typingctx: Any, data: Any) -> Any:
    """Return the number at the start of `data` and raise it by one, for one thread at a time."""
    if data != types.voidptr:
        return None

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(64)
        place = builder.bitcast(args[0], word.as_pointer())
        return builder.atomic_rmw("add", place, ir.Constant(word, 1), "monotonic")

    return types.int64(data), build
