"""A network's text, drawn as a row of boxes.

The text is read here as far as it is drawn: `nets.spec.grammar` builds layers and with them imports
torch, which takes longer than the whole report. A test compares the two.
"""

import re
from html import escape
from typing import Any, NamedTuple

from spikeloom.base.toml import TomlError, read

_LONGEST = 2000
"""Texts beyond are shown, not drawn."""

_KINDS = {
    "c": "conv",
    "t": "conv transposed",
    "f": "linear",
    "I": "norm + unit",
    "P": "avg pool",
    "M": "max pool",
    "G": "global pool",
    "U": "upsample",
}
"""Title of a box, by the letter of its layer."""

_LAYER = re.compile(r"(?P<letter>[ctf](?=\d)|[PMU]|[GI](?!\d))(?P<size>\d*)(?P<more>([ksp]\d+)*)")
_BRACES = re.compile(r'"(?:[^"\\]|\\.)*"|[{}]')
_NO_NET = (TomlError, LookupError, ValueError, TypeError, AttributeError, RecursionError)
"""What reading another text raises."""


class Layer(NamedTuple):
    """What is drawn of a layer; the unit is empty for a layer without one."""

    letter: str
    out: str
    kernel: str
    stride: str
    unit: str


class Block(NamedTuple):
    """Layers that are computed together, `repeat` times; `bare` for a layer without brackets."""

    layers: tuple[Layer, ...]
    repeat: int = 1
    join: str = "none"
    bare: bool = True


def draw_net(text: str) -> str:
    """Return HTML for a network's text; the text alone where it cannot be read."""
    raw = f"<code>{escape(text)}</code>"
    try:
        blocks, edges = read_net(text[: _LONGEST + 1])
    except _NO_NET:
        blocks, edges = [], []
    if not blocks or len(text) > _LONGEST:
        return f'<div class="net">{raw}</div>'
    boxes = ['<li class="end">input</li>', *map(_block, blocks)]
    last = blocks[-1]
    if last.bare and last.layers[0].letter == "f":
        boxes[-1] = _layer(last.layers[0]._replace(unit=""), "readout")
    boxes += [f'<li class="end">feedback from {start} to {end}</li>' for start, end in edges]
    return f'<div class="net"><ol class="boxes">{"".join(boxes)}</ol>{raw}</div>'


def read_net(text: str) -> tuple[list[Block], list[tuple[int, int]]]:
    """Read the blocks of a net and the ends of its feedback edges.

    Raises:
        ValueError, or another error of Python's: the text is none of a net.
    """
    fields, rest = _table(text.strip())
    default = fields.get("default", {}).get("unit", "lif")
    edges = [(int(edge["source"]), int(edge["target"])) for edge in fields.get("feedback", ())]
    blocks = []
    while rest := rest.lstrip():
        bare = not rest.startswith("[")
        layers, rest = [], rest.removeprefix("[").lstrip()
        while not rest.startswith("]"):
            layer, rest = _read_layer(rest, default)
            layers.append(layer)
            if bare:
                break
            rest = rest.lstrip()
        block = Block(tuple(layers))
        if not bare:
            times = re.match(r"\](?:x(\d+))?", rest)
            assert times is not None
            own, rest = _table(rest[times.end() :])
            block = Block(block.layers, int(times[1] or 1), str(own.get("join", "none")), bare)
        blocks.append(block)
    return blocks, edges


def _read_layer(text: str, default: Any) -> tuple[Layer, str]:
    """Read one layer; return it and the rest of the text."""
    word = _LAYER.match(text)
    if word is None:
        raise ValueError(text)
    own, rest = _table(text[word.end() :])
    if rest and not rest[0].isspace() and rest[0] not in "[]":
        raise ValueError(rest)
    letter, size = word["letter"], word["size"]
    wide = letter in "ctf"
    named = dict(re.findall(r"([ksp])(\d+)", word["more"]))
    kernel = named.get("k") or ("3" if letter in "ct" else "2" if wide or not size else size)
    unit = own.get("unit", default if wide or letter == "I" else "none")
    name = str(unit["name"] if isinstance(unit, dict) else unit)
    return Layer(
        letter,
        out=size if wide else "",
        kernel=str(own.get("kernel", kernel)),
        stride=str(own.get("stride", named.get("s", 1))),
        unit="" if name == "none" else name.upper() if len(name) <= 3 else name.capitalize(),
    ), rest


def _table(text: str) -> tuple[dict[str, Any], str]:
    """Read the inline table that starts here; return it, or an empty one, and the rest."""
    if not text.startswith("{"):
        return {}, text
    depth = 0
    for match in _BRACES.finditer(text):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0:
            return read(f"t = {text[: match.end()]}")["t"], text[match.end() :]
    raise ValueError(text)


def _block(block: Block) -> str:
    notes = [f"computed {block.repeat} times"] if block.repeat > 1 else []
    notes += [f"shortcut: {block.join.replace('_', ' ')}"] if block.join != "none" else []
    layers = "".join(_layer(layer) for layer in block.layers)
    if not notes and len(block.layers) == 1:
        return layers
    return (
        f'<li class="block"><ol class="boxes">{layers}</ol>'
        f"<small>{escape(', '.join(notes) or 'block')}</small></li>"
    )


def _layer(layer: Layer, role: str = "") -> str:
    size, window = layer.out, f"{layer.kernel}×{layer.kernel}"
    if layer.letter in "ct":
        size = f"{layer.out} · {window}"
    elif layer.letter in "PMU":
        size = window
    size += f" / {layer.stride}" if layer.letter == "c" and layer.stride != "1" else ""
    parts = [
        f"<b>{escape(_KINDS[layer.letter])}</b>",
        f"<span>{escape(size)}</span>" if size else "",
        f"<small>{escape(role or layer.unit)}</small>" if role or layer.unit else "",
    ]
    return f'<li class="{"unit" if layer.unit else "plain"}">{"".join(parts)}</li>'
