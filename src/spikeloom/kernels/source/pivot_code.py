"""Source of the kernels of one step whose state is a pivot, as online learning rules run it."""

from spikeloom.kernels.pivot import PIVOT, PivotPrograms
from spikeloom.kernels.source.frame import END, Source, Variant, Writer, body, function, loop, names
from spikeloom.kernels.source.theta_code import ThetaCode


def step_forward(programs: PivotPrograms, variant: Variant) -> Source:
    """Write the forward pass of a step.

    The arguments are as in `train_code.train_forward`, with these addresses: current (without a
    pool the output is written over it), output of the pool, thetas, old states (of a first step),
    old pivot (never read: 0 says that this is a first step), pivot. A later step reads the old
    value of the pivot and writes the new one in its place.

    Raises:
        Unsupported: the step has an operation for which there is no code.
    """
    writer = Writer(variant)
    memory, pooled, rows = writer.memory, writer.pooled, range(programs.states)
    loads, zero = writer.loads(programs.thetas), writer.zero
    first = {
        f"x{1 + programs.thetas + k}": f"{memory.get(f'in{k}', 'b + i')} if has_in{k} else {zero}"
        for k in rows
    }
    into, pivots = writer.written(programs.into, loads | first)
    after, states = writer.written(
        programs.after, loads | {PIVOT.name: memory.get("pivot", "b + i")}, "s_"
    )
    names_of_states = dict(zip(first, writer.present(states), strict=True))
    later, _ = writer.written(programs.into, loads | names_of_states)
    pivot = writer.present(pivots)[0]
    out, outs = writer.written(programs.out, loads | {PIVOT.name: pivot}, "o_")
    spike = writer.present(outs)[0]
    store = memory.put("o", spike) if pooled else memory.put("c", variant.store(spike), "i", "ct")
    # Written in place: `after` has read the old value of this element in the same iteration.
    ends = [*out, store, memory.put("pivot", pivot, "b + i")]
    arguments = ["c", "out", *names("th", programs.thetas), *names("in", rows), "old", "pivot"]
    lines = [
        *function("forward", arguments, ["o"] if pooled else []),
        "        ct = train_at(c + b * TRAIN)",
        *([f"        ot = train_at(out + b // {variant.pool**2} * TRAIN)"] if pooled else []),
        "        if has_old:",
        *loop(3, [*after, *later, *ends]),
        "        else:",
        *loop(3, [*into, *ends]),
        *(["        pool(o, ot, n, width, inner)"] if pooled else []),
        *END,
        *body("forward", arguments),
    ]
    return writer.module("A step between pivots, forward", lines)


def step_backward(programs: PivotPrograms, variant: Variant) -> Source:
    """Write the backward pass of a step.

    The arguments are as in `step_forward`, with these addresses: gradient of the output (without a
    pool the gradient of the current is written over it), gradient of the current, pivot, thetas,
    gradients of the thetas.

    Raises:
        Unsupported: as in `step_forward`.
    """
    writer = Writer(variant)
    memory, pooled = writer.memory, writer.pooled
    loads = writer.theta_loads(programs.thetas)
    loads[PIVOT.name] = memory.get("pivot", "b + i")
    loads[programs.back.inputs[-1].name] = writer.grad_load()
    lines, outputs = writer.written(programs.back, loads)
    current = writer.present(outputs[:1])[0]
    theta = ThetaCode(outputs[1:], writer)
    columns = range(programs.thetas)
    arguments = ["g", "gc", "pivot", *names("th", columns), *names("gth", columns)]
    scratch = [*theta.scratch, *(["gs"] if pooled else [])]
    into = ("gc", "gct") if pooled else ("g", "gt")
    store = memory.put(into[0], variant.store(current), "i", into[1])
    text = [
        *function("backward", arguments, scratch, before=theta.cleared(block=False)),
        f"        gt = train_at(g + b // {variant.pool**2} * TRAIN)",
        *(["        gct = train_at(gc + b * TRAIN)"] if pooled else []),
        *(["        unpool(gs, gt, n, width, inner)"] if pooled else []),
        *theta.cleared(block=True),
        *loop(2, [*lines, store, *theta.added()]),
        *theta.stored(block=True),
        *theta.stored(block=False),
        *END,
        *body("backward", arguments),
    ]
    return writer.module("A step between pivots, backward", text)
