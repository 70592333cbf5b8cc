"""How tries of `differential` are drawn: nets, units, rules, inputs; the simplest first."""

from typing import Any

from differential import CLASSES, Try
from hypothesis import strategies as st

RULE_OPTIONS = {
    "bptt": [{}, {"loss": "step"}],
    "sltt": [{}, {"k_steps": 2}],
    "ottt": [{}, {"update": "online"}, {"trace_decay": 0.25}, {"first_layer_trace": True}],
    "dsr": [{}, {"slope": "exact", "threshold": "formula"}],
    "ide": [{}, {"linearise": "map"}],
    "spide": [{"back_steps": 4}],
}


def units() -> st.SearchStrategy[dict[str, Any]]:
    """Tables of units, dyadic but for decays."""
    spiking = st.fixed_dictionaries(
        {"name": st.sampled_from(["lif", "if"]), "v_th": st.sampled_from([0.5, 1.0])},
        optional={
            "reset": st.sampled_from(["hard", "none"]),
            "order": st.just("next_step"),
            "fires": st.just(">"),
            "fire_fraction": st.just(0.5),
            "detach_reset": st.booleans(),
            "refractory": st.integers(1, 2),
            "beta": st.just(0.25),
            "surrogate": st.sampled_from(
                [{"name": "sigmoid", "k": 4.0}, {"name": "rectangle"}, {"name": "arctan"}]
            ),
            "learn": st.just(["v_th"]),
            "v_min": st.just(-0.5),
        },
    )
    return st.one_of(st.just({"name": "lif", "alpha": 0.5}), spiking)


LAYER_OPTIONS = [
    'norm = "batch_step"',
    'norm = "batch_all"',
    'norm = "weight"',
    "dropout = 0.25",
    "dropout = 0.25, dropout_held = true",
    "gain = 2.0",
    "psp = {decay = 0.5, scale = 0.5}",
    'unit = "relu"',
    'unit = "none"',
    "bias = false",
]


@st.composite
def nets(draw: st.DrawFn) -> tuple[str, tuple[int, ...]]:
    """A net as text and the shape of its input."""
    images = draw(st.booleans())

    def layer(width: int) -> str:
        options = draw(st.lists(st.sampled_from(LAYER_OPTIONS), max_size=2, unique=True))
        options = [
            o
            for row, o in enumerate(options)
            if not any(o.split(" ")[0] == p.split(" ")[0] for p in options[:row])
        ]
        kind = "c" if images else "f"
        return f"{kind}{width}" + (f"{{{', '.join(options)}}}" if options else "")

    blocks = [layer(draw(st.integers(2, 4)))]
    for _ in range(draw(st.integers(0, 2))):
        kind = draw(st.sampled_from(["layer", "pool", "max", "pass", "join"]))
        if kind == "layer" or (not images and kind in ("pool", "max")):
            blocks.append(layer(draw(st.integers(2, 4))))
        elif kind in ("pool", "max"):
            blocks.append("P" if kind == "pool" else "M")
        elif kind == "pass":
            blocks.append(f"[{layer(3)}]x2")
        else:
            blocks.append(f'[{layer(3)} {layer(3)}]{{join = "add"}}')
    text = " ".join([*blocks, f"f{CLASSES}"])
    if draw(st.integers(0, 3)) == 3:
        text = f"{{feedback = [{', '.join(draw(edges(blocks)))}]}} {text}"
    return text, (2, 4, 4) if images else (5,)


@st.composite
def edges(draw: st.DrawFn, blocks: list[str]) -> list[str]:
    """Feedback edges between blocks of one map size: lateral, back, and forward past blocks."""
    sizes = [sum(one in ("P", "M") for one in blocks[: row + 1]) for row in range(len(blocks))]
    ends = [
        (source, target)
        for target, one in enumerate(blocks)
        for source in range(len(blocks))
        if sizes[source] == sizes[target] and one not in ("P", "M")
    ]
    found = []
    for source, target in draw(st.lists(st.sampled_from(ends), min_size=1, max_size=2)):
        first = blocks[target].strip("[").split("{")[0].split(" ")[0].split("]")[0]
        unit = draw(st.sampled_from(["", "", '{unit = "lif"}', "{psp = {decay = 0.5}}"]))
        delay = draw(st.sampled_from([1, 1, 2, 4]))
        found.append(
            f"{{source = {source}, target = {target}, layers = '{first}{unit}', "
            f"delay = {delay}, restrict = 0.5}}"
        )
    return found


@st.composite
def tries(draw: st.DrawFn) -> Try:
    """A try; the simplest first."""
    net, shape = draw(nets())
    rule = draw(st.sampled_from(sorted(RULE_OPTIONS)))
    return Try(
        net=net,
        shape=shape,
        unit=draw(units()),
        rule=rule,
        options=draw(st.sampled_from(RULE_OPTIONS[rule])),
        steps=draw(st.integers(2, 5)),
        batch=draw(st.integers(2, 3)),
        form=draw(st.sampled_from(["frames", "constant", "sliced"])),
        dtype=draw(st.sampled_from(["float64", "float64", "float32"])),
        layout=draw(st.sampled_from(["rows", "channels_last"])),
        memory=draw(st.sampled_from(["plain", "saving"])),
        watched=draw(st.booleans()),
        drawn=draw(st.integers(0, 3)),
    )
