"""Each operation that a kernel can hold, against torch, on numbers of every kind.

The bound is in units in the last place; 0 means the same bits (two NaN are the same number).
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelkit import needs_compiler, pairs

from spikeloom.kernels.source import emit
from spikeloom.kernels.source.jit import OPTIONS, load_source, numba
from spikeloom.kernels.source.program import Unsupported, trace_step

pytestmark = needs_compiler
DTYPES = [torch.float32, torch.float64]

EXACT = {
    "add": lambda a, b: a + b,
    "add a number": lambda a, b: a + 0.3,
    "add scaled": lambda a, b: torch.add(a, b, alpha=0.3),
    "sub": lambda a, b: a - b,
    "sub scaled": lambda a, b: torch.sub(a, b, alpha=0.7),
    "rsub": lambda a, b: 0.3 - a,
    "rsub scaled": lambda a, b: torch.rsub(a, b, alpha=0.7),
    "mul": lambda a, b: a * b,
    "mul by a number": lambda a, b: a * 0.3,
    "mul by truth": lambda a, b: a * (b > 0),
    "div": lambda a, b: a / b,
    "div by a number": lambda a, b: a / 0.3,
    "div a number": lambda a, b: 0.3 / a,
    "neg": lambda a, b: -a,
    "abs": lambda a, b: a.abs(),
    "floor": lambda a, b: (3 * a).floor() + b,
    "ceil": lambda a, b: (3 * a).ceil() + b,
    "square": lambda a, b: a.square(),
    "reciprocal": lambda a, b: a.reciprocal(),
    "relu": lambda a, b: a.relu(),
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "sign": lambda a, b: a.sign(),
    "sgn": lambda a, b: a.sgn(),
    "clamp": lambda a, b: a.clamp(-0.5, 0.75),
    "clamp from below": lambda a, b: a.clamp(min=0.25),
    "clamp from above": lambda a, b: a.clamp(max=0.25),
    "clamp turned": lambda a, b: a.clamp(1.0, -1.0),
    "clamp_min": lambda a, b: a.clamp_min(0),
    "clamp_max": lambda a, b: a.clamp_max(0),
    "pow 2": lambda a, b: a**2,
    "pow 3": lambda a, b: a**3,
    "pow 1": lambda a, b: a**1,
    "pow -1": lambda a, b: a**-1,
    "pow -2": lambda a, b: a**-2,
    "pow 0": lambda a, b: a**0,
    "where": lambda a, b: torch.where(a > b, a, b),
    "where a number": lambda a, b: torch.where(a > b, 0.3, b),
    "where with NaN": lambda a, b: torch.where(a > 0, a, float("nan")),
    "masked_fill": lambda a, b: a.masked_fill(b > 0, 0.3),
    "ge": lambda a, b: (a >= b).to(a.dtype),
    "gt": lambda a, b: (a > b).to(a.dtype),
    "le": lambda a, b: (a <= b).to(a.dtype),
    "lt": lambda a, b: (a < b).to(a.dtype),
    "eq": lambda a, b: (a == b).to(a.dtype),
    "ne": lambda a, b: (a != b).to(a.dtype),
    "ge a number": lambda a, b: (a >= 0.3).to(a.dtype),
    "logical_and": lambda a, b: torch.logical_and(a > 0, b).to(a.dtype),
    "logical_or": lambda a, b: torch.logical_or(a > 0, b).to(a.dtype),
    "logical_not": lambda a, b: torch.logical_not(a).to(a.dtype),
    "bitwise and": lambda a, b: ((a > 0) & (b > 0)).to(a.dtype),
    "bitwise or": lambda a, b: ((a > 0) | (b > 0)).to(a.dtype),
    "bitwise not": lambda a, b: (~(a > 0)).to(a.dtype),
    "truth of a number": lambda a, b: a.to(torch.bool).to(a.dtype),
    "constants": lambda a, b: torch.ones_like(a) + torch.full_like(a, 0.1) * torch.zeros_like(b),
    "a tensor of one number": lambda a, b: a * torch.tensor(0.3, dtype=a.dtype),
    "in place": lambda a, b: (a + 1).mul_(b).add_(0.5).clamp_(max=2),
}
ROUNDED = {
    "exp": (lambda a, b: a.exp(), 2),
    "log": (lambda a, b: a.log(), 2),
    "log1p": (lambda a, b: a.log1p(), 2),
    "expm1": (lambda a, b: a.expm1(), 3),
    "tanh": (lambda a, b: a.tanh(), 3),
    "sigmoid": (lambda a, b: a.sigmoid(), 4),
    "sqrt": (lambda a, b: a.sqrt(), 1),  # torch's own is off by one now and then
    "rsqrt": (lambda a, b: a.rsqrt(), 2),
    "pow 1/2": (lambda a, b: a**0.5, 1),
    "pow -1/2": (lambda a, b: a**-0.5, 2),
    "pow 2.5": (lambda a, b: a**2.5, 2),
    "pow of a number": (lambda a, b: 0.3 ** a.clamp(-80, 80), 2),
    "pow of tensors": (lambda a, b: a.abs() ** b.clamp(-3, 3), 2),
}
"""Operations that are another library's."""


def compiled(bodies, dtype):
    """Return a function of two numbers to the values of all bodies, by the emitter's text."""

    def step(current, thetas, states):
        return [current, *(body(current, states[0]) for body in bodies), *states[len(bodies) :]]

    program = trace_step(step, 0, len(bodies), dtype).forward
    emitter = emit.Emitter(wide=dtype == torch.float64)
    names = {one.name: one.name for one in program.inputs}
    lines, outputs = emitter.lines(program, names)
    kind = "float64" if emitter.wide else "float32"
    exp = "math" if emitter.wide else "spikeloom.kernels._scalar_numba"
    numbers = emitter.constants | emitter.numbers
    text = [
        "import numpy as np",
        "from numba import njit",
        "from math import expm1, log, log1p, sqrt, tanh",
        f"from {exp} import exp",
        "from spikeloom.kernels._scalar_numba import fma",
        *(f"{name} = np.{kind}('{value}')" for name, value in numbers.items()),
        f"@njit(cache=True, **{dict(OPTIONS)})",
        "def step(one, other, out):",
        "    for i in range(len(one)):",
        "        x0, x1 = one[i], other[i]",
        *(f"        {line}" for line in lines),
        *(f"        out[{k}, i] = {value}" for k, value in enumerate(outputs[1:])),
    ]
    function = load_source("\n".join(text)).step  # kept from session to session

    def run(one, other):
        out = np.empty((len(bodies), len(one)), kind)
        function(one.numpy(), other.numpy(), out)
        return torch.from_numpy(out)

    return run


def ordinal(x: torch.Tensor) -> torch.Tensor:
    """Number all floats in their order; both zeros are 0."""
    whole = torch.int32 if x.dtype == torch.float32 else torch.int64
    bits = x.contiguous().view(whole).to(torch.int64)
    lowest = torch.iinfo(whole).min
    return torch.where(bits < 0, lowest - bits, bits)


def apart(mine: torch.Tensor, theirs: torch.Tensor) -> int:
    """Return the largest distance in units in the last place."""
    assert torch.equal(mine.isnan(), theirs.isnan())
    there = ~theirs.isnan()
    distance = (ordinal(mine[there]) - ordinal(theirs[there])).abs()
    return int(distance.max()) if distance.numel() else 0


@pytest.fixture(scope="module", params=DTYPES, ids=str)
def values(request):
    """All operations on all numbers, compiled in one function."""
    a, b = pairs(request.param)
    bodies = {**EXACT, **{name: body for name, (body, _) in ROUNDED.items()}}
    found = compiled(list(bodies.values()), request.param)(a, b)
    return {
        name: (mine, body(a, b)) for mine, (name, body) in zip(found, bodies.items(), strict=True)
    }


@pytest.mark.parametrize("name", EXACT)
def test_an_operation_is_rounded_as_torch_rounds(values, name):
    mine, theirs = values[name]
    assert apart(mine, theirs) == 0


@pytest.mark.parametrize("name", ROUNDED)
def test_a_function_of_another_library_is_close(values, name):
    mine, theirs = values[name]
    theirs = torch.where(theirs.abs() < torch.finfo(theirs.dtype).tiny, 0.0, theirs)
    mine = torch.where(mine.abs() < torch.finfo(mine.dtype).tiny, 0.0, mine)
    assert apart(mine, theirs) <= ROUNDED[name][1]


def test_signs_of_zeros_are_kept(values):
    for name in ("neg", "abs", "mul", "add", "clamp turned", "sqrt"):
        mine, theirs = values[name]
        there = ~theirs.isnan()
        assert torch.equal(mine.signbit()[there], theirs.signbit()[there]), name


def test_every_operation_of_the_tables_is_tried():
    """A new entry of the emitter needs a line above; gradients of others are tried as such."""
    backward = {"sigmoid_backward", "tanh_backward", "threshold_backward", "addcmul"}
    known = {*emit._WRITERS, *emit._COMPARE, *emit._BINARY, *emit._CALLS, *emit._LOGIC}
    words = {word for name in (*EXACT, *ROUNDED) for word in (name, name.split()[0])}
    same = {"bitwise_and": "bitwise and", "bitwise_or": "bitwise or"}
    missing = {one for one in known - backward if same.get(one, one) not in words}
    assert not missing


class TestExponential:
    """The float32 exponential written here, since the library's is called once per element."""

    @staticmethod
    def run(xs):
        from spikeloom.kernels._scalar_numba import exp  # noqa: PLC0415

        @numba().njit
        def each(xs, out):
            for i in range(len(xs)):
                out[i] = exp(xs[i])

        out = np.empty_like(xs)
        each(xs, out)
        return out

    def test_two_units_in_the_last_place_everywhere(self):
        xs = np.linspace(-87.3, 88.72, 400_001, dtype=np.float32)
        exact = np.exp(xs.astype(np.float64))
        mine = self.run(xs)
        finite = xs < np.float32(88.02)
        unit = np.spacing(exact[finite].astype(np.float32)).astype(np.float64)
        assert (np.abs(mine[finite] - exact[finite]) / unit).max() <= 2
        # near the end of the range it may say infinity early, never a wrong number
        rest = mine[~finite]
        assert np.all(np.isinf(rest) | (np.abs(rest - exact[~finite]) <= 1e-6 * exact[~finite]))

    def test_ends(self):
        xs = np.array([0, -0.0, -np.inf, np.inf, np.nan, -200, 200, 1e-30], np.float32)
        np.testing.assert_array_equal(self.run(xs), [1, 1, 0, np.inf, np.nan, 0, np.inf, 1])

    def test_it_never_falls(self):
        xs = np.linspace(-5, 5, 100_001, dtype=np.float32)
        steps = np.diff(self.run(xs).astype(np.float64))
        assert steps.min() >= -2 * np.spacing(np.float32(math.exp(5)))


class TestBits:
    @settings(max_examples=200)
    @given(st.lists(st.floats(width=32), min_size=1, max_size=8))
    def test_bfloat16_is_rounded_as_torch_rounds(self, numbers):
        xs = torch.tensor(numbers, dtype=torch.float32)
        assert torch.equal(narrowed(xs).nan_to_num(7), xs.bfloat16().nan_to_num(7))

    def test_every_bfloat16_survives(self):
        bits = torch.arange(-(2**15), 2**15, dtype=torch.int16)
        xs = bits.view(torch.bfloat16).float()
        there = ~xs.isnan()
        assert torch.equal(narrowed(xs).view(torch.int16)[there], bits[there])
        assert narrowed(xs)[~there].isnan().all()

    def test_halves_go_to_even(self):
        ends = torch.tensor([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8])
        assert narrowed(ends).tolist() == [1.0, 1 + 2**-6, -1.0]

    def test_a_fused_product_rounds_once(self):
        from spikeloom.kernels._scalar_numba import fma  # noqa: PLC0415

        @numba().njit
        def one(a, b, c):
            return fma(a, b, c)

        a = np.float32(1 + 2**-12)
        assert one(a, a, np.float32(-1)) == np.float32(2**-11 + 2**-24)
        assert a * a - np.float32(1) == np.float32(2**-11)


_NARROW: list = []


def narrowed(xs):
    """Return float32 values through the kernels' own conversion to bfloat16."""
    if not _NARROW:
        from spikeloom.kernels._scalar_numba import narrow, wide  # noqa: PLC0415

        @numba().njit
        def each(xs, bits, back):
            for i in range(len(xs)):
                bits[i] = narrow(xs[i])
                back[i] = wide(bits[i])

        _NARROW.append(each)
    bits, back = np.empty(len(xs), np.uint16), np.empty(len(xs), np.float32)
    _NARROW[0](xs.numpy(), bits, back)
    out = torch.from_numpy(bits).view(torch.bfloat16)
    assert torch.equal(torch.from_numpy(back).nan_to_num(7), out.float().nan_to_num(7))
    return out


GRADED = {
    "sigmoid": lambda a, b: a.sigmoid() * b,
    "tanh": lambda a, b: a.tanh() * b,
    "relu": lambda a, b: a.relu() * b,
    "clamp": lambda a, b: a.clamp(-0.5, 0.5) * b,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "abs": lambda a, b: a.abs() * b,
    "where": lambda a, b: torch.where(a > b, a * b, b),
    "addcmul": lambda a, b: torch.addcmul(a, a, b, value=0.3),
    "pow": lambda a, b: (a.abs() + 1) ** 2.5 * b**3,
    "div": lambda a, b: a / (1 + b * b),
    "exp": lambda a, b: (-a * a).exp() * b,
    "log": lambda a, b: (1 + a * a).log() + (a * a).log1p() + (0.1 * b).expm1(),
    "sqrt": lambda a, b: (1 + a * a).sqrt() * (2 + b * b).rsqrt(),
    "hidden": lambda a, b: a.detach() * b,
}


def test_gradients_of_operations_are_those_of_autograd():
    """Traced backward programs, all of them inside one step, on ordinary numbers."""
    a = torch.randn(300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    b = torch.randn(300, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    bodies = list(GRADED.values())

    def step(current, thetas, states):
        values = [body(current, states[0]) for body in bodies]
        return [sum(values), *values[1:], values[0]]

    back = trace_step(step, 0, len(bodies), torch.float64).backward
    emitter = emit.Emitter(wide=True)
    lines, outputs = emitter.lines(back, {one.name: one.name for one in back.inputs})
    space = {name: float(value) for name, value in (emitter.constants | emitter.numbers).items()}
    space |= {name: getattr(math, name) for name in ("exp", "expm1", "log", "log1p", "tanh")}
    space |= {"sqrt": math.sqrt, "fma": lambda x, y, z: x * y + z}
    code = compile("\n".join([*lines, f"result = ({outputs[0]}, {outputs[1]})"]), "step", "exec")
    found = []
    for one, other in zip(a.tolist(), b.tolist(), strict=True):
        numbers = {place.name: 0.0 for place in back.inputs}
        numbers |= {"x0": one, "x1": other, f"x{1 + len(bodies)}": 1.0}
        local = {**space, **numbers}
        exec(code, local)
        found.append(local["result"])
    a.requires_grad_(), b.requires_grad_()
    expected = torch.autograd.grad(step(a, [], [b])[0].sum(), [a, b])
    mine = torch.tensor(found, dtype=torch.float64)
    torch.testing.assert_close(mine[:, 0], expected[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(mine[:, 1], expected[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "body",
    [
        lambda a: a.sin(),
        lambda a: a.cumsum(0),
        lambda a: a.long(),
        lambda a: a.to(torch.bfloat16).to(a.dtype),
        lambda a: torch.div(a, 2, rounding_mode="trunc"),
        lambda a: (a > 0) + (a < 1),
        lambda a: torch.bitwise_and((a > 0).to(torch.uint8), 1) * a,
        lambda a: a + torch.tensor([1.0, 2.0, 3.0, 4.0]),
        lambda a: torch.rand_like(a),
    ],
    ids=["sin", "cumsum", "long", "half", "trunc", "truths", "bytes", "row", "draw"],
)
def test_other_operations_are_refused_by_one_kind_of_error(body):
    def step(current, thetas, states):
        return [body(current), states[0]]

    with pytest.raises(Unsupported):
        program = trace_step(step, 0, 1, torch.float32).forward
        emit.Emitter(wide=False).lines(program, {one.name: one.name for one in program.inputs})
