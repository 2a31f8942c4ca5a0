"""One artefact serves every batch and length: a program is called with fifty sizes, and the builds are counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import plait
from agreement import agree
from plait import Program, parse
from plait.backends.compiled import Compiled

PRIMES = (1, 2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67)
EDGES = (4, 8, 9, 15, 16, 32, 33, 63, 64, 65, 100, 127, 128, 129, 255, 256, 257, 500)
OTHERS = (6, 10, 12, 24, 36, 48, 71, 73, 79, 83, 89, 97)
BATCHES = (0, 1, 2, 3, 7)
SIZES = [(batch, length) for batch, length in zip(BATCHES * 10, (*PRIMES, *EDGES, *OTHERS), strict=True)]
"""Fifty sizes: batches of none, one, several; lengths of one, primes, tiles, one less and one more."""

WINDOW = """
mixer window(q[..., t, d], k[..., t, d], v[..., t, d]) -> o[..., t, d]:
  near n: 3
  p = softmax[n](sum[d](q * k[t+n]))
  o = sum[n](p * v[t+n])
"""
CAUSAL = """
mixer causal(q[..., t, d], k[..., t, d], v[..., t, d]) -> o[..., t, d]:
  like s: t
  p = softmax[s | s <= t](sum[d](q * k[t: s]))
  o = sum[s](p * v[t: s])
"""
BLOCK = """
mixer block(x[..., t, c]) -> y[..., t, c]:
  axis e: size(c) * 2
  near n: 2
  param taps[c, n]
  param up[e, c]
  param down[c, e]
  u = sum[n](taps * x[t+n])
  m = mean[c](u)
  z = (u - m) / sqrt(mean[c]((u - m)**2) + 1e-5)
  y = x + sum[e](down * tanh(sum[c](up * z)))
"""
POOLED = "mixer pooled(x[..., t, c]) -> y[..., t, c]:\n  y = x / (1 + sum[t](abs(x)))\n"


def attention(text: str) -> tuple[Program, Callable[[int, int], dict[str, Tensor]]]:
    return parse(text).program(), lambda b, t: {name: torch.randn(b, t, 4) for name in "qkv"}


def block() -> tuple[Program, Callable[[int, int], dict[str, Tensor]]]:
    weights = {"taps": torch.randn(3, 5), "up": torch.randn(6, 3), "down": torch.randn(3, 6)}
    return parse(BLOCK).program(), lambda b, t: {"x": torch.randn(b, t, 3), **weights}


def pooled() -> tuple[Program, Callable[[int, int], dict[str, Tensor]]]:
    return parse(POOLED).program(), lambda b, t: {"x": torch.randn(b, t, 3)}


PROGRAMS = {
    "window": lambda: attention(WINDOW), "causal": lambda: attention(CAUSAL), "block": block, "pooled": pooled,
}  # fmt: skip


def libraries(folder: Path) -> int:
    return len(list((folder / "cpp").glob("*.so")))


@pytest.mark.parametrize("name", PROGRAMS)
def test_fifty_sizes_are_one_build(name: str, cache_folder: Path) -> None:
    assert len(SIZES) == len(set(SIZES)) == 50
    program, tensors = PROGRAMS[name]()
    compiled = Compiled(program, backend="cpp", on_unfused="error")
    for place, (batch, length) in enumerate(SIZES):
        given = tensors(batch, length)
        found = compiled.run(given)
        if place % 10 == 0 or batch * length in (0, 1):
            agree(found, program, given, torch.float32)
    assert libraries(cache_folder) == 1
    assert len(compiled._executables) == 1


def test_lengths_beyond_are_the_same_library_where_no_integer_grows(cache_folder: Path) -> None:
    """64-bit lanes are for squares of coordinates and their kin, not for what is only long."""
    program = parse("mixer shift(x[t]) -> y[t]:\n  y = x + (x[t-1] otherwise 0)\n").program()
    compiled = Compiled(program, backend="cpp")
    for length in (5, 8192, 8193, 100_003):
        x = torch.randn(length)
        wanted = x + torch.nn.functional.pad(x[:-1], (1, 0))
        assert torch.equal(compiled.run({"x": x})["y"], wanted)
    assert libraries(cache_folder) == 1


def test_lengths_beyond_are_one_more_where_integers_grow(cache_folder: Path) -> None:
    program = parse("mixer ramp(x[t]) -> y[t]:\n  y = x + to_real(t * t)\n").program()
    compiled = Compiled(program, backend="cpp")
    for length in (5, 8192, 8193, 100_003):
        x = torch.zeros(length)
        wanted = torch.arange(length).square().float()
        assert torch.equal(compiled.run({"x": x})["y"], wanted)
    assert libraries(cache_folder) == 2


def test_a_module_and_its_gradient_are_one_build_each(cache_folder: Path) -> None:
    made = plait.parse(BLOCK).module(c=3)
    counted: list[int] = []
    for batch, length in SIZES[:20]:
        x = torch.randn(batch, length, 3, requires_grad=True)
        made(x).sum().backward()
        counted.append(libraries(cache_folder))
    assert len(set(counted)) == 1
