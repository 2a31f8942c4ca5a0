"""Groups over the same tokens are one kernel, sums that results have in common are made once, and the gradient of a
depthwise weight reads its image with a halo: all of it gives what it gave apart."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

import plait
from agreement import nearly
from plait.compiler.algorithms.shared import share
from plait.compiler.gradient.derive import gradient
from plait.compiler.meaning.interpret import interpret
from plait.compiler.pipeline import Planned, plan_program
from plait.compiler.rewrites.simplify import simplify
from plait.compiler.schedules.schedule import cpu_tiles
from plait.dsl.program import Form, Program, Reduce, walk
from precisions import program
from tiled import kernels, meant, numbers_of

CPU = cpu_tiles(32, 8)

MLP = """mixer block(x[b, n, c]) -> y[b, n, c]:
  axis e: 3 * size(c)
  param scale[c]
  param w[e, c]
  param u[e]
  param v[c, e]
  param s[c]
  param gamma[c]
  m = sum[c](x) / size(c)
  z = (x - m) * ((sum[c]((x - m)**2) / size(c) + 0.1) ** -0.5) * scale
  a = exp(0.1 * (sum[c](w * z) + u))
  y = x + gamma * (sum[e](v * a) + s)
"""

DEPTHWISE = """mixer filtered(x[b, c, h, w]) -> y[b, c, h, w]:
  near dh, dw: 2
  param k[c, dh, dw]
  y = sum[dh, dw](k * x[h+dh, w+dw])
"""


def planned(made: Program) -> Planned:
    return plan_program(made, verify=True)


def mlp(channels: int) -> Program:
    return gradient(plait.parse(MLP).program(c=channels))


def test_the_gradient_of_an_mlp_makes_its_hidden_units_once() -> None:
    """One kernel makes what is at a token and stores what the sums past tokens read; each of these is a kernel."""
    made = planned(mlp(7))
    first = made.plan.groups[0]
    assert [axis.name for axis in first.grid] == ["b", "n"]
    assert "grad.x" in {each.name for each in first.results}
    wide = [each for each in first.results if any(axis.name == "e" for axis in each.axes)]
    assert len(wide) == 2, "the hidden units, and their gradient"
    assert len(made.plan.groups) <= 7


def test_without_known_sizes_nothing_is_put_together() -> None:
    """How much a tile would hold is not known then."""
    made = planned(gradient(program(MLP)))
    assert not any(group.grid for group in made.plan.groups)


ELSEWHERE = """mixer f(x[n, c=5]) -> y[n, c]:
  axis e: 4
  param w[e, c]
  param u[e, c]
  m = sum[c](w * x)
  y = sum[e](u * (exp(m) + (m[n + 1] otherwise 0)))
"""


def test_what_is_read_elsewhere_is_stored_first() -> None:
    assert [[each.name for each in group.results] for group in planned(program(ELSEWHERE)).plan.groups] == [
        ["m"],
        ["y"],
    ]


PARTIAL = """mixer f(x[n, c=5], v[k=3, n], p[n]: bool) -> y[n, c], z[k, e]:
  axis e: 4
  param w[e, c]
  param u[e, c]
  m = sum[c](w * x)
  y = sum[e](u * m)
  z = sum[n](v * {}) otherwise 0
"""


@pytest.mark.parametrize(("read", "count"), [("select(p, exp(m), m)", 2), ("when(p, exp(m))", 3)])
def test_what_may_be_absent_is_no_result_of_a_group(read: str, count: int) -> None:
    """It would be read where no token stored it."""
    made = program(PARTIAL.format(read))
    assert len(planned(made).plan.groups) == count
    values = given(made, x=(11, 5), w=(4, 5), u=(4, 5), v=(3, 11), p=(11,))
    values["p"] = values["p"] > 0
    close(meant(made, values), interpret(made, values))


@pytest.mark.parametrize("fallback", [0, 7])
def test_a_sum_of_nothing_comes_to_its_fallback(fallback: int) -> None:
    made = program(
        f"mixer f(x[n, c=5], p[n]: bool) -> y[n]:\n  y = sum[c](when(p, x * x)) otherwise {fallback}\n"
    )
    values = given(made, x=(11, 5), p=(11,))
    values["p"] = torch.arange(11) % 2 == 0
    close(meant(made, values), interpret(made, values))


def given(made: Program, **shapes: tuple[int, ...]) -> dict[str, Tensor]:
    """Tensors of these shapes, those of three axes with the last one far apart."""
    random = torch.Generator().manual_seed(0)
    names = [each.leaf.name for each in made.declarations]
    values = {
        name: torch.randn(shapes[name.split(".")[-1]], dtype=torch.float64, generator=random)
        for name in names
    }
    return {name: each.mT.contiguous().mT if each.dim() == 3 else each for name, each in values.items()}


def of_mlp(made: Program, tokens: int) -> dict[str, Tensor]:
    image = (2, tokens, 7)
    return given(made, x=image, y=image, scale=(7,), w=(21, 7), u=(21,), v=(7, 21), s=(7,), gamma=(7,))


def close(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    for name, each in wanted.items():
        nearly(found[name], each)


@pytest.mark.parametrize("tokens", [1, 11])
def test_values_of_a_gradient(tokens: int) -> None:
    made = mlp(7)
    values = of_mlp(made, tokens)
    close(meant(made, values), interpret(made, values))


def test_values_of_a_gradient_in_cpp() -> None:
    made = mlp(7)
    values = of_mlp(made, 67)
    found = plait.compile(made, backend="cpp", on_unfused="error")(**values)
    close(dict(zip([each.name for each in made.outputs], found, strict=True)), interpret(made, values))


def sums(made: Program, name: str) -> set[Form]:
    (value,) = (each.value for each in made.outputs if each.name == name)
    return {form for form in walk((value,)) if isinstance(form, Reduce)}


def test_the_gradient_of_a_scale_makes_no_layer_again() -> None:
    """sum[t](g * sum[e](v * a)) is made of the sum that the gradient of v is made of."""
    written = simplify(mlp(7))
    made = share(written)
    past = [{axis.name for axis in form.axes} for form in sums(made, "grad.gamma") & sums(made, "grad.v")]
    assert {"c", "e"} in past
    assert {"c", "e"} not in [
        {axis.name for axis in form.axes} for form in sums(written, "grad.gamma") & sums(written, "grad.v")
    ]
    values = of_mlp(made, 3)
    close(interpret(made, values), interpret(written, values))


@pytest.mark.parametrize("shape", [(2, 3, 9, 13), (1, 1, 1, 1), (1, 2, 17, 3)])
def test_the_gradient_of_a_depthwise_weight(shape: tuple[int, ...]) -> None:
    """All taps of a channel in one tile: a chunk of the image is read once, with its halo."""
    made = gradient(program(DEPTHWISE))
    values = given(made, x=shape, y=shape, k=(shape[1], 5, 5))
    sizes = numbers_of(made, {name: tuple(each.shape) for name, each in values.items()})
    grid = [each.name for each in kernels(made, sizes, CPU)[1]["grad.k"].kernel.grid]
    assert grid == ["c"]
    close(meant(made, values, CPU), interpret(made, values))
