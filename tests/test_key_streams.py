"""Streams of keys by the meaning of their kernels: nothing is read outside a tensor, and what is seen is right."""

from __future__ import annotations

import pytest

from plait.compiler.kernels.kernel import Stream
from plait.compiler.schedules.reach import confined
from plait.dsl.elaboration.elaborate import elaborate
from plait.dsl.program import Map
from plait.dsl.text.parse import parse_text
from tiled import agrees

ATTENTION = """
mixer f(q[h, w, d], k[h, w, d], v[h, w, d]) -> o[h, w, d]:
  near dh, dw: 2
  param table[dh, dw]
  s = sum[d](q * k[h+dh, w+dw]) {bias}
  p = softmax[dh, dw | {seen}](s)
  o = sum[dh, dw](p * v[h+dh, w+dw]) otherwise 0
"""
SHAPES = {**dict.fromkeys("qkv", (5, 7, 3)), "table": (5, 5)}

SEEN = {
    "dh*dh + dw*dw < 9": True,
    "abs(dh) + abs(dw) <= 2": True,
    "(dh*dh <= 4) & (dw >= -2) & (dw < 3)": True,
    "dh*dh + dw*dw < 16": False,
    "dh*dh + dw < 9": False,
    "dh*dh < 9": False,
}
"""Predicates over two window axes of radius 2, and whether they keep both in their range."""


@pytest.mark.parametrize("seen", SEEN)
def test_windows_whose_predicate_says_more_or_less(seen: str) -> None:
    """Once a program read its table of biases outside the table, where the window ended."""
    kernels = agrees(ATTENTION.format(seen=seen, bias="+ table"), SHAPES)
    assert len(kernels) == 1


def test_a_table_along_one_axis_of_a_disc() -> None:
    """Once it was read outside its range: what implies the range of `dh` has also the axis `dw`."""
    text = ATTENTION.format(seen="dh*dh + dw*dw < 9", bias="+ row").replace("table[dh, dw]", "row[dh]")
    agrees(text, {**{name: SHAPES[name] for name in "qkv"}, "row": (5,)})


@pytest.mark.parametrize("seen", SEEN)
def test_ranges_that_a_predicate_implies(seen: str) -> None:
    program = elaborate(parse_text(ATTENTION.format(seen=seen, bias="+ table"))[-1], {}, {})
    axes = {axis.name: axis for form in program.forms for axis in form.axes}
    comparisons = [each for each in program.forms if isinstance(each, Map) and each.kind == "bool"]
    predicate = next(each for each in comparisons if all(each not in other.args for other in comparisons))
    found = all(confined((predicate,), axes[name], -2, 2) for name in ("dh", "dw"))
    assert found == SEEN[seen]
    assert not confined((predicate,), axes["dh"], -1, 1)


def test_a_test_that_a_predicate_implies_is_not_made() -> None:
    text = ATTENTION.replace("  param table[dh, dw]\n", "").format(seen="dh*dh + dw*dw < 9", bias="* 0.5")
    (kernel,) = agrees(text, {name: SHAPES[name] for name in "qkv"}).values()
    assert "dh >= -2" not in str(kernel)
    assert "dh*dh" not in str(kernel) and "< 9" in str(kernel)


SUM = """
mixer f(q[t, d], k[t, d], v[t, e], u[t, e], g[t]) -> o[t, e]:
  like s: t
  p = exp(0.3 * sum[d](q * k[t: s]))
  o = sum[s]({entry}) otherwise -1
"""
ENTRIES = {
    "what is subtracted": "p * v[t: s] - p * p * u[t: s]",
    "what a mask hides": "when(s < t, p * v[t: s] - p * p * u[t: s])",
    "what data hide": "when(g[t: s] > 0, p) * v[t: s]",
    "a weight by distance, absent beyond": "p * exp(g[t: s - t + 5]) * v[t: s]",
    "a value that is absent": "p * when(g[t: s] > 0, v[t: s])",
    "keys of the first chunk": "when(s < 2, p * v[t: s])",
    "keys of all chunks but the last": "when(s * s * s % 31 == 1, p * v[t: s])",
    "no key": "when(s < t - 8, p * v[t: s])",
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_sums_past_keys(entry: str) -> None:
    """Eleven keys in chunks of four."""
    shapes = {"q": (11, 3), "k": (11, 3), "v": (11, 2), "u": (11, 2), "g": (11,)}
    *_, kernel = agrees(SUM.format(entry=ENTRIES[entry]), shapes).values()
    assert any(isinstance(each, Stream) for each in kernel.body)
