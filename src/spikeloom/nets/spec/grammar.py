"""The text form of a network, e.g. ``c64 P [c64]x4 P f1024 f10``.

Tokens, separated by blanks::

    c64  c64k5s2p2   convolution: width, then kernel, stride, padding where not 3, 1, kernel // 2
    t64k3s2          transposed convolution, likewise
    f1024            fully connected; maps are flattened before it; a last f is the readout and
                     belongs to the head, unless it is in brackets: [f10]
    P  P3s2          average pool, 2x2 by default      M  M3s2    max pool
    G                global average pool               U  U8      nearest upsampling by 2, by 8
    I                no synapse: only norm and unit (pre-activation nets)
    [c64 c64]x2      a block of layers, computed twice with shared weights (BackRes)

A layer or block may be followed, without a blank, by a TOML inline table with more fields of
`LayerSpec` or `BlockSpec`: ``c64{unit = "relu"}``, ``[c64 c64]{join = "add"}``. A table at the
start sets fields of the whole net: ``default`` (for every layer with weights and for "I": bias,
unit, norm, dropout, dropout_held, gain, amplitude, psp), ``feedback`` and ``input_psp``. Paths in
tables (``shortcut``, ``layers`` of feedback) are texts in the same grammar. Layers of feedback have
no unit, norm or dropout unless they set them; of the defaults they take only ``bias``.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from spikeloom.base.errors import ConfigError, SpikeloomError, unknown_name
from spikeloom.base.fields import conform
from spikeloom.base.toml import TomlError, read
from spikeloom.nets.spec.codec import from_table, inline, to_table
from spikeloom.nets.spec.layer import Filter, Kind, LayerSpec
from spikeloom.nets.spec.net import MOST_LAYERS, BlockSpec, FeedbackSpec, NetSpec

_LETTERS: dict[str, Kind] = {
    "c": "conv",
    "t": "conv_transpose",
    "f": "linear",
    "P": "avg_pool",
    "M": "max_pool",
    "G": "global_pool",
    "U": "upsample",
    "I": "identity",
}
_TOKEN = re.compile(
    r"(?P<letter>[ctf])(?P<out>\d+)(?P<window>(?:[ksp]\d+)*)"
    r"|(?P<pool>[PMU])(?P<size>\d*)(?P<shift>(?:[sp]\d+)*)"
    r"|(?P<bare>[GI])"
)
_REPEAT = re.compile(r"x(\d+)")
_SHARED = ("bias", "unit", "norm", "dropout", "dropout_held", "gain", "amplitude", "psp")
_FEEDBACK = {
    "unit": None,
    "norm": "none",
    "dropout": 0.0,
    "gain": 1.0,
    "amplitude": "unit",
    "psp": None,
}
_FACTORED = ("unit", "norm", "bias", "gain", "dropout")
_WINDOW = {"k": "kernel", "s": "stride", "p": "padding"}
_DIGITS = 18
"""Most digits of a number in a token; the specs check the values themselves."""


def parse(text: str, **defaults: Any) -> NetSpec:
    """Read a network from its text.

    Args:
        text: in the grammar of this module.
        defaults: fields of a "default" table, as values; the readout takes only `bias`. The
            default table in the text and the tables of layers override them.

    Raises:
        ConfigError: the text does not follow the grammar; the message names the column.

    Example:
        >>> parse("c64 P [c64]x4 P f1024 f10", bias=False).classes
        10
    """
    return _Reader(text, defaults).net()


def parse_path(text: str, **defaults: Any) -> tuple[LayerSpec, ...]:
    """Read a chain of layers without blocks: a shortcut or the path of a feedback edge."""
    return _Reader(text, defaults).path()


def write(spec: NetSpec) -> str:
    """Write a network as text; `parse` gives an equal network back."""
    common = _common_fields(spec)
    default = LayerSpec("conv", 1, **common)
    table: dict[str, Any] = {}
    if common:
        odd = to_table(default)
        table["default"] = {key: odd[key] for key in common if key in odd}
        table = {key: part for key, part in table.items() if part}
    if spec.input_psp:
        table["input_psp"] = to_table(spec.input_psp)
    if spec.feedback:
        table["feedback"] = [
            to_table(edge) | {"layers": _write_layers(edge.layers, common | _FEEDBACK)}
            for edge in spec.feedback
        ]
    words = [inline(table)] if table else []
    words += [_write_block(block, common) for block in spec.blocks]
    if spec.blocks and spec.readout is None and spec.blocks[-1].is_linear_layer:
        words[-1] = f"[{words[-1]}]"
    if spec.readout:
        words.append(_write_layer(spec.readout, {"unit": None} | _bias_of(common)))
    return " ".join(words)


class _Reader:
    """One pass over the text, left to right."""

    def __init__(self, text: str, defaults: Mapping[str, Any]) -> None:
        self.text = text
        self.at = 0
        self.defaults = dict(defaults)
        self.layers = 0
        self.bracketed = False
        self.last_at = 0
        self.last_own: set[str] = set()
        _check_keys(defaults, "default", _SHARED)

    def fail(self, expected: str, at: int | None = None) -> ConfigError:
        at = self.at if at is None else at
        came = self.text[at:].split()[:1]
        token = f"'{came[0]}'" if came else "the end"
        return ConfigError(
            f"net: expected {expected}, got {token} at column {at + 1} of '{self.text}'; "
            "see the grammar in docs/concepts/networks.md."
        )

    def blanks(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def net(self) -> NetSpec:
        self.blanks()
        table = self.table() if self.peek() == "{" else {}
        start = self.at
        extra = self.net_fields(table)
        blocks: list[BlockSpec] = []
        while True:
            self.blanks()
            if not self.peek():
                break
            blocks.append(self.block())
        if not blocks:
            raise self.fail("at least one layer", start)
        last = blocks[-1]
        readout = None
        if last.is_linear_layer and not self.bracketed:
            layer = blocks.pop().layers[0]
            plain = {"bias"} if layer.neurons else {"bias", "unit"}
            if self.last_own - plain:
                raise self.fail(
                    f"a last layer without {', '.join(sorted(self.last_own - plain))}, since it "
                    "is the head's (or in brackets, to stay in the body)",
                    self.last_at,
                )
            readout = LayerSpec("linear", layer.out, bias=layer.bias, unit=None)
        return self.checked(lambda: NetSpec(tuple(blocks), readout=readout, **extra), start)

    def net_fields(self, table: dict[str, Any]) -> dict[str, Any]:
        self.checked(lambda: _check_keys(table, "net", ("default", "feedback", "input_psp")), 0)
        if "default" in table:
            own = self.checked(lambda: _default_fields(table["default"]), 0)
            self.defaults = self.defaults | own
        extra: dict[str, Any] = {}
        if "input_psp" in table:
            psp = table["input_psp"]
            extra["input_psp"] = self.checked(
                lambda: conform(Filter | None, psp, "input_psp", build=from_table), 0
            )
        if "feedback" in table:
            if not isinstance(table["feedback"], list):
                raise self.fail("a list of feedback edges, feedback = [{source = 1, ..}]", 0)
            extra["feedback"] = tuple(
                self.checked(lambda row=row, edge=edge: self.feedback(edge, row), 0)
                for row, edge in enumerate(table["feedback"])
            )
        return extra

    def feedback(self, edge: Any, row: int) -> FeedbackSpec:
        layers = edge.get("layers") if isinstance(edge, dict) else None
        if isinstance(layers, str):
            path = parse_path(layers, **(self.defaults | _FEEDBACK))
            edge = edge | {"layers": [to_table(one) for one in path]}
        return from_table(FeedbackSpec, edge, f"feedback.{row}")

    def path(self) -> tuple[LayerSpec, ...]:
        layers = []
        while True:
            self.blanks()
            if not self.peek():
                return tuple(layers)
            layers.append(self.layer())

    def block(self) -> BlockSpec:
        start = self.at
        self.bracketed = self.peek() == "["
        if not self.bracketed:
            return BlockSpec((self.layer(),))
        self.at += 1
        layers: list[LayerSpec] = []
        while True:
            self.blanks()
            if self.peek() == "]":
                break
            if not self.peek():
                raise self.fail("']' to close the block", start)
            layers.append(self.layer())
        self.at += 1
        repeat = 1
        if self.peek() == "x":
            match = _REPEAT.match(self.text, self.at)
            if not match:
                raise self.fail("a number of passes, as in x4")
            repeat, self.at = self.number(match[1], start), match.end()
        fields = self.table() if self.peek() == "{" else {}
        if fields.keys() & {"layers", "repeat"}:
            raise self.fail("[layers]xN without layers or repeat in the table", start)
        self.end_of_token()
        if isinstance(fields.get("shortcut"), str):
            path = parse_path(fields["shortcut"], **self.defaults)
            fields["shortcut"] = [to_table(one) for one in path]
        whole = {"layers": [to_table(one) for one in layers], "repeat": repeat} | fields
        return self.checked(lambda: from_table(BlockSpec, whole, "block"), start)

    def layer(self) -> LayerSpec:
        start = self.at
        match = _TOKEN.match(self.text, self.at)
        if not match:
            raise self.fail("a layer (c64, t64, f10, P, M, G, U, I) or [..]xN")
        self.layers += 1
        if self.layers > MOST_LAYERS:
            raise self.fail(f"at most {MOST_LAYERS} layers")
        self.at = match.end()
        letter = match["letter"] or match["pool"] or match["bare"]
        kind = _LETTERS[letter]
        fields: dict[str, Any] = {"kind": kind}
        if match["out"]:
            fields["out"] = self.number(match["out"], start)
        if match["size"]:
            fields["kernel"] = self.number(match["size"], start)
        for part in re.findall(r"[ksp]\d+", (match["window"] or "") + (match["shift"] or "")):
            if _WINDOW[part[0]] in fields:
                raise self.fail(f"one {_WINDOW[part[0]]} only", start)
            fields[_WINDOW[part[0]]] = self.number(part[1:], start)
        if kind == "linear" and match["window"]:
            raise self.fail("a plain width after f, as in f10", start)
        own = self.table() if self.peek() == "{" else {}
        self.last_at, self.last_own = start, set(own)
        if fields.keys() & own:
            twice = ", ".join(sorted(fields.keys() & own))
            raise self.fail(f"{twice} in the layer's word, not also in its table", start)
        self.end_of_token()
        table = fields | own
        spec = self.checked(lambda: from_table(LayerSpec, table, f"layer '{kind}'"), start)
        if kind in ("conv", "conv_transpose", "linear", "identity"):
            missing = {key: part for key, part in self.defaults.items() if key not in table}
            if kind == "identity" and missing.get("norm") == "weight":
                missing.pop("norm")
            spec = self.checked(lambda: dataclasses.replace(spec, **missing), start)
        return spec

    def number(self, digits: str, at: int) -> int:
        if len(digits) > _DIGITS:
            raise self.fail(f"a number of {_DIGITS} digits at most", at)
        return int(digits)

    def table(self) -> dict[str, Any]:
        """Read one TOML inline table that starts here."""
        start = self.at
        end = _closing_brace(self.text, start)
        if end is None:
            raise self.fail("'}' to close the table", start)
        self.at = end + 1
        try:
            return read(f"t = {self.text[start : self.at]}")["t"]
        except TomlError as error:
            raise self.fail(f"a TOML inline table ({error})", start) from None

    def end_of_token(self) -> None:
        following = self.peek()
        if following and not following.isspace() and following not in "[]":
            raise self.fail("a blank after the layer")

    def checked(self, build: Callable[[], Any], at: int) -> Any:
        """Run `build`; add the column to the message of an error."""
        try:
            return build()
        except SpikeloomError as error:
            if "at column" in str(error):
                raise
            raise error.within(f"net: at column {at + 1} of '{self.text}'") from None


def _closing_brace(text: str, start: int) -> int | None:
    depth, quoted = 0, False
    for at in range(start, len(text)):
        char = text[at]
        if char == '"' and text[at - 1] != "\\":
            quoted = not quoted
        elif not quoted:
            depth += {"{": 1, "}": -1}.get(char, 0)
            if depth == 0:
                return at
    return None


def _check_keys(table: Mapping[str, Any], where: str, known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            raise unknown_name(f"{where}.{key}", "key", key, known)


def _default_fields(table: Any) -> dict[str, Any]:
    """Return the fields of a default table, checked by building a convolution with them."""
    if isinstance(table, Mapping):
        _check_keys(table, "default", _SHARED)
        table = {"kind": "conv", "out": 1} | dict(table)
    layer = from_table(LayerSpec, table, "default")
    return {key: getattr(layer, key) for key in table if key in _SHARED}


def _bias_of(common: Mapping[str, Any]) -> dict[str, Any]:
    return {"bias": common["bias"]} if "bias" in common else {}


def _common_fields(spec: NetSpec) -> dict[str, Any]:
    """Return the most frequent value of each field that the default table may set."""
    layers = [
        layer
        for block in spec.blocks
        for layer in (*block.layers, *block.shortcut)
        if layer.weighted
    ]
    if not layers:
        return {}
    return {
        key: Counter(getattr(layer, key) for layer in layers).most_common(1)[0][0]
        for key in _FACTORED
    }


def _write_block(block: BlockSpec, common: Mapping[str, Any]) -> str:
    table = to_table(block)
    table.pop("layers")
    repeat = table.pop("repeat", 1)
    if block.shortcut:
        table["shortcut"] = _write_layers(block.shortcut, common)
    body = _write_layers(block.layers, common)
    if len(block.layers) == 1 and repeat == 1 and not table:
        return body
    return f"[{body}]" + (f"x{repeat}" if repeat > 1 else "") + (inline(table) if table else "")


def _write_layers(layers: tuple[LayerSpec, ...], common: Mapping[str, Any]) -> str:
    return " ".join(_write_layer(layer, common) for layer in layers)


def _write_layer(layer: LayerSpec, common: Mapping[str, Any]) -> str:
    letter = next(letter for letter, kind in _LETTERS.items() if kind == layer.kind)
    takes_defaults = layer.weighted or layer.kind == "identity"
    base = LayerSpec(layer.kind, layer.out, kernel=layer.kernel)
    word = letter + (str(layer.out) if layer.weighted else "")
    if letter in "ct" and layer.kernel != 3:
        word += f"k{layer.kernel}"
    if letter in "PMU" and layer.kernel != 2:
        word += str(layer.kernel)
    if letter in "ctPM":
        word += f"s{layer.stride}" if layer.stride != base.stride else ""
        word += f"p{layer.padding}" if layer.padding != base.padding else ""
    if takes_defaults:
        fields = {key: part for key, part in common.items() if layer.weighted or part != "weight"}
        base = dataclasses.replace(base, **fields)
    table = {}
    for field in dataclasses.fields(LayerSpec):
        if field.name in ("kind", "out", "kernel", "stride", "padding"):
            continue
        value = getattr(layer, field.name)
        if value != getattr(base, field.name):
            table[field.name] = _plain_field(layer, field.name)
    return word + (inline(table) if table else "")


def _plain_field(layer: LayerSpec, key: str) -> Any:
    value = getattr(layer, key)
    if value is None:
        return "none"
    return to_table(value) if dataclasses.is_dataclass(value) else value
