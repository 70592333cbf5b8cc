"""Ways in which files go wrong: bytes flipped, cut off, doubled; values and headers changed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzzing import mutants, refusal
from hypothesis import strategies as st


@st.composite
def damaged(draw: st.DrawFn, content: bytes, others: tuple[bytes, ...] = ()) -> bytes | None:
    """Draw a damaged version of a file's content; None for a file that is gone."""
    ways = [
        "flip",
        "flip",
        "cut",
        "cut",
        "empty",
        "gone",
        "double",
        "insert",
        "other",
        "inside",
        "inside",
    ]
    at = draw(st.integers(0, max(0, len(content) - 1)) | st.integers(0, min(200, len(content))))
    match draw(st.sampled_from(ways)):
        case "flip":
            changed = bytearray(content)
            for place in [at, *draw(st.lists(st.integers(0, len(content)), max_size=3))]:
                if place < len(changed):
                    changed[place] = draw(st.integers(0, 255))
            return bytes(changed)
        case "cut":
            return content[:at]
        case "empty":
            return b""
        case "gone":
            return None
        case "double":
            return content + content[at:]
        case "insert":
            return content[:at] + draw(st.binary(min_size=1, max_size=9)) + content[at:]
        case "other" if others:
            return draw(st.sampled_from(others))
        case _:
            return draw(_inside(content))


def _inside(content: bytes) -> st.SearchStrategy[bytes]:
    """Change values of a JSON record, JSON lines or a safetensors header; else one byte."""
    try:
        return mutants(json.loads(content)).map(_json)
    except ValueError:
        pass
    size = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + size])
    except ValueError:
        lines = content.splitlines()
        if not lines or lines[0][:1] != b"{":
            return st.just(content[:-1])
        return mutants(json.loads(lines[-1])).map(
            lambda last: b"\n".join([*lines[:-1], _json(last)])
        )
    body = content[8 + size :]

    def packed(changed: Any) -> bytes:
        text = _json(changed)
        return len(text).to_bytes(8, "little") + text + body

    return mutants(header).map(packed)


def _json(value: Any) -> bytes:
    return json.dumps(value, default=str).encode("utf-8", "surrogatepass")


def put(path: Path, content: bytes | None) -> None:
    """Write a file, or remove it."""
    if content is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(content)


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder; what a lock leaves is not one."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def refusal_without_a_trace(folder: Path, call: Callable[[], object]) -> str | None:
    """Return the line of a refusal, after which every file must be as it was."""
    before = contents(folder)
    line = refusal(call)
    assert line is None or contents(folder) == before, f"files changed, though refused: {line}"
    return line
