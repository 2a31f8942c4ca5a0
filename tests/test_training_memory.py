"""The memory of training steps: a child process looks at the most that it ever held (VmHWM of Linux)."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from noted import contmix
from plait import parse
from plait.compiler.gradient.derive import gradient
from plait.compiler.gradient.residuals import Sums, keep
from plait.compiler.pipeline import plan_program
from plait.dsl.program import Reduce, walk
from plait.dsl.shapes.sizes import bind_sizes
from test_recompute import CIRCULAR
from tree import ROOT

GIVEN = """mixer given(x[b, c, h, w], k[b, g, h, w, i=7, j=7]) -> y[b, c, h, w]:
  near p, q: 3
  require size(c) == size(g) * 16
  y = sum[p, q](k[g: c // 16, i: p + 3, j: q + 3] * x[h+p, w+q])
"""

INVOLUTION = """mixer involution(x[b, c, h, w]) -> y[b, c, h, w]:
  near p, q: 3
  axis g: 2
  require size(c) == 32
  param weight[g, p, q, c]
  like e: c
  k = sum[e](weight[c: e] * x[c: e])
  y = sum[p, q](k[g: c // 16] * x[h+p, w+q])
"""

SOFT = """mixer soft(x[b, c, h, w], a[b, g, h, w, i=7, j=7]) -> y[b, c, h, w]:
  near p, q: 3
  require size(c) == size(g) * 16
  k = softmax[p, q](a[i: p + 3, j: q + 3])
  y = sum[p, q](k[g: c // 16] * x[h+p, w+q])
"""

MADE = (
    INVOLUTION.replace("mixer involution", "mixer made")
    .replace("k = sum", "k = softmax[p, q](sum")
    .replace("x[c: e])\n", "x[c: e]))\n")
)

CHILD = """
import ctypes, json, sys, torch, plait
from plait import parse
sys.path.insert(0, sys.argv[1])
from noted import contmix
def held(word):
    lines = open("/proc/self/status")
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(word))
def step(call, shapes):
    given = {name: torch.randn(shape, requires_grad=True) for name, shape in shapes.items()}
    out = call(**given)
    out = out if isinstance(out, tuple) else (out,)
    sum(each.sum() for each in out).backward()
    numbers = 2 * sum(each.numel() for each in given.values()) + sum(each.numel() for each in out)
    return numbers * 4
found = {}
for name, (text, small, large) in json.loads(sys.argv[2]).items():
    program = parse(text).program() if text else contmix.program(g=4)
    call = plait.compile(program, backend="cpp", on_unfused="error")
    step(call, small)
    ctypes.CDLL(None).malloc_trim(0)  # what earlier cases left lying would hide what this one takes
    open("/proc/self/clear_refs", "w").write("5")
    before = held("VmHWM")
    bytes = step(call, large)
    found[name] = held("VmHWM") - before, bytes
print(json.dumps(found))
"""

CASES = {
    "attention": CIRCULAR.replace("radius = 3", "radius = 8"),
    "given kernels": GIVEN,
    "softmax of given logits": SOFT,
    "involution": INVOLUTION,
    "kernels that a softmax makes": MADE,
    "contmix": "",
}


def shapes(name: str, size: int) -> dict[str, tuple[int, ...]]:
    image = (4, 32, size, size)
    match name:
        case "attention":
            return dict.fromkeys("qkv", (4, size, size, 32))
        case "given kernels":
            return {"x": image, "k": (4, 2, size, size, 7, 7)}
        case "softmax of given logits":
            return {"x": image, "a": (4, 2, size, size, 7, 7)}
        case "contmix":
            made = {"q": (4, 4, 8, size, size), "k": (4, 4, 8, 7, 7), "v": (4, 64, size, size)}
            weights = {"weight_proj.weight": (74, 7, 7), "weight_proj.bias": (74,)}
            return {**made, **weights, "rpb1": (4, 9, 9), "rpb2": (4, 13, 13)}
        case _:
            return {"x": image, "weight": (2, 7, 7, 32)}


@pytest.fixture(scope="module")
def peaks() -> dict[str, tuple[int, int]]:
    """For each case the most that a step held beside what was there before, and the bytes of its inputs,
    its results and their gradients.

    Every tensor has pages of its own: holes in the heap of malloc, which come and go with the order in which threads
    start, are up to a sixth of what is held and not plait's."""
    cases = {name: (text, shapes(name, 8), shapes(name, 64)) for name, text in CASES.items()}
    made = subprocess.run(
        [sys.executable, "-c", CHILD, str(ROOT / "tests"), json.dumps(cases)],
        capture_output=True, text=True, check=True, cwd=ROOT.parent,
        env={**os.environ, "PLAIT_CXX_LEVEL": "-Og", "MALLOC_MMAP_THRESHOLD_": "65536"},
    )  # fmt: skip
    return json.loads(made.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", CASES)
def test_a_step_holds_less_than_twice_inputs_and_outputs(
    name: str, peaks: dict[str, tuple[int, int]]
) -> None:
    """Inputs, results and gradients are there anyway and count once. Scores of attention would be ten times as much;
    the kernels of every point, which involution and ContMix make, are two to three times the image, and their gradients
    as much again."""
    held, there = peaks[name]
    assert there < held + (1 << 20)  # what is there was seen
    assert held < 2 * there


def test_the_kernel_of_a_point_is_made_once() -> None:
    """Not once for each channel of its group, where the gradient reads it from the neighbours."""
    reverse = gradient(parse(INVOLUTION).program())
    stored = plan_program(reverse).plan.stored.values()
    assert any({axis.name for axis in each.axes} == set("gpqbhw") for each in stored if not each.presence)
    contractions = [form for each in stored for form in walk((each.form,)) if isinstance(form, Reduce)]
    assert not [form for form in contractions if {axis.name for axis in form.axes} >= set("cpqbhw")]


@pytest.mark.parametrize(("size", "kept"), [(7, False), (90, True)])
def test_sums_of_taps_are_kept_where_they_are_small(size: int, kept: bool) -> None:
    """The logits of ContMix have 74 numbers a head and pixel: less than half of what is there from 60 channels a
    head on."""
    program = contmix.program(g=4)
    sums = Sums(program)
    (logits,) = sums.forms
    shapes = {"q": (1, 4, size, 9, 9), "k": (1, 4, size, 7, 7), "v": (1, 8 * size, 9, 9)}
    shapes |= {
        "weight_proj.weight": (74, 7, 7),
        "weight_proj.bias": (74,),
        "rpb1": (4, 9, 9),
        "rpb2": (4, 13, 13),
    }
    large = sums.too_large(list(shapes.values()), lambda: bind_sizes(program, shapes))
    assert large == (frozenset() if kept else frozenset({logits}))
    found = [each.form for each in keep(program, "auto", without=large)[1]]
    assert (logits in found) == kept
