"""What all fuzzers share: how a refusal must look, how values go wrong, how many cases run."""

import datetime
import gc
import json
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spikeloom.base.errors import SpikeloomError, too_big

FORM = re.compile(
    r"^.+: .*\b(expected|unknown|must|peak|mean)\b.*(, got|, found|, but|known:|').*\.$"
)
"""where: what was expected, what came; what to do."""

ROOM = 3 << 30
"""Bytes a case may take beyond what the process has: larger requests fail at once."""


def cases(few: int, many: int) -> pytest.MarkDecorator:
    """Run a test with `few` examples by default, with `many` in the slow suite."""
    return pytest.mark.parametrize("examples", [few, pytest.param(many, marks=pytest.mark.slow)])


def sweep(strategy: st.SearchStrategy[Any], check: Callable[[Any], object], examples: int) -> None:
    """Check as many drawn cases, the same ones at every run; the smallest failing one is shown."""

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def run(case: Any) -> None:
        check(case)

    with limited():
        run()


def refusal(call: Callable[[], object]) -> str | None:
    """Return the line a call was refused with, None where it went through.

    Anything but an error that the command turns into one line and exit code 2 fails the test.
    """
    try:
        call()
    except SpikeloomError as error:
        line = str(error)
        assert "\n" not in line and "\r" not in line, f"more than one line: {line!r}"
        assert FORM.match(line), f"not `where: expected .., got ..; ..`: {line!r}"
        return line
    except (MemoryError, RuntimeError, TypeError) as error:
        refused = too_big(error)
        if refused is None:
            raise
        return str(refused)
    return None


@contextmanager
def limited() -> Iterator[None]:
    """Let no allocation beyond `ROOM` succeed."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    size = pages * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        gc.collect()


NUMBERS = [-(10**12), -1, 0, 1, 2, 3, 7, 10**12, 2**31, 2**63, 2**64, 10**400]
FLOATS = [-0.0, 0.5, -1.5, 1.0, 2.7, 5e-324, 1e-9, 1e308, -1e308, float("nan"), float("inf")]
TEXTS = ["", " ", "x", "0", "\x00", "a\nb", "é\u202e𝟙", "../..", "{", "'", '"', "%s{}", "y" * 3000]
TEXTS += ["9" * 5000, "[" * 3000, "a." * 9000, "[c64]x1000000", "c1000000000 f10"]
NAMES = ["bptt", "ann", "lif", "relu", "sigmoid", "softmax", "stochmax", "poisson", "digits", "f10"]
OTHERS = [None, True, False, datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1, 12)]

junk = st.one_of(
    st.sampled_from(NUMBERS),
    st.sampled_from(FLOATS),
    st.sampled_from(TEXTS),
    st.sampled_from(NAMES),
    st.sampled_from(OTHERS),
    st.recursive(
        st.sampled_from([*NUMBERS[:6], 0.5, "x", None, "name", "lif"]),
        lambda part: (
            st.lists(part, max_size=3)
            | st.dictionaries(st.sampled_from(["name", "x", ""]), part, max_size=3)
        ),
        max_leaves=6,
    ),
)
"""Values that are wrong nearly everywhere, in type, size or sense."""


DEEPEST = 12
"""Levels below which nothing is mutated."""


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all parts of a nested value down to some depth, the whole left out."""
    parts: Any = ()
    if len(path) > DEEPEST:
        return []
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list):
        parts = enumerate(value)
    found = []
    for key, part in parts:
        found += [(*path, key), *places(part, (*path, key))]
    return found


@st.composite
def mutants(draw: st.DrawFn, base: Any, most: int = 3) -> Any:
    """Draw a nested value with one to `most` things wrong: dropped, doubled, renamed, replaced."""
    value = json.loads(json.dumps(base))
    for _ in range(draw(st.integers(1, most))):
        found = places(value)
        if not found:
            break
        path = draw(st.sampled_from(found))
        _mutate(draw, value, path)
    return value


def _mutate(draw: st.DrawFn, value: Any, path: tuple[Any, ...]) -> None:
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    key = path[-1]
    ways = ["replace", "replace", "drop", "rename", "double", "nest", "scale", "move"]
    match draw(st.sampled_from(ways)):
        case "replace":
            holder[key] = draw(junk)
        case "drop":
            del holder[key]
        case "rename" if isinstance(holder, dict):
            name = draw(st.sampled_from([f"{key}s", str(key).upper(), *TEXTS, "name", "text"]))
            holder[name] = holder.pop(key)
        case "double":
            if isinstance(holder, list):
                holder.append(holder[key])
            else:
                holder[key] = [holder[key], holder[key]]
        case "nest":
            for _ in range(draw(st.sampled_from([1, 2, 40, 200]))):
                holder[key] = {"name": holder[key]} if draw_bit(path) else [holder[key]]
        case "scale" if isinstance(holder[key], int | float):
            holder[key] = holder[key] * draw(st.sampled_from([-1, 0, 0.5, 1e300, 10**12]))
        case _:
            other = draw(st.sampled_from(places(value)))
            part = value
            for step in other:
                part = part[step]
            holder[key] = json.loads(json.dumps(part, default=str)) if depth(part) < 50 else part


def draw_bit(path: tuple[Any, ...]) -> bool:
    """Choose between tables and lists by the place, so that a whole nest is of one kind."""
    return len(path) % 2 == 0


def depth(value: Any) -> int:
    """Return how deep a value is nested, without recursion."""
    level, parts = 0, [value]
    while parts:
        inner = [
            part.values() if isinstance(part, dict) else part
            for part in parts
            if isinstance(part, dict | list)
        ]
        parts = [part for group in inner for part in group]
        level += 1
    return level
