"""The sources of one train's kernels: a step's programs inside loops over time and elements.

Elements are independent, so a block of them is taken through all T steps while its state stays in
the cache. The backward pass runs the block forward once more from the stored currents, keeping the
states before each step, and then goes back: nothing but the currents is stored between the two.
"""

from dataclasses import replace

from spikeloom.kernels.source.frame import END, Source, Variant, Writer, body, function, loop, names
from spikeloom.kernels.source.program import StepPrograms
from spikeloom.kernels.source.theta_code import AFFINE, ThetaCode, affine


def train_forward(programs: StepPrograms, variant: Variant) -> Source:
    """Write the module whose `body` takes a train forward.

    The numbers behind a body's head (`kernels.threads`) are the address of the numbers given to
    the code, T, elements of a block, width and inner (`kernels.pooling`; 0 without a pool) and the
    stride of the gradient's steps (0 for one that stays), then addresses: trains, thetas, states,
    results; 0 stands for what is not wanted or not given.

    Raises:
        Unsupported: an operation is not known, or a state is no number.
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
    """Write the module whose `body` takes a train's gradients back.

    Numbers as in `train_forward`: currents and their outputs' gradient, the currents' gradient (it
    takes the currents' place where the variant writes over), thetas, first states, their
    gradients, and gradients of the last states. Where the variant is the "rest" of a pass, two
    quantities stand in the place of the thetas' gradients: what the currents' gradient changes by
    with the current itself, less the first of the last three thetas, and by a constant.

    Raises:
        Unsupported: as in `train_forward`.
    """
    writer = Writer(variant)
    memory, pooled, rows = writer.memory, writer.pooled, range(programs.states)
    # Forward once more, for the states alone: what the output was is not asked on the way back.
    again = replace(programs.forward, outputs=programs.forward.outputs[1:]).needed()
    loads = _loads(programs, writer)
    step_lines, step_outputs = writer.written(again, loads)
    states = writer.present(step_outputs)
    first = 1 + programs.thetas + programs.states
    loads |= {f"x{1 + programs.thetas + k}": memory.get(f"k{k}", "i", f"k{k}t") for k in rows}
    loads[f"x{first}"] = writer.grad_load()
    loads |= {f"x{first + 1 + k}": memory.get(f"d{k}") for k in rows}
    # Only states that the backward pass reads are kept for all T steps of a block, in scratch: the
    # block is as long as they fit into the near cache.
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
        # safe element by element: the current at t was read above, in this very iteration, and
        # earlier steps of the block are read before they are written
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
        # the state after the last step is known to whoever asked for it; nobody else reads it
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
    """Write the gradient of currents that stay: a sum over T, in a row of its own until the end."""
    memory, variant = writer.memory, writer.variant
    if variant.part == "sums":
        return []
    return [
        "        ct = train_at(c + b * TRAIN)",
        "        gct = train_at(gc + b * TRAIN)",
        *loop(2, [memory.put("gc", variant.store(memory.get("acc") + more), "i", "gct")]),
    ]


def _given_or_zero(writer: Writer, scratch: str, array: str, rows: range) -> list[str]:
    memory, zero = writer.memory, writer.zero
    lines: list[str] = []
    for k in rows:
        lines.append(f"        if has_{array}{k}:")
        lines += loop(3, [memory.put(f"{scratch}{k}", memory.get(f"{array}{k}", "b + i"))])
        lines.append("        else:")
        lines += loop(3, [memory.put(f"{scratch}{k}", zero)])
    return lines


def _when_given(writer: Writer, array: str, scratch: str, rows: range) -> list[str]:
    """Write out scratch where the caller wants it."""
    memory = writer.memory
    lines: list[str] = []
    for k in rows:
        lines.append(f"        if has_{array}{k}:")
        lines += loop(3, [memory.put(f"{array}{k}", memory.get(f"{scratch}{k}"), "b + i")])
    return lines


def _loads(programs: StepPrograms, writer: Writer) -> dict[str, str]:
    """Return the loads of current, thetas and states in a loop that moves the states on."""
    states = {f"x{1 + programs.thetas + k}": f"v{k}" for k in range(programs.states)}
    return writer.loads(programs.thetas) | {
        name: writer.memory.get(array) for name, array in states.items()
    }
