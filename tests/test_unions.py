"""Attention over unions of domains: one kernel each, on every backend, equal to the interpreter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings

import on_triton
import plait
from agreement import agree, check_gradients, check_values, real_of
from attention_unions import union_examples
from interpreting import Interpreting
from plait.compiler.gradient.derive import gradient
from plait.compiler.pipeline import plan_program
from plait.dsl.constructors.batch import expand_batch
from strategies import Example


@pytest.fixture(scope="module", autouse=True)
def built_quickly() -> Iterator[None]:
    """What is asked here is the values, not the speed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAIT_CXX_LEVEL", "-O0")
        yield


@settings(max_examples=100)
@given(union_examples())
def test_one_kernel(example: Example) -> None:
    plan = plan_program(expand_batch(example.program, 1), verify=True).plan
    assert [group.family for group in plan.groups] == ["stream"], [
        (group.result.name, group.reason) for group in plan.groups
    ]


UNION = """
mixer union(q[b, h, w, d], k[b, h, w, d], v[b, h, w, e], far_k[b, n, d], far_v[b, n, e], sink[b]) -> o[b, h, w, e]:
  near dh, dw: 1
  s = when(dh*dh + dw*dw < 2, sum[d](q * k[h+dh, w+dw]) * size(d) ** -0.5)
  t = sum[d](q * far_k) * size(d) ** -0.5
  top = lse[dh, dw; n; ](s, t, sink)
  o = sum[dh, dw; n](exp(s - top) * v[h+dh, w+dw], exp(t - top) * far_v)
"""
"""A disc, tokens apart, and a learned entry that has no value."""


def test_explain_says_how_many_domains_there_are() -> None:
    assert "streaming softmax over a union of 3 domains" in str(plait.compile(plait.parse(UNION)).explain())


@pytest.mark.parametrize("whole", [True, False], ids=["gradient", "forward"])
def test_no_scores_are_stored(whole: bool) -> None:
    """Neither forward nor backward is anything in memory that has axes of queries and of keys."""
    program = plait.parse(UNION).program()
    plan = plan_program(gradient(program) if whole else program, verify=True).plan
    assert len(plan.groups) == 1 or whole
    for stored in plan.stored.values():
        names = {axis.name for axis in stored.axes}
        assert not (names & {"h", "w"} and names & {"n", "dh", "dw"}), stored.name


CLEAR = """
mixer clear(
  qi[..., h, w, d], ki[..., h, w, d], vi[..., h, w, d], qt[..., t, d], kt[..., t, d], vt[..., t, d]; r = 4, f = 2
) -> image[..., h, w, d], text[..., t, d]:
  near dh, dw: r
  require size(h) % f == 0
  require size(w) % f == 0
  axis u: size(h) // f
  axis v: size(w) // f
  axis a, g: f
  param pool[a, g]
  kd = sum[a, g](pool * ki[h: u*f + a, w: v*f + g])
  vd = sum[a, g](pool * vi[h: u*f + a, w: v*f + g])
  s = sum[d](qi * kt) * size(d) ** -0.5
  c = when(dh*dh + dw*dw < r*r, sum[d](qi * ki[h+dh, w+dw]) * size(d) ** -0.5)
  z = sum[d](qi * kd) * size(d) ** -0.5
  top = lse[t; dh, dw; u, v](s, c, z)
  image = sum[t; dh, dw; u, v](exp(s - top) * vt, exp(c - top) * vi[h+dh, w+dw], exp(z - top) * vd)
  like p: t
  one = sum[d](qt[t: p] * kt) * size(d) ** -0.5
  two = sum[d](qt[t: p] * ki) * size(d) ** -0.5
  over = lse[t; h, w](one, two)
  text = sum[t; h, w](exp(one - over) * vt, exp(two - over) * vi)[p: t]
"""
"""arXiv 2412.16112 with pooled tokens: two classes of queries, each with its own domains."""


def test_clear_is_one_kernel_a_class_of_queries() -> None:
    """Beside them the pooled keys and values, which are f * f times smaller than the image."""
    plan = plan_program(expand_batch(plait.parse(CLEAR).program(), 1), verify=True).plan
    families = {group.result.name: group.family for group in plan.groups}
    assert families == {"kd": "tiles", "vd": "tiles", "image": "stream", "text": "stream"}


@settings(max_examples=25)
@given(union_examples())
def test_values(example: Example) -> None:
    check_values(example)


@settings(max_examples=20)
@given(union_examples(most=4))
def test_values_on_triton(triton: Interpreting, example: Example) -> None:
    found = triton.call(on_triton.run, str(example.program), dict(example.tensors))
    agree(found, example.program, example.tensors, real_of(example), "triton")


@settings(max_examples=6)
@given(union_examples(most=4))
def test_gradients(example: Example) -> None:
    check_gradients(example)
