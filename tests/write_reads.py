"""Rules of reads and their transposes, and every way to write an index."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from plait.dsl.constructors import build, build_special
from plait.dsl.ops import ORDER, Kind
from plait.dsl.program import BATCH, Axis, Const, Coordinate, Form
from writer import MOST_ENTRIES, Axes, Rule, Writer, add, mul, sub

Index = Callable[[Writer, Axis, int, Axes], Form]

ADDED: tuple[Kind, ...] = ("real", "real", "real", "int", "complex")
"""The kinds that a place adds up."""


def own(writer: Writer, axis: Axis, axes: Axes) -> Form:
    """A coordinate among the axes; where there is none, the lowest index."""
    here = [Coordinate(each) for each in axes if each != BATCH]
    return writer.pick(here) if here else build.low(axis)


def shifted(writer: Writer, axis: Axis, depth: int, axes: Axes) -> Form:
    return add(own(writer, axis, axes), Const(writer.pick([1, -1, 0, 2])))


def last(axis: Axis) -> Form:
    return sub(add(build.low(axis), build.size(axis)), Const(1))


def data(writer: Writer, axis: Axis, depth: int, axes: Axes) -> Form:
    """An input that holds indices, where the axis comes from outside."""
    return writer.leaf("int", axes, axis if axis in writer.signature else None)


def winner(writer: Writer, axis: Axis, depth: int, axes: Axes) -> Form:
    """The index of the largest entry along the axis."""
    over = tuple(each for each in writer.some(axes) if each != axis)
    outside = BATCH not in over or axis in writer.signature
    leaf = writer.declare("real", (*(over if outside else ()), axis)).leaf
    return build.reduce("argmax", [(leaf, (axis,))])


INDICES: dict[str, Index] = {
    "shifted": shifted,
    "fixed": lambda writer, axis, depth, axes: add(build.low(axis), Const(writer.pick([0, 1]))),
    "flipped": lambda writer, axis, depth, axes: sub(last(axis), own(writer, axis, axes)),
    "strided": lambda writer, axis, depth, axes: add(
        mul(Const(writer.pick([2, 3])), own(writer, axis, axes)), Const(writer.pick([0, -1]))
    ),
    "joined": lambda writer, axis, depth, axes: add(own(writer, axis, axes), own(writer, axis, axes)),
    "clamped": lambda writer, axis, depth, axes: build.clamp(
        shifted(writer, axis, depth, axes), build.low(axis), last(axis)
    ),
    "wrapped": lambda writer, axis, depth, axes: add(
        build.low(axis), build.apply("mod", shifted(writer, axis, depth, axes), build.size(axis))
    ),
    "reflected": lambda writer, axis, depth, axes: build.reflect(
        shifted(writer, axis, depth, axes), build.size(axis)
    ),
    "divided": lambda writer, axis, depth, axes: build.apply(
        writer.pick(["floordiv", "mod"]), own(writer, axis, axes), Const(writer.pick([2, 3]))
    ),
    "data": data,
    "trusted": lambda writer, axis, depth, axes: build_special.trust(writer.whole(depth, axes), axis),
    "whole": lambda writer, axis, depth, axes: writer.whole(depth, axes),
    "winner": winner,
}
"""Integers that are indices of an axis at least sometimes, by the border that they meet."""


def index(writer: Writer, axis: Axis, depth: int, axes: Axes) -> Form:
    return writer.pick(list(INDICES.values()))(writer, axis, depth, axes)


def read(writer: Writer, depth: int, axes: Axes, way: Index = index, kind: Kind = "real") -> Form:
    """A value over any axes, read so that only `axes` are left; the first axis is read in the given way."""
    wide = tuple(dict.fromkeys((*axes, *writer.signature)))
    value = writer.form(kind, depth, wide if writer.entries(wide) <= MOST_ENTRIES else axes)
    if BATCH in value.axes and BATCH not in axes:
        value = build.reduce("any" if kind == "bool" else "sum", [(value, (BATCH,))])
    named = [axis for axis in axes if axis != BATCH]
    if not named and way is not index:
        return build.at(*_along_fresh(writer, depth, way, kind))
    if way is not index and not any(axis in value.axes for axis in named):
        value = writer.over(value, writer.pick(named))
    outside = [axis for axis in value.axes if axis not in axes]
    within = [axis for axis in value.axes if axis in axes and axis != BATCH]
    chosen = (*outside, *writer.some(within, least=0 if outside or not within else 1))
    made: dict[Axis, Form] = {}
    for axis in dict.fromkeys(chosen):
        made[axis] = (index if made else way)(writer, axis, depth, axes)
    return build.at(value, made)


def _along_fresh(writer: Writer, depth: int, way: Index, kind: Kind) -> tuple[Form, dict[Axis, Form]]:
    """A value along an axis of its own, and an index of it."""
    along = build.make_axis(writer.name("n"), Const(0), Const(3), "axis")
    return writer.over(writer.form(kind, depth, (along,)), along), {along: way(writer, along, depth, ())}


def placed(writer: Writer, depth: int, axes: Axes) -> Form:
    """Entries added up where an index says, as a real."""
    return as_real(writer, place(writer.pick(ADDED), writer, depth, axes))


def place(kind: Kind, writer: Writer, depth: int, axes: Axes) -> Form:
    """Entries of a kind, added up where an index says."""
    targets = [axis for axis in axes if axis != BATCH and axis in writer.signature]
    if not targets:
        return writer.form(kind, depth, axes)
    target = writer.pick(targets)
    bound = writer.bound_axis(axes)
    source = axes if bound is None or bound == BATCH else (*axes, bound)
    value = writer.form(kind, depth, source)
    at = index(writer, target, depth, tuple(axis for axis in source if axis != BATCH))
    keep = tuple(axis for axis in value.axes if axis in axes and axis != target)
    return build.place(value, {target: at}, keep)


def as_real(writer: Writer, form: Form) -> Form:
    """A real of a number: of a complex one, one of its parts."""
    if form.kind == "complex":
        return build.apply(writer.pick(["real", "imag"]), form)
    return mul(form, Const(0.5)) if form.kind == "int" else form


def joined(writer: Writer, depth: int, axes: Axes) -> Form:
    """Two parts one after another along an axis of their own, and a read or a sum of it."""
    lengths = [writer.pick([1, 2]), writer.pick([2, 1, 3])]
    owns = [build.make_axis(writer.name("n"), Const(0), Const(length), "axis") for length in lengths]
    along = build.make_axis(writer.name("n"), Const(0), Const(sum(lengths)), "axis")
    parts = [(writer.over(writer.real(depth, (*axes, each)), each), each) for each in owns]
    whole = build.cat(along, parts)
    if writer.chance(50):
        return build.reduce("sum", [(whole, (along,))])
    return build.at(whole, {along: index(writer, along, depth, axes)})


READS: dict[str, Rule] = {
    **{f"read, {name}": partial(read, way=way) for name, way in INDICES.items()},
    **{f"read of {kind}": partial(read, way=shifted, kind=kind) for kind in ORDER},
    **{f"place of {kind}": partial(place, kind) for kind in ORDER if kind != "bool"},
}
