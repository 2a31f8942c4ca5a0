"""The elementary functions of backends/cpp/math.h and its storage in 16 bits, on vectors.

Every function runs on a dense sweep, on special values and on random bit patterns, in the records AVX2
and BASELINE, and is compared with a reference of more digits: numpy's long double, mpmath for erf.
"""

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from plait.backends.budget import OPERATION, POWER, unit
from plait.backends.cpp.build import build
from plait.backends.cpp.emit import HEADER
from plait.compiler.meaning.partial import NO_INTEGER
from plait.compiler.schedules.target import AVX2, BASELINE, CpuTarget, this_cpu

Array = NDArray[np.floating]
Function = Callable[[Array], Array]

RECORDS = [
    pytest.param(AVX2, marks=pytest.mark.skipif(this_cpu().vector_bytes < 32, reason="no AVX2"), id="avx2"),
    pytest.param(BASELINE, id="baseline"),
]
REALS = [np.float32, np.float64]
pytestmark = pytest.mark.usefixtures("optimised")
BOUNDS: dict[type, float] = {
    np.float32: OPERATION * unit(torch.float32),
    np.float64: OPERATION * unit(torch.float64),
}
"""Relative, of every function: what the budget says of one operation. Those of one argument reach 3 units; a power
of doubles counts for two operations."""

LONG = np.longdouble
needs_long = pytest.mark.skipif(np.finfo(LONG).nmant < 63, reason="long double has no digits to spare")


def sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return np.where(x < 0, small, 1) / (1 + small)


REFERENCES: dict[str, Function] = {
    "vexp": np.exp,
    "vexpm1": np.expm1,
    "vlog": np.log,
    "vlog1p": np.log1p,
    "vsqrt": np.sqrt,
    "vsin": np.sin,
    "vcos": np.cos,
    "vtanh": np.tanh,
    "vsigmoid": sigmoid,
    "vfloor": np.floor,
    "vceil": np.ceil,
    "vtrunc": np.trunc,
    "vround": np.rint,
}

LOOP = """
extern "C" void run_{0}(const {1} *a, {2} *r, long n) {{
  for (long i = 0; i < n; i += LANES) store(r + i, {3}(load(a + i)));
}}"""
PAIRS = """
extern "C" void run_vpow(const real *a, const real *b, real *r, long n) {
  for (long i = 0; i < n; i += LANES) store(r + i, vpow(load(a + i), load(b + i)));
}"""
ALONE = """
extern "C" void one_{0}(const {1} *a, {2} *r, long n) {{ for (long i = 0; i < n; i++) r[i] = a[i]; }}"""


@functools.cache
def library(target: CpuTarget, real: type) -> ctypes.CDLL:
    """Every function as a loop over vectors."""
    name, whole = ("float", "int") if real is np.float32 else ("double", "long")
    defines = {
        "PLAIT_BYTES": target.vector_bytes,
        "PLAIT_REAL": name,
        "PLAIT_INT": whole,
        "PLAIT_NO_INTEGER": f"({NO_INTEGER}L)",
    }
    text = "".join(f"#define {key} {value}\n" for key, value in defines.items()) + HEADER + PAIRS
    text += "".join(LOOP.format(each, "real", "real", each) for each in (*REFERENCES, "verf"))
    for each in ("bf16", "f16"):
        text += LOOP.format(f"widen_{each}", each, "real", "") + LOOP.format(
            f"narrow_{each}", "real", each, ""
        )
        text += ALONE.format(f"widen_{each}", each, "real") + ALONE.format(f"narrow_{each}", "real", each)
    return ctypes.CDLL(str(Path(build(text, target))))


def address(array: NDArray[np.generic]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def run(target: CpuTarget, name: str, *arrays: Array) -> Array:
    """The function on whole vectors: the arrays are filled up with ones."""
    real, count = arrays[0].dtype.type, len(arrays[0])
    padded = [np.concatenate([array, np.ones(-count % 16, real)]) for array in arrays]
    out = np.empty_like(padded[0])
    entry = getattr(library(target, real), f"run_{name}")
    entry(*map(address, padded), address(out), ctypes.c_long(len(out)))
    return out[:count]


def errors(made: Array, exact: Array) -> Array:
    """Relative errors; 0 where the result is the rounded one, or within one subnormal step of it."""
    real = made.dtype.type
    with np.errstate(all="ignore"):
        rounded = exact.astype(real)
        apart = np.abs(made.astype(LONG) - exact)
        same = (made == rounded) | (np.isnan(made) & np.isnan(rounded))
        step = 1.01 * LONG(np.finfo(real).smallest_subnormal)
        relative = np.where(same | (apart <= step), 0, apart / np.abs(exact))
    return np.where(np.isnan(relative), np.inf, relative)


def special(real: type) -> Array:
    """Ends of ranges and of branches, and beyond."""
    info = np.finfo(real)
    whole = [1, 2, 0.5, 1.5, 2.5, 3.5, 2.0**22 + 0.5, 2.0**23 - 0.5, 2.0**23, 2.0**52 - 0.5, 2.0**52, 2.0**60]
    ends = [info.max, info.tiny, info.tiny / 2, info.smallest_subnormal, np.inf, 0.0]
    bends = [
        3.92,
        6,
        88.7,
        88.8,
        104,
        709.7,
        709.8,
        745.2,
        6000,
        6001,
        1e6,
        1.1e6,
        1e22,
        np.sqrt(0.5),
        np.sqrt(2),
    ]
    with np.errstate(over="ignore"):
        some = np.array([*whole, *ends, *bends], real)
        near = [some, np.nextafter(some, real(0)), np.nextafter(some, real(np.inf))]
    signed = np.concatenate([*near, *(-each for each in near)])
    return np.concatenate([signed, np.array([np.nan, -np.nan], real)])


def sweep(real: type) -> Array:
    turns = (np.arange(1, 3800) * np.pi / 2).astype(real)
    near = [turns, np.nextafter(turns, real(0)), np.nextafter(turns, real(1e9))]
    lines = [np.linspace(-reach, reach, 20011) for reach in (1e-3, 1, 8, 120, 760)]
    scales = np.logspace(-44, 38, 20011)
    return np.concatenate([*near, *lines, scales, -scales, 1 + np.linspace(-1e-3, 1e-3, 5003)], dtype=real)


def random_bits(real: type, count: int) -> Array:
    whole = np.int32 if real is np.float32 else np.int64
    limits = np.iinfo(whole)
    drawn = np.random.default_rng(5).integers(limits.min, limits.max, count, dtype=whole, endpoint=True)
    return drawn.view(real)


@functools.cache
def arguments(real: type) -> Array:
    return np.concatenate([special(real), sweep(real), random_bits(real, 100_003)])


@needs_long
@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("target", RECORDS)
def test_functions_are_within_their_bound_everywhere(target: CpuTarget, real: type, name: str) -> None:
    given = arguments(real)
    made = run(target, name, given)
    with np.errstate(all="ignore"):
        exact = REFERENCES[name](given.astype(LONG))
    wrong = errors(made, exact)
    at = int(np.argmax(wrong))
    assert wrong[at] < BOUNDS[real], (given[at], made[at], exact[at])
    there = ~np.isnan(made)
    assert (np.signbit(made) == np.signbit(exact))[there].all(), "zeros have their sign too"


@needs_long
@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("target", RECORDS)
def test_erf_is_within_its_bound(target: CpuTarget, real: type) -> None:
    line = np.concatenate([np.linspace(-7, 7, 1501), np.logspace(-40, 0.8, 501)]).astype(real)
    given = np.concatenate([special(real), line, random_bits(real, 500)])
    given = given[np.isfinite(given)]
    mpmath.mp.dps = 25
    exact = np.array([LONG(mpmath.nstr(mpmath.erf(float(x)), 22)) for x in given])
    made = run(target, "verf", given)
    wrong = errors(made, exact)
    at = int(np.argmax(wrong))
    assert wrong[at] < BOUNDS[real], (given[at], made[at], exact[at])
    assert (np.abs(made) <= 1).all()
    ends = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0], real)
    np.testing.assert_array_equal(run(target, "verf", ends), np.array([1, -1, np.nan, 0.0, -0.0], real))
    assert np.signbit(run(target, "verf", ends)[4])


@pytest.mark.parametrize("target", RECORDS)
def test_erf_of_floats_agrees_with_float64_densely(target: CpuTarget) -> None:
    given = arguments(np.float32)
    with np.errstate(invalid="ignore"):
        exact = torch.erf(torch.from_numpy(given.astype(np.float64))).numpy()
    assert errors(run(target, "verf", given), exact.astype(LONG)).max() < BOUNDS[np.float32]


@needs_long
@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("target", RECORDS)
def test_powers_are_within_their_bound(target: CpuTarget, real: type) -> None:
    drawn = np.random.default_rng(7)
    bases = [np.exp(drawn.normal(size=30011) * 3), drawn.uniform(0.5, 2, 30011), random_bits(real, 30011)]
    powers = [drawn.normal(size=30011) * 8, drawn.normal(size=30011) * 100, drawn.permutation(bases[2])]
    few = np.array([0, -0.0, 1, -1, 2, 3, 0.5, -0.5, -2, -3, 1e30, np.inf, -np.inf, np.nan], real)
    pairs = np.repeat(np.stack(np.meshgrid(few, few)).reshape(2, -1), 16, axis=1)
    mixed = np.where(np.arange(4096) % 3 == 0, 0, drawn.uniform(0.01, 3, 4096))
    with np.errstate(all="ignore"):
        a = np.concatenate([*bases, pairs[0], mixed], dtype=real)
        b = np.concatenate([*powers, pairs[1], np.full(4096, 1.7)], dtype=real)
        exact = np.power(a.astype(LONG), b.astype(LONG))
    made = run(target, "vpow", a, b)
    wrong = errors(made, exact)
    at = int(np.argmax(wrong))
    most = BOUNDS[real] * (POWER if real is np.float64 else 1)
    assert wrong[at] < most, (a[at], b[at], made[at], exact[at])


# --- storage in 16 bits

HALVES = [("bf16", torch.bfloat16), ("f16", torch.float16)]
FORMS = ["run", "one"]


def converted(
    target: CpuTarget, real: type, entry: str, given: torch.Tensor, out: torch.Tensor
) -> torch.Tensor:
    call = getattr(library(target, real), entry)
    call(ctypes.c_void_p(given.data_ptr()), ctypes.c_void_p(out.data_ptr()), ctypes.c_long(len(out)))
    return out


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("name", "dtype"), HALVES)
@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("target", RECORDS)
def test_every_half_is_widened_to_its_value(
    target: CpuTarget, real: type, name: str, dtype: torch.dtype, form: str
) -> None:
    every = torch.arange(65536, dtype=torch.int32).to(torch.uint16).view(dtype)
    wide = torch.float32 if real is np.float32 else torch.float64
    made = converted(target, real, f"{form}_widen_{name}", every, torch.empty(65536, dtype=wide))
    torch.testing.assert_close(made, every.to(wide), rtol=0, atol=0, equal_nan=True)
    assert torch.equal(made.signbit(), every.to(wide).signbit())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("name", "dtype"), HALVES)
@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("target", RECORDS)
def test_reals_are_narrowed_to_nearest_even(
    target: CpuTarget, real: type, name: str, dtype: torch.dtype, form: str
) -> None:
    every = torch.arange(65536, dtype=torch.int32).to(torch.uint16).view(dtype).float().view(torch.int32)
    ties = torch.cat([every + offset for offset in (0, 0xFFF, 0x1000, 0x1001, 0x7FFF, 0x8000, 0x8001)])
    drawn = torch.from_numpy(random_bits(np.float32, 1 << 18).view(np.int32))
    given = torch.cat([ties, drawn]).view(torch.float32)
    made = converted(
        target, real, f"{form}_narrow_{name}",
        given.to(torch.float32 if real is np.float32 else torch.float64), torch.empty(len(given), dtype=dtype),
    )  # fmt: skip
    nothing = given.isnan()
    assert made[nothing].isnan().all()
    meant = given.to(dtype)
    assert torch.equal(made[~nothing].view(torch.int16), meant[~nothing].view(torch.int16))
