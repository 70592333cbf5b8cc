"""A network's text, drawn as a row of boxes."""

from html import escape

from spikeloom.base.errors import SpikeloomError
from spikeloom.nets.spec.grammar import parse
from spikeloom.nets.spec.layer import LayerSpec
from spikeloom.nets.spec.net import BlockSpec

_LONGEST = 2000
"""Texts beyond are shown, not drawn."""

_KINDS = {
    "conv": "conv",
    "conv_transpose": "conv transposed",
    "linear": "linear",
    "identity": "norm + unit",
    "avg_pool": "avg pool",
    "max_pool": "max pool",
    "global_pool": "global pool",
    "upsample": "upsample",
}


def draw_net(text: str) -> str:
    """Return HTML for a network's text; the text alone where it cannot be read."""
    raw = f"<code>{escape(text)}</code>"
    try:
        spec = parse(text) if len(text) <= _LONGEST else None
    except (SpikeloomError, RecursionError):
        spec = None
    if spec is None:
        return f'<div class="net">{raw}</div>'
    boxes = ['<li class="end">input</li>', *map(_block, spec.blocks)]
    if spec.readout is not None:
        boxes.append(_layer(spec.readout, "readout"))
    feedback = "".join(
        f'<li class="end">feedback from {edge.source} to {edge.target}</li>'
        for edge in spec.feedback
    )
    return f'<div class="net"><ol class="boxes">{"".join(boxes)}{feedback}</ol>{raw}</div>'


def _block(block: BlockSpec) -> str:
    notes = [f"computed {block.repeat} times"] if block.repeat > 1 else []
    notes += [f"shortcut: {block.join.replace('_', ' ')}"] if block.join != "none" else []
    layers = "".join(_layer(layer) for layer in block.layers)
    if not notes and len(block.layers) == 1:
        return layers
    return (
        f'<li class="block"><ol class="boxes">{layers}</ol>'
        f"<small>{escape(', '.join(notes) or 'block')}</small></li>"
    )


def _layer(layer: LayerSpec, role: str = "") -> str:
    size = str(layer.out or "")
    if layer.kind in ("conv", "conv_transpose"):
        size = f"{layer.out} · {layer.kernel}×{layer.kernel}"
    elif layer.kind in ("avg_pool", "max_pool", "upsample"):
        size = f"{layer.kernel}×{layer.kernel}"
    size += f" / {layer.stride}" if layer.kind == "conv" and layer.stride != 1 else ""
    unit = type(layer.neurons).__name__ if layer.neurons is not None else ""
    parts = [
        f"<b>{escape(_KINDS.get(layer.kind, layer.kind))}</b>",
        f"<span>{escape(size)}</span>" if size else "",
        f"<small>{escape(role or unit)}</small>" if role or unit else "",
    ]
    return f'<li class="{"unit" if unit else "plain"}">{"".join(parts)}</li>'
