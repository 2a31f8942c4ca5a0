"""Attention of which something is absent: it streams all the same, and what is absent reaches nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest
import torch
from torch import Tensor

import on_triton
from agreement import agree, run_on
from interpreting import Interpreting
from plait import Program, parse
from plait.compiler.meaning.interpret import interpret
from plait.compiler.pipeline import plan_program

QKV = "q[h, d], k[h, d], v[h, e]"


def attention(
    query: str, key: str, value: str = "v[h: s]", *, more: str = "", declare: str = "", sum_: str = "s"
) -> str:
    """Attention of h over s; a query that sees nothing has -1."""
    return (
        f"mixer absent({QKV}{more}) -> o[h, e]:\n{declare}  like s: h\n  top = {query}\n  low = {key}\n"
        f"  o = sum[{sum_}](softmax[s](sum[d](top * low[h: s])) * {value}) otherwise -1\n"
    )


ROTATED = "{x}*cos(h*f) + select(d%2 == 0, -{x}[d+1], {x}[d-1])*sin(h*f)"

PROGRAMS: Mapping[str, tuple[str, list[str]]] = {
    "no later query": (attention("q[h+1]", "k"), ["stream"]),
    "some channels of queries": (attention("when(d < 1, q)", "k"), ["stream"]),
    "some channels of some queries": (attention("when(d < h, q)", "k"), ["stream"]),
    "some queries": (attention("when(h % 3 != 1, q)", "k"), ["stream"]),
    "some keys": (attention("q", "when(h % 3 != 1, k)"), ["stream"]),
    "keys by data": (attention("q", "when(m, k)", more=", m[h]: bool"), ["stream"]),
    "values by data": (attention("q", "k", "when(m[h: s] & (s <= h), v[h: s])", more=", m[h]: bool"), ["stream"]),
    "a sum of some": (attention("q", "k", more=", m[h]: bool", sum_="s | m[h: s]"), ["stream"]),
    "some channels of values": (attention("q", "k", "when(e != 1, v[h: s])"), ["tiles", "stream"]),
    "values by data and channel": (
        attention("q", "when(h != 2, k)", "when(m & (h > e), v)[h: s]", more=", m[h, e]: bool"), ["tiles", "stream"],
    ),
    "some channels of keys": (attention("q", "when(d + h < 5, k)"), ["tiles", "stream"]),
    "some channels of both": (attention("when(d > h - 2, q)", "when(d + h < 3, k)"), ["tiles", "stream"]),
    "rotated": (
        attention(ROTATED.format(x="q"), ROTATED.format(x="k"), declare="  param f[d]\n"),
        ["tiles", "stream"],
    ),
    "channels by data": (attention("q", "when(m, k)", more=", m[h, d]: bool"), ["tiles", "stream"]),
}  # fmt: skip
"""Programs and the families of their kernels."""


def program(name: str) -> Program:
    return parse(PROGRAMS[name][0]).program()


def tensors(name: str, odd: float | None = None) -> dict[str, Tensor]:
    """For 11 tokens of 5 and 3 channels. `odd` stands wherever no result may read it."""
    generator = torch.Generator().manual_seed(3)
    q, k = (torch.randn(11, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    made = {"q": q, "k": k, "v": torch.randn(11, 3, generator=generator, dtype=torch.float64)}
    made["f"] = torch.rand(5, generator=generator, dtype=torch.float64)
    width = (5,) if "channels" in name else (3,) if "channel" in name else ()
    made["m"] = torch.rand((11, *width), generator=generator) > 0.6
    if odd is not None:
        unread(name, made, odd)
    names = [each.leaf.name for each in program(name).declarations]
    return {each: made[each] for each in names}


def unread(name: str, made: dict[str, Tensor], odd: float) -> None:
    """Put a number where the program says that nothing is."""
    h, d = torch.arange(11), torch.arange(5)
    left: dict[str, Callable[[], object]] = {
        "no later query": lambda: made["q"][0].fill_(odd),
        "some channels of queries": lambda: made["q"][:, 1:].fill_(odd),
        "some channels of some queries": lambda: fill(made["q"], d[None] >= h[:, None]),
        "some queries": lambda: fill(made["q"], (h % 3 == 1)[:, None]),
        "some keys": lambda: fill(made["k"], (h % 3 == 1)[:, None]),
        "keys by data": lambda: fill(made["k"], ~made["m"][:, None]),
        "values by data": lambda: fill(made["v"], ~made["m"][:, None]),
        "values by data and channel": lambda: fill(made["v"], ~made["m"]),
        "a sum of some": lambda: fill(made["v"], ~made["m"][:, None]),
        "some channels of values": lambda: made["v"][:, 1].fill_(odd),
        "some channels of keys": lambda: fill(made["k"], d[None] + h[:, None] >= 5),
        "some channels of both": lambda: fill(made["k"], d[None] + h[:, None] >= 3),
        "channels by data": lambda: fill(made["k"], ~made["m"]),
    }

    def fill(tensor: Tensor, where: Tensor) -> None:
        tensor.masked_fill_(where.expand(tensor.shape), odd)

    left.get(name, lambda: None)()


@pytest.fixture(scope="module", autouse=True)
def built_quickly() -> Iterator[None]:
    """What is asked here is the values, not the speed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAIT_CXX_LEVEL", "-Og")
        yield


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_streams(name: str) -> None:
    plan = plan_program(program(name), verify=True).plan
    assert [group.family for group in plan.groups] == PROGRAMS[name][1]


@pytest.mark.parametrize("odd", [None, float("nan"), float("inf")])
@pytest.mark.parametrize("name", PROGRAMS)
def test_values(name: str, odd: float | None) -> None:
    given = tensors(name, odd)
    want = interpret(program(name), given)
    assert want["o"].isfinite().all()
    agree(run_on("cpp", program(name), given), program(name), given, torch.float64)


@pytest.mark.parametrize("odd", [None, float("nan")])
@pytest.mark.parametrize("name", PROGRAMS)
def test_values_on_triton(triton: Interpreting, name: str, odd: float | None) -> None:
    given = tensors(name, odd)
    found = triton.call(on_triton.run, PROGRAMS[name][0], given)
    agree(found, program(name), given, torch.float64)


NEIGHBOURS = """
mixer neighbours(q[b, h, w, d], k[b, h, w, d], v[b, h, w, d], far_k[b, n, d], far_v[b, n, d]; r = 3) -> o[b, h, w, d]:
  axis i, j: r
  span rh, rw: -r + 1, r
  param table[rh, rw]
  require size(h) >= r
  require size(w) >= r
  y = clamp(h - r // 2, 0, size(h) - r)
  x = clamp(w - r // 2, 0, size(w) - r)
  c = sum[d](q * k[h: y + i, w: x + j]) * size(d) ** -0.5 + table[rh: y + i - h, rw: x + j - w]
  far = sum[d](q * far_k) * size(d) ** -0.5
  top = lse[i, j; n](c, far)
  o = sum[i, j; n](exp(c - top) * v[h: y + i, w: x + j], exp(far - top) * far_v)
"""
STRIDED = """
mixer strided(q[b, t, d], k[b, t, d], v[b, t, e]) -> o[b, t, e]:
  axis u: (size(t) + 2) // 3
  o = sum[u](softmax[u](sum[d](q * k[t: 3*u])) * v[t: 3*u])
"""
FLAT = """
mixer flat(q[b, t, d], k[b, n, d], v[b, n, e]) -> o[b, t, e]:
  axis u: 3
  axis x: size(n) // 3
  o = sum[u, x](softmax[u, x](sum[d](q * k[n: u * size(x) + x])) * v[n: u * size(x) + x])
"""
LATTICE = """
mixer lattice(q[b, t, d], k[b, h, w, d], v[b, h, w, e]) -> o[b, t, e]:
  axis u: 3
  axis x: 2
  p = softmax[u, x](sum[d](q * k[h: 2*u + 1, w: 5 - 2*x]))
  o = sum[u, x](p * v[h: 2*u + 1, w: 5 - 2*x]) otherwise 3
"""
KEYS = {"neighbours": NEIGHBOURS, "strided": STRIDED, "flat": FLAT, "lattice": LATTICE}
SIZES = {"b": 2, "t": 11, "n": 13, "h": 5, "w": 7, "d": 4, "e": 3, "rh": 5, "rw": 5}


def drawn(made: Program) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    shapes = {each.leaf.name: [SIZES[axis.name] for axis in each.leaf.over] for each in made.declarations}
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()
    }


@pytest.mark.parametrize("name", KEYS)
def test_keys_read_by_other_indices(triton: Interpreting, name: str) -> None:
    """Windows that stop at the border, and keys at steps other than one: no score is stored."""
    made = parse(KEYS[name]).program()
    plan = plan_program(made, verify=True).plan
    assert [group.family for group in plan.groups] == ["stream"]
    given = drawn(made)
    agree(run_on("cpp", made, given), made, given, torch.float64)
    agree(triton.call(on_triton.run, KEYS[name], given), made, given, torch.float64)
