"""Values over the same axes that reduce one larger tensor come from one kernel, and are what they were apart."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import on_triton
import plait
from agreement import agree
from interpreting import Interpreting
from plait.compiler.gradient.derive import gradient
from plait.compiler.pipeline import plan_program
from plait.dsl.program import Program
from precisions import program

NORM = """mixer norm(x[b, n, c]) -> y[b, n, c]:
  param scale[c]
  param shift[c]
  m = sum[c](x) / size(c)
  u = x - m
  r = (sum[c](u * u) / size(c) + 1e-6) ** -0.5
  y = u * r * scale + shift
"""

MOMENTS = """mixer moments(x[b, n, c=13], w[b, n, c]) -> first[b, n], second[b, n], most[b, n]:
  param g[c]
  first = sum[c](x * g)
  second = sum[c | w > 0](x * x) otherwise 3
  most = max[c | w > 1](x - first) otherwise first
"""

APART = {
    "other axes are reduced": "mixer f(x[b, c]) -> y[c], z[c]:\n  y = sum[b](x)\n  z = x[b: 0] * 2\n",
    "nothing in common": "mixer f(x[b, c], w[b, c]) -> y[c], z[c]:\n  y = sum[b](x)\n  z = sum[b](w)\n",
    "read elsewhere": "mixer f(x[b, c]) -> y[c], z[c]:\n  y = sum[b](x)\n  z = y[c + 1] otherwise 0\n",
    "numbers": "mixer f(x[c=5]) -> y, z:\n  y = sum[c](x * x)\n  z = exp(y)\n",
    "what is reduced lies side by side": "mixer f(x[b, c, h]) -> y[c], z[c]:\n  y = sum[b, h](x)\n  z = max[b, h](x)\n",
    "neither does": "mixer f(x[b, c, h, t]) -> y[t, c], z[t, c]:\n  y = sum[h, b](x)\n  z = max[h, b](x)\n",
}  # fmt: skip


def kernels(made: Program) -> list[list[str]]:
    return [[each.name for each in group.results] for group in plan_program(made, verify=True).plan.groups]


def test_statistics_of_a_token_are_one_kernel() -> None:
    """Backwards too; the gradients of scale and shift stream past their lanes, each by itself."""
    found = kernels(gradient(program(NORM)))
    assert sorted(map(len, found)) == [1, 1, 1, 2]
    assert kernels(program(MOMENTS)) == [["first", "most", "second"]]


@pytest.mark.parametrize("name", APART)
def test_what_shares_no_tile_stays_apart(name: str) -> None:
    assert kernels(program(APART[name])) == [["y"], ["z"]]


def given(count: int, channels: int) -> dict[str, Tensor]:
    """Transposed and sliced tensors among them."""
    random = torch.Generator().manual_seed(count)

    def made(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=random)

    return {
        "x": made(2, channels, count).mT,
        "w": made(2, count, 2 * channels)[..., ::2],
        "scale": made(channels),
        "shift": made(channels),
        "g": made(channels),
        "cot.y": made(1, count, channels).expand(2, count, channels),
    }


def of(made: Program, values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {each.leaf.name: values[each.leaf.name] for each in made.declarations}


def test_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAIT_CXX_LEVEL", "-O1")
    for made in (gradient(program(NORM)), program(MOMENTS)):
        call = plait.compile(made, backend="cpp", on_unfused="error")
        for count in (1, 5, 67):
            values = of(made, given(count, 13))
            found = call(**values)
            names = [each.name for each in made.outputs]
            agree(dict(zip(names, found, strict=True)), made, values, torch.float64)


def test_values_in_triton() -> None:
    process = Interpreting()
    try:
        for made in (gradient(program(NORM)), program(MOMENTS)):
            values = of(made, given(5, 13))
            agree(process.call(on_triton.run, str(made), values), made, values, torch.float64, "triton")
    finally:
        process.close()
