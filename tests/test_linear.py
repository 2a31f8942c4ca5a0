"""Linear maps of scores and of weights: one contraction before the softmax, one stream before the map behind it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from agreement import nearly
from plait import parse
from plait.compiler.algorithms.linear import stream_linear_maps
from plait.compiler.fusion.unfused import pairs_in_memory
from plait.compiler.gradient import derive
from plait.compiler.gradient.derive import gradient
from plait.compiler.meaning.interpret import interpret
from plait.compiler.pipeline import plan_program
from plait.compiler.rewrites.simplify import simplify
from plait.dsl.program import Program

TALKING = """
mixer talking(q[b, m, t, d], k[b, m, t, d], v[b, h, t, e]) -> o[b, h, t, e]:
  like s: t
  axis i: size(m)
  param w[i, m]
  param u[h, i]
  z = sum[m](w * sum[d](q * k[t: s])) + abs(t - s)
  p = softmax[s | s < t](z)
  o = sum[s](sum[i](u * p) * v[t: s]) otherwise 0
"""
"""The first query sees nothing."""

OF_THE_CALL = """
mixer of_the_call(q[b, m, t, d], k[b, m, t, d], v[b, i, t, e], w[i, m]) -> o[b, i, t, e]:
  like s: t
  z = sum[m](w * sum[d](q * k[t: s]))
  o = sum[s](softmax[s](z) * v[t: s])
"""
OTHERS = {
    "sizes of the call": OF_THE_CALL,
    "a map of each key": TALKING.replace("param w[i, m]", "param g[i, m, t]\n  w = g[t: s]"),
    "scores that are a result": TALKING.replace("-> o[b, h, t, e]:", "-> o[b, h, t, e], z[b, i, t, s]:"),
    "a function between": TALKING.replace("sum[d](q * k[t: s])", "tanh(sum[d](q * k[t: s]))"),
}


def drawn(program: Program) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    sizes = {"b": 2, "m": 3, "i": 3, "h": 2, "t": 5, "s": 5, "d": 2, "e": 1}
    shapes = {each.leaf.name: [sizes[a.name] for a in each.leaf.over] for each in program.declarations}
    return {
        key: torch.randn(shape, generator=generator, dtype=torch.float64) for key, shape in shapes.items()
    }


def as_written(program: Program) -> Program:
    return program


@pytest.mark.parametrize("order", [0, 1, 2])
def test_maps_keep_the_meaning(order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    program = parse(TALKING).program()
    with monkeypatch.context() as patch:
        patch.setattr(derive, "stream_linear_maps", as_written)
        for _ in range(order):
            program = gradient(program, ("k", "w"))
    program = simplify(program)
    made = stream_linear_maps(program)
    assert made != program
    tensors = drawn(program)
    wanted, found = interpret(program, tensors), interpret(made, tensors)
    for key, value in wanted.items():
        nearly(found[key], value)


def test_no_scores_are_in_memory() -> None:
    program = parse(TALKING).program()
    for each in (program, gradient(program)):
        assert not pairs_in_memory(plan_program(each, verify=True).plan)


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_left_as_it_is(name: str) -> None:
    """Maps that are as large as the call says, that differ from key to key, that a function stands before, and scores
    that are stored anyway."""
    program = simplify(parse(OTHERS[name]).program())
    (z,) = (form for title, form in program.names if title == "z")
    made = stream_linear_maps(program)
    assert dict(made.names)["z"] == z
