"""The sources of one train's kernels: a step's programs inside loops over time and elements.

Elements are independent, so a block of them is taken through all T steps while its state stays in
the cache. The backward pass runs the block forward once more from the stored currents, keeping the
states before each step, and then goes back: nothing but the currents is stored between the two.
"""

from dataclasses import replace

from spikeloom.kernels.source.emit import Emitter
from spikeloom.kernels.source.frame import (
    END,
    Memory,
    Source,
    Variant,
    body,
    function,
    loop,
    module_source,
    names,
    present,
    written,
)
from spikeloom.kernels.source.program import StepPrograms
from spikeloom.kernels.source.theta_code import AFFINE, ThetaCode, affine, theta_loads


def train_forward(programs: StepPrograms, variant: Variant) -> Source:
    """Write the module whose `body` takes a train forward.

    The numbers behind a body's head (`kernels.threads`) are the address of the numbers given to
    the code, T, elements of a block, width and inner (`kernels.pooling`; 0 without a pool) and the
    stride of the gradient's steps (0 for one that stays), then addresses: trains, thetas, states,
    results; 0 stands for what is not wanted or not given.

    Raises:
        Unsupported: an operation is not known, or a state is no number.
    """
    emitter, memory = Emitter(wide=variant.state == "float64"), Memory()
    step, outputs = written(programs.forward, _loads(programs, variant, memory), emitter)
    out, *states = present(outputs, emitter)
    rows, pooled = range(programs.states), variant.pool > 1
    arguments = ["c", "out", *names("th", programs.thetas), *names("in", rows)]
    arguments += names("fin", rows)
    store = memory.put("o", out) if pooled else memory.put("out", variant.store(out), "i", "ot")
    lines = [
        *function("forward", arguments, [*names("v", rows), *(["o"] if pooled else [])]),
        *_given_or_zero(memory, "v", "in", rows, emitter.constant(0)),
        "        for t in range(steps):",
        f"            ct = train_at(c + ({'0' if variant.constant else 't'} * count + b) * TRAIN)",
        f"            ot = train_at(out + (t * count + b) // {variant.pool**2} * TRAIN)",
        *loop(3, [*step, store, *(memory.put(f"v{k}", text) for k, text in enumerate(states))]),
        *(["            pool(o, ot, n, width, inner)"] if pooled else []),
        *_when_given(memory, "fin", "v", rows),
        *END,
        *body("forward", arguments),
    ]
    return module_source(variant, emitter, lines)


def train_backward(programs: StepPrograms, variant: Variant) -> Source:
    """Write the module whose `body` takes a train's gradients back.

    Numbers as in `train_forward`: currents and their outputs' gradient, the currents' gradient (it
    takes the currents' place where the variant writes over), thetas, first states, their
    gradients, and gradients of the last states. Where the variant is the "rest" of a pass, two
    quantities stand in the place of the thetas' gradients: what the currents' gradient changes by
    with the current itself, less the first of the last three thetas, and by a constant.

    Raises:
        Unsupported: as in `train_forward`.
    """
    emitter, memory = Emitter(wide=variant.state == "float64"), Memory()
    again = replace(programs.forward, outputs=programs.forward.outputs[1:]).needed()
    loads = _loads(programs, variant, memory)
    step_lines, step_outputs = written(again, loads, emitter)
    states = present(step_outputs, emitter)
    first, pooled = 1 + programs.thetas + programs.states, variant.pool > 1
    rows = range(programs.states)
    loads |= {f"x{1 + programs.thetas + k}": memory.get(f"k{k}", "i", f"k{k}t") for k in rows}
    loads[f"x{first}"] = memory.get("gs") if pooled else variant.load(memory.get("g", "i", "gt"))
    loads |= {f"x{first + 1 + k}": memory.get(f"d{k}") for k in rows}
    read = programs.backward.reads()
    kept = [k for k in rows if f"x{1 + programs.thetas + k}" in read]
    lines, outputs = written(programs.backward, loads, emitter)
    sums = [] if variant.part == "rest" else outputs[1 : 1 + programs.thetas]
    theta = ThetaCode(sums, variant, memory)
    current, *others = present(outputs, emitter)
    carried = others[programs.thetas :]
    arguments = ["c", "g", "gc", *names("th", programs.thetas), *names("in", rows)]
    arguments += [*names("gth", len(sums)), *(AFFINE if variant.part == "rest" else [])]
    arguments += [*names("gin", rows), *names("gfin", rows)]
    zero = emitter.constant(0)
    more = ""
    if variant.part == "rest":
        more = f" + {affine(loads['x0'], loads[f'x{programs.thetas - 2}'], variant, memory)}"
    scratch = [*names("v", rows), *names("d", rows), *theta.scratch]
    scratch += [*(["gs"] if pooled else []), *(["acc"] if variant.constant else [])]
    at = "0" if variant.constant else "t"
    current_rows = [f"            ct = train_at(c + ({at} * count + b) * TRAIN)"]
    kept_rows = [f"            k{k}t = state_at(k{k} + t * block * STATE)" for k in kept]
    if variant.part == "sums":
        store = []
    elif variant.constant:
        store = [memory.put("acc", f"{memory.get('acc')} + {current}")]
    elif variant.over:
        store = [memory.put("c", variant.store(current + more), "i", "ct")]
    else:
        store = [memory.put("gc", variant.store(current + more), "i", "gct")]
    text = [
        *function("backward", arguments, scratch, kept, theta.cleared(block=False)),
        *_given_or_zero(memory, "v", "in", rows, emitter.constant(0)),
        *theta.cleared(block=True),
        *(loop(2, [memory.put("acc", zero)]) if variant.constant else []),
        "        for t in range(steps):",
        *current_rows,
        *kept_rows,
        *loop(3, [memory.put(f"k{k}", memory.get(f"v{k}"), "i", f"k{k}t") for k in kept]),
        "            if t + 1 < steps:",
        *loop(4, [*step_lines, *(memory.put(f"v{k}", text) for k, text in enumerate(states))]),
        *_given_or_zero(memory, "d", "gfin", rows, zero),
        "        for t in range(steps - 1, -1, -1):",
        *current_rows,
        *kept_rows,
        f"            gt = train_at(g + (t * stride + b // {variant.pool**2}) * TRAIN)",
        *([] if variant.over else [f"            gct = train_at(gc + ({at} * count + b) * TRAIN)"]),
        *(["            unpool(gs, gt, n, width, inner)"] if pooled else []),
        *loop(
            3,
            [
                *lines,
                *store,
                *theta.added(),
                *(memory.put(f"d{k}", text) for k, text in enumerate(carried)),
            ],
        ),
        *_when_given(memory, "gin", "d", rows),
        *theta.stored(block=True),
        *(_constant_end(memory, variant, more) if variant.constant else []),
        *theta.stored(block=False),
        *END,
        *body("backward", arguments),
    ]
    return module_source(variant, emitter, text)


def _constant_end(memory: Memory, variant: Variant, more: str) -> list[str]:
    if variant.part == "sums":
        return []
    return [
        "        ct = train_at(c + b * TRAIN)",
        "        gct = train_at(gc + b * TRAIN)",
        *loop(2, [memory.put("gc", variant.store(memory.get("acc") + more), "i", "gct")]),
    ]


def _given_or_zero(memory: Memory, scratch: str, array: str, rows: range, zero: str) -> list[str]:
    lines: list[str] = []
    for k in rows:
        lines.append(f"        if has_{array}{k}:")
        lines += loop(3, [memory.put(f"{scratch}{k}", memory.get(f"{array}{k}", "b + i"))])
        lines.append("        else:")
        lines += loop(3, [memory.put(f"{scratch}{k}", zero)])
    return lines


def _when_given(memory: Memory, array: str, scratch: str, rows: range) -> list[str]:
    """Write out scratch where the caller wants it."""
    lines: list[str] = []
    for k in rows:
        lines.append(f"        if has_{array}{k}:")
        lines += loop(3, [memory.put(f"{array}{k}", memory.get(f"{scratch}{k}"), "b + i")])
    return lines


def _loads(programs: StepPrograms, variant: Variant, memory: Memory) -> dict[str, str]:
    """Return the loads of current, thetas and states in a loop that moves the states on."""
    loads = {"x0": variant.load(memory.get("c", "i", "ct"))}
    loads |= theta_loads(programs.thetas, variant, memory)
    return loads | {
        f"x{1 + programs.thetas + k}": memory.get(f"v{k}") for k in range(programs.states)
    }
