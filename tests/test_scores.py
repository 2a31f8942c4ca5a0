"""Attention whose scores are more than one contraction of a query with a key: nothing over pairs of both is stored,
neither on the way to the result nor for gradients, those of tables and slopes included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from math import prod

import pytest
import torch
from torch import Tensor

import on_triton
from agreement import agree, nearly, run_on
from differences import check_gradient
from interpreting import Interpreting
from plait import parse
from plait.compiler.gradient.derive import gradient
from plait.compiler.gradient.residuals import from_kept, keep
from plait.compiler.meaning.interpret import interpret
from plait.compiler.meaning.partial import box
from plait.compiler.pipeline import plan_program
from plait.dsl.program import Axis, Program
from tiled import meant, numbers_of

QKV = "q[b, m, t, d], k[b, m, t, d], v[b, m, t, d]"

BUCKETS = f"""
mixer buckets({QKV}) -> o[b, m, t, d]:
  like s: t
  axis r: 4
  param table[m, r]
  e = sum[d](q * k[t: s]) + table[r: clamp(t - s, 0, 3)]
  o = sum[s](softmax[s | s <= t](e) * v[t: s])
"""
BOTH_BORDERS = BUCKETS.replace("clamp(t - s, 0, 3)", "clamp(t - s + 1, 0, 3)").replace(" | s <= t", "")
SLOPES = """
mixer slopes(q[b, m, t, d], k[b, g, t, d], v[b, g, t, d]) -> o[b, m, t, d]:
  like s: t
  param slope[m]
  require size(m) == size(g) * 2
  e = sum[d](q * k[g: m // 2, t: s]) * size(d) ** -0.5 - exp(slope) * abs(t - s)
  o = sum[s](softmax[s | s <= t](e) * v[g: m // 2, t: s])
"""
DECOMPOSED = """
mixer decomposed(q[b, h, w, d], k[b, h, w, d], v[b, h, w, d]) -> o[b, h, w, d]:
  like y: h
  like x: w
  axis r: 2 * size(h) - 1
  axis c: 2 * size(w) - 1
  param rows[r, d]
  param columns[c, d]
  far = sum[d](q * rows[r: h - y + size(h) - 1]) + sum[d](q * columns[c: w - x + size(w) - 1])
  o = sum[y, x](softmax[y, x](sum[d](q * k[h: y, w: x]) * size(d) ** -0.5 + far) * v[h: y, w: x])
"""
ADDITIVE = """
mixer additive(q[b, t, d], k[b, t, d], v[b, t, e]) -> o[b, t, e]:
  like s: t
  param a[d]
  z = sum[d](a * tanh(q + k[t: s]))
  o = sum[s](softmax[s | s <= t](z) * v[t: s])
"""
DISTANCES = """
mixer distances(q[b, m, t, d], k[b, m, t, d], v[b, m, t, d]) -> o[b, m, t, d]:
  like s: t
  e = -sum[d]((q - k[t: s])**2)
  o = sum[s](softmax[s](e) * v[t: s])
"""
VECTORS = f"""
mixer vectors({QKV}) -> o[b, m, t, d]:
  like s: t
  axis r: 5
  param keys[r, d]
  param values[r, d]
  e = sum[d](q * (k[t: s] + keys[r: clamp(t - s, -2, 2) + 2]))
  o = sum[s](softmax[s](e) * (v[t: s] + values[r: clamp(t - s, -2, 2) + 2]))
"""
WINDOWED = """
mixer windowed(q[b, h, w, d], k[b, h, w, d], v[b, h, w, d]) -> o[b, h, w, d]:
  near i, j: 1
  e = sum[d](abs(q - k[h + i, w + j]))
  o = sum[i, j](softmax[i, j](-e) * v[h + i, w + j])
"""
MIXED_BEFORE = """
mixer mixed_before(q[b, m, t, d], k[b, m, t, d], v[b, h, t, e]) -> o[b, h, t, e]:
  like s: t
  param w[h, m]
  z = sum[m](w * sum[d](q * k[t: s]))
  o = sum[s](softmax[s | s <= t](z) * v[t: s])
"""
MIXED_AFTER = """
mixer mixed_after(q[b, m, t, d], k[b, m, t, d], v[b, h, t, e]) -> o[b, h, t, e]:
  like s: t
  param u[h, m]
  p = softmax[s](sum[d](q * k[t: s]) * size(d) ** -0.5)
  o = sum[s](sum[m](u * p) * v[t: s])
"""
TALKING = """
mixer talking(q[b, m, t, d], k[b, m, t, d], v[b, h, t, e]) -> o[b, h, t, e]:
  like s: t
  axis i: size(m)
  param w[i, m]
  param u[h, i]
  p = softmax[s | s <= t](sum[m](w * sum[d](q * k[t: s])))
  o = sum[s](sum[i](u * p) * v[t: s])
"""
ROTARY = """
mixer rotary(q[b, t, d], k[b, t, d], v[b, t, e]) -> o[b, t, e]:
  like s: t
  turn = t * exp(-(d // 2))
  turned_q = q * cos(turn) + select(d % 2 == 0, -q[d: d + 1], q[d: d - 1]) * sin(turn)
  turned_k = k * cos(turn) + select(d % 2 == 0, -k[d: d + 1], k[d: d - 1]) * sin(turn)
  o = sum[s](softmax[s | s <= t](sum[d](turned_q * turned_k[t: s])) * v[t: s]) otherwise 0
"""
"""The last one of an odd number of channels has no other to turn with: it is absent."""
HOLES = """
mixer holes(q[b, t, d], k[b, t, d], v[b, t, e]) -> o[b, t, e]:
  like s: t
  some_q = when((t + d) % 2 == 0, q)
  some_k = when((t * d) % 3 > 0, k)
  o = sum[s](softmax[s](sum[d](some_q * some_k[t: s])) * v[t: s]) otherwise 0
"""
"""Some pairs have no channel in common."""
PROGRAMS = {
    "buckets": BUCKETS,
    "both borders": BOTH_BORDERS,
    "slopes": SLOPES,
    "decomposed": DECOMPOSED,
    "additive": ADDITIVE,
    "distances": DISTANCES,
    "vectors": VECTORS,
    "windowed": WINDOWED,
    "one head": VECTORS.replace("b, m, t, d", "b, t, d"),
    "rotary": ROTARY,
    "holes": HOLES,
    "mixed before": MIXED_BEFORE,
    "mixed after": MIXED_AFTER,
    "talking": TALKING,
}
MIXED = ("mixed before", "mixed after", "talking")
"""What streams before a map of heads has an entry for each head on either side."""
VALUED = [name for name in PROGRAMS if name not in ("one head", "mixed after")]
"""Those whose values are not the same kernels as another's."""

SIZES = {"b": 2, "g": 1, "m": 2, "t": 7, "h": 3, "w": 4, "r": 4, "c": 7, "d": 3, "e": 2, "i": 2}
LONG = {"b": 4, "g": 4, "m": 8, "t": 4099, "h": 61, "w": 64, "r": 4, "c": 127, "d": 64, "e": 64, "i": 8}
BY_NAME = {
    "decomposed": {"r": (5, 121)},
    "vectors": {"r": (5, 5)},
    "one head": {"r": (5, 5)},
    "mixed before": {"h": (3, 8)},
    "mixed after": {"h": (3, 8)},
    "talking": {"h": (3, 8)},
}
"""Other sizes of axes in one program, as short ones and as long ones."""


@dataclass(frozen=True, slots=True)
class Step:
    """A training step: the program with what it keeps, and the gradient that reads it, each with its tensors."""

    plain: Program
    forward: Program
    backward: Program
    given: Mapping[str, Tensor]
    read: Mapping[str, Tensor]


@cache
def step(name: str) -> Step:
    program = parse(PROGRAMS[name]).program()
    sizes = {**SIZES, **{axis: short for axis, (short, _) in BY_NAME.get(name, {}).items()}}
    reverse = gradient(program)
    forward, kept = keep(program, "auto", reverse)
    generator = torch.Generator().manual_seed(7)
    backward = from_kept(reverse, kept)

    def drawn(made: Program) -> dict[str, Tensor]:
        shapes = {each.leaf.name: [sizes[a.name] for a in each.leaf.over] for each in made.declarations}
        return {
            key: torch.randn(shape, generator=generator, dtype=torch.float64) for key, shape in shapes.items()
        }

    given = drawn(program)
    values = interpret(forward, given)
    read = {**drawn(backward), **given}
    read |= {each.declaration.leaf.name: values[each.result] for each in kept}
    return Step(program, forward, backward, given, {each: read[each] for each in drawn(backward)})


@pytest.fixture(scope="module", autouse=True)
def built_quickly() -> Iterator[None]:
    """What is asked here is the values, not the speed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAIT_CXX_LEVEL", "-Og")
        yield


def entries(program: Program, sizes: Mapping[str, int]) -> tuple[int, int]:
    """How many the largest tensor has that a call is given or gives, and the largest that is stored."""
    shapes = {each.leaf.name: tuple(sizes[a.name] for a in each.leaf.over) for each in program.declarations}
    of = numbers_of(program, shapes)

    def count(axes: tuple[Axis, ...]) -> int:
        return prod(box(axes, of))

    leaves = max(count(each.leaf.over) for each in program.declarations)
    plan = plan_program(program, verify=True).plan
    return leaves, max(count(each.axes) for each in plan.stored.values())


@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_over_pairs_is_stored(name: str) -> None:
    sizes = {**LONG, **{axis: long for axis, (_, long) in BY_NAME.get(name, {}).items()}}
    for program in (step(name).forward, step(name).backward):
        given, stored = entries(program, sizes)
        assert stored <= given * (sizes["h"] if name in MIXED else 1)


@pytest.mark.parametrize("name", VALUED)
def test_the_kernels_mean_the_programs(name: str) -> None:
    made = step(name)
    for program, tensors in ((made.forward, made.given), (made.backward, made.read)):
        wanted = interpret(program, tensors)
        found = meant(program, tensors)
        agree(
            {key: found[key].reshape(x.shape) for key, x in wanted.items()}, program, tensors, torch.float64
        )


@pytest.mark.parametrize("name", VALUED)
def test_gradients_are_those_of_the_meaning(name: str) -> None:
    made = step(name)
    shapes = {key: tuple(x.shape) for key, x in made.given.items()}
    derived, given = check_gradient(made.plain, made.given, numbers_of(made.plain, shapes))
    found = interpret(
        made.backward, {**made.read, **{key: x for key, x in given.items() if key in made.read}}
    )
    for key, value in interpret(derived, given).items():
        nearly(found[key], value)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_values_in_c(name: str) -> None:
    made = step(name)
    for program, tensors in ((made.forward, made.given), (made.backward, made.read)):
        agree(run_on("cpp", program, tensors), program, tensors, torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_values_on_triton(triton: Interpreting, name: str) -> None:
    made = step(name)
    for program, tensors in ((made.forward, made.given), (made.backward, made.read)):
        agree(triton.call(on_triton.run, str(program), tensors), program, tensors, torch.float64)
