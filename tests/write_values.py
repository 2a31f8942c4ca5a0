"""Rules of what is no scalar operation, read or reduction: tensors of every role, presence, casts, complex values,
and marks on the derivative."""

from __future__ import annotations

from functools import partial

from plait.dsl.constructors import build, build_special
from plait.dsl.ops import ORDER, Kind
from plait.dsl.program import BATCH, Const, Coordinate, Form, Leaf, Role, Update
from writer import Axes, Rule, Writer, add, mul

ANY: tuple[Kind, ...] = ("real", "real", "int", "bool")
OTHERS: tuple[Kind, ...] = ("int", "bool", "complex")

# --- with nothing below


def simple_real(writer: Writer, depth: int, axes: Axes) -> Form:
    if writer.chance(25):
        return Const(writer.pick([1.0, -0.5, 2.0, 0.0]))
    return writer.leaf("real", axes)


def simple_whole(writer: Writer, depth: int, axes: Axes) -> Form:
    own = [axis for axis in axes if axis != BATCH]
    if own and not writer.chance(25):
        return Coordinate(writer.pick(own))
    return Const(writer.pick([1, 0, -2, 3]))


def simple_complex(writer: Writer, depth: int, axes: Axes) -> Form:
    ways = [
        lambda: writer.leaf("complex", axes),
        lambda: build.apply("cplx", simple_real(writer, 0, axes), simple_real(writer, 0, axes)),
        lambda: Const(writer.pick([1j, 0.5 - 1j])),
    ]
    return writer.pick(ways)()


def sized(writer: Writer, depth: int, axes: Axes) -> Form:
    own = [axis for axis in writer.signature if axis != BATCH]
    return build.size(writer.pick(own)) if own else Const(1)


def radius(writer: Writer, depth: int, axes: Axes) -> Form:
    """A static argument of the mixer."""
    return Const(2, written="radius")


# --- tensors


def real_data(writer: Writer, depth: int, axes: Axes) -> Form:
    return writer.leaf("real", axes)


def whole_data(writer: Writer, depth: int, axes: Axes) -> Form:
    return writer.leaf("int", axes)


def mask(writer: Writer, depth: int, axes: Axes) -> Form:
    return writer.leaf("bool", axes)


def optional(writer: Writer, depth: int, axes: Axes) -> Form:
    """An input that may be left out, where it is looked at: a value of its own, filled, counted or asked for."""
    kind = writer.pick(ANY)
    leaf = writer.stored("input", kind, tuple(a for a in axes if a in writer.signature), optional=True).leaf
    ways = [
        lambda: leaf,
        lambda: build.otherwise(leaf, writer.form(kind, depth, axes)),
        lambda: build.present(leaf),
        lambda: build.reduce("count", [(leaf, leaf.over)]),
        lambda: build.select(build.present(leaf), writer.real(depth, axes), writer.real(0, axes)),
    ]
    return writer.pick(ways)()


def random(writer: Writer, depth: int, axes: Axes) -> Form:
    """Random numbers, as a call is given them, against a value: dropout, noise."""
    leaf = writer.stored("draw", "real", tuple(axis for axis in axes if axis != BATCH)).leaf
    value = writer.real(depth, axes)
    dropped = build.select(build.apply("gt", leaf, Const(0.5)), value, Const(0.0))
    return writer.pick([mul(value, leaf), add(value, leaf), dropped])


def held(role: Role, kind: Kind, writer: Writer, depth: int, axes: Axes) -> Form:
    """A tensor that a module holds, where it is met; a buffer with its next value, which reads the one before."""
    over = tuple(axis for axis in axes if axis != BATCH and axis in writer.signature)
    leaf = writer.stored(role, kind, over).leaf
    value = writer.form(kind, depth, axes)
    if role == "buffer":
        new = writer.form(kind, depth, over)
        if writer.may_be_absent(new):
            new = build.otherwise(new, leaf)
        writer.updates.append(Update(leaf, met(writer, leaf, new)))
    return met(writer, leaf, value)


def met(writer: Writer, leaf: Form, value: Form) -> Form:
    """A tensor and a value, in one value of their kind."""
    if leaf.kind == "bool":
        return build.apply(writer.pick(["and", "or", "ne"]), value, leaf)
    if leaf.kind == "complex":
        return build.apply("add", value, mul(leaf, Const(0.5 + 0.5j)))
    return build.apply(writer.pick(["add", "maximum", "sub"]), value, leaf)


def again(writer: Writer, depth: int, axes: Axes) -> Form:
    return writer.again("real", axes) or writer.leaf("real", axes)


# --- presence


def masked(writer: Writer, depth: int, axes: Axes) -> Form:
    return build.when(writer.truth(depth, axes), writer.real(depth, axes))


def filled(writer: Writer, depth: int, axes: Axes) -> Form:
    return build.otherwise(writer.real(depth, axes), writer.real(depth, axes))


def selected(writer: Writer, depth: int, axes: Axes) -> Form:
    return build.select(writer.truth(depth, axes), writer.real(depth, axes), writer.real(depth, axes))


def by_cases(writer: Writer, depth: int, axes: Axes) -> Form:
    pairs = [(writer.truth(depth, axes), writer.real(depth, axes)) for _ in range(2)]
    if writer.chance(60):
        pairs.append((Const(True), writer.real(0, axes)))
    return build_special.cases(pairs)


def is_present(writer: Writer, depth: int, axes: Axes) -> Form:
    return build.present(writer.form(writer.pick(ANY), depth, axes))


def zeros(writer: Writer, depth: int, axes: Axes) -> Form:
    made = build_special.zeros([axis for axis in axes if axis != BATCH])
    return build.select(writer.truth(depth, axes), writer.real(depth, axes), made)


def of_other_kind(writer: Writer, depth: int, axes: Axes) -> Form:
    """Whole numbers and truth values where they may be absent: filled, masked, chosen."""
    kind = writer.pick(OTHERS)
    one, other = writer.form(kind, depth, axes), writer.form(kind, depth, axes)
    ways = [
        lambda: build.otherwise(one, other),
        lambda: build.when(writer.truth(depth, axes), one),
        lambda: build.select(writer.truth(depth, axes), one, other),
    ]
    return writer.pick(ways)()


# --- kinds


def of_whole(writer: Writer, depth: int, axes: Axes) -> Form:
    form = writer.whole(depth, axes)
    return mul(form, Const(0.5)) if writer.chance(50) else build.apply("to_real", form)


def complex_part(writer: Writer, depth: int, axes: Axes) -> Form:
    return build.apply(writer.pick(["real", "imag"]), writer.form("complex", depth, axes))


def moved_complex(writer: Writer, depth: int, axes: Axes) -> Form:
    """A complex value read beside itself."""
    made, other = writer.form("complex", depth, axes), writer.form("complex", 0, axes)
    within = [axis for axis in made.axes if axis != BATCH]
    if not within:
        return mul(made, other)
    axis = writer.pick(within)
    moved = build.at(made, {axis: add(Coordinate(axis), Const(writer.pick([1, -1])))})
    return build.otherwise(moved, other)


# --- marks


def stopped(writer: Writer, depth: int, axes: Axes) -> Form:
    return build_special.stop(writer.real(depth, axes))


def as_if(writer: Writer, depth: int, axes: Axes) -> Form:
    value = writer.real(depth, axes)
    return build_special.as_if(value, writer.real(depth, value.axes))


def on_gradient(writer: Writer, depth: int, axes: Axes, kind: Kind = "real") -> Form:
    """A value whose cotangent becomes something linear in it."""
    value = writer.form(kind, depth, axes)
    cotangent = Leaf("bound", writer.name("g"), value.axes, value.kind)
    factor = build.otherwise(writer.real(depth, value.axes), Const(2.0)) if kind != "int" else Const(2)
    return build_special.on_gradient(value, cotangent, mul(cotangent, factor))


VALUES: dict[str, Rule] = {
    "input": real_data,
    "whole input": whole_data,
    "mask": mask,
    "optional input": optional,
    "draw": random,
    **{f"{kind} {role}": partial(held, role, kind) for role in ("parameter", "buffer") for kind in ORDER},
    "size": sized,
    "static": radius,
    "coordinate or number": simple_whole,
    "complex tensor": simple_complex,
    "when": masked,
    "otherwise": filled,
    "select": selected,
    "cases": by_cases,
    "present": is_present,
    "zeros": zeros,
    "other kinds": of_other_kind,
    "moved complex": moved_complex,
    "stop": stopped,
    "as_if": as_if,
    **{f"on_gradient of {kind}": partial(on_gradient, kind=kind) for kind in ORDER if kind != "bool"},
}
