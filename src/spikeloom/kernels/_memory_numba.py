"""Memory access for compiled code: pointers, loads and stores with alias scopes, a counter.

Pointers are used instead of numba's arrays because of the alias scopes. Without them the compiler
must assume that a store to one array changes another, and does not use vector instructions.
"""

# pyright: reportMissingImports=false
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_SCOPES = 48  # one for each array; a kernel with more arrays does not compile


def _pointer(target: Any) -> Any:
    """Return an intrinsic that turns an address (int64) into a pointer to numbers of a type."""

    @intrinsic
    def at(typingctx: Any, address: Any) -> Any:
        """Return the pointer of an address."""
        if address not in (types.int64, types.uint64):
            return None
        kind = types.CPointer(target)

        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], context.get_value_type(kind))

        return kind(address), build

    return at


float32 = _pointer(types.float32)
float64 = _pointer(types.float64)
uint16 = _pointer(types.uint16)


def _apart(module: ir.Module, instruction: Any, scope: int) -> None:
    """Tell the compiler that this access never overlaps one of another scope.

    So memory that is written must have one scope for all its loads and stores, and two arrays that
    share memory must be accessed under one name.
    """
    domain = module.add_metadata(["spikeloom"])
    scopes = [module.add_metadata([f"spikeloom{k}", domain]) for k in range(_SCOPES)]
    others = [one for k, one in enumerate(scopes) if k != scope]
    instruction.set_metadata("alias.scope", module.add_metadata([scopes[scope]]))
    instruction.set_metadata("noalias", module.add_metadata(others))


@intrinsic(prefer_literal=True)
def get(typingctx: Any, pointer: Any, index: Any, scope: Any) -> Any:
    """Return the element at an index; `scope` is the number of the array's alias scope."""
    if not isinstance(pointer, types.CPointer) or not isinstance(scope, types.IntegerLiteral):
        return None

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        loaded = builder.load(builder.gep(args[0], [args[1]], inbounds=True))
        _apart(builder.module, loaded, scope.literal_value)
        return loaded

    return pointer.dtype(pointer, types.int64, scope), build


@intrinsic(prefer_literal=True)
def put(typingctx: Any, pointer: Any, index: Any, value: Any, scope: Any) -> Any:
    """Set the element at an index; `scope` is the number of the array's alias scope."""
    if not isinstance(pointer, types.CPointer) or not isinstance(scope, types.IntegerLiteral):
        return None

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        stored = builder.store(args[2], builder.gep(args[0], [args[1]], inbounds=True))
        _apart(builder.module, stored, scope.literal_value)
        return context.get_dummy_value()

    return types.void(pointer, types.int64, pointer.dtype, scope), build


@intrinsic
def claim(typingctx: Any, data: Any) -> Any:
    """Return the int64 at the start of `data` and add 1 to it, atomically."""
    if data != types.voidptr:
        return None

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(64)
        place = builder.bitcast(args[0], word.as_pointer())
        return builder.atomic_rmw("add", place, ir.Constant(word, 1), "monotonic")

    return types.int64(data), build
