"""Source of the kernels of a train: the programs of a step inside loops over blocks and time.

Elements do not depend on each other, so one block of them is taken through all T steps while its
state stays in the level-1 cache. The backward pass first computes the states of a block again from
the saved currents, keeps those before each step in scratch, and then goes back through time. So
nothing but the currents is saved between the two passes.
"""

from dataclasses import replace

from spikeloom.kernels.source.frame import END, Source, Variant, Writer, body, function, loop, names
from spikeloom.kernels.source.program import StepPrograms
from spikeloom.kernels.source.theta_code import AFFINE, ThetaCode, affine


def train_forward(programs: StepPrograms, variant: Variant) -> Source:
    """Write the forward pass of a train.

    The arguments of its `body`, after the head (`kernels.threads.HEAD`), are: the address of the
    numbers it reads, T, elements per block, width and inner size of the pool (`kernels.pooling`; 0
    without a pool), the stride between two steps of the output gradient (0 if it is the same at
    every step), then addresses of currents, outputs, thetas, first states and last states. The
    address 0 stands for an array that is not given or not wanted.

    Raises:
        Unsupported: the step has an operation for which there is no code.
    """
    writer = Writer(variant)
    memory, pooled, rows = writer.memory, writer.pooled, range(programs.states)
    step, outputs = writer.written(programs.forward, _loads(programs, writer))
    out, *states = writer.present(outputs)
    arguments = ["c", "out", *names("th", programs.thetas), *names("in", rows)]
    arguments += names("fin", rows)
    store = memory.put("o", out) if pooled else memory.put("out", variant.store(out), "i", "ot")
    lines = [
        *function("forward", arguments, [*names("v", rows), *(["o"] if pooled else [])]),
        *_given_or_zero(writer, "v", "in", rows),
        "        for t in range(steps):",
        f"            ct = train_at(c + ({'0' if variant.constant else 't'} * count + b) * TRAIN)",
        f"            ot = train_at(out + (t * count + b) // {variant.pool**2} * TRAIN)",
        *loop(3, [*step, store, *(memory.put(f"v{k}", text) for k, text in enumerate(states))]),
        *(["            pool(o, ot, n, width, inner)"] if pooled else []),
        *_when_given(writer, "fin", "v", rows),
        *END,
        *body("forward", arguments),
    ]
    return writer.module("A train, forward", lines)


def train_backward(programs: StepPrograms, variant: Variant) -> Source:
    """Write the backward pass of a train.

    The arguments are as in `train_forward`, with these addresses: currents, gradient of the
    outputs, gradient of the currents (not used if the variant writes it over the currents), thetas,
    first states, gradients of the thetas, gradients of the first states, gradients of the last
    states. In part "rest" slope and offset stand in the place of the gradients of the thetas; the
    gradient of the currents gets (c - centre) slope + offset added, where the centre is the first
    of the last three thetas.

    Raises:
        Unsupported: as in `train_forward`.
    """
    writer = Writer(variant)
    memory, pooled, rows = writer.memory, writer.pooled, range(programs.states)
    # The step without its output, which the backward pass does not need.
    again = replace(programs.forward, outputs=programs.forward.outputs[1:]).needed()
    loads = _loads(programs, writer)
    step_lines, step_outputs = writer.written(again, loads)
    states = writer.present(step_outputs)
    first = 1 + programs.thetas + programs.states
    loads |= {f"x{1 + programs.thetas + k}": memory.get(f"k{k}", "i", f"k{k}t") for k in rows}
    loads[f"x{first}"] = writer.grad_load()
    loads |= {f"x{first + 1 + k}": memory.get(f"d{k}") for k in rows}
    # Scratch rows for all T steps are kept only of states that the backward pass reads: the block
    # is so long that the rows of one state fit into the level-1 cache.
    read = programs.backward.reads()
    kept = [k for k in rows if f"x{1 + programs.thetas + k}" in read]
    lines, outputs = writer.written(programs.backward, loads)
    sums = [] if variant.part == "rest" else outputs[1 : 1 + programs.thetas]
    theta = ThetaCode(sums, writer)
    current, *others = writer.present(outputs)
    carried = others[programs.thetas :]
    arguments = ["c", "g", "gc", *names("th", programs.thetas), *names("in", rows)]
    arguments += [*names("gth", len(sums)), *(AFFINE if variant.part == "rest" else [])]
    arguments += [*names("gin", rows), *names("gfin", rows)]
    zero = writer.zero
    more = ""
    if variant.part == "rest":
        more = f" + {affine(loads['x0'], loads[f'x{programs.thetas - 2}'], writer)}"
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
        # Safe: this iteration has read the current at t already, and time runs backwards, so no
        # current that is still to be read has been overwritten.
        store = [memory.put("c", variant.store(current + more), "i", "ct")]
    else:
        store = [memory.put("gc", variant.store(current + more), "i", "gct")]
    text = [
        *function("backward", arguments, scratch, kept, theta.cleared(block=False)),
        *_given_or_zero(writer, "v", "in", rows),
        *theta.cleared(block=True),
        *(loop(2, [memory.put("acc", zero)]) if variant.constant else []),
        "        for t in range(steps):",
        *current_rows,
        *kept_rows,
        *loop(3, [memory.put(f"k{k}", memory.get(f"v{k}"), "i", f"k{k}t") for k in kept]),
        # the backward pass reads the states before each step, so the last step need not be taken
        "            if t + 1 < steps:",
        *loop(4, [*step_lines, *(memory.put(f"v{k}", text) for k, text in enumerate(states))]),
        *_given_or_zero(writer, "d", "gfin", rows),
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
        *_when_given(writer, "gin", "d", rows),
        *theta.stored(block=True),
        *(_constant_end(writer, more) if variant.constant else []),
        *theta.stored(block=False),
        *END,
        *body("backward", arguments),
    ]
    return writer.module("A train, backward", text)


def _constant_end(writer: Writer, more: str) -> list[str]:
    """Write the gradient of a constant current, a sum over T that was kept in scratch."""
    memory, variant = writer.memory, writer.variant
    if variant.part == "sums":
        return []
    return [
        "        ct = train_at(c + b * TRAIN)",
        "        gct = train_at(gc + b * TRAIN)",
        *loop(2, [memory.put("gc", variant.store(memory.get("acc") + more), "i", "gct")]),
    ]


def _given_or_zero(writer: Writer, scratch: str, array: str, rows: range) -> list[str]:
    """Fill scratch rows from arrays, or with 0 where an array is not given."""
    memory, zero = writer.memory, writer.zero
    lines: list[str] = []
    for k in rows:
        lines.append(f"        if has_{array}{k}:")
        lines += loop(3, [memory.put(f"{scratch}{k}", memory.get(f"{array}{k}", "b + i"))])
        lines.append("        else:")
        lines += loop(3, [memory.put(f"{scratch}{k}", zero)])
    return lines


def _when_given(writer: Writer, array: str, scratch: str, rows: range) -> list[str]:
    """Copy scratch rows to arrays, where the caller wants them."""
    memory = writer.memory
    lines: list[str] = []
    for k in rows:
        lines.append(f"        if has_{array}{k}:")
        lines += loop(3, [memory.put(f"{array}{k}", memory.get(f"{scratch}{k}"), "b + i")])
    return lines


def _loads(programs: StepPrograms, writer: Writer) -> dict[str, str]:
    """Return the texts that load the inputs of a step: current, thetas, states in scratch."""
    states = {f"x{1 + programs.thetas + k}": f"v{k}" for k in range(programs.states)}
    return writer.loads(programs.thetas) | {
        name: writer.memory.get(array) for name, array in states.items()
    }
