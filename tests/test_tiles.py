"""The tile schedule by the meaning of its kernels: sizes that overhang, sizes of one, every family."""

from __future__ import annotations

from dataclasses import replace

import pytest

from plait.backends.cpp.printer import print_cpp
from plait.compiler.kernels.kernel import Dot, Fold, Kernel, Let, Load, Store, Stream, Take, every
from plait.compiler.schedules.schedule import cpu_tiles
from plait.compiler.schedules.target import AVX2
from plait.dsl.program import Axis
from tiled import SMALL, agrees, kernels, read

NORM = """
  m = mean[c](x)
  s = mean[c]((x - m)**2)
  z = (x - m) / sqrt(s + 1e-6)
"""

PROGRAMS: dict[str, tuple[str, dict[str, tuple[int, ...]]]] = {
    "chain": (
        "mixer f(x[h, w], y[w]) -> z[h, w]:\n  a = x * y\n  z = exp(a) - x\n",
        {"x": (5, 13), "y": (13,)},
    ),
    "truth as a number": (
        "mixer f(x[t]) -> y[t], z[t]:\n  y = to_int(x > 0) * 1.0\n  z = to_real(x > 0) * x\n",
        {"x": (9,)},
    ),
    "one entry": ("mixer f(x[t]) -> z[t]:\n  z = x * x\n", {"x": (1,)}),
    "norm": (
        f"mixer f(x[t, c]) -> y[t, c]:\n  param w[c]\n{NORM}\n  y = z * w\n",
        {"x": (9, 7), "w": (7,)},
    ),
    "norm of sizes at run time": (f"mixer f(x[t, c]) -> y[t, c]:\n{NORM}\n  y = z\n", {"x": (9, 7)}),
    "softmax": ("mixer f(x[t, c]) -> y[t, c]:\n  y = softmax[c](x)\n", {"x": (9, 7)}),
    "softmax of a weight's size": (
        "mixer f(x[t, c]) -> y[t, c]:\n  param w[c]\n  y = softmax[c](x * w)\n",
        {"x": (9, 5), "w": (5,)},
    ),
    "linear": (
        "mixer f(x[t, c]) -> y[t, o]:\n  param w[o, c]\n  param b[o]\n  y = sum[c](w * x) + b\n",
        {"x": (9, 7), "w": (5, 7), "b": (5,)},
    ),
    "linear of one": (
        "mixer f(x[t, c]) -> y[t, o]:\n  param w[o, c]\n  y = sum[c](w * x)\n",
        {"x": (1, 1), "w": (1, 1)},
    ),
    "scaled inside": (
        "mixer f(x[t, c], g[t]) -> y[t, o]:\n  param w[o, c]\n  y = sum[c](w * x * 0.5 * g)\n",
        {"x": (9, 7), "g": (9,), "w": (5, 7)},
    ),
    "product": (
        "mixer f(x[t, c], w[o, c]) -> y[t, o]:\n  y = sum[c](w * x)\n",
        {"x": (9, 7), "w": (5, 7)},
    ),
    "block": (
        "mixer f(x[b, t, c]) -> y[b, t, c]:\n  axis e: size(c) * 4\n  param w[e, c]\n  param v[c, e]\n"
        f"  param u[e]\n{NORM}\n  h = tanh(sum[c](w * z) + u)\n  y = x + sum[e](v * h)\n",
        {"x": (2, 9, 3), "w": (12, 3), "u": (12,), "v": (3, 12)},
    ),
    "convolution": (
        "mixer f(x[b, c, h, w]) -> y[b, o, h, w]:\n  near dh, dw: 1\n  param k[o, c, dh, dw]\n  param u[o]\n"
        "  y = sum[c, dh, dw](k * x[h+dh, w+dw]) + u\n",
        {"x": (2, 3, 5, 6), "k": (5, 3, 3, 3), "u": (5,)},
    ),
    "strided": (
        "mixer f(x[b, c, h]) -> y[b, o, p]:\n  axis dh: 3\n  axis p: (size(h) + 1) // 2\n"
        "  param k[o, c, dh]\n  y = sum[c, dh](k * x[h: 2*p + dh - 1])\n",
        {"x": (2, 3, 7), "k": (5, 3, 3)},
    ),
    "grouped": (
        "mixer f(x[b, g, c, h]) -> y[b, g, o, h]:\n  near dh: 1\n  param k[g, o, c, dh]\n"
        "  y = sum[c, dh](k * (x[h+dh] otherwise 0))\n",
        {"x": (2, 3, 2, 7), "k": (3, 5, 2, 3)},
    ),
    "grouped by quotient": (
        "mixer f(x[b, c, h]) -> y[b, o, h]:\n  near dh: 1\n  axis i: 2\n  param k[o, i, dh]\n"
        "  y = sum[i, dh](k * x[c: o // 6 * 2 + i, h: h+dh])\n",
        {"x": (2, 4, 7), "k": (11, 2, 3)},
    ),
    "grouped beside what is not": (
        "mixer f(x[t, c]) -> y[t, o]:\n  axis i: 3\n  param k[o, i]\n  param v[o, c]\n"
        "  y = sum[i](k * x[c: o // 8 * 3 + i]) + sum[c](v * x) + o // 4\n",
        {"x": (9, 7), "k": (19, 3), "v": (19, 7)},
    ),
    "neighbours of a quotient": (
        "mixer f(x[t, c]) -> y[t, o]:\n  axis i: 3\n  param k[o, i]\n"
        "  y = sum[i](k * x[c: (o + 1) // 4 * 3 + i])\n",
        {"x": (9, 7), "k": (8, 3)},
    ),
    "depthwise and norm": (
        "mixer f(a[b, h, w, c]) -> y[b, h, w, c]:\n  near dh, dw: 1\n  param k[c, dh, dw]\n  param g[c]\n"
        f"  x = sum[dh, dw](k * a[h+dh, w+dw])\n{NORM}\n  y = z * g\n",
        {"a": (2, 5, 6, 3), "k": (3, 3, 3), "g": (3,)},
    ),
    "windows": (
        "mixer f(x[b, c, h, w]) -> y[b, c, h, w]:\n  near dh, dw: 1\n"
        "  y = max[dh, dw](x[h+dh, w+dw]) - mean[dh, dw](x[h+dh, w+dw])\n",
        {"x": (2, 3, 5, 6)},
    ),
    "windows that may be empty": (
        "mixer f(x[h]) -> y[h]:\n  near dh: 1\n  y = (sum[dh](x[h+dh+9]) otherwise 7) + count[dh](x[h+dh+2])\n",
        {"x": (13,)},
    ),
    "scores of a window": (
        "mixer f(x[h, d], g[h, d]) -> y[h]:\n  near dh: 1\n  s = sum[d](g * x[h+dh])\n  y = sum[dh](exp(s))\n",
        {"x": (9, 6), "g": (9, 6)},
    ),
    "a ring": (
        "mixer f(x[c, h, w]) -> y[c, h, w]:\n  near dh, dw: 1\n  param k[c, dh, dw]\n"
        "  y = sum[dh, dw](k * x[h: (h + dh) % size(h), w: (w + dw) % size(w)])\n",
        {"x": (2, 5, 6), "k": (2, 3, 3)},
    ),
    "clamped": (
        "mixer f(x[c, h]) -> y[c, h]:\n  near dh: 2\n  param k[c, dh]\n"
        "  y = sum[dh](k * x[h: clamp(h + dh, 0, size(h) - 1)])\n",
        {"x": (2, 5), "k": (2, 5)},
    ),
    "computed neighbours": (
        "mixer f(x[c, h]) -> y[c, h]:\n  near dh: 2\n  param k[c, dh]\n  z = exp(x) + h\n"
        "  y = sum[dh](k * (z[h - 2*dh] otherwise 3))\n",
        {"x": (2, 13), "k": (2, 5)},
    ),
    "by three": (
        "mixer f(x[c, h]) -> y[c, p]:\n  axis p: size(h) // 3\n  axis i: 4\n  param k[c, i]\n"
        "  y = sum[i](k * x[h: 3*p + i - 1])\n",
        {"x": (2, 31), "k": (2, 4)},
    ),
    "two windows": (
        "mixer f(x[c, h, w]) -> y[c, h, w]:\n  near dh, dw: 1\n  near u: 2\n  param k[c, dh, dw]\n"
        "  param l[c, u]\n  y = sum[dh, dw](k * x[h+dh, w+dw]) + sum[u](l * x[w+u]) * x\n",
        {"x": (2, 5, 6), "k": (2, 3, 3), "l": (2, 5)},
    ),
    "pool": ("mixer f(x[b, c, h, w]) -> y[b, c]:\n  y = mean[h, w](x)\n", {"x": (2, 3, 5, 6)}),
    "a total": ("mixer f(x[h, w]) -> y:\n  y = sum[h, w](x * x) * 3\n", {"x": (3, 13)}),
    "bias gradient": ("mixer f(g[b, c, h, w]) -> y[c]:\n  y = sum[b, h, w](g)\n", {"g": (2, 3, 5, 6)}),
    "bias gradient, channels last": (
        "mixer f(g[b, h, w, c]) -> y[c]:\n  y = sum[b, h, w](g)\n",
        {"g": (2, 5, 6, 3)},
    ),
    "depthwise weight gradient": (
        "mixer f(x[b, c, h, w], g[b, c, h, w]) -> y[c, dh, dw]:\n  near dh, dw: 1\n"
        "  y = sum[b, h, w](g * x[h+dh, w+dw])\n",
        {"x": (2, 3, 5, 6), "g": (2, 3, 5, 6)},
    ),
    "a vector's norm": ("mixer f(x[c]) -> y[c]:\n  y = x / sqrt(sum[c](x * x))\n", {"x": (13,)}),
    "a maximum of all": (
        "mixer f(x[h, w]) -> y, z:\n  y = max[h, w](x)\n  z = lse[h, w](x)\n",
        {"x": (3, 13)},
    ),
    "every fold": (
        "mixer f(x[t, c]) -> y[t]:\n  p = x > 0\n"
        "  y = prod[c](x) + min[c](x) + count[c](when(p, x)) + select(any[c](p) & ~all[c](p), 1, 2)\n",
        {"x": (9, 6)},
    ),
    "argmax": ("mixer f(x[t, c]) -> y[t]:\n  y = argmax[c](x) * 1.0\n", {"x": (9, 6)}),
    "union": (
        "mixer f(x[t, c], z[t, d]) -> y[t], m[t]:\n  y = lse[c; d](x, z)\n  m = mean[c; d](x, z)\n",
        {"x": (9, 6), "z": (9, 3)},
    ),
    "weight gradient": (
        "mixer f(x[b, t, c], g[b, t, o]) -> y[o, c]:\n  y = sum[b, t](g * x)\n",
        {"x": (2, 9, 7), "g": (2, 9, 5)},
    ),
    "square chain": (
        "mixer f(x[t, c]) -> y[t, c]:\n  like j: c\n  like i: c\n  param w[c, j]\n  param v[c, i]\n"
        "  z = tanh(sum[j](w * x[c: j]))\n  y = sum[i](v * z[c: i])\n",
        {"x": (9, 5), "w": (5, 5), "v": (5, 5)},
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_kernels_mean_the_program(name: str) -> None:
    text, shapes = PROGRAMS[name]
    agrees(text, shapes)


@pytest.mark.parametrize("name", PROGRAMS)
def test_they_mean_it_where_nothing_is_resident(name: str) -> None:
    """As on a machine that streams every reduced axis and has outputs in the grid."""
    text, shapes = PROGRAMS[name]
    agrees(text, shapes, tiles=replace(SMALL, resident=0, streamed_outputs=False, halo=False))


def test_a_stream_stands_before_one_that_does_not_change_it() -> None:
    """A GPU streams taps and hidden units: the window is computed once a tile, not once a chunk of units."""
    text = (
        "mixer f(x[c, h, w]) -> y[c, h, w]:\n  near dh, dw: 1\n  axis e = 9\n"
        "  param k[c, dh, dw]\n  param u[e, c]\n  param v[c, e]\n"
        "  d = sum[dh, dw](k * x[h+dh, w+dw])\n  z = d - mean[c](d)\n"
        "  a = tanh(sum[c](u * z))\n  y = sum[e](v * a)\n"
    )
    shapes = {"x": (4, 5, 6), "k": (4, 3, 3), "u": (9, 4), "v": (4, 9)}
    tiles = replace(SMALL, streamed_outputs=False, halo=False, taps=8)
    for found in agrees(text, shapes, tiles=tiles).values():
        streams = [each for each in every(found.body) if isinstance(each, Stream)]
        assert all(not isinstance(below, Stream) for each in streams for below in each.body)


def test_what_is_stored_of_a_sum_is_what_is_made_of_it() -> None:
    """Hidden units that every output reads are stored after their activation, which is computed once; a sum
    that is read beside it is stored itself. The factors of an activation are no factors of the product."""
    text = (
        "mixer f(x[t, c]) -> y[t, o]:\n  axis e = 9\n  param u[e, c]\n  param v[o, e]\n"
        "  z = sum[c](u * x)\n  a = 0.5 * z * (1 + erf(z))\n  y = sum[e](v * a)\n"
    )
    shapes = {"x": (5, 4), "u": (9, 4), "v": (7, 9)}
    streamed = replace(SMALL, resident=0, streamed_outputs=False, halo=False)
    activated, result = agrees(text, shapes, tiles=streamed).values()
    assert any(isinstance(each, Let) and each.op == "erf" for each in activated.body)
    assert {each.name for each in result.buffers} == {"v", "a", "y"}
    both = text.replace("-> y[t, o]", "-> y[t, o], r[t]") + "  r = max[e](z)\n"
    assert {"y", "r", "z"} == agrees(both, shapes, tiles=streamed).keys()


def kernel(name: str) -> Kernel:
    """The one kernel of a program."""
    text, shapes = PROGRAMS[name]
    (found,) = agrees(text, shapes).values()
    return found


def test_a_kernel_reads_what_earlier_ones_stored() -> None:
    """f goes before the sum of `scaled` inside its kernel, and leaves a sum that another kernel stores, later."""
    program = read(
        "mixer scaled(x[h, c], g[h, c]) -> scaled[h], own[h, c]:\n  f = sum[c](x)\n  scaled = sum[c](x * f * g)\n"
        "  own = x - sum[c](x * g) + f\n"
    )
    there = {each.leaf.name for each in program.declarations}
    for made in kernels(program, {Axis("h"): 5, Axis("c"): 3})[1].values():
        assert {each.name for each in made.kernel.buffers if each.role == "in"} <= there, made.kernel.name
        there |= {each.name for each in made.kernel.buffers if each.role == "out"}


def test_a_norm_is_one_kernel_that_loads_once() -> None:
    found = list(every(kernel("norm").body))
    assert sum(isinstance(each, Load) and each.buffer == "x" for each in found) == 1
    assert sum(isinstance(each, Fold) for each in found) == 2
    assert not any(isinstance(each, Stream) for each in found)


def test_channels_that_fill_a_tile_are_its_lanes() -> None:
    """Shared with the axis before them, most lanes would be empty where that has one entry (GRN: half the time)."""
    text = "mixer f(x[b, h, c]) -> z[b]:\n  param g[c]\n  y = g * sum[h](x * x)\n  z = sum[c](exp(y))\n"
    made = agrees(text, {"x": (3, 5, 35), "g": (35,)})
    assert [each.lanes for each in made.values()] == [("c",), ("b",)]
    narrow = agrees(text, {"x": (3, 5, 5), "g": (5,)})
    assert [each.lanes for each in narrow.values()] == [("b", "c"), ("b",)]


def test_a_linear_map_streams_its_outputs() -> None:
    (stream,) = (each for each in kernel("linear").body if isinstance(each, Stream))
    assert stream.carries == ()
    assert isinstance(stream.body[-1], Store)
    assert {each.buffer for each in stream.body if isinstance(each, Load)} == {"w", "b"}


def test_outputs_of_one_group_are_a_block() -> None:
    """Their weights are rows of a product with what the group reads, which no output makes anew."""
    (stream,) = (each for each in kernel("grouped by quotient").body if isinstance(each, Stream))
    assert [axis.step for axis in stream.axes] == [6]
    (dot,) = (each for each in stream.body if isinstance(each, Dot))
    (read,) = (each for each in stream.body if isinstance(each, Load) and each.buffer == "x")
    output = stream.axes[0].name
    assert output in dot.axes
    assert output not in read.axes


def test_a_depthwise_window_is_a_product_of_taps() -> None:
    """Not a fold of products that are each chosen by the border: the mask stands beside the sum."""
    text = (
        "mixer f(x[b, c, h, w]) -> y[b, c, h, w]:\n  near dh, dw: 1\n  param k[c, dh, dw]\n"
        "  y = tanh(sum[dh, dw](k * x[h+dh, w+dw]))\n"
    )
    (found,) = agrees(text, {"x": (2, 3, 5, 6), "k": (3, 3, 3)}, tiles=cpu_tiles(32, 8)).values()
    (dot,) = (each for each in found.body if isinstance(each, Dot))
    (take,) = (each for each in found.body if isinstance(each, Take))
    assert take.name in (dot.left, dot.right)
    source = print_cpp([found], AVX2)
    assert "stencil<3, " in source[source.index("namespace of_") :], (
        "an activation does not part it from its rows"
    )


def test_a_block_of_two_maps_is_one_kernel() -> None:
    dots = [each for each in every(kernel("block").body) if isinstance(each, Dot)]
    assert len(dots) == 2


def test_a_window_over_present_keys_needs_no_bool() -> None:
    """The centre tap is always there: proved, so nothing is counted or masked for it."""
    found = list(every(kernel("depthwise and norm").body))
    assert {each.op for each in found if isinstance(each, Fold)} == {"sum"}


WINDOWS = ["convolution", "depthwise and norm", "a ring", "clamped", "computed neighbours", "two windows"]


@pytest.mark.parametrize("name", WINDOWS)
def test_windows_are_taken_from_a_tile_with_its_halo(name: str) -> None:
    """Inputs are read at no tap, and what is computed of them is computed once an entry."""
    found = kernel(name)
    taps = {axis.name for axis in found.locals if axis.name.startswith(("dh", "dw", "u"))}
    statements = list(every(found.body))
    assert any(isinstance(each, Take) for each in statements)
    assert not any(
        isinstance(each, Load) and each.buffer == "x" and taps & set(each.axes) for each in statements
    )
    exps = [each for each in statements if isinstance(each, Let) and each.op == "exp"]
    assert not any(taps & set(each.axes) for each in exps)
