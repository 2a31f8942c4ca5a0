"""The functions of the language, as a text calls them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence

from ..constructors import build, build_special
from ..errors import counted
from ..mistakes import InvalidArgument, KindMismatch, UnknownArgument
from ..ops import OPS
from ..program import At, Axis, Const, Coordinate, Form, Leaf, Map, Size
from ..source import Span
from ..text.syntax import Argument, Call, Chain, Expression, Name, Read, Unary
from .elaborate_forms import last_of
from .elaborate_values import Result, Steps, Values

BUILDERS: Mapping[str, tuple[int, Callable[..., Form]]] = {
    "when": (2, build.when),
    "select": (3, build.select),
    "present": (1, build.present),
    "clamp": (3, build.clamp),
    "reflect": (2, build.reflect),
    "cdiv": (2, build_special.cdiv),
    "as_if": (2, build_special.as_if),
    "stop": (1, build_special.stop),
    "vjp": (3, build_special.vjp),
    "last": (1, last_of),
}
"""The calls that take values only: how many, and what makes the form."""

USUAL = {
    "size": "size(h)", "index": "index(h)", "zeros": "zeros(b, c)", "trust": "trust(i, v)",
    "cases": "cases(p: x, q: y)", "on_gradient": "on_gradient(x, g: rule)", "jvp": "jvp(y, x: dx)",
    "steps": "steps(o)", "complex": "complex(0.0, 1.0)", "unfolded": "unfolded(1 + 2)",
}  # fmt: skip
"""How the calls with arguments of their own are written."""


def function(values: Values, node: Call) -> Steps:
    """The form of a call of the language; its name is one of `words.CALLS`."""
    name = node.name.text
    if name in OPS:
        args = yield from _values(values, node, OPS[name].arity)
        return None if args is None else values.applied(name, args, node.span)
    if name in BUILDERS:
        count, builder = BUILDERS[name]
        args = yield from _values(values, node, count)
        return None if args is None else builder(*args, span=node.span)
    return (yield from SPECIAL[name](values, node))


def _values(values: Values, node: Call, count: int) -> Generator[Expression, Result, list[Form] | None]:
    """Exactly `count` values; None where one is a mistake."""
    if len(node.args) != count:
        raise UnknownArgument(
            f"`{node.name.text}` takes {counted(count, 'value')}, and found {len(node.args)}",
            at=node.span,
            label="here",
        )
    found = yield from values.plain(node.args, node.name.text)
    forms = [form for form in found if form is not None]
    return forms if len(forms) == count else None


def _misused(node: Call) -> UnknownArgument:
    return UnknownArgument(
        f"`{node.name.text}` is written otherwise", at=node.span, label="here",
        helps=[f"write `{USUAL[node.name.text]}`"],
    )  # fmt: skip


def _axis_arguments(values: Values, node: Call) -> tuple[Axis, ...] | None:
    names = [argument.value for argument in node.args if argument.key is None]
    named = [each for each in names if isinstance(each, Name)]
    if len(named) < len(node.args):
        raise _misused(node)
    return values.axes(named)


def _size(values: Values, node: Call) -> Steps:
    """The size of an axis: a number where it is given."""
    axes = _axis_arguments(values, node)
    if axes is None:
        return None
    if len(axes) != 1:
        raise _misused(node)
    known = values.trace.fixed.get(axes[0])
    if known is not None:
        return Const(known, span=node.span, written=f"size({axes[0].name})")
    return build.size(axes[0], node.span)
    yield node


def _index(values: Values, node: Call) -> Steps:
    axes = _axis_arguments(values, node)
    if axes is not None and len(axes) != 1:
        raise _misused(node)
    return None if axes is None else Coordinate(axes[0], span=node.span)
    yield node


def _zeros(values: Values, node: Call) -> Steps:
    axes = _axis_arguments(values, node)
    return None if axes is None else build_special.zeros(axes, node.span)
    yield node


def _trust(values: Values, node: Call) -> Steps:
    match node.args:
        case (Argument(value=value, key=None), Argument(value=Name() as name, key=None)):
            form = yield value
            axes = values.axes((name,))
            return None if form is None or axes is None else build_special.trust(form, axes[0], node.span)
        case _:
            raise _misused(node)


def _cases(values: Values, node: Call) -> Steps:
    pairs = yield from _pairs(node.args, node)
    return None if pairs is None else build_special.cases(pairs, node.span)


def _pairs(
    arguments: Sequence[Argument], node: Call
) -> Generator[Expression, Result, list[tuple[Form, Form]] | None]:
    """The forms before and behind each colon; None where one is a mistake."""
    found: list[tuple[Form, Form]] = []
    for argument in arguments:
        if argument.key is None:
            raise _misused(node)
        key = yield argument.key
        value = yield argument.value
        if key is not None and value is not None:
            found.append((key, value))
    return found if len(found) == len(arguments) else None


def _jvp(values: Values, node: Call) -> Steps:
    if len(node.args) < 2 or node.args[0].key is not None:
        raise _misused(node)
    value = yield node.args[0].value
    pairs = yield from _pairs(node.args[1:], node)
    if value is None or pairs is None:
        return None
    return build_special.jvp(value, [at for at, _ in pairs], [tangent for _, tangent in pairs], node.span)


def _on_gradient(values: Values, node: Call) -> Steps:
    match node.args:
        case (Argument(value=first, key=None), Argument(value=rule, key=Name() as name)):
            value = yield first
            variable = yield name
            made = yield rule
        case _:
            raise _misused(node)
    if value is None or variable is None or made is None:
        return None
    if not isinstance(variable, Leaf) or variable.role != "bound":
        raise KindMismatch(
            f"`{name.text}` is no cotangent", at=name.span, label="here",
            helps=[f"write `cotangent {name.text} = x` before it"],
        )  # fmt: skip
    return build_special.on_gradient(value, variable, made, node.span)


def _steps_of(values: Values, node: Call) -> Steps:
    args = yield from _values(values, node, 1)
    if args is None:
        return None
    whole = last_of(args[0], node.span)
    return build_special.steps(whole, values.trace.bound_name("steps"), node.span)


def _complex(values: Values, node: Call) -> Steps:
    """A complex constant of two real ones, whatever these are; `cplx` makes one of values."""
    args = yield from _values(values, node, 2)
    match args:
        case None:
            return None
        case [Const(value=float() | int() as re), Const(value=float() | int() as im)]:
            return Const(complex(re, im), span=node.span)
        case _:
            raise InvalidArgument(
                "`complex` takes two real numbers", at=node.span, label="here",
                helps=["`cplx(x, y)` makes a complex value of two real ones"],
            )  # fmt: skip


def _unfolded(values: Values, node: Call) -> Steps:
    """The operation as it stands: constants are not computed, nothing is left out.

    A program that a compiler pass made can hold such forms; this is how they print.
    """
    if len(node.args) != 1 or node.args[0].key is not None:
        raise _misused(node)
    match node.args[0].value:
        case Unary(op=op, operand=operand):
            return (yield from _raw_map(values, op, (operand,), node.span))
        case Chain(first=first, rest=((op, operand),)) if op in OPS:
            return (yield from _raw_map(values, op, (first, operand), node.span))
        case Call(name=Name(text=op), args=args) if op in OPS and len(args) == OPS[op].arity:
            return (yield from _raw_map(values, op, [each.value for each in args], node.span))
        case Call(name=Name(text="size")) as call:
            axes = _axis_arguments(values, call)
            return None if axes is None or len(axes) != 1 else Size(axes[0], span=node.span)
        case Read() as read:
            return (yield from _raw_read(values, read))
        case _:
            raise _misused(node)


def _raw_map(values: Values, op: str, operands: Sequence[Expression], span: Span) -> Steps:
    forms: list[Form] = []
    for operand in operands:
        form = yield operand
        forms.extend(() if form is None else (form,))
    if len(forms) < len(operands):
        return None
    values.applied(op, forms, span)  # for its checks
    return Map(op, tuple(forms), span=span)


def _raw_read(values: Values, node: Read) -> Steps:
    value = yield node.value
    names = values.keys(node.items)
    axes = None if names is None else values.axes(names)
    forms: list[Form] = []
    for item in node.items:
        form = yield item.value
        forms.extend(() if form is None else (form,))
    if value is None or axes is None or len(forms) < len(axes):
        return None
    pairs = tuple(zip(axes, forms, strict=True))
    build.at(value, dict(pairs), node.span)  # for its checks
    return At(value, pairs, span=node.span)


SPECIAL: Mapping[str, Callable[[Values, Call], Steps]] = {
    "size": _size, "index": _index, "zeros": _zeros, "trust": _trust, "cases": _cases, "jvp": _jvp,
    "on_gradient": _on_gradient, "steps": _steps_of, "complex": _complex, "unfolded": _unfolded,
}  # fmt: skip
