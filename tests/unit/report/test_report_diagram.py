"""The drawing's reader of a net's text against `nets.spec.grammar`, which builds the layers."""

import pytest

from spikeloom.nets.spec.grammar import parse, write
from spikeloom.nets.spec.presets import PRESETS
from spikeloom.report.html.diagram import _KINDS, draw_net, read_net

KINDS = {
    "conv": "c",
    "conv_transpose": "t",
    "linear": "f",
    "identity": "I",
    "avg_pool": "P",
    "max_pool": "M",
    "global_pool": "G",
    "upsample": "U",
}
TEXTS = (
    "f10",
    "c8k5s2p1 t4k2s2 I P M3s2 U8 G f7 f10",
    '{default = {unit = "if", norm = "weight"}} [c8 c8{unit = "relu"}]x3{join = "add"} [f4]',
    '{feedback = [{source = 1, target = 0, layers = "t8k2"}]} c8 c4{stride = 2} P f2',
    'c4{unit = {name = "lif", alpha = 0.25}} [c4{unit = "none"}]{join = "add"} f3',
)


def drawn(layer):
    """What of a layer of the net's own reader is drawn."""
    sized = layer.kind in ("conv", "conv_transpose", "avg_pool", "max_pool", "upsample")
    unit = type(layer.neurons).__name__ if layer.neurons is not None else ""
    return (
        KINDS[layer.kind],
        str(layer.out) if layer.weighted else "",
        layer.kernel if sized else None,
        layer.stride if layer.kind == "conv" else None,
        unit,
    )


def read(layer):
    """The same of the drawing's reader."""
    kernel = int(layer.kernel) if layer.letter in "ctPMU" else None
    return (
        layer.letter,
        layer.out,
        kernel,
        int(layer.stride) if layer.letter == "c" else None,
        layer.unit,
    )


@pytest.mark.parametrize("text", [*TEXTS, *(preset.text for preset in PRESETS.values())])
def test_the_two_readers_agree(text):
    spec = parse(text)
    for form in (text, write(spec)):  # a run's record holds the second
        blocks, edges = read_net(form)
        if spec.readout is not None:
            last = blocks.pop()
            assert last.bare and last.layers[0].out == str(spec.readout.out)
        assert edges == [(edge.source, edge.target) for edge in spec.feedback]
        assert [(block.repeat, block.join) for block in blocks] == [
            (block.repeat, block.join) for block in spec.blocks
        ]
        assert [list(map(read, block.layers)) for block in blocks] == [
            list(map(drawn, block.layers)) for block in spec.blocks
        ]
        assert 'class="boxes"' in draw_net(form) or len(form) > 2000


def test_every_kind_has_a_title():
    assert set(_KINDS) == set(KINDS.values())
