"""Shared by the tests of nets: exact nets, exact inputs, slow reference neurons, random specs."""

import torch
from hypothesis import reject
from hypothesis import strategies as st
from torch import Tensor, nn

from spikeloom.base.errors import ConfigError, UnsupportedNet
from spikeloom.base.seeding import SampleRng
from spikeloom.base.types import Batch
from spikeloom.heads.softmax import Softmax
from spikeloom.meters.peak import peak_allocated
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.spec.layer import Filter, LayerSpec, MaskSpec
from spikeloom.nets.spec.net import BlockSpec, FeedbackSpec, NetSpec
from spikeloom.neurons.integrate_fire import IF
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.relu import Relu
from spikeloom.neurons.surrogate import Arctan, Rectangle, Sigmoid, Triangle
from spikeloom.rules.bptt import Bptt


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def step_peak(net: SpikingNet, xs: Tensor, *, low: bool = False) -> int:
    """Return the most bytes that the second BPTT step of a net takes; `low`: under bfloat16."""
    head, batch = Softmax.of(net), Batch.of(xs, torch.arange(xs.shape[1]) % 10)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            Bptt().learn(net, batch, head.bind(batch.target, batch.rng), lambda: None)

    step()
    return peak_allocated(step)


def rng_for(batch: int, seed: int = 3) -> SampleRng:
    return SampleRng(seed, 0, torch.arange(batch))


def dyadic(shape, seed: int = 0, top: int = 256) -> Tensor:
    """Return multiples of 1/256 in [0, top/256), float64: their sums are exact in any order."""
    draw = torch.randint(0, top, tuple(shape), generator=generator(seed))
    return draw.to(torch.float64) / 256


def quantised(net: SpikingNet, seed: int = 1) -> SpikingNet:
    """Return the net in float64 with weights k/256 and batch norms that only scale by 2^k."""
    net = net.double()
    draw = generator(seed)
    with torch.no_grad():
        for value in net.parameters():
            value.copy_((value * 256).round() / 256)
        for module in net.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.eps = 0.0
                size = module.running_mean.shape
                power = torch.randint(-1, 2, size, generator=draw)
                module.running_mean.copy_(torch.randint(-64, 64, size, generator=draw) / 256)
                module.running_var.copy_(4.0**power)
                module.weight.copy_(torch.ones(size))
                module.bias.copy_(torch.randint(-64, 64, size, generator=draw) / 256)
    return net


def exact_net(spec, in_shape, *, training: bool = False, seed: int = 0) -> SpikingNet:
    return quantised(SpikingNet(spec, in_shape, seed=seed)).train(training)


def slow_lif(currents, *, alpha=0.5, v_th=1.0):
    """Leaky neurons with soft reset after firing, one step after the other."""
    v = torch.zeros_like(currents[0])
    spikes = []
    for current in currents:
        v = alpha * v + current
        s = (v >= v_th).to(v.dtype)
        v = v - v_th * s
        spikes.append(s)
    return torch.stack(spikes)


class Slow:
    """The same neurons, called step by step."""

    def __init__(self, alpha=0.5, v_th=1.0):
        self.alpha, self.v_th, self.v = alpha, v_th, None

    def __call__(self, current):
        v = current if self.v is None else self.alpha * self.v + current
        s = (v >= self.v_th).to(v.dtype)
        self.v = v - self.v_th * s
        return s


class Recorder:
    """An observer that keeps what it sees."""

    def __init__(self):
        self.seen = []

    def see(self, site, x_in, current, s_out):
        self.seen.append((site.name, x_in, current, s_out))

    def spikes(self, name):
        return torch.cat([s for site, _, _, s in self.seen if site == name])

    def runs(self, name):
        """Return how many steps of a site's synapse really ran."""
        return sum(len(x) for site, x, _, _ in self.seen if site == name and x is not None)


# random specs for the codecs: any valid value, runnable or not

numbers = st.floats(0.01, 4.0)
shares = st.floats(0.0, 0.99)
surrogates = st.one_of(
    st.builds(Triangle, gamma=numbers, width=numbers, relative=st.booleans()),
    st.builds(Rectangle, width=numbers, height=numbers),
    st.builds(Sigmoid, k=numbers),
    st.builds(Arctan, a=numbers),
)
_if_fields = {
    "v_th": numbers,
    "reset": st.sampled_from(["soft", "hard", "none"]),
    "order": st.sampled_from(["after_fire", "next_step"]),
    "fires": st.sampled_from([">=", ">"]),
    "detach_reset": st.booleans(),
    "refractory": st.integers(0, 3),
    "beta": shares,
    "surrogate": surrogates,
    "learn": st.sampled_from([(), ("v_th",)]),
}
units = st.one_of(
    st.builds(IF, **_if_fields),
    st.builds(LIF, alpha=shares, scale_input=st.booleans(), **_if_fields),
    st.just(LIF()),
    st.just(Relu()),
    st.none(),
)
filters = st.one_of(st.none(), st.builds(Filter, decay=shares, scale=numbers))


@st.composite
def layers(
    draw,
    kinds=(
        "conv",
        "conv_transpose",
        "linear",
        "identity",
        "avg_pool",
        "max_pool",
        "global_pool",
        "upsample",
    ),
):
    kind = draw(st.sampled_from(kinds))
    weighted = kind in ("conv", "conv_transpose", "linear")
    fields = {}
    if kind in ("conv", "conv_transpose"):
        fields = {"kernel": draw(st.integers(1, 5)), "padding": draw(st.integers(0, 3))}
        fields["stride"] = draw(st.integers(1, 3))
        if draw(st.booleans()):
            del fields["padding"]
    if kind == "conv_transpose":
        fields["output_padding"] = draw(st.integers(0, fields["stride"] - 1))
    if kind in ("avg_pool", "max_pool"):
        fields["kernel"] = draw(st.integers(1, 4))
        fields["padding"] = draw(st.integers(0, fields["kernel"] // 2))
        if draw(st.booleans()):
            fields["stride"] = draw(st.integers(1, 4))
    if kind == "upsample":
        fields["kernel"] = draw(st.integers(1, 8))
    unit = draw(units)
    norms = ["none", "batch_all", "batch_step"] + ["weight"] * weighted
    return LayerSpec(
        kind,
        draw(st.integers(1, 40)) if weighted else 0,
        bias=draw(st.booleans()),
        unit=unit,
        norm=draw(st.sampled_from(norms)),
        dropout=draw(st.sampled_from([0.0, 0.0, 0.25, 0.1])),
        dropout_held=draw(st.booleans()),
        gain=draw(st.one_of(st.just(1.0), numbers)),
        amplitude=draw(st.sampled_from(["unit", "v_th"] if hasattr(unit, "v_th") else ["unit"])),
        psp=draw(filters),
        **fields,
    )


@st.composite
def blocks(draw):
    join = draw(st.sampled_from(["none", "add", "and", "iand", "before_unit"]))
    path = draw(st.lists(layers(), max_size=2)) if join != "none" else []
    try:
        return BlockSpec(
            tuple(draw(st.lists(layers(), min_size=1, max_size=3))),
            repeat=draw(st.integers(1, 4)),
            fit=draw(st.sampled_from(["none", "drop", "topk", "average"])),
            fit_seed=draw(st.integers(0, 9)),
            join=join,
            shortcut=tuple(path),
            tap=draw(st.sampled_from(["input", "first_unit"])) if join != "none" else "input",
            reads="step",
        )
    except ConfigError:
        reject()


@st.composite
def specs(draw):
    body = tuple(draw(st.lists(blocks(), min_size=1, max_size=3)))
    edges = []
    for _ in range(draw(st.integers(0, 2))):
        weighted = layers(kinds=("conv", "linear"))
        edges.append(
            {
                "source": draw(st.integers(0, len(body) - 1)),
                "target": draw(st.integers(0, len(body) - 1)),
                "layers": (*draw(st.lists(layers(), max_size=1)), draw(weighted)),
                "delay": draw(st.integers(1, 3)),
                "restrict_norm": draw(st.sampled_from(["spectral", "frobenius"])),
                "restrict": draw(st.one_of(st.none(), numbers)),
                "mask": draw(
                    st.one_of(
                        st.none(),
                        st.builds(MaskSpec, st.floats(0.1, 1.0), st.integers(0, 2**63 - 1)),
                    )
                ),
                "detach": draw(st.booleans()),
                "zero": draw(st.booleans()),
            }
        )
    readout = None
    if draw(st.booleans()):
        readout = LayerSpec("linear", draw(st.integers(2, 99)), bias=draw(st.booleans()), unit=None)
    try:
        feedback = tuple(FeedbackSpec(**edge) for edge in edges)
        return NetSpec(body, readout=readout, feedback=feedback, input_psp=draw(filters))
    except (ConfigError, UnsupportedNet):
        reject()


# random nets that run exactly: dyadic weights, alpha 1/2, powers of two wherever one divides

EXACT_SHAPE = (2, 8, 8)
_exact_units = st.sampled_from(
    [
        LIF(),
        IF(),
        LIF(order="next_step"),
        LIF(reset="hard", fires=">"),
        LIF(reset="none"),
        LIF(alpha=0.5, beta=0.5, scale_current=True),
        LIF(refractory=1),
        LIF(scale_input=True, v_th=0.5),
        IF(fire_fraction=0.5),
        LIF(v_th=0.5, learn=("v_th",), per_channel=True),
    ]
)


@st.composite
def exact_specs(draw):
    """Specs for inputs of EXACT_SHAPE."""
    state = {"channels": EXACT_SHAPE[0], "side": EXACT_SHAPE[1], "spiked": False, "tail": False}
    body = [_exact_block(draw, state) for _ in range(draw(st.integers(1, 4)))]
    if draw(st.booleans()):
        unit = Relu() if state["tail"] else draw(_exact_units)
        body.append(BlockSpec((LayerSpec("linear", 6, unit=unit),)))
    psp = Filter(0.5, 0.5) if draw(st.booleans()) else None
    return NetSpec(tuple(body), input_psp=psp)


def _exact_layer(draw, state, width, kernel=3):
    unit = Relu() if state["tail"] else draw(st.one_of(_exact_units, st.just(Relu()), st.none()))
    return LayerSpec(
        "conv",
        width,
        kernel=kernel,
        unit=unit,
        norm=draw(st.sampled_from(["none", "none", "batch_all", "batch_step"])),
        dropout=draw(st.sampled_from([0.0, 0.0, 0.5])),
        dropout_held=draw(st.booleans()),
        gain=draw(st.sampled_from([1.0, 0.5, 1.5])),
        psp=draw(st.sampled_from([None, None, Filter(0.5, 0.5)])),
    )


def _exact_block(draw, state):
    choice = draw(st.sampled_from(["plain", "plain", "pool", "repeat", "join", "upsample", "unit"]))
    channels = state["channels"]
    width = draw(st.sampled_from([2, 3, 4]))
    if choice == "pool" and state["side"] >= 4:
        state["side"] //= 2
        return BlockSpec((LayerSpec(draw(st.sampled_from(["avg_pool", "max_pool"]))),))
    if choice == "upsample" and state["side"] <= 4:
        state["side"] *= 2
        return BlockSpec((LayerSpec("upsample"),))
    if choice == "unit":
        unit = Relu() if state["tail"] else draw(_exact_units)
        return _noted(state, BlockSpec((LayerSpec("identity", unit=unit),)))
    if choice == "repeat":
        many = tuple(_exact_layer(draw, state, width) for _ in range(draw(st.integers(1, 2))))
        fits = ["drop", "topk"] + ["average"] * (width <= channels or width == 2 * channels)
        fit = draw(st.sampled_from(fits))
        state["channels"] = width
        return _noted(state, BlockSpec(many, repeat=draw(st.integers(2, 3)), fit=fit))
    if choice == "join":
        join = draw(st.sampled_from(["add", "and", "iand", "before_unit"]))
        last = _exact_layer(draw, state, width)
        if join == "before_unit" and last.neurons is None:
            join = "add"
        shortcut = (
            ()
            if width == channels and draw(st.booleans())
            else (_exact_layer(draw, state, width, 1),)
        )
        state["channels"] = width
        return _noted(state, BlockSpec((last,), join=join, shortcut=shortcut))
    state["channels"] = width
    reads = draw(st.sampled_from(["mean", "step"]))
    return _noted(state, BlockSpec((_exact_layer(draw, state, width),), reads=reads))


def _noted(state, block):
    """Keep track of whether a later block may still spike."""
    ends = [one.neurons for one in (*block.layers, *block.shortcut) if one.neurons is not None]
    relu = any(not unit.spiking for unit in ends)
    spikes = any(unit.spiking for unit in ends)
    if relu and spikes and block.reads == "mean":
        block = BlockSpec(
            block.layers,
            block.repeat,
            block.fit,
            block.fit_seed,
            block.join,
            block.shortcut,
            block.tap,
            "step",
        )
    elif relu and state["spiked"] and block.reads == "mean":
        state["tail"] = True
    state["spiked"] = state["spiked"] or spikes
    return block
