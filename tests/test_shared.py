"""Sums that results have in common are made once, mean what they meant, and are absent where they were."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from agreement import nearly
from plait.compiler.algorithms.shared import share
from plait.compiler.meaning.interpret import interpret
from plait.compiler.rewrites.simplify import simplify
from plait.dsl.program import Map, Program, Reduce
from tiled import read

SUMS = """mixer f(g[t, c], a[t, e], w[c, e], s[c], p[t]: bool, q[t, e]: bool, r[c, e]: bool) -> y[c], z[c, e], d[c]:
  g1 = {g}
  a1 = {a}
  w1 = {w}
  s1 = {s}
  y = sum[t](g1 * (sum[e](w1 * a1) + s1)) otherwise 7
  z = sum[t](s * g1 * a1) otherwise 7
  d = sum[t](s * g1) otherwise 7
"""
MASKS = {"g": "when(p, {})", "a": "when(q, {})", "w": "when(r, {})", "s": "when(s > 0, {})"}

CHAIN = """mixer f(x[t, k], a[k, e], w[t, e], y[t, c], b[t, e], u[c, e]) -> m[t, e], n[c, e], top[c], high[t]:
  m = sum[k](x * a)
  h = exp(sum[k](x * sum[e](w * a)))
  n = 2 * sum[t](h * y * b)
  top = sum[t](h * y * sum[e](u * b))
  high = h
"""


def drawn(program: Program, **sizes: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(sum(sizes.values()))
    found: dict[str, Tensor] = {}
    for each in program.declarations:
        shape = [sizes[axis.name] for axis in each.leaf.over]
        real = torch.randn(shape, generator=random, dtype=torch.float64)
        found[each.leaf.name] = real if each.leaf.kind == "real" else real > 0
    return found


def sums(program: Program) -> int:
    return sum(isinstance(form, Reduce) for form in program.forms)


def same(made: Program, written: Program, given: dict[str, Tensor]) -> None:
    for name, each in interpret(written, given).items():
        nearly(interpret(made, given)[name], each)


@pytest.mark.parametrize("masked", [*product((False, True), repeat=4)], ids=str)
def test_what_is_shared_is_absent_where_it_was(masked: tuple[bool, ...]) -> None:
    texts = {
        name: MASKS[name].format(name) if absent else name for name, absent in zip(MASKS, masked, strict=True)
    }
    written = simplify(read(SUMS.format(**texts)))
    made = share(written)
    assert (made != written) is not any(masked), "what may be absent is left as it is"
    for t, c, e in ((1, 1, 1), (5, 3, 2), (2, 7, 4)):
        same(made, written, drawn(written, t=t, c=c, e=e))


def test_sums_in_another_order_are_one() -> None:
    text = """mixer f(x[t, i, j], w[t, i, j], s[t]) -> y[t], z[t], o[t]:
  y = exp(sum[i, j](s * x * w))
  z = sin(sum[j, i](w * x * s))
  o = sum[i, j](s * s * x * w)
"""
    written = simplify(read(text))
    made = share(written)
    assert (sums(written), sums(made)) == (3, 2), "s * s is another factor than s"
    same(made, written, drawn(written, t=3, i=2, j=5))


def test_what_is_made_of_a_shared_sum_is_made_once() -> None:
    """h holds a sum that is made of another one, and so does all that is put in the place of what h is in."""
    written = simplify(read(CHAIN))
    made = share(written)
    assert made != written
    assert sums(made) <= sums(written)
    assert sum(isinstance(form, Map) and form.op == "exp" for form in made.forms) == 1
    same(made, written, drawn(written, t=3, k=2, e=4, c=2))
