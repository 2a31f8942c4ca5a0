"""The memory of training steps: a child process looks at the most that it ever held (VmHWM of Linux)."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

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

CHILD = """
import json, sys, torch, plait
from plait import parse
def held(word):
    lines = open("/proc/self/status")
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(word))
def step(call, shapes):
    given = {name: torch.randn(shape, requires_grad=True) for name, shape in shapes.items()}
    out = call(**given)
    out.sum().backward()
    return (2 * sum(each.numel() for each in given.values()) + out.numel()) * 4
found = {}
for name, (text, small, large) in json.loads(sys.argv[1]).items():
    call = plait.compile(parse(text).program(), backend="cpp", on_unfused="error")
    step(call, small)
    open("/proc/self/clear_refs", "w").write("5")
    before = held("VmHWM")
    bytes = step(call, large)
    found[name] = held("VmHWM") - before, bytes
print(json.dumps(found))
"""


def shapes(name: str, size: int) -> dict[str, tuple[int, ...]]:
    match name:
        case "attention":
            return dict.fromkeys("qkv", (4, size, size, 32))
        case "given kernels":
            return {"x": (4, 32, size, size), "k": (4, 2, size, size, 7, 7)}
        case _:
            return {"x": (4, 32, size, size), "weight": (2, 7, 7, 32)}


@pytest.fixture(scope="module")
def peaks() -> dict[str, tuple[int, int]]:
    """For each case the most that a step held beside what was there before, and the bytes of its inputs,
    its result and their gradients."""
    texts = {
        "attention": CIRCULAR.replace("radius = 3", "radius = 8"),
        "given kernels": GIVEN,
        "involution": INVOLUTION,
    }
    cases = {name: (text, shapes(name, 8), shapes(name, 64)) for name, text in texts.items()}
    made = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(cases)],
        capture_output=True, text=True, check=True, cwd=ROOT.parent, env={**os.environ, "PLAIT_CXX_LEVEL": "-O1"},
    )  # fmt: skip
    return json.loads(made.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", ["attention", "given kernels"])
def test_what_comes_on_top_is_less_than_as_much_again(name: str, peaks: dict[str, tuple[int, int]]) -> None:
    """Inputs, results and gradients are there anyway. Scores would be ten times as much, and an image laid out
    by taps sixteen times."""
    held, there = peaks[name]
    assert held < 2 * there


def test_kernels_made_of_the_image(peaks: dict[str, tuple[int, int]]) -> None:
    """98 numbers a point are the kernels, three times its channels; never more than two of that kind are held
    on top of inputs, results and gradients."""
    held, there = peaks["involution"]
    assert held - there < 2 * there
