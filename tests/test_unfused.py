"""What is not fused is named in the report with its reason, and `on_unfused="error"` refuses it; what is stored because
that pays is named, and accepted."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import plait
from plait import parse
from plait.compiler.fusion.unfused import pairs_in_memory
from plait.compiler.gradient.derive import gradient
from plait.compiler.pipeline import plan_program
from plait.dsl.constructors.build import size
from plait.dsl.mistakes import NotFused, NotYet
from plait.dsl.shapes.size_forms import evaluate_size

QKV = "q[t, d], k[t, d], v[t, d]"


def attention(score: str, more: str = "", predicate: str = "") -> str:
    return f"""mixer f({QKV}{more}) -> o[t, d]:
  like s: t
  p = softmax[s{predicate}]({score})
  o = sum[s](p * v[t: s])
"""


PAIRS = {
    "heads mixed before the softmax": """mixer f(q[g, t, d], k[g, t, d], v[n, t, d], m[g, n]) -> o[n, t, d]:
  like s: t
  p = softmax[s](sum[g](m * sum[d](q * k[t: s])))
  o = sum[s](p * v[t: s])
""",
    "scores of scores": f"""mixer f({QKV}) -> o[t, d]:
  like s: t
  like r: t
  a = sum[d](q * k[t: s])
  b = exp(sum[s](a * a[t: r]))
  o = sum[r](b * v[t: r])
""",
}
"""Attention whose scores no stream takes."""

PAYS = {
    "attention": attention("sum[d](q * k[t: s])"),
    "a causal mask": attention("sum[d](q * k[t: s])", predicate=" | s <= t"),
    "attention over channels": """mixer f(q[t, c], k[t, c], v[t, c]) -> o[t, c]:
  like e: c
  p = softmax[e](sum[t](q * k[c: e]))
  o = sum[e](p * v[c: e])
""",
    "a statistic that two maps read": """mixer f(x[b, t, c=24]) -> y[b, t, o], z[b, t, o]:
  axis o: 40
  param w[o, c]
  param u[o, c]
  m = sum[c](x * x)
  y = sum[c](w * (x / sqrt(m + 1)))
  z = sum[c](u * (x / sqrt(m + 1)))
""",
    "a mean of the image in a gate": """mixer f(x[b, h, w, c=16]) -> y[b, h, w, c]:
  axis n: 16
  param a[n, c]
  m = sum[h, w](x) / size(h) / size(w)
  g = sum[c](a * m)
  y = x * sigmoid(g[n: c])
""",
    "a sum of everything": "mixer f(x[b, t]) -> y:\n  y = sum[b, t](x * x)\n",
    "scores that are asked for": f"""mixer f({QKV}) -> o[t, d], p[t, s]:
  like s: t
  p = softmax[s](sum[d](q * k[t: s]))
  o = sum[s](p * v[t: s])
""",
}
"""Programs of several kernels, or with values between pairs that are no scores in memory."""


REFERENCE = {
    "complex values": (
        "mixer f(x[t], y[t]) -> o[t]:\n  z = cplx(x, y)\n  o = real(z * z)\n",
        "complex values have no kernel yet",
    ),
    "a scatter": (
        "mixer f(x[t], ids[t]: index v, y[v]) -> o[v]:\n  o = (place(x, v: ids) otherwise 0) + y\n",
        "it adds up at positions that depend on data (a scatter)",
    ),
}
"""What has no kernel, with the reason."""


def given(program: plait.Program) -> dict[str, Tensor]:
    """Small tensors: every axis 5 unless it has a size of its own."""
    sizes = dict(program.fixed)
    made: dict[str, Tensor] = {}
    for each in program.declarations:
        shape = [
            evaluate_size(size(axis), sizes) if axis.size else sizes.get(axis, 5) for axis in each.leaf.over
        ]
        index = each.leaf.ranges_over is not None
        made[each.leaf.name] = torch.randint(0, 5, shape) if index else torch.rand(shape)
    return made


def one_line(report: object) -> str:
    return " ".join(str(report).split())


@pytest.mark.parametrize("name", PAIRS)
def test_scores_in_memory_are_named_and_refused(name: str) -> None:
    program = parse(PAIRS[name]).program()
    tensors = given(program)
    quiet = plait.compile(program, backend="cpp", on_unfused="quiet")
    quiet(**tensors)
    text = one_line(quiet.explain())
    found = pairs_in_memory(plan_program(program).plan)
    assert found
    strict = plait.compile(program, backend="cpp", on_unfused="error")
    for _ in range(2):  # the second time the kernels are in the cache
        with pytest.raises(NotFused, match="faster than inputs and results") as refused:
            strict(**tensors)
        assert refused.value.notes == tuple(f"`{value}`: {reason}" for value, reason in found.items())
    for value, reason in found.items():
        assert f"not fused: {value} -> " in text and f"because {reason} (" in text
    with pytest.warns(UserWarning, match="NotFused"):
        plait.compile(program, backend="cpp")(**tensors)


@pytest.mark.parametrize("name", REFERENCE)
def test_what_has_no_kernel_is_named_and_refused(name: str) -> None:
    text, reason = REFERENCE[name]
    program = parse(text).program()
    quiet = plait.compile(program, backend="cpp", on_unfused="quiet")
    quiet(**given(program))
    assert f"reference operation, because {reason}" in str(quiet.explain())
    with pytest.raises(NotFused, match="run as reference operations") as refused:
        plait.compile(program, backend="cpp", on_unfused="error")(**given(program))
    assert any(reason in note for note in refused.value.notes)


NOT_YET = {
    "a recurrence": "mixer f(x[t]) -> o[t]:\n  previous p[t] = 0.0\n  o = scan[t](p: 0.5*p + x)\n",
    "a library function": "mixer f(x[t]) -> o[r]:\n  like r: t\n  o = x[t: sort_indices[t -> r](x)]\n",
}
"""What nothing runs yet, the interpreter neither."""


@pytest.mark.parametrize("name", NOT_YET)
def test_what_nothing_runs_yet_is_refused_by_calls_and_reports(name: str) -> None:
    made = plait.compile(parse(NOT_YET[name]), backend="cpp", on_unfused="quiet")
    with pytest.raises(NotYet, match="does not run"):
        made(torch.rand(5))
    with pytest.raises(NotYet, match="does not run"):
        made.explain({"x": (5,)})


def test_the_interpreter_fuses_nothing() -> None:
    double = parse("mixer double(x[t]) -> y[t]:\n  y = 2 * x\n")
    with pytest.raises(NotFused, match='backend="reference" runs the interpreter'):
        plait.compile(double, backend="reference", on_unfused="error")
    made = plait.compile(double, backend="reference")
    made(torch.ones(3))
    assert "calls run the interpreter; these are the kernels of the C++ backend" in one_line(made.explain())


def test_what_a_gradient_stores_over_pairs_is_refused_when_it_runs() -> None:
    """The forward program is one stream; its gradient stores what its own plan says."""
    program = parse(PAIRS["scores of scores"]).program()
    reverse = gradient(program, ["v"])
    found = pairs_in_memory(plan_program(reverse).plan)
    assert found
    with pytest.raises(NotFused):
        plait.compile(reverse, backend="cpp", on_unfused="error")(**given(reverse))


@pytest.mark.parametrize("name", PAYS)
def test_what_is_stored_because_that_pays_is_accepted(name: str) -> None:
    program = parse(PAYS[name]).program()
    call = plait.compile(program, backend="cpp", on_unfused="error")
    call(**given(program))
    assert "not fused" not in str(call.explain())
