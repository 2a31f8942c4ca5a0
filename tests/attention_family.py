"""A strategy of attention programs: what the fused kernels of this family must run."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from plait.dsl.constructors import build
from plait.dsl.program import (
    BATCH,
    Axis,
    Const,
    Coordinate,
    Declaration,
    Form,
    Leaf,
    Output,
    Program,
    Size,
)
from plait.dsl.shapes.size_forms import Sizes
from strategies import Draw, Example, axis_sizes, with_tensors
from writer import Writer, add, mul, sub


@dataclass(frozen=True)
class Side:
    """One dimension of an attention: its query axis, the axis that the softmax runs over, where it
    reads keys, and how far a key lies from its query."""

    query: Axis
    reduced: Axis
    key: Form
    offset: Form
    centred: bool = True
    """Whether the query's own place is among the keys, wherever it is."""

    @property
    def window(self) -> bool:
        return self.reduced.how == "near"


@st.composite
def attention_examples(draw: Draw, *, most: int = 7, outer_most: int = 3) -> Example:
    """Attention over one to three dimensions, each a window (perhaps dilated) or dense, with any
    predicate over offsets and coordinates, a scale, a bias, and `...` or named batch axes. Sizes are at most
    `most`, those of batch axes `outer_most`."""
    queries = tuple(Axis(name) for name in "hwt"[: draw(st.integers(1, 3))])
    sizes: Sizes = {axis: draw(axis_sizes(most if len(queries) < 3 else 4)) for axis in queries}
    d, e = Axis("d"), Axis(draw(st.sampled_from("de")))
    sizes |= {axis: draw(axis_sizes(most)) for axis in (d, e)}
    outer = draw(st.sampled_from([(), (BATCH,), (Axis("b"),), (BATCH, Axis("m"))]))
    sizes |= {axis: draw(axis_sizes(outer_most)) for axis in outer if axis != BATCH}
    if BATCH in outer:
        batch = st.sampled_from([size for size in (2, 1, 3, 0) if size <= outer_most])
        sizes[BATCH] = tuple(draw(st.lists(batch, max_size=2)))
    writer = Writer(draw, sizes, ())
    radius = Const(writer.pick([1, 0, 2, 3]), written=writer.pick([None, "radius"]))
    sides = [side(writer, axis, radius) for axis in queries]
    q, k, v = (
        Leaf("input", name, writer.shuffled((*outer, *queries, last)))
        for name, last in (("q", d), ("k", d), ("v", e))
    )
    reads = {each.query: each.key for each in sides}
    scores = build.reduce("sum", [(mul(q, build.at(k, reads)), (d,))])
    scores = biased(writer, scaled(writer, scores, d), sides)
    over = tuple(each.reduced for each in sides)
    where, keeps_self = visible(writer, sides)
    (weights,) = build.softmax([(scores, writer.shuffled(over))], where)
    value = build.reduce("sum", [(mul(weights, build.at(v, reads)), writer.shuffled(over))])
    if not keeps_self or not all(each.centred for each in sides) or writer.chance(30):
        value = build.otherwise(value, Const(0.0))
    program = assembled(writer, (q, k, v), (scores, weights, value), radius)
    return draw(with_tensors(program, sizes))


def side(writer: Writer, query: Axis, radius: Const, dilations: tuple[int, ...] = (1, 1, 2, 3)) -> Side:
    """A window, perhaps dilated or off its centre, or all keys."""
    here = Coordinate(query)
    if writer.chance(40):
        keys = build.like_axis(query, f"{query.name}s")
        return Side(query, keys, Coordinate(keys), sub(Coordinate(keys), here))
    near = build.near_axis(f"d{query.name}", radius)
    dilation = writer.pick(dilations)
    far = Coordinate(near) if dilation == 1 else mul(Const(dilation), Coordinate(near))
    if writer.chance(15):  # some windows then lie wholly outside
        away = add(far, Const(writer.pick([2, -1, -3])))
        return Side(query, near, add(here, away), away, centred=False)
    return Side(query, near, add(here, far), far)


def scaled(writer: Writer, scores: Form, d: Axis) -> Form:
    ways = [
        scores,
        mul(scores, Const(0.5)),
        mul(scores, build.apply("pow", Size(d), Const(-0.5))),
        build.apply("div", scores, build.apply("sqrt", Size(d))),
    ]
    return writer.pick(ways)


def biased(writer: Writer, scores: Form, sides: list[Side]) -> Form:
    """The scores, with nothing, a slope, a term of the query, or a table over offsets added."""
    one = writer.pick(sides)
    table = tuple(each.reduced for each in sides if each.window)
    ways = [
        lambda: scores,
        lambda: add(scores, mul(Const(-0.25), build.apply("abs", one.offset))),
        lambda: add(scores, mul(Const(0.125), Coordinate(one.query))),
        lambda: add(scores, writer.declare_parameter(table)) if table else scores,
    ]
    return writer.pick(ways)()


def visible(writer: Writer, sides: list[Side]) -> tuple[Form | None, bool]:
    """Which keys a query sees, and whether it always sees the key at its own place."""
    if writer.chance(25):
        return None, True
    one, other = writer.pick(sides), writer.pick(sides)
    squares = mul(sides[0].offset, sides[0].offset)
    for each in sides[1:]:
        squares = add(squares, mul(each.offset, each.offset))
    reach = Const(writer.pick([1, 2, 3]))
    holding_self = [
        build.apply("lt", squares, mul(reach, reach)),
        build.apply("le", one.offset, Const(0)),
        build.apply("le", build.apply("abs", one.offset), reach),
        build.apply("eq", build.apply("mod", one.offset, reach), Const(0)),
        build.apply("eq", one.offset, other.offset),
        build.apply("le", *(build.apply("floordiv", x, reach) for x in (one.key, Coordinate(one.query)))),
    ]
    others = [
        build.apply("lt", one.offset, Const(0)),
        build.apply("eq", build.apply("mod", Coordinate(one.query), Const(2)), Const(0)),
        build.apply("gt", one.key, other.offset),
        build.apply("ne", one.offset, Const(0)),
    ]
    first = writer.pick(holding_self)
    if writer.chance(60):
        return first, True
    keeps_self = writer.chance(40)
    second = writer.pick(holding_self if keeps_self else others)
    return build.apply(writer.pick(["and", "or"]) if keeps_self else "and", first, second), keeps_self


def assembled(
    writer: Writer, inputs: tuple[Leaf, ...], named: tuple[Form, Form, Form], radius: Const
) -> Program:
    value = named[-1]
    statics = (("radius", radius.value),) if radius.written else ()
    names = tuple(zip(("s", "p", "o"), named, strict=True)) if writer.chance(50) else ()
    return Program(
        "attention",
        inputs=tuple(Declaration(leaf, tuple((axis,) for axis in leaf.over)) for leaf in inputs),
        outputs=(Output("out", value, tuple((axis,) for axis in writer.shuffled(value.axes))),),
        statics=statics,
        names=names,
        parameters=tuple(writer.declarations),
    )
