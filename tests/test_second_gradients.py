"""First and second gradients of windows at steps other than one: of the interpreter by differences, and of kernels
by the interpreter. Steps are numbers, sizes of the call, and digits of a coordinate (parity, residues)."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import pytest
import torch
from _pytest.mark import ParameterSet
from torch import Tensor

from agreement import agree, run_on
from differences import check_gradient, random_tensors, with_cotangents
from plait.compiler.gradient.derive import gradient
from plait.compiler.gradient.tangent import apart
from plait.dsl.program import Place, Program
from plait.dsl.shapes.sizes import bind_sizes
from tiled import read

ATTENTION = """
mixer f(q[t, d], k[t, d], v[t, d]{more}) -> o[t, d]:
{axes}
  s = sum[d](q * k[t: {at}])
  o = sum[i](softmax[i{where}](s) * v[t: {at}]) otherwise 0
"""
STENCIL = """
mixer f(x[t, d]{more}) -> o[t, d]:
{axes}
  param w[i, d]
  m = sum[i{where}](w * x[t: {at}]) otherwise 0
  o = m * tanh(m)
"""
TWICE = """
mixer f(x[t, d]) -> o[t, d]:
  near i, j: 1
  param w[i, d]
  param u[j]
  m = sum[i, j](w * u * x[t: {inner}][t: {outer}]) otherwise 0
  o = m * tanh(m)
"""
Case = tuple[str, str, str, str]
NEAR, CLASS = (
    "  near i: 1",
    "  axis i = 3\n  start = clamp(t//{0} - 1, 0, (size(t) - t%{0} + {0} - 1)//{0} - 3)",
)
NUMBERS: dict[str, Case] = {
    "off the centre, backwards": ("", NEAR, "t - 3*i + 1", ""),
    "clamped": ("", NEAR, "clamp(t + 3*i, 0, size(t) - 1)", ""),
    "round a circle": ("", NEAR, "(t + 2*i) % size(t)", ""),
    "reflected": ("", NEAR, "reflect(t + 2*i, size(t))", ""),
}
SIZED: dict[str, Case] = {
    "a size": (", r[g]", NEAR, "t + size(g)*i", ""),
    "a size, backwards": (", r[g]", NEAR, "t - size(g)*i - 1", ""),
    "a product of sizes": (", r[g, e]", NEAR, "t + size(g)*size(e)*i", ""),
    "a size, clamped": (", r[g]", NEAR, "clamp(t + size(g)*i, 0, size(t) - 1)", ""),
    "a size, round a circle": (", r[g]", NEAR, "(t + size(g)*i) % size(t)", ""),
}
CLASSES: dict[str, Case] = {
    "of its parity": ("", CLASS.format(2), "2*(start + i) + t%2", ""),
    "of its residue": ("", CLASS.format(3), "3*(start + i) + t%3", ""),
    "of the class at an offset": ("", NEAR, "2*(t//2 + i) + t%2", ""),
    "of the other parity": ("", NEAR, "2*(t//2 + i) + 1 - t%2", ""),
}
KEYS: dict[str, Case] = {
    "every key of its residue": ("", "  like i: t", "i", " | (t - i) % 3 == 0"),
    "every key of a size's residue": (", r[g]", "  like i: t", "i", " | (i <= t) & ((t - i) % size(g) == 0)"),
}
WINDOWS = NUMBERS | SIZED | CLASSES
TWO = {
    "two steps": ("t + 2*i", "t - 5*j + 1"),
    "two circles": ("(t + 2*i) % size(t)", "(t + 3*j) % size(t)"),
    "a circle at steps": ("(t + 2*i) % size(t)", "(2*t + 3*j) % size(t)"),
    "two clamps": ("clamp(t + 2*i, 0, size(t) - 1)", "clamp(t + 3*j, 0, size(t) - 1)"),
}
SIZES = {"g": 3, "e": 2, "d": 2}


def written(text: str, case: Case) -> Program:
    more, axes, at, where = case
    return read(text.format(more=more, axes=axes, at=at, where=where))


def tensors_of(program: Program, length: int) -> dict[str, Tensor]:
    sizes = {"t": length, **SIZES}
    axes = {axis for each in program.declarations for axis in each.leaf.over if axis.name in sizes}
    return random_tensors(program, {axis: sizes[axis.name] for axis in axes} | dict(program.fixed))


def second(program: Program, length: int) -> tuple[Program, dict[str, Tensor]]:
    """The gradient of the gradient, and its tensors. Both orders are held to differences, and nothing scatters."""
    tensors = tensors_of(program, length)
    sizes = bind_sizes(program, {name: tuple(each.shape) for name, each in tensors.items()})
    derived, given = check_gradient(program, tensors, sizes)
    again, given = check_gradient(apart(derived), given, sizes)
    assert not any(isinstance(form, Place) for form in (*derived.forms, *again.forms))
    return again, given


def kept(cases: Iterable[str], every: Collection[str]) -> list[ParameterSet]:
    """The cases, of which all but `every` run in `make test-all` only."""
    return [pytest.param(name, marks=[] if name in every else pytest.mark.slow) for name in cases]


@pytest.mark.parametrize("length", [pytest.param(1, marks=pytest.mark.slow), 7])
@pytest.mark.parametrize("name", WINDOWS)
def test_stencils(name: str, length: int) -> None:
    second(written(STENCIL, WINDOWS[name]), length)


@pytest.mark.parametrize("name", TWO)
def test_windows_of_windows(name: str) -> None:
    """The borders of one lie inside the other."""
    inner, outer = TWO[name]
    second(read(TWICE.format(inner=inner, outer=outer)), 7)


@pytest.mark.parametrize("length", [pytest.param(1, marks=pytest.mark.slow), 7])
@pytest.mark.parametrize("name", kept(WINDOWS | KEYS, ("round a circle", "a size", *KEYS)))
def test_attention(name: str, length: int) -> None:
    second(written(ATTENTION, (WINDOWS | KEYS)[name]), length)


# --- kernels


@pytest.mark.parametrize("name", kept(WINDOWS, ("off the centre, backwards", "a size", "of its parity")))
def test_kernels_of_stencils(name: str) -> None:
    kernels(written(STENCIL, WINDOWS[name]), 7)


@pytest.mark.parametrize("name", kept(WINDOWS | KEYS, ("a size",)))
def test_kernels_of_attention(name: str) -> None:
    kernels(written(ATTENTION, (WINDOWS | KEYS)[name]), 7)


def kernels(program: Program, length: int) -> None:
    """The C++ kernels of the second gradient mean what it means."""
    tensors = tensors_of(program, length)
    for _ in range(2):
        derived = gradient(program)
        sizes = bind_sizes(program, {name: tuple(each.shape) for name, each in tensors.items()})
        tensors = with_cotangents(program, derived, tensors, sizes)
        program = apart(derived)
    agree(run_on("cpp", program, tensors), program, tensors, torch.float64)
