"""Presence as a predicate, proofs of it, and its evaluation: the laws, and the programs of the papers.

Three independent meanings are compared: `presence` as a form read by the denotation (tests/denotation.py),
the grid of arrays, and the prover, which may be silent and never wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given
from hypothesis import strategies as st

from denotation import Meaning
from plait.dsl.arithmetic import SCALAR_OPS
from plait.dsl.constructors import build, build_special
from plait.dsl.mistakes import KindMismatch
from plait.dsl.ops import OPS, Op
from plait.dsl.program import (
    Axis,
    Carry,
    Const,
    Coordinate,
    Declaration,
    Form,
    Leaf,
    Output,
    Program,
    Require,
    Scan,
    Size,
)
from plait.dsl.proofs.absence import absent
from plait.dsl.proofs.algebra import expression, surely_nonnegative
from plait.dsl.proofs.grid import Grid, first_false
from plait.dsl.proofs.presence import TRUE, Presence, presence, reads_data
from plait.dsl.proofs.totality import Analysis, absence_at, analyse, small_calls
from plait.dsl.shapes.size_forms import axis_range

Operand = Form | Axis | int | float

h, w, d, t, c, b = (Axis(name) for name in "hwdtcb")
x, y, m = Leaf("input", "x", (h, w)), Leaf("input", "y", (h,)), Leaf("input", "m", (h, w), "bool")
rows, columns = build.size(h), build.size(w)
BOUNDED = (h, w, d, t, c, b)


def form_of(operand: Operand) -> Form:
    if isinstance(operand, Axis):
        return Coordinate(operand)
    return operand if isinstance(operand, Form) else Const(operand)


def op(name: str, *operands: Operand) -> Form:
    return build.apply(name, *map(form_of, operands))


def at(value: Form, **indices: Operand) -> Form:
    """`value` read at other indices, its axes given by name."""
    return build.at(value, {axis: form_of(indices[axis.name]) for axis in value.axes if axis.name in indices})


def total(op_name: str, value: Form, *over: Axis, where: Form | None = None) -> Form:
    return build.reduce(op_name, [(value, over)], where)


def program(value: Form, requires: Sequence[Form] = ()) -> Program:
    items = tuple((axis,) for axis in value.axes)
    return Program("p", (), (Output("o", value, items),), requires=tuple(map(Require, requires)))


def verdict(value: Form, *requires: Form) -> str:
    found = analyse(program(value, requires))
    return "refuted" if found.refuted else "open" if found.open else "proved"


# --- what is proved


def window(value: Form, *pairs: tuple[Axis, Axis]) -> Form:
    return build.at(value, {axis: op("add", axis, tap) for axis, tap in pairs})


def disc_attention() -> Form:
    dh, dw = build.near_axis("dh", Const(8)), build.near_axis("dw", Const(8))
    q, k, v = (Leaf("input", name, (h, w, d)) for name in "qkv")
    disc = op("lt", op("add", op("mul", dh, dh), op("mul", dw, dw)), 64)
    scores = total("sum", op("mul", q, window(k, (h, dh), (w, dw))), d)
    (weights,) = build.softmax([(scores, (dh, dw))], disc)
    return total("sum", op("mul", weights, window(v, (h, dh), (w, dw))), dh, dw)


def volume_mean() -> Form:
    taps = [build.near_axis(name, Const(1)) for name in ("dt", "dh", "dw")]
    value = Leaf("input", "z", (t, h, w))
    return build.mean([(window(value, *zip((t, h, w), taps, strict=True)), tuple(taps))])


def masked(compare: Callable[[Axis], Form]) -> Form:
    s = build.like_axis(t, "s")
    keys = Leaf("input", "a", (t, d))
    (weights,) = build.softmax([(total("sum", at(keys, t=s), d), (s,))], compare(s))
    return total("sum", op("mul", weights, at(keys, t=s)), s)


def convolution(kernel: int, stride: int, padding: int, name: str = "sum") -> Form:
    size = op("add", op("floordiv", op("sub", op("add", rows, 2 * padding), kernel), stride), 1)
    oh, k = build.make_axis("oh", Const(0), size, "axis"), build.span_axis("k", Const(0), Const(kernel))
    return total(name, at(x, h=op("sub", op("add", op("mul", oh, stride), k), padding)), k)


def transposed() -> Form:
    k, i = build.span_axis("k", Const(0), Const(3)), build.like_axis(h, "i")
    oh = build.make_axis("oh", Const(0), op("mul", rows, 2), "axis")
    weight = Leaf("parameter", "weight", (k,))
    return total("sum", op("mul", at(y, h=i), at(weight, k=op("sub", op("add", oh, 1), op("mul", i, 2)))), i)


def merged(block: Form) -> Form:
    """Windows of `block` rows and back again."""
    blocks = build.make_axis("Y", Const(0), op("floordiv", rows, block), "axis")
    inner = build.make_axis("p", Const(0), block, "axis")
    cut = at(x, h=op("add", op("mul", blocks, block), inner))
    return at(cut, Y=op("floordiv", h, block), p=op("mod", h, block))


def divisible(size: Form, by: Operand) -> Form:
    return op("eq", op("mod", size, by), 0)


def concatenated(extra: int = 0) -> Form:
    parts = [(Leaf("input", "e", (c,)), c), (Leaf("input", "f", (d,)), d), (Leaf("input", "g", (t,)), t)]
    size = op("add", op("add", op("add", build.size(c), build.size(d)), build.size(t)), extra)
    return build.cat(build.make_axis("n", Const(0), size, "axis"), parts)


def scrambled() -> Form:
    """Row-major re-reading of (c, h, w) as (h, w, c)."""
    value = Leaf("input", "u", (c, h, w))
    flat = op("add", op("mul", op("add", op("mul", c, rows), h), columns), w)
    whole = op("floordiv", flat, build.size(c))
    return at(
        value, h=op("floordiv", whole, columns), w=op("mod", whole, columns), c=op("mod", flat, build.size(c))
    )


def adaptive() -> Form:
    """The mean of adaptive bins, 7 for any height."""
    bins, inner = build.make_axis("i", Const(0), Const(7), "axis"), build.like_axis(h, "y2")
    first = op("floordiv", op("mul", bins, rows), 7)
    end = op("floordiv", op("add", op("mul", op("add", bins, 1), rows), 6), 7)
    return build.mean([(at(y, h=inner), (inner,))], op("and", op("ge", inner, first), op("lt", inner, end)))


def moved_window() -> Form:
    """A window of five whose start is clamped, and its bias table read at the moved place."""
    start = build.clamp(op("sub", h, 2), Const(0), op("sub", rows, 5))
    k, offset = build.make_axis("k", Const(0), Const(5), "axis"), build.near_axis("rh", Const(4))
    bias = Leaf("parameter", "table", (offset,))
    there = op("add", start, k)
    return total("sum", op("mul", at(x, h=there), at(bias, rh=op("sub", there, h))), k)


def table(length: int) -> Form:
    return Leaf("parameter", "p", (build.make_axis("k", Const(0), Const(length), "axis"),))


def rotated() -> Form:
    value = Leaf("input", "r", (d,))
    after, before = at(value, d=op("add", d, 1)), at(value, d=op("sub", d, 1))
    return build.select(op("eq", op("mod", d, 2), 0), op("neg", after), before)


def union_of_softmaxes() -> Form:
    dh = build.near_axis("dh", Const(2))
    text, image = Leaf("input", "text", (h, t)), window(Leaf("input", "image", (h,)), (h, dh))
    one, other = build.softmax([(text, (t,)), (build.when(op("ne", dh, 0), image), (dh,))])
    return build.reduce("sum", [(one, (t,)), (other, (dh,))])


def deep_network(layers: int) -> Form:
    value: Form = x
    for _ in range(layers):
        tap = build.near_axis("dh", Const(1))
        value = total("sum", window(value, (h, tap)), tap)
    return value


def lines(count: int) -> Form:
    value: Form = y
    for number in range(count):
        value = build.select(op("gt", op("add", y, number + 0.5), 0), y, op("add", value, y))
    return value


ids = Leaf("input", "ids", (b,), "int", h)
labels = Leaf("input", "labels", (b,), "int")
near_end = op("add", h, build.near_axis("far", Const(8)))

PROVED: dict[str, tuple[Form, ...]] = {
    "windows with a disc": (disc_attention(),),
    "a window in three dimensions": (volume_mean(),),
    "causal": (masked(lambda s: op("le", s, t)),),
    "anticausal": (masked(lambda s: op("ge", s, t)),),
    "the diagonal": (masked(lambda s: op("eq", s, t)),),
    "a band": (masked(lambda s: op("le", op("abs", op("sub", s, t)), 2)),),
    "a global token or a band": (
        masked(lambda s: op("or", op("eq", s, 0), op("le", op("abs", op("sub", s, t)), 2))),
    ),
    "a disc in real numbers": (
        masked(lambda s: op("lt", op("sqrt", op("to_real", op("abs", op("sub", s, t)))), 1.5)),
    ),
    "convolution 3, 1, 1": (convolution(3, 1, 1),),
    "convolution 7, 2, 3": (convolution(7, 2, 3),),
    "even convolution 4, 2, 2": (convolution(4, 2, 2),),
    "convolution 5, 3, 2": (convolution(5, 3, 2),),
    "pooling 3, 2": (convolution(3, 2, 0, "max"),),
    "pooling 2, 2": (convolution(2, 2, 0, "max"),),
    "every tap of a pooling": (at(x, h=op("mul", build.make_axis("q", Const(0), op("floordiv", rows, 2), "axis"), 2)),),
    "transposed convolution": (transposed(),),
    "dilated": (total("sum", window(x, (h, (tap := build.near_axis("dh", Const(3))))), tap),),
    "merge by a constant": (merged(Const(8)), divisible(rows, 8)),
    "merge by a size": (merged(build.size(c)), divisible(rows, build.size(c))),
    "merge where two sizes divide": (
        merged(build.size(c)), divisible(rows, build.size(d)), divisible(rows, build.size(c)),
    ),
    "concatenation": (concatenated(),),
    "a row-major scramble": (scrambled(),),
    "adaptive bins": (adaptive(),),
    "a moved window": (moved_window(), op("ge", rows, 5)),
    "rotation with an even axis": (rotated(), divisible(build.size(d), 2)),
    "one softmax over a union": (union_of_softmaxes(),),
    "clamp": (at(x, h=build.clamp(near_end, Const(0), op("sub", rows, 1))),),
    "reflect": (at(x, h=build.reflect(near_end, rows)),),
    "wrap around": (at(x, h=op("mod", near_end, rows)),),
    "otherwise": (build.otherwise(window(x, (h, build.near_axis("dh", Const(3)))), Const(0)),),
    "select on data": (build.select(op("gt", y, 0), y, op("neg", y)),),
    "typed indices": (at(x, h=ids),),
    "argmax": (at(x, h=total("argmax", y, h)),),
    "data clamped": (at(x, h=build_special.trust(labels, h)),),
    "a table of required size": (
        at(table(16), k=t), op("le", build.size(t), 16),
    ),
    "another axis of equal size": (at(x, w=h), op("eq", rows, columns)),
    "overlap-add": (
        build.place(
            Leaf("input", "z", (c, (p := build.make_axis("p", Const(0), Const(4), "axis")))),
            {t: op("add", op("mul", c, 4), p)},
        ),
        op("eq", build.size(t), op("mul", build.size(c), 4)),
    ),
    "a square is not negative": (
        build.when(op("ge", op("add", op("mul", rows, rows), op("mul", columns, columns)),
                      op("mul", op("mul", rows, columns), 2)), x),
    ),
    "twenty windows": (deep_network(20),),
    "three hundred lines": (lines(300),),
}  # fmt: skip


@pytest.mark.parametrize("name", PROVED)
def test_it_is_proved(name: str) -> None:
    assert verdict(*PROVED[name]) == "proved"


@pytest.mark.parametrize("name", PROVED)
def test_what_is_proved_is_so_for_small_sizes(name: str) -> None:
    value, *requires = PROVED[name]
    whole = program(value, requires)
    predicate = presence(value)
    calls = [sizes for sizes, _ in zip(small_calls(whole, predicate), range(40), strict=False)]
    assert calls
    if not reads_data(predicate):
        assert all(absence_at(predicate, sizes) is None for sizes in calls)


# --- what is refuted, and what is open

REFUTED: dict[str, tuple[str, tuple[Form, ...]]] = {
    "a shift": ("h = 1 at h = 0", (at(x, h=op("add", h, 1)),)),
    "strictly causal": ("t = 1 at t = 0", (masked(lambda s: op("lt", s, t)),)),
    "merge without the requirement": ("h = 3, c = 2 at h = 2", (merged(build.size(c)),)),
    "merge by eight without it": ("h = 9 at h = 8", (merged(Const(8)),)),
    "concatenation of too little": ("c = 1, d = 1, t = 1 at n = 3", (concatenated(1),)),
    "rotation of an odd axis": ("d = 1 at d = 0", (rotated(),)),
    "two sizes that may differ": ("h = 2, w = 1 at h = 1", (at(x, w=h),)),
    "a table that is too short": (
        "t = 17 at t = 16", (at(table(16), k=t),),
    ),
    "a window of five in less": (
        "h = 1 at h = 0", (at(x, h=op("add", h, build.make_axis("k", Const(0), Const(5), "axis"))),),
    ),
    "only some data": ("data: h = 1 at h = 0", (build.when(op("gt", y, 0), y),)),
    "untyped data as an index": ("data: h = 1, b = 1 at b = 0", (at(x, h=labels),)),
    "a mask that may be empty": ("data: h = 1, w = 1 at h = 0", (total("sum", x, w, where=m),)),
}  # fmt: skip


def told(found: Analysis) -> str:
    (finding, absence), *_ = found.refuted
    facts = absent(finding, absence, found.presence).facts
    sizes, index = ({**facts[key]} for key in ("sizes", "index"))  # pyright: ignore[reportGeneralTypeIssues]
    said = ["" if absence.surely else "data: "]
    said += [", ".join(f"{name} = {value}" for name, value in part.items()) for part in (sizes, index)]
    return f"{said[0]}{said[1]} at {said[2]}"


@pytest.mark.parametrize("name", REFUTED)
def test_it_is_refuted_by_the_smallest_call(name: str) -> None:
    expected, (value, *requires) = REFUTED[name]
    found = analyse(program(value, requires))
    assert found.refuted
    own = expected.split(" at ")[0].removeprefix("data: ").split(", ")
    assert all(size in told(found) for size in own), told(found)
    assert told(found).split(" at ")[1].startswith(expected.split(" at ")[1])
    assert told(found).startswith("data: ") == expected.startswith("data: ")


def broken_positions() -> Form:
    """Indices made of real numbers are beyond the proofs; they are in range for all sizes."""
    half = op("add", op("mul", op("to_real", h), 0.5), 0.25)
    return at(x, h=op("floor", half))


def late() -> Form:
    """Absent where h is beyond 40, in real numbers that no size up to 7 reaches."""
    return at(x, h=op("floor", op("mul", op("to_real", h), 1.02)))


def test_what_is_neither_is_open() -> None:
    assert verdict(broken_positions()) == "open"
    assert verdict(late()) == "open"


def test_the_open_are_evaluated_for_each_sizes() -> None:
    (finding,) = analyse(program(late())).open
    assert absence_at(finding.predicate, {h: 40, w: 3}) is None
    absence = absence_at(finding.predicate, {h: 60, w: 3})
    assert absence is not None
    assert absence.index[h] == 59
    assert absence.surely


def test_large_boxes_are_evaluated_in_parts() -> None:
    s = build.like_axis(t, "s")
    dense = total(
        "sum", at(Leaf("input", "a", (t,)), t=s), s, where=op("lt", op("mod", op("mul", s, t), 1031), 3)
    )
    assert absence_at(presence(dense), {t: 1500}) is None
    gap = build.when(op("or", op("ne", t, 1400), op("ne", h, 900)), Const(0.0))
    absence = absence_at(presence(gap), {t: 1500, h: 1000})
    assert absence is not None
    assert absence.index == {t: 1400, h: 900}


# --- presences


def test_a_total_value_has_the_constant_true() -> None:
    assert presence(op("mul", x, 2.0)) == TRUE
    assert presence(build.otherwise(at(y, h=op("add", h, 1)), Const(0.0))) == TRUE
    assert presence(total("count", build.when(m, x), w)) == TRUE
    assert presence(at(x, h=ids)) == TRUE


def test_a_presence_has_no_more_axes_than_its_value() -> None:
    value = at(x, h=op("add", h, 1))
    assert presence(value).axes == (h,)


def test_the_parts_that_read_data_stay() -> None:
    shifted = at(y, h=op("sub", h, 1))
    assert reads_data(presence(build.when(op("gt", y, 0), shifted)))
    assert not reads_data(presence(shifted))


def test_an_optional_input_is_present_if_it_is_given() -> None:
    gate = Leaf("input", "g", (h,))
    known = Presence(frozenset((gate,)))
    assert known.of(op("mul", y, gate)) != TRUE
    assert known.of(op("mul", y, build.otherwise(gate, Const(1.0)))) == TRUE


def test_a_program_with_an_optional_input() -> None:
    gate = Declaration(Leaf("input", "g", (h,)), ((h,),), optional=True)
    whole = Program("p", (gate,), (Output("o", gate.leaf, ((h,),)),))
    assert analyse(whole).refuted
    filled = build.otherwise(gate.leaf, Const(1.0))
    assert not analyse(Program("p", (gate,), (Output("o", filled, ((h,),)),))).refuted


def test_the_parts_of_a_scan_must_be_total() -> None:
    leaf = Leaf("bound", "p", (t, h))
    late = at(Leaf("input", "a", (t, h)), t=op("sub", t, 1))

    def scanned(init: Form, step: Form, until: Form | None = None) -> list[str]:
        form = Scan(t, (Carry(leaf, init, step),), until=until)
        return [finding.what for finding, _ in analyse(program(form)).refuted]

    assert scanned(y, op("add", leaf, 1.0)) == []
    assert scanned(y, op("add", leaf, late)) == ["a step of the scan over `t`"]
    assert scanned(build.when(op("gt", y, 0), y), leaf) == ["the first value of the scan over `t`"]
    assert scanned(y, leaf, op("gt", late, 0)) == ["the `until` of the scan over `t`"]


# --- the laws, on random forms

OFFSETS = st.integers(-2, 2)
dh = build.near_axis("dh", Const(1))
k = build.span_axis("k", Const(1), Const(3))
s = build.like_axis(h, "s")
AXES = (h, w, dh, k, s)


@st.composite
def indices(draw: Any, depth: int = 2) -> Form:
    """Integers made of coordinates and sizes."""
    if depth == 0 or draw(st.booleans()):
        return draw(st.sampled_from([*map(Coordinate, AXES), rows, columns, *map(Const, range(-1, 3))]))
    name = draw(st.sampled_from(["add", "sub", "minimum", "maximum", "mul", "floordiv", "mod", "abs", "neg"]))
    left = draw(indices(depth - 1))
    match name:
        case "abs" | "neg":
            return op(name, left)
        case "mul":
            return op(name, left, draw(st.sampled_from([2, rows, 3])))
        case "floordiv" | "mod":
            return op(name, left, draw(st.sampled_from([2, rows, 3, columns])))
        case _:
            return op(name, left, draw(indices(depth - 1)))


@st.composite
def predicates(draw: Any, depth: int, data: bool) -> Form:
    kind = draw(st.sampled_from(["compare", "and", "or", "not", "data", "present", "any", "all"]))
    if depth == 0 or kind == "compare":
        name = draw(st.sampled_from(["lt", "le", "gt", "ge", "eq", "ne"]))
        return op(name, draw(indices(1)), draw(indices(1)))
    if kind == "data":
        return draw(st.sampled_from([m, op("gt", y, 0), op("lt", x, 0.5)])) if data else op("lt", h, 2)
    if kind == "not":
        return op("not", draw(predicates(depth - 1, data)))
    if kind == "present":
        return build.present(draw(values(depth - 1, data)))
    if kind in ("any", "all"):
        inner = draw(predicates(depth - 1, data))
        over = draw(st.lists(st.sampled_from(inner.axes), max_size=2, unique=True)) if inner.axes else []
        return total(kind, inner, *over)
    return op(kind, draw(predicates(depth - 1, data)), draw(predicates(depth - 1, data)))


@st.composite
def values(draw: Any, depth: int, data: bool) -> Form:
    kind = draw(st.sampled_from(["leaf", "map", "when", "otherwise", "at", "reduce", "place", "select"]))
    if depth == 0 or kind == "leaf":
        return draw(st.sampled_from([x, y, op("to_real", Coordinate(s)), op("to_real", Coordinate(dh))]))
    inner = draw(values(depth - 1, data))
    match kind:
        case "map":
            return op("add", inner, draw(values(depth - 1, data)))
        case "when":
            return build.when(draw(predicates(depth - 1, data)), inner)
        case "otherwise":
            return build.otherwise(inner, draw(values(depth - 1, data)))
        case "select":
            return build.select(draw(predicates(depth - 1, data)), inner, draw(values(depth - 1, data)))
        case _:
            return draw(moved(kind, inner))


@st.composite
def moved(draw: Any, kind: str, inner: Form) -> Form:
    if not inner.axes:
        return inner
    over = draw(st.lists(st.sampled_from(inner.axes), min_size=1, max_size=2, unique=True))
    if kind == "reduce":
        return total(draw(st.sampled_from(["sum", "max", "lse"])), inner, *over)
    if kind == "place":
        return build.place(inner, {draw(st.sampled_from([h, k])): draw(indices(1))})
    return build.at(inner, {axis: draw(indices()) for axis in over})


def small_sizes() -> Iterator[dict[Axis, int]]:
    for high, wide in product((1, 2, 3), (1, 2)):
        yield {h: high, w: wide}


def cells(form: Form, sizes: dict[Axis, int]) -> int:
    found = 1
    for axis in form.axes:
        found *= len(axis_range(axis, sizes))
    return found


def random_tensors(sizes: dict[Axis, int]) -> dict[Form, torch.Tensor | None]:
    generator = torch.Generator().manual_seed(7)
    shape = (sizes[h], sizes[w])
    return {
        x: torch.randn(shape, generator=generator, dtype=torch.float64),
        y: torch.randn(sizes[h], generator=generator, dtype=torch.float64),
        m: torch.rand(shape, generator=generator) > 0.5,
    }


@given(values(3, data=True))
def test_presence_is_where_the_value_is_present(value: Form) -> None:
    predicate = presence(value)
    assert set(predicate.axes) <= set(value.axes)
    for sizes in ({h: 2, w: 1}, {h: 3, w: 2}):
        if cells(value, sizes) > 150:
            continue
        meaning = Meaning(random_tensors(sizes), sizes)
        for index in meaning.box(value.axes):
            assert meaning.at(predicate, index) is (meaning.at(value, index) is not None)


@given(values(3, data=False))
def test_the_grid_computes_what_the_predicate_means(value: Form) -> None:
    predicate = presence(value)
    for sizes in small_sizes():
        if cells(value, sizes) > 150:
            continue
        truth = Grid(sizes).holds(predicate, {axis: axis_range(axis, sizes) for axis in predicate.axes})
        assert truth.sure is truth.maybe or reads_data(predicate) or np.array_equal(truth.sure, truth.maybe)
        meaning = Meaning(random_tensors(sizes), sizes)
        shape = tuple(len(axis_range(axis, sizes)) for axis in predicate.axes)
        sure, maybe = (np.broadcast_to(array, shape) for array in (truth.sure, truth.maybe))
        for index in meaning.box(predicate.axes):
            place = tuple(i - axis_range(axis, sizes).start for axis, i in index.items())
            held = meaning.at(predicate, index)
            assert held or not sure[place]
            assert maybe[place] or not held


@given(values(3, data=True))
def test_what_is_proved_is_never_wrong(value: Form) -> None:
    found = analyse(program(value))
    for sizes in small_sizes():
        if cells(value, sizes) > 150:
            continue
        meaning = Meaning(random_tensors(sizes), sizes)
        everywhere = all(meaning.at(value, index) is not None for index in meaning.box(value.axes))
        assert everywhere or found.refuted or found.open


@given(values(3, data=False))
def test_a_counter_example_is_one(value: Form) -> None:
    found = analyse(program(value))
    for _, absence in found.refuted:
        if not absence.surely:
            continue
        sizes = {h: absence.sizes.get(h, 1), w: absence.sizes.get(w, 1)}
        meaning = Meaning(random_tensors(sizes), sizes)  # pyright: ignore[reportArgumentType]
        others = [axis for axis in value.axes if axis not in absence.index]
        here = {axis: axis_range(axis, sizes).start for axis in others} | absence.index
        assert meaning.at(value, here) is None


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ({(1, 1): 1, (1, 2): -2, (2, 2): 1}, True),  # (a - b)^2
        ({(1, 1): -1, (1, 2): 2, (2, 2): -1}, False),
        ({(1, 1): 1, (): -1}, False),  # (a - 1)(a + 1)
        ({(1, 1, 2): 1, (1, 2): -2, (2,): 1}, True),  # b (a - 1)^2
        ({(1, 1, 3): 1, (1, 3): -2, (3,): 1}, False),  # the same with c, which may be negative
        ({}, True),
    ],
)
def test_factors_show_what_coefficients_do_not(terms: dict[tuple[int, ...], int], expected: bool) -> None:
    assert surely_nonnegative(terms, lambda symbol: symbol != 3) is expected


def test_the_first_false_cell() -> None:
    assert first_false(np.array([[True, True], [False, True]])) == [1, 0]
    assert first_false(np.array(True)) is None
    assert first_false(np.array(False)) == []


def test_a_size_may_be_compared() -> None:
    assert verdict(build.when(op("ge", Size(h), 1), y)) == "proved"
    assert verdict(build.when(op("ge", Size(h), 2), y)) == "refuted"
    assert verdict(build.when(op("ge", Size(h), 2), y), op("gt", Size(h), 1)) == "proved"


@pytest.mark.parametrize("op", [op for op in OPS.values() if op.name in SCALAR_OPS], ids=lambda op: op.name)
def test_reports_know_all_arithmetic_on_sizes(op: Op) -> None:
    """A report of a program with `sign(size(h))` ended in KeyError."""
    h = Axis("h")
    try:
        form = build.apply(op.name, *(build.size(h), Const(3))[: op.arity])
    except KindMismatch:
        return  # no arithmetic on whole numbers
    if form.kind == "int":
        symbol = sympy.Symbol("h", positive=True, integer=True)
        assert expression(form).subs(symbol, 7) == SCALAR_OPS[op.name](*(7, 3)[: op.arity])
