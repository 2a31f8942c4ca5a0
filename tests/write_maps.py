"""Rules of the scalar operations: one for each row of their table and each kind that it takes.

Arguments are kept where an operation is defined, has one branch, and stays of the size of one; what jumps is asked
of tensors as they are given.
"""

from __future__ import annotations

from functools import partial

from plait.dsl.constructors import build
from plait.dsl.ops import OPS, ORDER, Kind, kind_of
from plait.dsl.program import Const, Form
from writer import Axes, Rule, Writer, add, mul

COMPARED = ("lt", "le", "gt", "ge", "eq", "ne")
JUMPING = ("sign", "floor", "ceil", "round", "trunc", "to_int")
"""Operations that a rounding error could decide otherwise."""

ZERO: dict[Kind, Const] = {"int": Const(0), "real": Const(0.0), "complex": Const(0j)}


def mapped(op: str, kind: Kind, writer: Writer, depth: int, axes: Axes) -> Form:
    """The operation on values of the kind."""
    if op in COMPARED and kind not in ("bool", "int"):
        return compared_data(op, kind, writer, axes)
    if op in JUMPING and kind == "real":
        return build.apply(op, mul(writer.leaf("real", axes), Const(writer.pick([2.0, 1.0, -0.5]))))
    first = writer.form(kind, depth, axes)
    if isinstance(first, Const):  # which would be computed at once
        first = writer.leaf(kind, axes)
    if OPS[op].arity == 1:
        return build.apply(op, inside(op, first))
    if op == "pow":
        return power(writer, first, depth, axes)
    if op in ("floordiv", "mod") and writer.chance(70):
        return build.apply(op, first, Const(writer.pick([2, 3, -2])))
    second = writer.form(kind, depth, axes)
    match op, kind:
        case (("floordiv" | "mod"), _):
            second = add(Const(1), build.apply("abs", second))
        case "div", _:
            second = bounded(second) if kind == "complex" else add(Const(1), mul(second, second))
        case _:
            pass
    return build.apply(op, first, second)


def compared_data(op: str, kind: Kind, writer: Writer, axes: Axes) -> Form:
    """A tensor compared with a number or with another one; as it is given, so that no rounding decides."""
    first = writer.leaf(kind, axes)
    if writer.chance(30):
        return build.apply(op, first, writer.leaf(kind, axes))
    return build.apply(op, first, ZERO[kind] if kind != "real" else Const(writer.pick([0.0, -0.5, 0.25])))


def inside(op: str, form: Form) -> Form:
    """A value where the operation is defined and of the size of one."""
    whole, split = form.kind == "int", form.kind == "complex"
    match op:
        case "exp" | "expm1" if not split:
            return build.apply("minimum", form, Const(2 if whole else 2.0))
        case "exp" | "sin" | "cos" if split:
            return build.apply("div", form, bounded(form))
        case "sin" | "cos" if whole:
            return build.apply("mod", form, Const(7))
        case "log" | "sqrt" if split:
            return right(form)
        case "log":
            return add(mul(form, form), Const(1 if whole else 0.5))
        case "log1p" | "sqrt":
            return build.apply("abs", form)
        case _:
            return form


def bounded(form: Form) -> Form:
    """A number that a complex one is at most, so that its exponential stays of the size of one."""
    return add(Const(1.0), build.apply("real", mul(form, build.apply("conj", form))))


def right(form: Form) -> Form:
    """A complex number away from the cut of logarithms, which rounding could cross."""
    return add(Const(2.0), build.apply("div", form, bounded(form)))


def power(writer: Writer, base: Form, depth: int, axes: Axes) -> Form:
    """A whole power, or any power of what is positive or far from the cut."""
    if base.kind == "bool" or writer.chance(60):
        return build.apply("pow", base, Const(writer.pick([2, 3, 0, 1])))
    if base.kind == "int":
        return build.apply("pow", Const(2), build.apply("mod", base, Const(4)))
    away = right(base) if base.kind == "complex" else add(mul(base, base), Const(0.5))
    if writer.chance(50):
        return build.apply("pow", away, Const(writer.pick([-0.5, 0.5, -1])))
    other = writer.form(base.kind, depth, axes)
    within = bounded(other) if other.kind == "complex" else add(Const(1.0), mul(other, other))
    return build.apply("pow", away, build.apply("div", other, within))


def takes(op: str, kind: Kind) -> Kind | None:
    """The kind of the operation on values of a kind, None where it takes no such values."""
    found = kind_of(op, (kind,) * OPS[op].arity)
    return None if " " in found else found  # type: ignore[return-value]


MAPS: dict[str, Rule] = {
    f"{op} of {kind}": partial(mapped, op, kind) for op in OPS for kind in ORDER if takes(op, kind)
}
"""A rule for each operation and each kind that it takes."""


def making(made: Kind, of: Kind) -> list[Rule]:
    """The rules that make one kind of another."""
    return [partial(mapped, op, of) for op in OPS if takes(op, of) == made]
