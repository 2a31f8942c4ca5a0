"""A mixer called on values: its program goes into the one being traced.

Formal axes bind by identity, others by `axes={h: y}`; what an argument has beside them joins the
callee's `...`; `name=` prefixes the callee's parameter keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..constructors import build
from ..constructors.inline import Inlining, reduces_batch
from ..errors import Label
from ..mistakes import (
    AxisSizeMismatch,
    InvalidArgument,
    InvalidSize,
    KindMismatch,
    UndeclaredAxis,
    UnknownAxis,
)
from ..program import BATCH, Axis, Const, Coordinate, Declaration, Form, Program, Size
from ..python.refusals import names
from ..python.trace import Table, Trace, scope
from ..source import Span
from ..text.signature import Signature
from .declarations import declared, required, updated


@dataclass(frozen=True, slots=True)
class Binding:
    """What the caller's arguments say about the callee's axes.

    `batch` are the caller's axes for `...`; `said` is whether the caller listed them.
    """

    inputs: Mapping[str, Form]
    axes: Mapping[Axis, Axis]
    batch: tuple[Axis, ...]
    said: bool


# --- axes


def bind(
    mixer: str, header: Signature, inputs: Mapping[str, Form], axes: Mapping[Axis, tuple[Axis, ...]],
    span: Span | None,
) -> Binding:  # fmt: skip
    """Match the arguments' axes with the header's.

    Raises UnknownAxis where an argument lacks a formal axis, UndeclaredAxis where it has one that
    has no place, InvalidArgument where two formal axes would be one.
    """
    formal = {axis: _image(mixer, axis, header, axes, span) for axis in header.axes if axis != BATCH}
    for axis in axes:
        if axis not in header.axes:
            raise UnknownAxis(
                f"`{mixer}` has no axis `{axis.name}` to bind", at=span, label="here",
                notes=[f"axes of its header: {names(header.axes)}"],
            )  # fmt: skip
    _check_apart(mixer, formal, span)
    extra: list[Axis] = []
    made: dict[str, Form] = {}
    for declaration in header.inputs:
        value = inputs.get(declaration.leaf.name)
        if value is not None:
            extra += _left(mixer, declaration, value, formal, span)
            made[declaration.leaf.name] = _of_kind(mixer, declaration, value, span)
    said = BATCH in axes
    batch = axes[BATCH] if said else tuple(dict.fromkeys(extra))
    beside = [axis for axis in extra if axis not in batch]
    if beside:
        raise UndeclaredAxis(
            f"axis `{beside[0].name}` of an argument of `{mixer}` is not among those given for `...`", at=span,
            label="here", notes=[f"given for `...`: {names(batch)}"],
        )  # fmt: skip
    return Binding(made, formal, batch, said)


def _image(
    mixer: str, axis: Axis, header: Signature, axes: Mapping[Axis, tuple[Axis, ...]], span: Span | None
) -> Axis:
    image = axes.get(axis, (axis,))
    if len(image) != 1:
        raise InvalidArgument(
            f"axis `{axis.name}` of `{mixer}` is bound to {len(image)} axes", at=span, label="here"
        )
    if build.low(image[0]) != Const(0):
        raise InvalidSize(
            f"axis `{axis.name}` of `{mixer}` begins at 0, and `{image[0].name}` does not", at=span, label="here",
            helps=["read the value over an axis that begins at 0: `x[{dh: i - r}]`"],
        )  # fmt: skip
    return image[0]


def _check_apart(mixer: str, formal: Mapping[Axis, Axis], span: Span | None) -> None:
    seen: dict[Axis, Axis] = {}
    for axis, image in formal.items():
        first = seen.setdefault(image, axis)
        if first != axis:
            raise InvalidArgument(
                f"axes `{first.name}` and `{axis.name}` of `{mixer}` would both be `{image.name}`", at=span,
                label="here", helps=[f"bind `{axis.name}` to another axis: `axes={{{axis.name}: ...}}`"],
            )  # fmt: skip


def _left(
    mixer: str, declaration: Declaration, value: Form, formal: Mapping[Axis, Axis], span: Span | None
) -> list[Axis]:
    """The axes of an argument that its declaration does not name."""
    name, own = declaration.leaf.name, [axis for axis in declaration.leaf.over if axis != BATCH]
    for axis in own:
        if formal[axis] not in value.axes:
            raise UnknownAxis(
                f"`{name}` of `{mixer}` is over axis `{axis.name}`, and the argument is not", at=span, label="here",
                labels=[Label(value.span, f"has axes {names(value.axes)}")] if value.span else [],
                notes=[f"axes of the argument: {names(value.axes)}"],
                helps=[f"say which axis it is: `axes={{{axis.name}: y}}`"],
            )  # fmt: skip
    images = {formal[axis] for axis in own}
    left = [axis for axis in value.axes if axis not in images]
    for axis in left:
        if axis in formal.values() or BATCH not in declaration.leaf.over:
            why = "is an axis of another input" if axis in formal.values() else "has no `...` to join"
            raise UndeclaredAxis(
                f"axis `{axis.name}` of the argument for `{name}` of `{mixer}` {why}", at=span, label="here",
                labels=[Label(value.span, f"has axes {names(value.axes)}")] if value.span else [],
                notes=[f"`{name}` is declared over {names(declaration.leaf.over)}"],
                helps=[f"read it over a copy: `{axis.name}2 = {axis.name}.like(); x[{{{axis.name}: {axis.name}2}}]`"]
                if axis in formal.values()
                else [],
            )  # fmt: skip
    return left


def _of_kind(mixer: str, declaration: Declaration, value: Form, span: Span | None) -> Form:
    """The argument in the declared kind; whole numbers may stand for real ones, and these for complex."""
    wanted = declaration.leaf.declared
    match value.kind, wanted:
        case found, kind if found == kind:
            return value
        case "int", "real":
            return build.apply("to_real", value, span=value.span)
        case (("int" | "real"), "complex"):
            return build.apply("cplx", value, Const(0.0), span=value.span)
        case _:
            raise KindMismatch(
                f"`{declaration.leaf.name}` of `{mixer}` is {wanted}, and the argument is {value.kind}", at=span,
                label="here", labels=[Label(value.span, f"this is {value.kind}")] if value.span else [],
            )  # fmt: skip


# --- the callee's program in the caller's trace


def compose(
    program: Program, header: Signature, binding: Binding, name: str, trace: Trace, spelled: bool,
    span: Span | None,
) -> tuple[Form, ...]:  # fmt: skip
    """The callee's outputs in the caller's terms; its parameters, state and requirements join the
    trace under `name`."""
    _check_batch(program, binding, span)
    inlining = Inlining(binding.batch, binding.axes, trace.bound_name, spelled)
    for declaration in program.inputs:
        inlining.leaves[declaration.leaf] = binding.inputs[declaration.leaf.name]
    with scope(trace, name):
        for table, declarations in _tables(program):
            for declaration in declarations:
                made = inlining.declaration(declaration, trace.key)
                inlining.leaves[declaration.leaf] = declared(trace, table, made, span)
    for axis, size in program.fixed:
        _check_size(program.name, inlining.axis(axis), size, trace, span)
    for require in program.requires:
        required(trace, inlining.form(require.predicate), require.span)
    for update in program.updates:
        updated(trace, inlining.form(update.buffer), inlining.form(update.value), update.span)
    return tuple(_renamed(output.value, output.items, header, number, inlining, binding)
                 for number, output in enumerate(program.outputs))  # fmt: skip


def _tables(program: Program) -> tuple[tuple[Table, tuple[Declaration, ...]], ...]:
    return (("parameters", program.parameters), ("buffers", program.buffers), ("draws", program.draws))


def _renamed(
    value: Form, items: tuple[tuple[Axis, ...], ...], header: Signature, number: int, inlining: Inlining,
    binding: Binding,
) -> Form:  # fmt: skip
    """An output; where a fresh axis of the callee stands for a name of its header, the caller's."""
    result = inlining.form(value)
    named = header.outputs[number].over
    own = [axis for item in items for axis in item]
    reads: dict[Axis, Form] = {}
    for formal, axis in zip(named, own, strict=True):
        image = binding.axes.get(formal)
        if formal != axis and image is not None and image != formal:
            reads[inlining.axis(axis)] = Coordinate(image)
    return build.at(result, reads, result.span) if reads else result


def _check_batch(program: Program, binding: Binding, span: Span | None) -> None:
    """A callee that reduces over `...` would silently reduce over axes that joined it."""
    if not reduces_batch(program):
        return
    extra = [axis for axis in binding.batch if axis != BATCH]
    if extra and not binding.said:
        raise UndeclaredAxis(
            f"`{program.name}` reduces over `...`, and axis `{extra[0].name}` would join it", at=span, label="here",
            helps=[f"say that it shall: `axes={{...: ({', '.join(axis.name for axis in binding.batch)},)}}`"],
        )  # fmt: skip
    for declaration in program.inputs:
        value = binding.inputs[declaration.leaf.name]
        lacking = [axis for axis in binding.batch if axis not in value.axes]
        if BATCH in declaration.leaf.over and lacking:
            raise UnknownAxis(
                f"`{program.name}` reduces over `...`, and the argument for `{declaration.leaf.name}` lacks "
                f"`{lacking[0].name}`", at=span, label="here",
                labels=[Label(value.span, f"has axes {names(value.axes)}")] if value.span else [],
            )  # fmt: skip


def _check_size(mixer: str, axis: Axis, size: int, trace: Trace, span: Span | None) -> None:
    """The callee was made for this size: it is known to be so, or required."""
    known = build.size(axis)
    if isinstance(known, Size) and known.axis in trace.fixed:
        known = Const(trace.fixed[known.axis])
    if isinstance(known, Const) and known.value != size:
        raise AxisSizeMismatch(
            f"axis `{axis.name}` has two sizes, {known.value} and {size}", at=span,
            label=f"`{mixer}` is for {size}",
        )  # fmt: skip
    if not isinstance(known, Const):
        required(trace, build.apply("eq", known, Const(size)), span)
