"""What is absent reaches nothing, not even where it is NaN or infinite: the kernels, and the C++ that is printed
of them, give NaN, infinities and finite numbers exactly where the interpreter does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product

import pytest
import torch
from torch import Tensor

from kernel_families import FAMILIES
from plait.backends.compiled import Compiled
from plait.compiler.gradient.derive import gradient
from plait.compiler.meaning.interpret import interpret
from plait.dsl.program import Program
from precisions import bound
from strategies import Example, drawn
from tiled import meant, read

Shapes = Mapping[str, tuple[int, ...]]
NAN, INF = float("nan"), float("inf")
VALUES = (NAN, INF, -INF)

ATTENTION: dict[str, tuple[str, Shapes]] = {
    "causal": (
        "mixer f(q[n, d=5], k[m, d], v[m, e=6]) -> o[n, e]:\n"
        "  p = softmax[m | m <= n](sum[d](q * k))\n  o = sum[m](p * v)\n",
        {"q": (37, 5), "k": (41, 5), "v": (41, 6)},
    ),
    "documents": (
        "mixer f(q[n, d=5], k[m, d], v[m, e=6], a[n]: int, b[m]: int) -> o[n, e]:\n"
        "  p = softmax[m | a == b](sum[d](q * k))\n  o = sum[m](p * v) otherwise 0\n",
        {"q": (37, 5), "k": (41, 5), "v": (41, 6), "a": (37,), "b": (41,)},
    ),
    "documents by reals": (
        "mixer f(q[n, d=5], k[m, d], v[m, e=6], a[n], b[m]) -> o[n, e]:\n"
        "  p = softmax[m | a * 2 + 1 < exp(b)](sum[d](q * k))\n  o = sum[m](p * v) otherwise 0\n",
        {"q": (37, 5), "k": (41, 5), "v": (41, 6), "a": (37,), "b": (41,)},
    ),
    "a disc": (
        "mixer f(q[b, h, w, d=4], k[b, h, w, d], v[b, h, w, d]) -> o[b, h, w, d]:\n  near dh, dw: 2\n"
        "  s = sum[d](q * k[h+dh, w+dw]) * 0.5\n  p = softmax[dh, dw | dh*dh + dw*dw < 5](s)\n"
        "  o = sum[dh, dw](p * v[h+dh, w+dw])\n",
        {"q": (2, 7, 9, 4), "k": (2, 7, 9, 4), "v": (2, 7, 9, 4)},
    ),
    "weights of keys": (
        "mixer f(q[n, d=3], k[m, d], v[m]) -> o[n]:\n"
        "  p = softmax[m | m > n - 3 & m <= n](sum[d](q * k))\n  o = sum[m](p * v)\n",
        {"q": (33, 3), "k": (33, 3), "v": (33,)},
    ),
    "a union": (
        "mixer f(q[b, h, w, d=4], k[b, h, w, d], v[b, h, w, d], r[b, n, d], u[b, n, d], z[b]) -> o[b, h, w, d]:\n"
        "  near dh, dw: 1\n  s = when(dh*dh + dw*dw < 2, sum[d](q * k[h+dh, w+dw]))\n  t = sum[d](q * r)\n"
        "  top = lse[dh, dw; n; ](s, t, z)\n"
        "  o = sum[dh, dw; n](exp(s - top) * v[h+dh, w+dw], exp(t - top) * u)\n",
        {"q": (2, 5, 9, 4), "k": (2, 5, 9, 4), "v": (2, 5, 9, 4), "r": (2, 7, 4), "u": (2, 7, 4), "z": (2,)},
    ),
    "keys at even places": (
        "mixer f(q[n, d=3], k[m, d], v[m, d]) -> o[n, d]:\n"
        "  p = softmax[m | m % 2 == 0 & m <= n](sum[d](q * k))\n  o = sum[m](p * v)\n",
        {"q": (33, 3), "k": (33, 3), "v": (33, 3)},
    ),
}

SUMS: dict[str, tuple[str, Shapes]] = {
    "dense convolution": (
        "mixer f(x[b, c, h, w]) -> y[b, o, h, w]:\n  near dh, dw: 1\n  param k[o, c, dh, dw]\n"
        "  y = sum[c, dh, dw](k * x[h+dh, w+dw])\n",
        {"x": (2, 3, 7, 9), "k": (5, 3, 3, 3)},
    ),
    "strided convolution": (
        "mixer f(x[b, h, c]) -> y[b, p, o]:\n  axis dh: 3\n  axis p: (size(h) + 1) // 2\n"
        "  param k[o, c, dh]\n  y = sum[c, dh](k * x[h: 2*p + dh - 1])\n",
        {"x": (2, 19, 3), "k": (5, 3, 3)},
    ),
    "depthwise": (
        "mixer f(x[b, c, h, w]) -> y[b, c, h, w]:\n  near dh, dw: 1\n  param k[c, dh, dw]\n"
        "  y = sum[dh, dw](k * x[h+dh, w+dw])\n",
        {"x": (2, 3, 9, 17), "k": (3, 3, 3)},
    ),
    "depthwise and mean": (
        "mixer f(x[b, h, w, c]) -> y[b, h, w, c]:\n  near dh, dw: 1\n  param k[c, dh, dw]\n"
        "  z = sum[dh, dw](k * x[h+dh, w+dw])\n  y = z - mean[c](z) * 0.5\n",
        {"x": (2, 9, 10, 3), "k": (3, 3, 3)},
    ),
    "grouped convolution": (
        "mixer f(x[b, c, h]) -> y[b, o, h]:\n  near dh: 1\n  axis i: 2\n  param k[o, i, dh]\n"
        "  y = sum[i, dh](k * x[c: o // 3 * 2 + i, h: h + dh]) otherwise 0\n",
        {"x": (2, 4, 19), "k": (6, 2, 3)},
    ),
    "grouped convolution in blocks": (
        "mixer f(x[b, c, h, w]) -> y[b, o, h, w]:\n  near dh, dw: 1\n  axis i: 8\n  param k[o, i, dh, dw]\n"
        "  y = sum[i, dh, dw](k * x[c: o // 8 * 8 + i, h: h + dh, w: w + dw]) otherwise 0\n",
        {"x": (1, 16, 5, 17), "k": (16, 8, 3, 3)},
    ),
    "grouped by an axis": (
        "mixer f(x[b, g, c, h]) -> y[b, g, o, h]:\n  near dh: 1\n  param k[g, o, c, dh]\n"
        "  y = sum[c, dh](k * x[h+dh])\n",
        {"x": (2, 3, 2, 17), "k": (3, 5, 2, 3)},
    ),
    "dilated, of computed neighbours": (
        "mixer f(x[c, h, w]) -> y[c, h, w]:\n  near dh, dw: 2\n  param k[c, dh, dw]\n  z = exp(x) * x\n"
        "  y = sum[dh, dw](k * z[h + 2*dh, w - dw])\n",
        {"x": (2, 11, 17), "k": (2, 5, 5)},
    ),
    "transposed convolution": (
        "mixer f(x[b, c, h]) -> y[b, o, p]:\n  axis dh: 3\n  axis p: size(h) * 2\n  param k[o, c, dh]\n"
        "  y = sum[c, h](k[dh: p + 1 - 2*h] * x) otherwise 0\n",
        {"x": (9, 3, 7), "k": (5, 3, 3)},
    ),
    "correlation of inputs": (
        "mixer f(x[h], g[e, i]) -> o[e, h]:\n  o = sum[i](g * x[h + i])\n",
        {"x": (40,), "g": (3, 5)},
    ),
    "stairs": (
        "mixer f(x[t, c], w[o, c]) -> y[t, o]:\n  y = sum[c | c <= o](w * x)\n",
        {"x": (19, 7), "w": (9, 7)},
    ),
    "a condition on data": (
        "mixer f(x[t, c], w[o, c], z[t, c]) -> y[t, o]:\n  y = sum[c](w * when(z > 0, x)) otherwise 0\n",
        {"x": (19, 7), "w": (9, 7), "z": (19, 7)},
    ),
    "scores of a window": (
        "mixer f(x[h, d], g[h, d]) -> y[h]:\n  near dh: 1\n  s = sum[d](g * x[h+dh])\n  y = sum[dh](s)\n",
        {"x": (19, 6), "g": (19, 6)},
    ),
    "weight gradient": (
        "mixer f(x[b, c, h], g[b, o, h]) -> y[o, c, dh]:\n  near dh: 1\n  y = sum[b, h](g * x[h+dh])\n",
        {"x": (2, 7, 19), "g": (2, 5, 19)},
    ),
    "a fold of both sides": (
        "mixer f(x[b, c, h, w], g[b, c, h, w]) -> y[c, dh, dw]:\n  near dh, dw: 1\n"
        "  y = sum[b, h, w](g * x[h+dh, w+dw])\n",
        {"x": (2, 3, 5, 6), "g": (2, 3, 5, 6)},
    ),
}

PROGRAMS = {**ATTENTION, **SUMS}
GRADIENTS = [name for name in PROGRAMS if name not in ("a condition on data", "documents by reals")]


@pytest.fixture(scope="module", autouse=True)
def built_quickly() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAIT_CXX_LEVEL", "-O0")
        yield


def made(program: Program, shapes: Shapes) -> dict[str, Tensor]:
    """Random numbers; integers are the numbers of documents."""
    generator = torch.Generator().manual_seed(5)
    kinds = {each.leaf.name: each.leaf.kind for each in program.declarations}
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        if kinds[name] == "real"
        else torch.arange(shape[0]) // 11
        for name, shape in shapes.items()
    }


def planted(program: Program, shapes: Shapes) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The inputs with one or two entries that are not finite, in every input in turn."""
    plain = made(program, shapes)
    for key, value in product(plain, VALUES):
        if not plain[key].is_floating_point():
            continue
        for places in ((-1,), (0, plain[key].numel() // 2)):
            tensor = plain[key].clone()
            tensor.view(-1)[list(places)] = value
            yield f"{value} in {key} at {places}", {**plain, key: tensor}


SORTS = (torch.isfinite, torch.isnan, torch.isposinf, torch.isneginf)


def same(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], within: float, words: str, sorts: int = 4
) -> None:
    """Finite, NaN, infinite in the same places, with one sign; what is finite within the budget. Of the `sorts`,
    the first alone is asked where a factor may be pulled out of a sum: inf * (1 - 2) is no inf - 2 * inf."""
    for name, value in expected.items():
        got = found[name].double().reshape(value.shape)
        for test in SORTS[:sorts]:
            wrong = (test(got) != test(value)).nonzero().tolist()
            assert not wrong, f"{name}, {words}: {test.__name__} differs at {wrong[:5]}"
        finite = value.isfinite()
        scale = max([1.0, *value[finite].abs().tolist()])
        assert bool(((got - value)[finite].abs() <= within * scale).all()), (name, words)


@pytest.mark.parametrize("name", PROGRAMS)
def test_kernels_mean_it(name: str) -> None:
    text, shapes = PROGRAMS[name]
    program = read(text)
    for words, tensors in planted(program, shapes):
        same(
            meant(program, tensors),
            interpret(program, tensors),
            bound(program, tensors, torch.float64),
            words,
        )


STORED = ("causal", "a disc", "dense convolution", "depthwise and mean")
WIDE = (*STORED, "transposed convolution", "weight gradient", "a union")
REALS = [(name, torch.float32) for name in PROGRAMS]
REALS += [(name, torch.float64) for name in WIDE] + [(name, torch.bfloat16) for name in STORED]


@pytest.mark.parametrize(("name", "real"), REALS, ids=str)
def test_in_cpp(name: str, real: torch.dtype) -> None:
    text, shapes = PROGRAMS[name]
    in_cpp(read(text), shapes, real)


def in_cpp(program: Program, shapes: Shapes, real: torch.dtype, sorts: int = 4) -> None:
    compiled = Compiled(program, backend="cpp", on_unfused="quiet")
    for words, tensors in planted(program, shapes):
        given = {key: each.to(real) if each.is_floating_point() else each for key, each in tensors.items()}
        wide = {key: each.double() if each.is_floating_point() else each for key, each in given.items()}
        same(compiled.run(given), interpret(program, wide), bound(program, wide, real), words, sorts)


def backward(name: str) -> tuple[Program, Shapes]:
    """The gradient of a program for all its reals, and the shapes of what it reads."""
    text, shapes = PROGRAMS[name]
    program = read(text)
    tensors = made(program, shapes)
    wanted = tuple(key for key, each in tensors.items() if each.is_floating_point())
    results = interpret(program, tensors)
    derived = gradient(program, wanted)
    shapes = {**shapes, **{f"cot.{key}": tuple(each.shape) for key, each in results.items()}}
    return derived, {each.leaf.name: shapes[each.leaf.name] for each in derived.declarations}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_in_cpp(name: str) -> None:
    program, shapes = backward(name)
    in_cpp(program, shapes, torch.float32, sorts=1)


@pytest.mark.parametrize("family", FAMILIES)
def test_generated_programs(family: str) -> None:
    drawn(FAMILIES[family], 4, holds_where_a_number_is_nan)


def holds_where_a_number_is_nan(example: Example) -> None:
    """NaN, in every real tensor in turn, makes those results not finite that it makes so by the interpreter."""
    compiled = Compiled(example.program, backend="cpp", on_unfused="quiet")
    plain = {
        name: each.double() if each.is_floating_point() else each for name, each in example.tensors.items()
    }
    for name, tensor in plain.items():
        if tensor.is_floating_point() and tensor.numel():
            given = {**plain, name: tensor.clone().contiguous()}
            given[name].view(-1)[tensor.numel() * 2 // 3] = NAN
            expected = interpret(example.program, given)
            reals = {key: each for key, each in expected.items() if each.is_floating_point()}
            within = bound(example.program, given, torch.float64)
            same(compiled.run(given), reals, within, f"NaN in {name}", sorts=1)
