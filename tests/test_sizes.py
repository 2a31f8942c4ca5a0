"""Sizes from shapes: what is bound, what is refused and in which words, and the batch made explicit."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.dsl.arithmetic import SCALAR_OPS
from plait.dsl.constructors import build
from plait.dsl.constructors.batch import expand_batch as expand_directly
from plait.dsl.errors import PlaitError
from plait.dsl.mistakes import InvalidSize
from plait.dsl.ops import OPS
from plait.dsl.program import (
    BATCH,
    Axis,
    Const,
    Coordinate,
    Declaration,
    Form,
    Item,
    Leaf,
    Output,
    Piece,
    Program,
    Reduce,
    Require,
    Size,
    fresh_axis,
    walk,
)
from plait.dsl.shapes.polynomial import Polynomial, as_polynomial, symbol_of
from plait.dsl.shapes.sizes import (
    Binder,
    Sizes,
    axis_range,
    bind_sizes,
    evaluate_size,
    expand_batch,
    is_batch,
)
from plait.dsl.source import Source, Span

h, w, d, b, c, z = (Axis(name) for name in "hwdbcz")

TEXT = """mixer scores(q[..., h, w, d], k[..., h, w, d], y[b, (h w), 1, z=3], g[oh, c]?) -> o[..., h, w]:
  axis oh: (size(h) + 2*1 - 4)//2 + 1
  require size(h) % 2 == 0
"""
SOURCE = Source(TEXT, "scores.plait")


def span(text: str, nth: int = 0) -> Span:
    start = -1
    for _ in range(nth + 1):
        start = TEXT.index(text, start + 1)
    return Span(SOURCE, start, start + len(text))


def op(name: str, *operands: Form | int, at: Span | None = None) -> Form:
    return build.apply(name, *(Const(o) if isinstance(o, int) else o for o in operands), span=at)


def declared(text: str, *items: Item, optional: bool = False) -> Declaration:
    over = tuple(axis for item in items for axis in item)
    return Declaration(Leaf("input", text.split("[")[0], over), items, optional, span=span(text))


FORMULA = op(
    "add", op("floordiv", op("sub", op("add", Size(h), 2), 4), 2), 1, at=span("(size(h) + 2*1 - 4)//2 + 1")
)
OH = fresh_axis("oh", Const(0), FORMULA, "axis", span("oh", 1))


def scores() -> Program:
    q = declared("q[..., h, w, d]", (BATCH,), (h,), (w,), (d,))
    k = declared("k[..., h, w, d]", (BATCH,), (h,), (w,), (d,))
    y = declared("y[b, (h w), 1, z=3]", (b,), (h, w), (), (z,))
    g = declared("g[oh, c]", (OH,), (c,), optional=True)
    value = build.reduce("sum", [(build.apply("mul", q.leaf, k.leaf), (d,))])
    even = Require(op("eq", op("mod", Size(h), 2), 0, at=span("size(h) % 2 == 0")))
    return Program(
        "scores", (q, k, y, g), (Output("o", value, ((BATCH,), (h,), (w,))),), fixed=((z, 3),), requires=(even,),
        span=span("scores"),
    )  # fmt: skip


GOOD = {"q": (2, 4, 6, 8), "k": (2, 4, 6, 8), "y": (5, 24, 1, 3), "g": (2, 7)}


# --- what is bound


def test_sizes_are_bound() -> None:
    sizes = bind_sizes(scores(), GOOD)
    assert sizes == {h: 4, w: 6, d: 8, b: 5, c: 7, z: 3, BATCH: (2,)}
    assert axis_range(OH, sizes) == range(2)


def test_the_batch_is_any_number_of_dimensions() -> None:
    for batch in ((), (0,), (3, 1), (1, 0, 2)):
        shapes = {"q": (*batch, 2, 1, 8), "k": (*batch, 2, 1, 8)}
        assert bind_sizes(scores(), shapes)[BATCH] == batch


def test_what_is_not_given_decides_nothing() -> None:
    sizes = bind_sizes(scores(), {"q": (4, 6, 8), "k": (4, 6, 8)})
    assert b not in sizes
    assert c not in sizes


def test_packed_dimensions_are_solved() -> None:
    y = Declaration(Leaf("input", "y", (h, w, c, d)), ((h, w), (w, c), (c, d)))
    other = Declaration(Leaf("input", "x", (h,)), ((h,),))
    program = Program("p", (y, other), (Output("o", y.leaf, ((h, w, c, d),)),))
    assert bind_sizes(program, {"y": (6, 12, 20), "x": (2,)}) == {h: 2, w: 3, c: 4, d: 5, BATCH: ()}


def test_a_packed_dimension_with_a_derived_factor() -> None:
    half = fresh_axis("half", Const(0), op("floordiv", Size(h), 2), "axis")
    y = Declaration(Leaf("input", "y", (half, w)), ((half, w),))
    x = Declaration(Leaf("input", "x", (h,)), ((h,),))
    program = Program("p", (x, y), (Output("o", y.leaf, ((half, w),)),))
    assert bind_sizes(program, {"x": (4,), "y": (6,)})[w] == 3
    with pytest.raises(
        InvalidSize, match=r"packed dimension `\(half w\)` has size 7, which half = 2 does not"
    ):
        bind_sizes(program, {"x": (4,), "y": (7,)})


@given(st.lists(st.integers(1, 5), min_size=3, max_size=3), st.lists(st.integers(0, 3), max_size=3))
def test_the_sizes_are_those_of_the_shapes(sizes: list[int], batch: list[int]) -> None:
    high, wide, deep = sizes[0] * 2, sizes[1], sizes[2]
    shape = (*batch, high, wide, deep)
    shapes = {"q": shape, "k": shape, "y": (1, high * wide, 1, 3)}
    expected = {h: high, w: wide, d: deep, BATCH: tuple(batch)}
    assert expected.items() <= Binder(scores()).bind(shapes).items()


def test_a_binder_lives_as_long_as_its_program() -> None:
    program = scores()
    assert bind_sizes(program, GOOD) == bind_sizes(program, GOOD)
    again = scores()
    assert bind_sizes(again, GOOD)[h] == 4


# --- what is refused, in these words

REFUSED: dict[str, tuple[dict[str, tuple[int, ...]], str]] = {
    "two sizes": (
        {"q": (2, 4, 6, 8), "k": (2, 4, 6, 9)},
        """
AxisSizeMismatch: axis `d` has two sizes, 8 and 9, in one call of `scores`
  --> scores.plait:1:44
    |
  1 | mixer scores(q[..., h, w, d], k[..., h, w, d], y[b, (h w), 1, z=3], g[oh, c]?) -> o[..., h, w]:
    |                           - 8, from argument `q`
    |                                            ^ 9, from argument `k`
    |
  = called at train.py:41 with
  =   q: [2, 4, 6, 8]   ...=(2,) h=4 w=6 d=8
  =   k: [2, 4, 6, 9]   ...=(2,) h=4 w=6 d=9
  help: one name is one size: if these two axes are meant to be independent, give one of them another name
  see: docs/errors.md#axis-size-mismatch
""",
    ),
    "two batches": (
        {"q": (2, 4, 6, 8), "k": (1, 4, 6, 8)},
        """
AxisSizeMismatch: `...` has two shapes, (2,) and (1,), in one call of `scores`
  --> scores.plait:1:33
    |
  1 | mixer scores(q[..., h, w, d], k[..., h, w, d], y[b, (h w), 1, z=3], g[oh, c]?) -> o[..., h, w]:
    |                --- (2,), from argument `q`
    |                                 ^^^ (1,), from argument `k`
    |
  = called at train.py:41 with
  =   q: [2, 4, 6, 8]   ...=(2,) h=4 w=6 d=8
  =   k: [1, 4, 6, 8]   ...=(1,) h=4 w=6 d=8
  help: `...` is one tuple of axes, the same for all tensors; size 1 never broadcasts
  see: docs/errors.md#axis-size-mismatch
""",
    ),
    "a fixed size": (
        {"q": (4, 6, 8), "k": (4, 6, 8), "y": (1, 24, 1, 4)},
        """
AxisSizeMismatch: axis `z` has two sizes, 3 and 4, in one call of `scores`
  --> scores.plait:1:63
    |
  1 | mixer scores(q[..., h, w, d], k[..., h, w, d], y[b, (h w), 1, z=3], g[oh, c]?) -> o[..., h, w]:
    |                                                               ^^^ 4, from argument `y`
    |
  = called at train.py:41 with
  =   q: [4, 6, 8]       ...=() h=4 w=6 d=8
  =   k: [4, 6, 8]       ...=() h=4 w=6 d=8
  =   y: [1, 24, 1, 4]   b=1 (h w)=24 z=4
  help: one name is one size: if these two axes are meant to be independent, give one of them another name
  see: docs/errors.md#axis-size-mismatch
""",
    ),
    "a literal one": (
        {"q": (4, 6, 8), "k": (4, 6, 8), "y": (1, 24, 2, 3)},
        """
AxisSizeMismatch: a dimension of `y` is declared `1` and has size 2
  --> scores.plait:1:60
    |
  1 | mixer scores(q[..., h, w, d], k[..., h, w, d], y[b, (h w), 1, z=3], g[oh, c]?) -> o[..., h, w]:
    |                                                            ^ 2, from argument `y`
    |
  = called at train.py:41 with
  =   q: [4, 6, 8]       ...=() h=4 w=6 d=8
  =   k: [4, 6, 8]       ...=() h=4 w=6 d=8
  =   y: [1, 24, 2, 3]   b=1 (h w)=24 z=3
  help: sizes never broadcast: give the dimension an axis, or a tensor of size 1
  see: docs/errors.md#axis-size-mismatch
""",
    ),
    "a packed product": (
        {"q": (4, 6, 8), "k": (4, 6, 8), "y": (1, 25, 1, 3)},
        """
InvalidSize: packed dimension `(h w)` has size 25, and h = 4 and w = 6 make 24
  --> scores.plait:1:53
    |
  1 | mixer scores(q[..., h, w, d], k[..., h, w, d], y[b, (h w), 1, z=3], g[oh, c]?) -> o[..., h, w]:
    |                     - 4, from argument `q`
    |                        - 6, from argument `q`
    |                                                     ^^^^^ 25, from argument `y`
    |
  = called at train.py:41 with
  =   q: [4, 6, 8]       ...=() h=4 w=6 d=8
  =   k: [4, 6, 8]       ...=() h=4 w=6 d=8
  =   y: [1, 25, 1, 3]   b=1 (h w)=25 z=3
  help: `(h w)` is the product of its axes
  see: docs/errors.md#invalid-size
""",
    ),
    "an empty axis": (
        {"q": (4, 0, 8), "k": (4, 0, 8)},
        """
InvalidSize: axis `w` has size 0 in one call of `scores`
  --> scores.plait:1:24
    |
  1 | mixer scores(q[..., h, w, d], k[..., h, w, d], y[b, (h w), 1, z=3], g[oh, c]?) -> o[..., h, w]:
    |                        ^ 0, from argument `q`
    |
  = called at train.py:41 with
  =   q: [4, 0, 8]   ...=() h=4 w=0 d=8
  =   k: [4, 0, 8]   ...=() h=4 w=0 d=8
  help: only `...` may be empty; every other axis has at least one index
  see: docs/errors.md#invalid-size
""",
    ),
    "a derived axis that would be empty": (
        {"q": (1, 6, 8), "k": (1, 6, 8), "g": (1, 7)},
        """
InvalidSize: axis `oh` would have size 0: `(size(h) + 2*1 - 4)//2 + 1` with h = 1
  --> scores.plait:2:8
    |
  1 | mixer scores(q[..., h, w, d], k[..., h, w, d], y[b, (h w), 1, z=3], g[oh, c]?) -> o[..., h, w]:
    |                     - 1, from argument `q`
  2 |   axis oh: (size(h) + 2*1 - 4)//2 + 1
    |        ^^ a size is at least 1
    |
  = called at train.py:41 with
  =   q: [1, 6, 8]   ...=() h=1 w=6 d=8
  =   k: [1, 6, 8]   ...=() h=1 w=6 d=8
  =   g: [1, 7]      oh=1 c=7
  help: give another `h`, or change the formula
  see: docs/errors.md#invalid-size
""",
    ),
    "a derived axis of another size": (
        {"q": (4, 6, 8), "k": (4, 6, 8), "g": (3, 7)},
        """
AxisSizeMismatch: axis `oh` has two sizes, 2 and 3, in one call of `scores`
  --> scores.plait:1:71
    |
  1 | mixer scores(q[..., h, w, d], k[..., h, w, d], y[b, (h w), 1, z=3], g[oh, c]?) -> o[..., h, w]:
    |                                                                       ^^ 3, from argument `g`
  2 |   axis oh: (size(h) + 2*1 - 4)//2 + 1
    |        -- 2, from `(size(h) + 2*1 - 4)//2 + 1`
    |
  = called at train.py:41 with
  =   q: [4, 6, 8]   ...=() h=4 w=6 d=8
  =   k: [4, 6, 8]   ...=() h=4 w=6 d=8
  =   g: [3, 7]      oh=3 c=7
  help: one name is one size: if these two axes are meant to be independent, give one of them another name
  see: docs/errors.md#axis-size-mismatch
""",
    ),
    "a requirement": (
        {"q": (3, 6, 8), "k": (3, 6, 8)},
        """
RequirementFailed: `scores` requires `size(h) % 2 == 0`, which does not hold with h = 3
  --> scores.plait:3:11
    |
  1 | mixer scores(q[..., h, w, d], k[..., h, w, d], y[b, (h w), 1, z=3], g[oh, c]?) -> o[..., h, w]:
    |                     - 3, from argument `q`
  3 |   require size(h) % 2 == 0
    |           ^^^^^^^^^^^^^^^^ here: 1 == 0
    |
  = called at train.py:41 with
  =   q: [3, 6, 8]   ...=() h=3 w=6 d=8
  =   k: [3, 6, 8]   ...=() h=3 w=6 d=8
  help: crop or pad to h = 2 or 4
  see: docs/errors.md#requirement-failed
""",
    ),
    "a rank": (
        {"q": (4, 6, 8), "k": (6, 8)},
        """
WrongRank: argument `k` of `scores` has at least 3 dimensions, and a tensor with 2 was given
  --> scores.plait:1:31
    |
  1 | mixer scores(q[..., h, w, d], k[..., h, w, d], y[b, (h w), 1, z=3], g[oh, c]?) -> o[..., h, w]:
    |                               ^^^^^^^^^^^^^^^ given [6, 8]
    |
  = called at train.py:41 with
  =   q: [4, 6, 8]   ...=() h=4 w=6 d=8
  =   k: [6, 8]
  help: add a dimension of size 1 with `unsqueeze`, or write `...` for any leading dimensions
  see: docs/errors.md#wrong-rank
""",
    ),
    "a size that nothing gives": (
        {"y": (1, 24, 1, 3)},
        """
2 mistakes

InvalidSize: axis `h` has no size in this call of `scores`
  --> scores.plait:1:21
    |
  1 | mixer scores(q[..., h, w, d], k[..., h, w, d], y[b, (h w), 1, z=3], g[oh, c]?) -> o[..., h, w]:
    |                     ^ of unknown size
    |
  = `y[b, (h w), 1, z]` gives only the product of `h` and `w`, 24
  = called at train.py:41 with
  =   y: [1, 24, 1, 3]   b=1 (h w)=24 z=3
  help: say it where the program is made: `.program(h=...)`, `.module(h=...)`
  see: docs/errors.md#invalid-size
...
""",
    ),
    "a tensor that it does not have": (
        {"query": (4, 6, 8)},
        """
UnknownArgument: `scores` has no tensor `query`
  --> scores.plait:1:7
    |
  1 | mixer scores(q[..., h, w, d], k[..., h, w, d], y[b, (h w), 1, z=3], g[oh, c]?) -> o[..., h, w]:
    |       ^^^^^^ declared here
    |
  = its tensors: q, k, y, g
  see: docs/errors.md#unknown-argument
""",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_in_these_words(name: str) -> None:
    shapes, expected = REFUSED[name]
    with pytest.raises(PlaitError) as caught:
        bind_sizes(scores(), shapes, where="train.py:41")
    found, wanted = str(caught.value), expected.strip()
    if wanted.endswith("\n..."):
        assert found.startswith(wanted.removesuffix("...")), found
    else:
        assert found == wanted


def test_a_mismatch_tells_tools_too() -> None:
    with pytest.raises(PlaitError) as caught:
        bind_sizes(scores(), {"q": (2, 4, 6, 8), "k": (2, 4, 6, 9)})
    assert caught.value.facts == {"axis": "d", "sizes": (8, 9)}
    assert [label.span.text for label in caught.value.labels] == ["d", "d"]


# --- size forms


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (op("floordiv", op("sub", Size(h), 4), 2), -1),
        (op("mod", op("neg", Size(h)), 2), 1),
        (op("minimum", Size(h), op("maximum", Size(w), 7)), 3),
        (op("trunc", build.apply("mul", build.apply("to_real", Size(h)), Const(1.5))), 4),
        (op("round", build.apply("div", Size(h), Const(2))), 2),
        (op("pow", Size(h), 3), 27),
        (Size(BATCH), 20),
    ],
)
def test_sizes_are_exact_and_round_as_python_does(form: Form, expected: int) -> None:
    found = evaluate_size(form, {h: 3, w: 5, BATCH: (4, 5)})
    assert (found, type(found)) == (expected, int)


def test_sizes_of_sizes() -> None:
    inner = fresh_axis("i", Const(0), op("mul", Size(h), 2), "axis")
    outer = fresh_axis("o", op("neg", Size(inner)), op("add", Size(inner), 1), "axis")
    assert axis_range(outer, {h: 3}) == range(-6, 1)
    assert evaluate_size(Size(outer), {h: 3}) == 7


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (
            op("floordiv", Size(h), op("sub", Size(w), 5)),
            "`size(h)//(size(w) - 5)` has no value with w = 5, h = 3",
        ),
        (op("mod", 1, op("sub", Size(h), 3)), "`1%(size(h) - 3)` has no value with h = 3"),
        (op("pow", Size(h), op("pow", Size(h), 9)), "the number is too large"),
        (Size(c), "axis `c` has no size here"),
        (build.apply("sqrt", op("neg", Size(h))), "`sqrt(-size(h))` has no value with h = 3"),
    ],
)
def test_what_has_no_value_is_said(form: Form, words: str) -> None:
    with pytest.raises(InvalidSize) as caught:
        evaluate_size(form, {h: 3, w: 5})
    found = str(caught.value)
    missing = [part for part in words.split(" with ")[0].split(", ") if part not in found]
    assert not missing, found


def test_data_is_no_size() -> None:
    number = Leaf("input", "n", (), "int")
    with pytest.raises(InvalidSize, match="`n` is data"):
        evaluate_size(op("add", number, Size(h)), {h: 3})
    with pytest.raises(InvalidSize, match="not made of sizes alone"):
        evaluate_size(Reduce("sum", (Piece(Coordinate(h), (h,)),)), {h: 3})


def test_every_operation_is_computed_on_numbers() -> None:
    assert SCALAR_OPS.keys() == OPS.keys()


def test_deep_formulas_are_no_limit() -> None:
    form: Form = Size(h)
    for _ in range(20_000):
        form = build.apply("add", form, Size(h))
    assert evaluate_size(form, {h: 1}) == 20_001


# --- the batch made explicit


def test_no_batch_is_left() -> None:
    for count in range(3):
        program = expand_batch(scores(), count)
        axes = {axis for form in program.forms for axis in form.axes}
        assert BATCH not in axes
        assert [axis.name for axis in program.outputs[0].value.axes[:count]] == [
            f"..{k}" for k in range(count)
        ]
        shape = (*range(count), 4, 6, 8)
        sizes = bind_sizes(program, {"q": shape, "k": shape})
        assert [sizes[Axis(f"..{k}")] for k in range(count)] == list(range(count))


def test_what_the_batch_does_not_touch_stays_the_same_object() -> None:
    inner = build.apply("exp", Leaf("input", "y", (h,)))
    x = Declaration(Leaf("input", "x", (BATCH, h)), ((BATCH,), (h,)))
    program = Program("p", (x,), (Output("o", build.apply("mul", x.leaf, inner), ((BATCH,), (h,))),))
    assert any(form is inner for form in expand_batch(program, 2).forms)
    assert expand_batch is expand_directly


def test_the_size_of_the_batch_is_a_product() -> None:
    x = Declaration(Leaf("input", "x", (BATCH,)), ((BATCH,),))
    rows = fresh_axis("n", Const(0), Size(BATCH), "axis")
    value = build.reduce("sum", [(build.apply("mul", x.leaf, Coordinate(rows)), (rows,))])
    program = Program("p", (x,), (Output("o", build.apply("div", value, Size(BATCH)), ((BATCH,),)),))
    for shape in ((), (3,), (2, 0, 5)):
        expanded = expand_batch(program, len(shape))
        sizes = bind_sizes(expanded, {"x": shape}) if math.prod(shape) else None
        if sizes is not None:
            (n,) = {a for f in expanded.forms for a in f.axes if a.name == "n"}
            assert axis_range(n, sizes) == range(math.prod(shape))


def test_reductions_over_the_batch_are_over_all_of_it() -> None:
    x = Leaf("input", "x", (h, BATCH, w))
    first = build.reduce("argmax", [(x, (h, BATCH, w))], component=2)
    program = Program("p", (Declaration(x, ((h,), (BATCH,), (w,))),), (Output("o", first, ()),))
    for count, component in ((0, 1), (1, 2), (3, 4)):
        value = expand_batch(program, count).outputs[0].value
        assert isinstance(value, Reduce)
        assert (len(value.pieces[0].axes), value.component) == (count + 2, component)


def test_batch_axes_are_known_by_name() -> None:
    assert [is_batch(axis) for axis in (BATCH, Axis("..0"), h)] == [True, True, False]


# --- polynomials


def polynomials() -> st.SearchStrategy[Polynomial]:
    monomials = st.lists(st.integers(1, 3), max_size=3).map(lambda names: tuple(sorted(names)))
    return st.dictionaries(monomials, st.integers(-4, 4), max_size=4).map(Polynomial)


def value_of(polynomial: Polynomial, at: Sequence[int]) -> int:
    return sum(c * math.prod(at[s - 1] for s in m) for m, c in polynomial.terms.items())


@given(polynomials(), polynomials(), st.lists(st.integers(-3, 3), min_size=3, max_size=3))
def test_polynomials_compute_what_they_mean(p: Polynomial, q: Polynomial, at: list[int]) -> None:
    assert value_of(p + q, at) == value_of(p, at) + value_of(q, at)
    assert value_of(p * q, at) == value_of(p, at) * value_of(q, at)
    assert value_of(p - q, at) == value_of(p, at) - value_of(q, at)
    assert value_of(p.substitute(2, q), at) == value_of(p, [at[0], value_of(q, at), at[2]])
    assert (value_of(p.reduced, at) >= 0) == (value_of(p, at) >= 0)
    if q.terms:
        quotient, rest = p.divide(q)
        assert quotient * q + rest == p
    line = p.line_in(1)
    if line is not None:
        assert line[0] * symbol_of(1) + line[1] == p


def test_a_constant_divides_with_a_rest() -> None:
    assert (symbol_of(1) * 5 - 1).divide(as_polynomial(3)) == (symbol_of(1) - 1, symbol_of(1) * 2 + 2)


def test_sizes_of_walks() -> None:
    """`bind_sizes` looks into the sizes of axes, which are no operands of forms."""
    deep = fresh_axis("deep", Const(0), Size(c), "axis")
    x = Declaration(Leaf("input", "x", (h,)), ((h,),))
    program = Program(
        "p", (x,), (Output("o", build.apply("mul", x.leaf, Coordinate(deep)), ((h,), (deep,))),)
    )
    assert c not in {f.axis for f in walk(program.roots) if isinstance(f, Size)}
    with pytest.raises(InvalidSize, match="axis `c` has no size"):
        bind_sizes(program, {"x": (3,)})


def test_sizes_is_a_dict() -> None:
    sizes: Sizes = bind_sizes(scores(), GOOD)
    assert isinstance(sizes, dict)
