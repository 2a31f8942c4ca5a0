"""Windows at steps other than one: each class of coordinates modulo the step is a stream of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import plait
from agreement import nearly
from interpreting import Interpreting
from plait.backends.compiled import BackendName, Compiled
from plait.compiler.gradient.derive import gradient
from plait.compiler.kernels.kernel import Kernel, Stream
from plait.compiler.meaning.interpret import interpret
from plait.compiler.report.notes import schedule
from plait.compiler.rewrites.affine import normal, unturned
from plait.dsl.constructors.build import apply
from plait.dsl.program import Axis, Const, Coordinate, Map, Program, Size
from tiled import kernels, meant, numbers_of, read

ALONG = """
mixer f(q[t, d], k[t, d], v[t, d]) -> o[t, d]:
  near dt: 2
  s = sum[d](q * k[t: {at}])
  o = sum[dt](softmax[dt](s) * v[t: {at}]) otherwise 0
"""
PLANE = """
mixer f(q[h, w, d], k[h, w, d], v[h, w, d]) -> o[h, w, d]:
  near dh, dw: 1
  param table[dh, dw]
  s = sum[d](q * k[h+2*dh, w+3*dw]) + table
  p = softmax[dh, dw | (dh*dh + dw*dw < 2) & (h + 2*dh <= h)](s)
  o = sum[dh, dw](p * v[h+2*dh, w+3*dw]) otherwise 0
"""
NEIGHBOURS = """
mixer f(q[t, d], k[t, d], v[t, d]) -> o[t, d]:
  axis i = 3
  start = clamp(t//2 - 1, 0, (size(t) - t%2 + 1)//2 - 3)
  s = sum[d](q * k[t: 2*(start+i) + t%2])
  o = sum[i](softmax[i](s) * v[t: 2*(start+i) + t%2]) otherwise 0
"""
STRIDED = """
mixer f(q[t, d], k[t, d], v[t, d]) -> o[t, d]:
  like s: t
  a = sum[d](q * k[t: s])
  o = sum[s](softmax[s | (s <= t) & ((t - s) % 4 == {rest})](a) * v[t: s]) otherwise 0
"""
SIZED = """
mixer f(q[t, d], k[t, d], v[t, d], steps[g]) -> o[t, d]:
  near i: 1
  s = sum[d](q * k[t: t + size(g)*i])
  o = sum[i](softmax[i](s) * v[t: t + size(g)*i]) otherwise 0
"""


def agreed(program: Program, shapes: dict[str, tuple[int, ...]]) -> list[Kernel]:
    """Assert that the kernels of a program mean what it means; return them."""
    generator = torch.Generator().manual_seed(5)
    given = {each.leaf.name: shapes[each.leaf.name] for each in program.declarations}
    tensors = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in given.items()
    }
    found = meant(program, tensors)
    for name, value in interpret(program, tensors).items():
        nearly(found[name].reshape(value.shape), value, max(each.numel() for each in tensors.values()))
    return [each.kernel for each in kernels(program, numbers_of(program, given))[1].values()]


def streams(kernel: Kernel) -> Iterator[Stream]:
    return (each for each in kernel.body if isinstance(each, Stream))


def both(text: str, sides: tuple[int, ...]) -> list[Kernel]:
    """The kernels of a program of attention and of its gradient, which agree with their meaning."""
    program = read(text)
    shapes = dict.fromkeys(("q", "k", "v", "cot.o"), (*sides, 3)) | {"table": (3, 3)}
    return [*agreed(program, shapes), *agreed(gradient(program), shapes)]


@pytest.mark.parametrize("size", [1, 17])
@pytest.mark.parametrize("at", ["t+2*dt", "t-3*dt", "t+3*dt+2", "2*t+4*dt", "t+9*dt-1"])
def test_one_axis(at: str, size: int) -> None:
    """Off the centre, backwards, at steps longer than the axis; 17 is one more than two tiles."""
    forward, *rest = both(ALONG.format(at=at), (size,))
    assert any(streams(forward))
    assert at.startswith("2*t") or all(any(streams(each)) for each in rest)


@pytest.mark.parametrize("sides", [(1, 1), (3, 7)])
def test_two_axes(sides: tuple[int, int]) -> None:
    forward, *_ = both(PLANE, sides)
    assert any(streams(forward))
    assert [axis.name for axis in forward.grid] == ["h_residue", "w_residue", "h_place", "w_place"]


@pytest.mark.parametrize("size", [6, 7, 19])
def test_clamped_windows_of_a_class(size: int) -> None:
    found = both(NEIGHBOURS, (size,))
    assert len(found) == 5, "dk and dv pass the same queries"
    assert all(any(streams(each)) for each in found)


@pytest.mark.parametrize(("size", "rest"), [(1, 0), (3, 0), (18, 3)])
def test_a_predicate_of_residues(size: int, rest: int) -> None:
    """Only keys of one residue pass, and nothing tests it."""
    forward, *_ = both(STRIDED.format(rest=rest), (size,))
    assert " == " not in str(forward).partition("stream")[0] and any(streams(forward))


def printed(backend: BackendName, text: str) -> tuple[torch.Tensor, torch.Tensor]:
    """What a backend computes, and what is right."""
    program, generator = read(text), torch.Generator().manual_seed(5)
    side = (9, 7) if text == PLANE else (17,)
    shapes = dict.fromkeys("qkv", (*side, 3)) | {"table": (3, 3), "steps": (5,)}
    tensors = {
        each.leaf.name: torch.randn(shapes[each.leaf.name], generator=generator)
        for each in program.declarations
    }
    found = Compiled(program, backend=backend, on_unfused="quiet").run(tensors)["o"]
    return found, interpret(program, {name: each.double() for name, each in tensors.items()})["o"]


@pytest.mark.parametrize("text", [PLANE, SIZED], ids=["numbers", "a size"])
def test_printed_in_cpp(text: str) -> None:
    """Classes of other lengths, tiles without a query; queries of a class as many apart as the call says."""
    nearly(*printed("cpp", text))


@pytest.mark.parametrize("text", [PLANE, SIZED], ids=["numbers", "a size"])
def test_printed_in_triton(text: str, triton: Interpreting) -> None:
    nearly(*triton.call(printed, "triton", text))


def test_quotients_and_remainders() -> None:
    """What is a multiple leaves both, a rest below the divisor one of them; anything else stays."""
    h, two = Coordinate(Axis("h")), Const(2)
    r = apply("mod", Coordinate(Axis("w")), two)
    place = apply("add", apply("mul", two, h), r)
    assert normal(apply("floordiv", place, two)) == h
    assert normal(apply("mod", place, two)) == r
    more = apply("add", place, Const(1))
    assert normal(apply("floordiv", more, two)) == Map("floordiv", (normal(more), two))
    whole = apply("add", apply("mul", two, apply("floordiv", h, two)), apply("mod", h, two))
    assert normal(whole) == h
    i, round_ = Coordinate(Axis("i")), Size(h.axis)
    back = apply("mod", apply("sub", h, i), round_)
    assert normal(apply("mod", apply("add", back, i), round_)) == h
    thrice = apply("add", apply("mul", Const(3), back), apply("mul", Const(3), i))
    assert normal(unturned(apply("sub", thrice, apply("mul", Const(2), h)), round_)) == h
    offset = Coordinate(Axis("near", 1, Const(-1), Const(3)))
    assert normal(apply("mod", offset, Const(3))) == Map("mod", (offset, Const(3))), "-1 % 3 is 2"


def test_what_is_said_of_it() -> None:
    shapes: dict[str, tuple[int, ...]] = {**dict.fromkeys("qkv", (3, 7, 3)), "table": (3, 3)}
    forward, *_ = agreed(read(PLANE), shapes)
    said = "a tile at steps of 2 from h_residue and 3 from w_residue on, at which its keys are neighbours"
    assert said in dict(schedule(forward))["schedule"]


def test_a_formula_counts_every_class_as_the_longest() -> None:
    text = str(plait.compile(read(PLANE)).explain())
    assert "*floor(h/2 + 1/2)*floor(w/3 + 2/3)\n" in text
