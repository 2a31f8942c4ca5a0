"""Deploy forms: stencils of one value in one, scales and batch-norms in the weights; checked against the program
as it is written, by the interpreter, on backends, and through modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

import on_triton
import plait
from agreement import agree
from interpreting import Interpreting
from plait import parse
from plait.backends.compiled import Compiled
from plait.compiler.algorithms.hoist import hoist
from plait.compiler.algorithms.merge import merge
from plait.compiler.meaning.interpret import interpret
from plait.dsl.constructors.build import size
from plait.dsl.program import Leaf, Program, Reduce, walk
from plait.dsl.shapes.size_forms import evaluate_size
from plait.stdlib.norms import batch_norm

REP = """
mixer rep(x[b, c, h, w]) -> y[b, c, h, w]:
  near dh, dw: 1
  like j, i: c
  param w3[c, j, dh, dw]
  param w1[c, i]
  param g3[c]
  param t3[c]
  buffer m3[c]
  buffer v3[c]
  buffer m1[c]
  buffer v1[c]
  buffer m0[c]
  buffer v0[c]
  a = (sum[j, dh, dw](w3 * (x[c: j, h: h+dh, w: w+dw] otherwise 0)) - m3) / sqrt(v3 + 1e-5) * g3 + t3
  e = (sum[i](w1 * x[c: i]) - m1) / sqrt(v1 + 1e-5)
  f = (x - m0) / sqrt(v0 + 1e-5)
  y = maximum(a + e + f, 0)
"""
HEAD = "mixer f(x[b, c, h, w]) -> y[b, c, h, w]:\n"
LINE = "mixer f(x[b, c, h]) -> y[b, c, h]:\n  near d: 1\n  near e: 2\n  param u[c, d]\n  param v[c, e]\n"


def line(value: str) -> str:
    return f"{LINE}  y = {value}\n"


ONE: Mapping[str, str] = {
    "three branches with batch-norm": REP,
    "a square, a row and a column": f"{HEAD}  near p, q: 1\n  near r, s: 1\n  param k[c, p, q]\n  param m[c, r]\n"
    "  param n[c, s]\n  y = sum[p, q](k * x[h+p, w+q]) + sum[r](m * x[h+r]) + sum[s](n * x[w+s])\n",
    "a large window and a dilated one": line("sum[e](v * x[h+e]) + sum[d](u * x[h+2*d])"),
    "absent and zero borders": line("sum[e](v * x[h+e]) + sum[d](u * (x[h+d] otherwise 0))"),
    "a window and a residual": line("x + sum[d](u * x[h+d])"),
    "a difference": line("sum[d](u * x[h+d]) - 2 * sum[e](v * x[h+e])"),
    "windows beside each other": line(
        "sum[e](v * (x[h+e] otherwise 0)) + sum[d](u * (x[h+d+1] otherwise 0))"
    ),
    "one border that is reflected": line(
        "sum[d](u * x[h: reflect(h+d, size(h))]) + sum[d](3 * u * x[h: reflect(h+d, size(h))])"
    ),
    "two maps": "mixer f(x[b, c]) -> y[b, o]:\n  param u[o, c]\n  like j: c\n  param v[o, j]\n"
    "  y = sum[c](u * x) + sum[j](v * x[c: j])\n",
    "a map and a residual": "mixer f(x[b, c]) -> y[b, c]:\n  like j: c\n  param v[c, j]\n"
    "  y = sum[j](v * x[c: j]) + x\n",
    "steps of two": "mixer f(x[b, h]) -> y[b, o]:\n  axis o: (size(h) + 1) // 2\n  axis p: 3\n  axis q: 1\n"
    "  param u[p]\n  param v[q]\n  y = sum[p](u * (x[h: 2*o + p - 1] otherwise 0)) + sum[q](v * x[h: 2*o + q])\n",
    "scaled and shifted": "mixer f(x[b, c]) -> y[b, o]:\n  param u[o, c]\n  param s[o]\n  param t[o]\n"
    "  y = (sum[c](u * x) - t) * s + t\n",
}
"""Programs of which one stencil is left."""

MORE: Mapping[str, tuple[str, int]] = {
    "other borders": (line("sum[d](u * x[h: reflect(h+d, size(h))]) + sum[e](v * x[h+e])"), 2),
    "a row and a column alone": (
        f"{HEAD}  near r, s: 1\n  param m[c, r]\n  param n[c, s]\n  y = sum[r](m * x[h+r]) + sum[s](n * x[w+s])\n",
        2,
    ),
    "far dilation": (line("sum[e](v * x[h+e]) + sum[d](u * x[h+6*d])"), 2),
    "of two values": (line("sum[e](v * x[h+e]) + sum[d](u * exp(x)[h+d])"), 2),
    "windows over nothing": (line("(sum[d](u * x[h+d+1]) + sum[e](v * x[h+e+4])) otherwise 0"), 2),
    "read twice": (line("sum[d](u * x[h+d]) + sum[e](v * x[h+e]) * exp(sum[e](v * x[h+e]))"), 2),
    "maps in a row, from an axis back to it": (
        "mixer f(x[b, c]) -> y[b, c]:\n  axis e: 6\n  param u[e, c]\n  param v[c, e]\n  param t[e]\n"
        "  y = x + sum[e](v * (sum[c](u * x) + t))\n",
        2,
    ),
    "maps in a row by three axes": (
        "mixer f(x[b, c]) -> y[b, o]:\n  axis e: 6\n  axis o: 4\n  param u[e, c]\n  param v[o, e]\n  param t[e]\n"
        "  y = sum[e](v * (sum[c](u * x) + t))\n",
        2,
    ),
    "a scale by the axis of the sum": (
        "mixer f(x[b, c]) -> y[b, o, c]:\n  param u[o, c]\n  param s[c]\n  y = s * sum[c](u * x)\n",
        1,
    ),
    "an axis that one term sums over and another has": (
        "mixer f(x[b, c]) -> y[b, o, c]:\n  param u[o, c]\n  param s[c]\n  y = sum[c](u * x) + s * x\n",
        1,
    ),
    "windows of data": (line("sum[d](x * x[h+d]) + sum[e](x * x[h+e])"), 2),
}
SIZES = {"b": 2, "c": 3, "h": 7, "w": 5, "o": 4}


def stencils(program: Program) -> int:
    """The sums of a program that data has a part in."""
    sums = [form for form in program.forms if isinstance(form, Reduce) and form.op == "sum"]
    return sum(
        any(isinstance(each, Leaf) and each.role == "input" for each in walk((form,))) for form in sums
    )


def drawn(program: Program, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    found: dict[str, Tensor] = {}
    known = {
        axis: SIZES[axis.name] for d in program.declarations for axis in d.leaf.over if axis.size is None
    }
    for leaf in (each.leaf for each in program.declarations):
        shape = [evaluate_size(size(axis), known) for axis in leaf.over]
        value = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        found[leaf.name] = value.abs() if leaf.name.startswith("v") and leaf.role == "buffer" else value
    return found


def alike(program: Program, made: Program) -> None:
    tensors = drawn(program)
    agree(interpret(program, tensors), made, tensors, torch.float64)


@pytest.mark.parametrize("name", ONE)
def test_one_is_left(name: str) -> None:
    program = parse(ONE[name]).program()
    found = merge(program)
    assert stencils(found.program) == 1
    assert found.words
    alike(program, found.program)


def test_weights_do_not_grow_by_an_axis() -> None:
    assert not merge(parse(MORE["maps in a row by three axes"][0]).program()).words


def test_a_scale_that_stays_hides_no_sum_behind_it() -> None:
    program = parse(
        "mixer f(x[b, c]) -> y[b, c]:\n  axis e: 6\n  param u[e, c]\n  param s[e]\n  param v[c, e]\n"
        "  y = sum[e](v * (s * sum[c](u * x)))\n"
    ).program()
    found = merge(program)
    assert len(found.weights) == 1, "s * u"
    alike(program, found.program)


@pytest.mark.parametrize("name", MORE)
def test_what_is_left_as_it_is(name: str) -> None:
    text, count = MORE[name]
    program = parse(text).program()
    found = merge(program)
    assert stencils(found.program) == count
    alike(program, found.program)


def test_a_deployed_program_is_deployed_once() -> None:
    found = merge(parse(REP).program())
    assert merge(found.program).program is found.program


def test_values_that_are_read_behind_others_are_merged_too() -> None:
    text = REP.replace("y = max", "z = max") + "  param k[c, dh]\n  y = sum[dh](k * z[h+dh]) + z\n"
    program = parse(text).program()
    found = merge(program)
    assert stencils(found.program) == 2
    assert len(found.words) == 2
    alike(program, found.program)


# --- drawn stencils

BORDERS = ("x[h: {}]", "(x[h: {}] otherwise 0)", "x[h: clamp({}, 0, size(h) - 1)]")


@st.composite
def programs(draw: st.DrawFn) -> str:
    """Sums of windows, some scaled, of which some may be over nothing."""
    lines, terms = ["mixer drawn(x[b, h]) -> y[b, h]:"], ["x"] if draw(st.booleans()) else []
    for i in range(draw(st.integers(1, 3))):
        low, count = draw(st.integers(-3, 1)), draw(st.integers(1, 4))
        step, shift = draw(st.sampled_from((1, 1, 1, 2, 3))), draw(st.integers(-1, 1))
        lines += [f"  span d{i}: {low}, {low + count}", f"  param w{i}[d{i}]", f"  param s{i}"]
        read = draw(st.sampled_from(BORDERS)).format(f"h + {step}*d{i} + {shift}")
        term = f"sum[d{i}](w{i} * {read})"
        terms.append(
            draw(st.sampled_from(("{}", "({} * s{i})", "(({} - s{i}) / (1 + s{i}*s{i}))"))).format(term, i=i)
        )
    return "\n".join([*lines, f"  y = ({' + '.join(terms)}) otherwise 0", ""])


@settings(max_examples=40)
@given(programs(), st.integers(1, 9))
def test_drawn_stencils(text: str, extent: int) -> None:
    program = parse(text).program()
    made = merge(program).program
    generator = torch.Generator().manual_seed(extent)
    tensors = {
        d.leaf.name: torch.randn(
            [
                extent if a.name == "h" else 2 if a.name == "b" else evaluate_size(size(a), {})
                for a in d.leaf.over
            ],
            generator=generator,
            dtype=torch.float64,
        )
        for d in program.declarations
    }
    agree(interpret(program, tensors), made, tensors, torch.float64)


# --- modules


def module() -> Any:
    made: Any = parse(REP).module(c=6)
    torch.manual_seed(4)
    with torch.no_grad():
        for each in (*made.parameters(), *made.buffers()):
            each.uniform_(0.2, 1.2)
    return made


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The programs that run: their names, and how many kernels they are."""
    seen: list[str] = []
    run = Compiled.run

    def watched(self: Compiled, tensors: Any) -> Any:
        made = run(self, tensors)
        assert self.last is not None
        seen.append(f"{self.program.name} {len(self.last.executable.steps)}")
        return made

    monkeypatch.setattr(Compiled, "run", watched)
    monkeypatch.setenv("PLAIT_CXX_LEVEL", "-O1")
    return seen


X = torch.randn(2, 6, 7, 9, generator=torch.Generator().manual_seed(1))


def test_a_module_deploys_in_eval_mode(runs: list[str]) -> None:
    """One stencil in one kernel; its weights once a weight update; in training the program as it is written."""
    made = module().eval()
    tensors = {"x": X, **dict(made.state_dict())}
    with torch.no_grad():
        for _ in range(2):
            agree({"y": made(X)}, made.program, tensors, torch.float32)
    assert runs == ["rep_weights 2", "rep 1", "rep 1"]
    runs.clear()
    with torch.no_grad():
        made.w3.mul_(2)
        agree({"y": made(X)}, made.program, {"x": X, **dict(made.state_dict())}, torch.float32)
    assert runs == ["rep_weights 2", "rep 1"]


def test_the_gradient_is_that_of_the_program_as_it_is_written(runs: list[str]) -> None:
    made = module().train()
    made(X).sum().backward()
    assert not any(name.startswith("rep_weights") for name in runs)
    assert made.w1.grad is not None


def test_training_mode_does_not_deploy() -> None:
    assert hoist(parse(REP).program(c=4, mode="eval")) is not None
    train = hoist(parse(REP).program(c=4, mode="train"))
    assert train is None or not train.words


def test_no_more_multiplications_than_the_largest_branch() -> None:
    """The rest of the program has the FLOPs of its 3 x 3 branch."""
    found = hoist(parse(REP).program(c=6))
    assert found is not None
    (conv,) = [form for form in found.rest.forms if isinstance(form, Reduce)]
    assert [axis.name for axis in conv.pieces[0].axes] == ["j", "dh", "dw"]
    assert sorted(len(each.value.axes) for each in found.weights.outputs) == [1, 4]


def test_the_report_says_what_is_deployed() -> None:
    made = module().eval()
    made(X)
    report = " ".join(str(made.explain()).split())
    assert "deployed in eval mode: merged: the 3 terms of a sum are 1, over j, dh, dw" in report


def test_batch_norm_of_the_library_is_folded() -> None:
    b, c, o, h = plait.axes("b c o h")

    @plait.mixer("x[b, c, h] -> y[b, o, h]")
    def block(x: Any) -> Any:
        z = (plait.param("weight", o, c) * x).sum(c)
        return batch_norm(z, o, (b, h), name="norm")

    made: Any = block.module(c=5, o=4).eval()
    found = hoist(made.program)
    assert found is not None
    assert sorted(len(each.value.axes) for each in found.weights.outputs) == [1, 2]
    assert made.train() is made
    assert hoist(made.program) is None


@pytest.fixture(scope="module")
def triton() -> Iterator[Interpreting]:
    process = Interpreting()
    yield process
    process.close()


def test_the_deploy_form_on_triton(triton: Interpreting) -> None:
    program = parse(ONE["a large window and a dilated one"]).program()
    tensors = drawn(program, torch.float32)
    found = triton.call(on_triton.run, str(merge(program).program), tensors)
    agree(found, program, tensors, torch.float32, "triton")
