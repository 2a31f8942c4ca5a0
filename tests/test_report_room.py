"""What a report says of memory: the room between kernels, calls in parts, reductions in parts, and what is touched."""

from __future__ import annotations

import re

import pytest
import torch

import plait
from plait import parse
from plait.backends import workspace
from plait.compiler.algorithms import chunks
from plait.compiler.gradient.derive import gradient
from plait.compiler.report.notes import bytes_of

SOFT = """mixer soft(x[b, c, h, w]) -> y[b, c, h, w]:
  near p, q: 1
  axis g: 2
  require size(c) == 6
  param weight[g, p, q, c]
  like e: c
  a = sum[e](weight[c: e] * x[c: e])
  k = softmax[p, q](a)
  y = sum[p, q](k[g: c // 3] * x[h+p, w+q])
"""
"""Kernels of every point: what is between the kernels is nine times as large as the input, twice."""

LARGE = {"x": (8, 6, 64, 64), "weight": (2, 3, 3, 6)}


@pytest.fixture(autouse=True)
def known_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured."""
    monkeypatch.setenv("PLAIT_MACHINE", "products=1e11 bytes=2e10 functions=4e9 name=test")


def text(program: plait.Program | plait.Mixer, shapes: dict[str, tuple[int, ...]], **options: str) -> str:
    made = plait.compile(program, backend="cpp", on_unfused="quiet", **options)  # pyright: ignore[reportArgumentType]
    return " ".join(str(made.explain(shapes)).split())


def test_a_call_that_runs_in_parts_says_so_and_what_torch_adds() -> None:
    """The report asks what a call asks: the workspace of the shapes."""
    program = gradient(parse(SOFT).program(), None)
    shapes = LARGE | {"cot.y": LARGE["x"]}
    found = text(program, shapes)
    said = re.search(r"in parts: all kernels run (\d+) times, along b, (\d+) of 8 at once", found)
    assert said is not None
    assert (int(said[1]) - 1) * int(said[2]) < 8 <= int(said[1]) * int(said[2])
    assert "torch adds up `grad.weight` over them" in found


def test_the_room_is_that_of_a_call() -> None:
    call = plait.compile(parse(SOFT), backend="cpp", on_unfused="error")
    call(**{name: torch.zeros(shape) for name, shape in LARGE.items()})
    assert call.runner.last is not None
    ran = call.runner.last.workspace
    assert ran is not None
    ((cut, size, step),) = ran.cuts
    found = " ".join(str(call.explain()).split())
    assert cut.axis.name == "b" and f"along b, {step} of {size} at once" in found
    assert f"room for one part, {bytes_of(ran.bytes)}" in found
    whole = workspace.Workspace(ran.executable, ran.sizes)
    assert (
        f"they share one room of {bytes_of(whole.bytes)}, each" in found
        or f"`k`, {bytes_of(whole.bytes)}" in found
    )


def test_what_is_not_cut_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """A norm over the batch reduces it; everything else is reduced or moved too."""
    monkeypatch.setattr(workspace, "LEAST", 0)
    monkeypatch.setattr("plait.inspection.LEAST", 0)
    monkeypatch.setattr("plait.inspection.SHARE", 0.0)
    norm = "mixer norm(x[b, t]) -> y[b, t]:\n  y = x / sqrt(sum[b](x * x) + 1) / sqrt(sum[t](x * x) + 1)\n"
    found = text(parse(norm), {"x": (64, 64)})
    assert "(not in parts: every axis of the call is reduced, moved or counted by some value)" in found


def test_little_between_kernels_is_said_and_nothing_for_one_kernel() -> None:
    gated = "mixer gated(x[b, t, c]) -> y[b, t, c]:\n  y = x / sqrt(sum[t](x * x) + 1)\n"
    found = text(parse(gated), {"x": (8, 100, 16)})
    assert f"between kernels: `v1`, {4 * 8 * 16} B" in found
    alone = text(parse("mixer double(x[t]) -> y[t]:\n  y = 2 * x\n"), {"x": (5,)})
    assert "between kernels" not in alone and "as planned" not in alone


def test_a_reduction_in_parts_says_how_many() -> None:
    found = text(parse("mixer norm(x[b, t]) -> y:\n  y = sum[b, t](x * x)\n"), {"x": (100, 10000)})
    said = re.search(r"parts ([\d,]+) parts of a long reduction along b, t, side by side", found)
    assert said is not None
    assert 32 <= int(said[1]) <= 100 * 10000 // chunks.LEAST, "rows of 16 round a part up"


# --- what is touched


def least(found: str) -> int:
    amount = re.search(r"bytes [^;]*?([\d,]+) at least", found)
    assert amount is not None
    return int(amount[1].replace(",", ""))


def test_a_slice_of_a_tensor_is_what_is_read_of_it() -> None:
    half = "mixer half(x[t, m=2, c]) -> y[t, c]:\n  y = x[m: 1] * 2\n"
    assert least(text(parse(half), {"x": (10, 2, 7)})) == 4 * (10 * 7 + 10 * 7)
    both = "mixer both(x[t, m=2, c]) -> y[t, c]:\n  y = x[m: 1] * x[m: 0]\n"
    assert least(text(parse(both), {"x": (10, 2, 7)})) == 4 * (2 * 10 * 7 + 10 * 7)


def test_no_more_of_a_table_is_read_than_is_looked_up() -> None:
    pick = "mixer pick(x[v, c], ids[t]: index v) -> y[t, c]:\n  y = x[v: ids]\n"
    few = least(text(parse(pick), {"x": (1000, 64), "ids": (3,)}))
    assert few == 4 * 3 * 64 + 8 * 3 + 4 * 3 * 64
    many = least(text(parse(pick), {"x": (10, 64), "ids": (500,)}))
    assert many == 4 * 10 * 64 + 8 * 500 + 4 * 500 * 64


def test_a_formula_that_leaves_out_borders_is_no_equation() -> None:
    near = "mixer near(q[t, d], k[t, d], v[t, d]) -> o[t, d]:\n  near s: 5\n"
    near += "  p = softmax[s](sum[d](q * k[t+s]))\n  o = sum[s](p * v[t+s])\n"
    found = text(parse(near), dict.fromkeys("qkv", (200, 16)))
    said = re.search(r"FLOPs ([\d,]+) of at most (\d+)\*t ", found)
    assert said is not None
    assert int(said[1].replace(",", "")) < int(said[2]) * 200
    plain = text(parse("mixer double(x[t]) -> y[t]:\n  y = 2 * x\n"), {"x": (5,)})
    assert "FLOPs t = 5" in plain


# --- who reads what


def test_stored_lines_name_kernels_and_the_program_has_a_statement_for_each() -> None:
    made = plait.compile(gradient(parse(SOFT).program(), None), backend="cpp", on_unfused="quiet")
    shapes = LARGE | {"cot.y": LARGE["x"]}
    report = str(made.explain(shapes))
    titles = re.findall(r"^  (?:phase \d+, )?(\S[^:\n]*\]): ", report, re.M)
    kernels = {name.split("[")[0] for title in titles for name in re.split(r", (?=[^\]]*\[)", title)}
    stored = re.findall(r"^  stored: (\S+) -> (.*?), because", " ".join(report.split("\n    ")), re.M)
    assert stored
    planned = report.partition("  as planned:\n")[2]
    for name, readers in stored:
        assert name in kernels and set(readers.split(", ")) <= kernels
        assert re.search(rf"^    {re.escape(name)} = ", planned, re.M)


def test_types_of_16_bits_are_named() -> None:
    made = plait.compile(
        parse("mixer double(x[t]) -> y[t]:\n  y = 2 * x\n"), backend="cpp", dtype=torch.bfloat16
    )
    assert (
        "precision: computed in float32; `x` of bfloat16 widened as they are loaded; `y` of bfloat16 rounded as they "
        "are stored"
    ) in " ".join(str(made.explain({"x": (5,)})).split())
