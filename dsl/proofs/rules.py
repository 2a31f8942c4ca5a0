"""When a program is well formed, apart from presence: one rule is one function is one sentence.

The constructors refuse most of this where it is written; these rules hold for every program, however it
was made, and see it whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ..constructors.build_special import axis_names, escaped, unbound
from ..constructors.layouts import unpack
from ..errors import PlaitError
from ..mistakes import (
    DuplicateParameter,
    InvalidHeader,
    KindMismatch,
    ShadowedName,
    UndeclaredAxis,
    UnknownAxis,
    UnknownName,
    UnusedName,
)
from ..program import (
    BATCH,
    At,
    Axis,
    Const,
    Coordinate,
    Form,
    Item,
    Leaf,
    Library,
    Output,
    Place,
    Program,
    Reduce,
    Scan,
    Size,
    children,
    walk,
)
from ..shapes.size_forms import used_axes
from ..shapes.size_rules import (
    also,
    fixed_sizes_agree,
    in_python,
    requirements_are_conditions,
    sizes_are_sizes,
)
from ..source import Span

Rule = Callable[[Program], Iterable[PlaitError]]


# --- names


def one_name_one_tensor(program: Program) -> Iterator[PlaitError]:
    """Inputs and outputs have names of their own."""
    seen: dict[str, Span | None] = {}
    for name, span in [
        *((d.leaf.name, d.span) for d in program.inputs),
        *((o.name, o.span) for o in program.outputs),
    ]:
        if name in seen:
            yield ShadowedName(
                f"`{name}` names two tensors of `{program.name}`", at=span, label="named again",
                labels=also(seen[name], "first named here", span), helps=["give one of them another name"],
            )  # fmt: skip
        seen.setdefault(name, span)


def one_key_one_parameter(program: Program) -> Iterator[PlaitError]:
    """A full key belongs to one parameter or buffer."""
    seen: dict[str, Span | None] = {}
    for declaration in (*program.parameters, *program.buffers, *program.draws):
        for key in (declaration.leaf.name, *declaration.also):
            if key in seen:
                yield DuplicateParameter(
                    f"`{key}` is declared twice", at=declaration.span, label="declared again here",
                    labels=also(seen[key], "first declared here", declaration.span),
                    helps=["give each its own key, or use the first declaration twice"],
                )  # fmt: skip
            seen.setdefault(key, declaration.span)


def one_update_a_buffer(program: Program) -> Iterator[PlaitError]:
    """A buffer is updated at most once, and is one of the program's."""
    buffers = {declaration.leaf for declaration in program.buffers}
    seen: dict[str, Span | None] = {}
    for update in program.updates:
        name = update.buffer.name
        if update.buffer not in buffers:
            known = ", ".join(leaf.name for leaf in buffers) or "none"
            yield UnknownName(
                f"`{name}` is updated, and is no buffer of `{program.name}`", at=update.span, label="updated here",
                notes=[f"buffers: {known}"],
            )  # fmt: skip
        if name in seen:
            yield ShadowedName(
                f"buffer `{name}` is updated twice", at=update.span, label="updated again here",
                labels=also(seen[name], "first updated here", update.span),
                helps=["put the condition into the value: `select(p, x, y)`"],
            )  # fmt: skip
        seen.setdefault(name, update.span)


def all_inputs_used(program: Program) -> Iterator[PlaitError]:
    """Every input is read, or gives a size that nothing else gives."""
    forms = set(program.forms)
    needed = set(used_axes(program))
    for declaration in program.inputs:
        if declaration.leaf in forms or declaration.optional:
            continue
        others = [item for other in program.declarations if other is not declaration for item in other.items]
        known = {axis for axis, _ in program.fixed} | {item[0] for item in others if len(item) == 1}
        unpack(others, known)
        if not any(axis in needed and axis not in known for axis in declaration.leaf.over):
            yield UnusedName(
                f"input `{declaration.leaf.name}` of `{program.name}` is never used", at=declaration.span,
                label="unused", helps=["use it, or take it out of the header"],
            )  # fmt: skip


def all_statements_used(program: Program) -> Iterator[PlaitError]:
    """Every statement of a text is part of an output, or of the range of an axis. Python's own linters say it of
    Python."""
    ranges = (end for axis in used_axes(program) for end in (axis.lo, axis.size) if end is not None)
    forms = {*program.forms, *walk(tuple(ranges))}
    for name, value in program.names:
        trivial = isinstance(value, Const | Size | Coordinate | Leaf)
        if value in forms or trivial or value.span is None or in_python(value.span):
            continue
        yield UnusedName(
            f"`{name}` is computed in `{program.name}` and never used", at=value.span, label="unused",
            helps=["use it, or take the statement out"],
        )  # fmt: skip


def no_variable_escapes(program: Program) -> Iterator[PlaitError]:
    """The previous value of a scan is used in that scan only."""
    yield from map(escaped, unbound(program.roots))


# --- axes


def no_axis_twice(program: Program) -> Iterator[PlaitError]:
    """A tensor has an axis once."""
    layouts: list[tuple[str, tuple[Item, ...], Span | None]] = [
        *((d.leaf.name, d.items, d.span) for d in program.declarations),
        *((output.name, output.items, output.span) for output in program.outputs),
    ]
    for name, items, span in layouts:
        axes = [axis for item in items for axis in item]
        for axis in dict.fromkeys(axis for axis in axes if axes.count(axis) > 1):
            yield InvalidHeader(
                f"`{name}` has axis `{axis.name}` twice", at=span, label="here",
                helps=["give one of them another name, and `require` that their sizes are equal"],
            )  # fmt: skip


def batch_is_no_axis(program: Program) -> Iterator[PlaitError]:
    """`...` stands for any number of axes: nothing runs along it, and a module holds none of it."""
    for declaration in (*program.parameters, *program.buffers):
        if BATCH in declaration.leaf.over:
            yield UnknownAxis(
                f"`{declaration.leaf.name}` is over `...`, and what a module holds has no batch",
                at=declaration.span, label="here", helps=["name the axes that it has"],
            )  # fmt: skip
    for form in program.forms:
        who = _runs_along_batch(form)
        if who:
            yield UnknownAxis(
                f"{who} needs one axis, and `...` stands for any number of them", at=form.span, label="here",
                helps=["name the batch axes that it needs: write `b` and not `...`"],
            )  # fmt: skip


def _runs_along_batch(form: Form) -> str:
    match form:
        case At(indices=indices) | Place(indices=indices) if any(axis == BATCH for axis, _ in indices):
            return "a read at another index"
        case Scan(axis=axis) if axis == BATCH:
            return "a scan"
        case Library(op=op, over=over) if BATCH in over:
            return f"`{op}`"
        case Reduce(op="argmax", pieces=pieces, component=component):
            listed = [axis for piece in pieces for axis in piece.axes]
            return "`argmax`" if listed[component] == BATCH else ""
        case _:
            return ""


def outputs_as_declared(program: Program) -> Iterator[PlaitError]:
    """An output has the axes of its declaration, all of them and no others."""
    for output in program.outputs:
        declared = [axis for item in output.items for axis in item]
        for axis in output.value.axes:
            if axis not in declared:
                yield _undeclared(output, axis, declared)
        lacking = [axis for axis in declared if axis not in output.value.axes]
        if lacking:
            at = output.value.span or output.span
            yield UndeclaredAxis(
                f"output `{output.name}` is declared over {axis_names(declared)}, and its value lacks "
                f"{axis_names(lacking)}", at=at, label=f"has axes {axis_names(output.value.axes)}",
                labels=also(output.span, "declared here", at),
                helps=["add `zeros` over the axes where the value is to be the same everywhere"],
            )  # fmt: skip


def _undeclared(output: Output, axis: Axis, declared: list[Axis]) -> PlaitError:
    """Points at the statement that brings the axis in."""
    at = entrance(output.value, axis).span or output.value.span or output.span
    name = axis.name
    reduced = f"`x.sum({name})`" if in_python(at) else f"`sum[{name}](x)`"
    return UndeclaredAxis(
        f"output `{output.name}` has axis `{name}`, which its declaration lacks", at=at,
        label=f"`{name}` comes in here", labels=also(output.span, f"declared over {axis_names(declared)}", at),
        notes=[f"axes of the value: {axis_names(output.value.axes)}"],
        helps=[f"reduce it, {reduced}, read one index of it, or declare it in the header"],
        facts={"axis": name},
    )  # fmt: skip


def entrance(value: Form, axis: Axis) -> Form:
    """The form below `value` where some operands have the axis and others do not, or its leaf."""
    while True:
        operands = children(value)
        having = [each for each in operands if axis in each.axes]
        if not having or len(having) < sum(1 for each in operands if each.axes):
            return value
        value = having[0]


def updates_fit(program: Program) -> Iterator[PlaitError]:
    """A buffer's new value has its axes and its kind."""
    for update in program.updates:
        leaf, value = update.buffer, update.value
        if set(value.axes) != set(leaf.over):
            yield UndeclaredAxis(
                f"buffer `{leaf.name}` is over {axis_names(leaf.over)}, and its new value over "
                f"{axis_names(value.axes)}", at=update.span, label="here",
            )  # fmt: skip
        elif value.kind != leaf.kind:
            yield KindMismatch(
                f"buffer `{leaf.name}` is {leaf.kind}, and its new value {value.kind}",
                at=update.span,
                label="here",
            )


def carries_fit(program: Program) -> Iterator[PlaitError]:
    """The step of a scan has no axes but its carry's, and the carry's kind."""
    for form in (form for form in program.forms if isinstance(form, Scan)):
        for carry in form.carries:
            lanes = [axis for axis in carry.previous.over if axis != form.axis]
            stray = [axis for axis in carry.step.axes if axis not in carry.previous.over]
            stray += [axis for axis in carry.init.axes if axis not in lanes]
            at = carry.step.span or form.span
            if stray:
                yield UndeclaredAxis(
                    f"the step of a scan over `{form.axis.name}` has axis `{stray[0].name}`, which its carry lacks",
                    at=at, label="here", labels=also(carry.init.span, f"over {axis_names(carry.init.axes)}", at),
                    notes=[f"axes of the carry: {axis_names(carry.previous.over)}"],
                )  # fmt: skip
            elif carry.step.kind != carry.previous.kind:
                yield KindMismatch(
                    f"the carry of a scan begins as {carry.previous.kind} and its step makes it {carry.step.kind}",
                    at=at, label="this step", labels=also(carry.init.span, "begins here", at),
                )  # fmt: skip


WHOLE: tuple[Rule, ...] = (
    one_name_one_tensor,
    one_key_one_parameter,
    one_update_a_buffer,
    no_variable_escapes,
    no_axis_twice,
    batch_is_no_axis,
    outputs_as_declared,
    updates_fit,
    carries_fit,
    fixed_sizes_agree,
    sizes_are_sizes,
    requirements_are_conditions,
)
"""What every program keeps, derived ones too."""

WRITTEN: tuple[Rule, ...] = (all_inputs_used, all_statements_used)
"""What a program that somebody wrote keeps as well."""
