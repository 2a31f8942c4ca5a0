"""Programs of every kernel family, their tensors at ugly sizes, and the error of a call beside its budget."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

import plait
from plait.backends.budget import budget, longest_way, there_and_back
from plait.compiler.meaning.interpret import interpret
from plait.dsl.program import BATCH, Axis, Program
from plait.dsl.shapes.sizes import bind_sizes, expand_batch

POINTWISE = "mixer pointwise(x[t, c], y[t, c]) -> z[t, c]:\n  z = exp(x * 0.5) * sigmoid(y) + tanh(x - y)"
NORM = """mixer norm(x[t, c], g[c]) -> z[t, c]:
  m = sum[c](x) / size(c)
  v = sum[c]((x - m) * (x - m)) / size(c)
  z = (x - m) / sqrt(v + 0.01) * g"""
LINEAR = "mixer linear(x[t, c], m[o, c]) -> z[t, o]:\n  z = sum[c](x * m)"
STENCIL = """mixer stencil(x[h, w, c], k[dh, dw, c]) -> z[h, w, c]:
  z = sum[dh, dw](k * (x[h + dh - 1, w + dw - 1] otherwise 0))"""
ATTENTION = """mixer attention(q[..., h, w, d], k[..., h, w, d], v[..., h, w, d]) -> o[..., h, w, d]:
  near dh, dw: 2
  s = sum[d](q * k[h+dh, w+dw]) * size(d) ** -0.5
  p = softmax[dh, dw](s)
  o = sum[dh, dw](p * v[h+dh, w+dw])"""

SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    POINTWISE: {"x": (7, 13), "y": (7, 13)},
    NORM: {"x": (5, 67), "g": (67,)},
    LINEAR: {"x": (11, 257), "m": (33, 257)},
    STENCIL: {"x": (6, 9, 5), "k": (3, 3, 5)},
    ATTENTION: dict.fromkeys("qkv", (2, 7, 9, 5)),
}
FAMILIES = tuple(SHAPES)


def name_of(text: object) -> str:
    return str(text).split("(", 1)[0].removeprefix("mixer ")


def program(text: str) -> Program:
    return plait.parse(text).program()


def tensors(text: str, dtype: torch.dtype, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        for name, shape in SHAPES[text].items()
    }


def bound(
    made: Program,
    given: Mapping[str, Tensor],
    dtype: torch.dtype,
    condition: float = 1.0,
    *,
    matrix_units: bool = False,
    back: bool = False,
) -> float:
    """The budget of a call whose results are of `dtype`, and of its gradient if `back` is asked for; on
    `matrix_units` factors may be rounded to bfloat16."""
    sizes = bind_sizes(made, {name: tuple(tensor.shape) for name, tensor in given.items()})
    batch = sizes.pop(BATCH, ())
    assert isinstance(batch, tuple)
    known = {axis: extent for axis, extent in sizes.items() if isinstance(extent, int)}
    known |= {Axis(f"..{i}"): extent for i, extent in enumerate(batch)}
    way = longest_way(expand_batch(made, len(batch)), known)
    way = there_and_back(way) if back else way
    rounded = way.products if matrix_units and dtype == torch.bfloat16 else 0
    return budget(dtype, way.length, way.operations, condition, rounded)


def off(found: Tensor, exact: Tensor | None) -> float:
    """The largest error beside the largest entry, or beside 1. What is None has no gradient: it must have one."""
    assert exact is not None
    if not exact.numel():
        return 0.0
    return (found.double() - exact).abs().max().item() / max(1.0, exact.abs().max().item())


def exact(made: Program, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The reference on the very numbers that the tensors hold."""
    return dict(interpret(made, {name: tensor.double() for name, tensor in given.items()}))
