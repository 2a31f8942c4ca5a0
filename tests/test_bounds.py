"""Masks as loop bounds: attention in the ways in which papers mask it is one kernel, whose loops go from the
first key that a query of the tile sees to the last one, and no further."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import product

import pytest
import torch
from torch import Tensor

from agreement import agree, run_on
from plait import parse
from plait.compiler.gradient.derive import gradient
from plait.compiler.gradient.residuals import from_kept, keep
from plait.compiler.kernels.kernel import Dot, Kernel, Stream
from plait.compiler.kernels.written import Written
from plait.compiler.pipeline import Planned, plan_program, write_kernels
from plait.compiler.report.trips import Counter, Nest
from plait.compiler.schedules.schedule import Schedule, StreamSchedule, cpu_tiles
from plait.dsl.constructors.build import size
from plait.dsl.program import Program
from plait.dsl.shapes.size_forms import Sizes, evaluate_size, program_axes

CPU, GPU = StreamSchedule(64, 32, False), StreamSchedule(64, 64, True)
SIZES: Mapping[str, int] = {"b": 2, "m": 4, "g": 2, "t": 149, "h": 19, "w": 23, "n": 5, "d": 8, "e": 4}

Seen = Callable[..., bool]
"""Whether the query at its coordinates sees the key at its own."""

ALONG = "q[b, m, t, d], k[b, m, t, d], v[b, m, t, e]"
OVER = "q[b, h, w, d], k[b, h, w, d], v[b, h, w, e]"


def along(mask: str, score: str = "sum[d](q * k[t: s])", header: str = ALONG, declare: str = "") -> str:
    """Attention of t over s."""
    return (
        f"mixer along({header}) -> o[b, m, t, e]:\n{declare}  like s: t\n  c = {score}\n"
        f"  o = sum[s](softmax[s{mask}](c) * v[t: s]) otherwise 0\n"
    )


def over(mask: str, declare: str, reads: str) -> str:
    """Attention of (h, w) over two axes."""
    names = "dh, dw" if "near" in declare else "y, x"
    return (
        f"mixer over({OVER}) -> o[b, h, w, e]:\n{declare}\n  c = sum[d](q * k[{reads}])\n"
        f"  o = sum[{names}](softmax[{names}{mask}](c) * v[{reads}]) otherwise 0\n"
    )


WINDOW, DENSE = "  near dh, dw: 3", "  like y: h\n  like x: w"
GROUPED = "q[b, m, t, d], k[b, g, t, d], v[b, g, t, e]"

ONE: Mapping[str, tuple[str, Seen]] = {
    "prefix": (along(" | s <= t"), lambda t, s: s <= t),
    "strict prefix": (along(" | s < t"), lambda t, s: s < t),
    "suffix": (along(" | ~(s < t)"), lambda t, s: s >= t),
    "band": (along(" | abs(s - t) < 9"), lambda t, s: abs(s - t) < 9),
    "squared band": (along(" | (t - s)**2 <= 70"), lambda t, s: (t - s) ** 2 <= 70),
    "causal window": (along(" | (s <= t) & (t - s < 20)"), lambda t, s: t - 20 < s <= t),
    "stair": (along(" | s // 16 <= t // 16"), lambda t, s: s // 16 <= t // 16),
    "blocks": (along(" | s // 48 == t // 48"), lambda t, s: s // 48 == t // 48),
    "slower keys": (along(" | 2 * s <= t"), lambda t, s: 2 * s <= t),
    "memory and prefix": (along(" | (s < 7) | (s <= t)"), lambda t, s: s < 7 or s <= t),
    "either side": (along(" | (s == t - 3) | (s == t + 5)"), lambda t, s: s in (t - 3, t + 5)),
    "nothing": (along(" | s < 0"), lambda t, s: False),
    "slopes of distances": (
        along(" | s <= t", "sum[d](q * k[t: s]) - slope * abs(s - t)", declare="  param slope[m]\n"),
        lambda t, s: s <= t,
    ),
    "table of distances": (
        along(
            " | s <= t",
            "sum[d](q * k[t: s]) + table[r: t - s]",
            declare="  axis r: size(t)\n  param table[m, r]\n",
        ),
        lambda t, s: s <= t,
    ),
    "grouped queries": (
        along(
            " | s <= t",
            "sum[d](q * k[g: m // 2, t: s])",
            GROUPED,
            "  require size(m) == 2 * size(g)\n",
        ).replace("* v[t: s]", "* v[g: m // 2, t: s]"),
        lambda t, s: s <= t,
    ),
    "documents": (
        along(" | doc[t: s] == doc", header=f"{ALONG}, doc[b, t]: int"),
        lambda t, s: True,
    ),
    "causal documents": (
        along(" | (s <= t) & (doc[t: s] == doc)", header=f"{ALONG}, doc[b, t]: int"),
        lambda t, s: s <= t,
    ),
    "padding": (along(" | real[t: s]", header=f"{ALONG}, real[b, t]: bool"), lambda t, s: True),
}  # fmt: skip
"""Programs over t, and what a query at t may see at s, whatever the data is."""

TWO: Mapping[str, tuple[str, Seen]] = {
    "window": (over("", WINDOW, "h + dh, w + dw"), lambda h, w, y, x: max(abs(y - h), abs(x - w)) <= 3),
    "disc": (
        over(" | dh*dh + dw*dw < 9", WINDOW, "h + dh, w + dw"),
        lambda h, w, y, x: (y - h) ** 2 + (x - w) ** 2 < 9,
    ),
    "disc of all": (
        over(" | (y - h)**2 + (x - w)**2 < 25", DENSE, "h: y, w: x"),
        lambda h, w, y, x: (y - h) ** 2 + (x - w) ** 2 < 25,
    ),
    "diamond": (
        over(" | abs(y - h) + abs(x - w) <= 4", DENSE, "h: y, w: x"),
        lambda h, w, y, x: abs(y - h) + abs(x - w) <= 4,
    ),
    "quadrant": (
        over(" | (y <= h) & (x <= w)", DENSE, "h: y, w: x"),
        lambda h, w, y, x: y <= h and x <= w,
    ),
    "partition": (
        over(" | (y // 7 == h // 7) & (x // 7 == w // 7)", DENSE, "h: y, w: x"),
        lambda h, w, y, x: y // 7 == h // 7 and x // 7 == w // 7,
    ),
    "rows above": (over(" | y < h", DENSE, "h: y, w: x"), lambda h, w, y, x: y < h),
    "half a window": (
        over(" | (dh < 0) | ((dh == 0) & (dw <= 0))", WINDOW, "h + dh, w + dw"),
        lambda h, w, y, x: max(abs(y - h), abs(x - w)) <= 3 and (y < h or (y == h and x <= w)),
    ),
    "neighbours": (
        over(
            "",
            "  axis i, j: 5\n  require size(h) >= 5\n  require size(w) >= 5\n"
            "  y = clamp(h - 2, 0, size(h) - 5)\n  x = clamp(w - 2, 0, size(w) - 5)",
            "h: y + i, w: x + j",
        ).replace("dh, dw", "i, j").replace("[y, x]", "[i, j]"),
        lambda h, w, y, x: 0 <= y - min(max(h - 2, 0), 14) < 5 and 0 <= x - min(max(w - 2, 0), 18) < 5,
    ),
}  # fmt: skip
"""Programs over (h, w)."""


def sizes_of(made: Program) -> Sizes:
    return {axis: SIZES[axis.name] for axis in program_axes(made) if axis.name in SIZES and axis.size is None}


def written(plan: Planned, schedule: StreamSchedule) -> list[Written]:
    sizes = sizes_of(plan.program)
    known = {axis: evaluate_size(size(axis), sizes) for axis in plan.shape_axes}
    made = write_kernels(plan, known, "float64", Schedule(16, schedule, cpu_tiles(32, 8)), verify=True)
    return list(made.values())


def only(text: str, schedule: StreamSchedule) -> tuple[Kernel, Counter]:
    """The one kernel of a program, and what counts its scalars."""
    plan = plan_program(parse(text).program(), verify=True)
    assert [group.family for group in plan.plan.groups] == ["stream"]
    (one,) = written(plan, schedule)
    return one.kernel, counter(one, sizes_of(plan.program))


def counter(one: Written, sizes: Sizes) -> Counter:
    numbers = {
        name: evaluate_size(form, sizes) for name, form in zip(one.kernel.sizes, one.numbers, strict=True)
    }
    return Counter(Nest(one.kernel), numbers)


def tiles(kernel: Kernel, extents: tuple[int, ...]) -> Iterator[tuple[range, ...]]:
    """The coordinates of every tile of the lanes."""
    steps = {axis.name: axis.tile for axis in kernel.grid}
    cuts = [
        [range(first, min(first + steps[name], extent)) for first in range(0, extent, steps[name])]
        for name, extent in zip(kernel.lanes, extents, strict=True)
    ]
    return product(*cuts)


def place(kernel: Kernel, tile: tuple[range, ...]) -> dict[str, int]:
    """The scalars that a tile gives."""
    firsts = {f"{name}.first": each[0] for name, each in zip(kernel.lanes, tile, strict=True)}
    return firsts | {f"{name}.last": each[-1] for name, each in zip(kernel.lanes, tile, strict=True)}


def loops(stream: Stream, count: Counter, scalars: Mapping[str, int]) -> list[range]:
    """The keys that a stream passes, an axis each, the steps being its chunks'."""
    ends = [(count.value(axis.low, scalars), count.value(axis.stop, scalars)) for axis in stream.axes]
    return [range(low, stop, axis.step) for (low, stop), axis in zip(ends, stream.axes, strict=True)]


def check(text: str, seen: Seen, extents: tuple[int, ...], schedule: StreamSchedule) -> None:
    """The loops go from the first to the last key that is seen, and no chunk is passed for nothing."""
    passes_what_is_seen(*only(text, schedule), seen, extents)


def passes_what_is_seen(kernel: Kernel, count: Counter, seen: Seen, extents: tuple[int, ...]) -> None:
    (stream,) = (each for each in kernel.body if isinstance(each, Stream))
    for tile in tiles(kernel, extents):
        queries = list(product(*tile))
        keys = [key for key in product(*map(range, extents)) if any(seen(*query, *key) for query in queries)]
        found = loops(stream, count, place(kernel, tile))
        if not keys:
            assert any(not each for each in found), (tile, found)
            continue
        for each, along_axis in zip(found, zip(*keys, strict=True), strict=True):
            assert (each.start, each.stop) == (min(along_axis), max(along_axis) + 1), (tile, each)
        firsts = {tuple((k - r.start) // r.step for k, r in zip(key, found, strict=True)) for key in keys}
        chunks = set(product(*(range(len(each)) for each in found)))
        assert chunks == firsts, (tile, chunks - firsts)


@pytest.mark.parametrize("schedule", [CPU, GPU], ids=["cpu", "gpu"])
@pytest.mark.parametrize("name", ONE)
def test_loops_along_one_axis(name: str, schedule: StreamSchedule) -> None:
    text, seen = ONE[name]
    check(text, seen, (SIZES["t"],), schedule)


@pytest.mark.parametrize("schedule", [CPU, GPU], ids=["cpu", "gpu"])
@pytest.mark.parametrize("name", TWO)
def test_loops_along_two_axes(name: str, schedule: StreamSchedule) -> None:
    text, seen = TWO[name]
    check(text, seen, (SIZES["h"], SIZES["w"]), schedule)


VALUES = ("stair", "blocks", "either side", "grouped queries", "causal documents", "diamond", "half a window")


def drawn(made: Program) -> dict[str, Tensor]:
    """A tensor for every input and parameter."""
    sizes, generator = sizes_of(made), torch.Generator().manual_seed(11)
    found: dict[str, Tensor] = {}
    for declaration in made.declarations:
        leaf = declaration.leaf
        shape = [evaluate_size(size(axis), sizes) for axis in leaf.over]
        found[leaf.name] = (
            torch.randn(shape, generator=generator, dtype=torch.float64)
            if leaf.kind == "real"
            else torch.randint(0, 3, shape, generator=generator)
        )
    return found


@pytest.mark.parametrize("name", VALUES)
def test_values(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAIT_CXX_LEVEL", "-Og")
    made = parse({**ONE, **TWO}[name][0]).program()
    given = drawn(made)
    agree(run_on("cpp", made, given), made, given, torch.float64)


MEMORY = f"""
mixer memory({ALONG}, old_k[b, m, n, d], old_v[b, m, n, e]) -> o[b, m, t, e]:
  like s: t
  own = when((s <= t) & (t - s < 16), sum[d](q * k[t: s]))
  old = when(n < 3, sum[d](q * old_k))
  top = lse[s; n](own, old)
  o = sum[s; n](exp(own - top) * v[t: s], exp(old - top) * old_v)
"""


def test_every_domain_of_a_union_has_its_bounds() -> None:
    kernel, count = only(MEMORY, CPU)
    near, old = (each for each in kernel.body if isinstance(each, Stream))
    for tile in tiles(kernel, (SIZES["t"],)):
        scalars = place(kernel, tile)
        (keys,) = loops(near, count, scalars)
        assert (keys.start, keys.stop) == (max(0, tile[0][0] - 15), tile[0][-1] + 1)
        assert loops(old, count, scalars) == [range(0, 3, 32)]


BACK = ("prefix", "stair", "disc", "partition", "neighbours")


@pytest.mark.parametrize("name", BACK)
def test_gradients_pass_what_is_seen(name: str) -> None:
    """dq passes the keys that a query sees, dk and dv the queries that see a key; nothing over pairs is
    stored."""
    text, seen = {**ONE, **TWO}[name]
    reverse = gradient(parse(text).program())
    plan = plan_program(from_kept(reverse, keep(parse(text).program(), "auto", reverse)[1]), verify=True)
    most = max(len(each.leaf.over) for each in plan.program.declarations)
    assert all(len(each.axes) <= most for each in plan.plan.stored.values())
    extents = tuple(SIZES[axis] for axis in (("t",) if name in ONE else ("h", "w")))

    def seeing(*pair: int) -> bool:
        return seen(*pair[len(extents) :], *pair[: len(extents)])

    of = {group.result.name: group for group in plan.plan.groups if group.family == "sum"}
    assert {each.name for group in of.values() for each in group.results} >= {"grad.q", "grad.k", "grad.v"}
    for one in written(plan, CPU):
        if not any(one.kernel.name.endswith(name.replace(".", "_")) for name in of):
            continue
        count, of_keys = counter(one, sizes_of(plan.program)), one.kernel.name.endswith(("grad_k", "grad_v"))
        passes_what_is_seen(one.kernel, count, seeing if of_keys else seen, extents)


def test_the_loops_of_gradients() -> None:
    """What a key adds to passes from its own place on: half of the queries of causal attention, both ways."""
    plan = plan_program(gradient(parse(ONE["prefix"][0]).program()), verify=True)
    assert {group.family for group in plan.plan.groups} <= {"stream", "sum", "tiles"}
    ends: set[tuple[bool, bool]] = set()
    for one in written(plan, CPU):
        if one.kernel.lanes[-1:] == () or not any(isinstance(each, Stream) for each in one.kernel.body):
            continue
        count = counter(one, sizes_of(plan.program))
        for stream in (each for each in one.kernel.body if isinstance(each, Stream)):
            if any(isinstance(each, Dot) for each in stream.body):
                ends.add(_cut(one.kernel, stream, count))
    assert ends == {(False, True), (True, False)}


def _cut(kernel: Kernel, stream: Stream, count: Counter) -> tuple[bool, bool]:
    """Whether the loop of the middle tile begins late, and whether it ends early."""
    (lane,) = kernel.lanes
    scalars = {f"{lane}.first": 64, f"{lane}.last": 127}
    (keys,) = loops(stream, count, scalars)
    return keys.start == 64, keys.stop == 128
