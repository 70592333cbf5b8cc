"""Net texts: token soup and damaged presets are read and built, or refused in one line."""

import pytest
import torch
from fuzzing import cases, refusal, sweep
from hypothesis import strategies as st

from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.spec.grammar import parse, write
from spikeloom.nets.spec.presets import PRESETS, preset

WIDTHS = ["0", "1", "2", "4", "7", "16", "00004", "999999999999", "9" * 400, "9" * 5000, "٣", "-1"]
FIELDS = [
    'unit = "relu"',
    'unit = "none"',
    'unit = {name = "if", v_th = 2}',
    'unit = {name = "lif", learn = ["v_th", "alpha"], per_channel = true}',
    'unit = {name = "lif", refractory = 1, beta = 0.5, reset = "hard"}',
    'unit = {name = "lif", alpha = 7}',
    "unit = 3",
    'norm = "batch_step"',
    'norm = "weight"',
    'norm = "batch_all"',
    'norm = "x"',
    "dropout = 0.5",
    "dropout = 1.0",
    "dropout = nan",
    "bias = false",
    "gain = 2.74",
    "gain = inf",
    "gain = 1e400",
    'amplitude = "v_th"',
    "psp = {decay = 0.5}",
    "psp = {decay = 0.5, scale = -1}",
    'reads = "mean"',
    'reads = "step"',
    "kernel = 5",
    "stride = 99999999999",
    "padding = 1",
    'join = "add"',
    'join = "before_unit"',
    'join = "iand"',
    'shortcut = "c4k1"',
    'shortcut = "c4 c4"',
    'shortcut = "["',
    f"gain = {'9' * 5000}",
    f"x = {'[' * 3000 + ']' * 3000}",
    f"{'a.' * 5000}b = 1",
    "repeat = 1000000",
    "out = 1000000000",
    "padding = 1000000000",
    'fit = "topk"',
    'fit = "average"',
    'fit = "drop"',
    'tap = "first_unit"',
    "repeat = 3",
    "layers = []",
    "out = 3",
    'kind = "linear"',
    "x = 1",
    "é = 1",
    "a = 2020-01-01",
]
GLOBALS = [
    'default = {norm = "weight", gain = 2.0}',
    'default = {unit = {name = "lif", alpha = 0.25}}',
    "default = {kernel = 3}",
    "default = 3",
    "input_psp = {decay = 0.9}",
    "input_psp = 3",
    'feedback = [{source = 1, target = 0, layers = "c4"}]',
    'feedback = [{source = 0, target = 0, layers = "c4", delay = 2}]',
    'feedback = [{source = 9, target = 0, layers = "f4"}]',
    "feedback = [{source = 0, target = 0, layers = [], detach = true}]",
    "feedback = [3]",
    "feedback = {}",
    "blocks = []",
]
SIGNS = "[]{}ctfPMGUIx \"'=,ksp.0123456789-\n\t\\#"
SOUP = [*SIGNS, "x2", "]x3", "{a = ", "\x00", "é", "𝟙", "c4", "f10"]

width = st.sampled_from(WIDTHS)
fields = st.lists(st.sampled_from(FIELDS), max_size=2).map(
    lambda parts: "{" + ", ".join(parts) + "}" if parts else ""
)
window = st.lists(
    st.tuples(st.sampled_from("ksp"), st.sampled_from(["0", "1", "2", "3", "5", "99999"])),
    max_size=2,
).map(lambda parts: "".join(letter + size for letter, size in parts))
layer = st.one_of(
    st.builds(lambda kind, out, rest: kind + out + rest, st.sampled_from("ccctf"), width, window),
    st.sampled_from(["c4", "c4", "c8", "P", "P2", "M", "M3s2", "G", "U", "I", "f8", "P0", "U9999"]),
).flatmap(lambda word: fields.map(lambda table: word + table))
block = st.one_of(
    layer,
    layer,
    st.builds(
        lambda parts, repeat, table: f"[{' '.join(parts)}]{repeat}{table}",
        st.lists(layer, max_size=3),
        st.sampled_from(["", "x2", "x3", "x0", "x", "x99999999"]),
        fields,
    ),
)
start = st.lists(st.sampled_from(GLOBALS), max_size=2).map(
    lambda parts: "{" + ", ".join(parts) + "} " if parts else ""
)
sentences = st.builds(
    lambda first, blocks, last: first + " ".join(blocks) + last,
    start,
    st.lists(block, max_size=4),
    st.sampled_from([" f10", " f10", " f10{bias = false}", "", " [f10]", "f"]),
)
soup = st.lists(st.sampled_from(SOUP), max_size=25).map("".join)


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """A preset's text with a few characters dropped, doubled or exchanged."""
    text = write(preset(draw(st.sampled_from(sorted(PRESETS)))))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text) - 1))
        sign = draw(st.sampled_from(["", text[at] * 2, *SOUP]))
        text = text[:at] + sign + text[at + 1 :]
    return text


def check(text: str) -> None:
    """Read, write and read again; build on small maps; run one step where that is small work."""

    def run() -> None:
        spec = parse(text)
        assert parse(write(spec)) == spec
        if size(spec) > MOST:
            return
        for shape in ((2, 8, 8), (5,)):
            refusal(lambda shape=shape: step(SpikingNet(spec, shape)))

    refusal(run)


MOST = 1 << 22
"""Weights of the nets that are built; more are only read."""


def size(spec) -> int:
    """Bound the weights of a net on the small maps, and the number of its layers."""
    total, inside = 0, 320
    for one in (*spec.blocks, *(edge for edge in spec.feedback)):
        for part in (*one.layers, *getattr(one, "shortcut", ())):
            total += inside * max(1, part.out) * (1 if part.kind == "linear" else part.kernel**2)
            inside = max(1, part.out) * 64 if part.out else inside * max(1, part.kernel) ** 2
        total += getattr(one, "repeat", 1) * 1000
    return total


def step(net: SpikingNet) -> None:
    shape = (3, 2, *net.in_shape)
    with torch.no_grad():
        net(torch.rand(shape, generator=torch.Generator().manual_seed(0)))


@cases(few=60, many=4000)
@pytest.mark.parametrize("source", [sentences, soup, damaged()], ids=["grammar", "soup", "presets"])
def test_net_texts(source, examples):
    sweep(source, check, examples)
