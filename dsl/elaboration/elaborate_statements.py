"""The statements of a text, one function each: what it adds to the scope, the trace, the outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..constructors import build, build_special
from ..constructors.arguments import MODES
from ..constructors.initialisers import read_initialiser
from ..errors import PlaitError, counted
from ..mistakes import AxisSizeMismatch, InvalidArgument, InvalidSyntax, UndeclaredAxis, UnknownArgument
from ..program import Axis, Const, Coordinate, Declaration, Form, Item, Leaf, Size
from ..python.trace import Trace
from ..text.header import HeaderAxis, HeaderItem
from ..text.scope import Scope
from ..text.syntax import (
    Assignment,
    AxisStatement,
    DocStatement,
    Expression,
    LikeStatement,
    MixerAst,
    ModeStatement,
    Name,
    OutputStatement,
    RangeStatement,
    RequireStatement,
    Statement,
    TensorStatement,
    UpdateStatement,
    VariableStatement,
)
from .declarations import ROLES, declared, required, updated
from .elaborate_values import Result, Results, Values


@dataclass(slots=True)
class Site:
    """Where statements take effect. `outputs` are the names of the header's outputs, `given` their
    values as far as the body has said them, `names` the author's names for values."""

    ast: MixerAst
    scope: Scope
    trace: Trace
    values: Values
    outputs: frozenset[str]
    given: dict[str, Form | None] = field(default_factory=dict[str, Form | None])
    names: list[tuple[str, Form]] = field(default_factory=list[tuple[str, Form]])

    def noted(self, act: Callable[[], None]) -> None:
        """Do it; a mistake joins the others."""
        try:
            act()
        except PlaitError as error:
            self.trace.mistakes.append(error)


def perform(site: Site, statement: Statement) -> None:
    """Let one statement take effect; raises or notes its mistakes."""
    match statement:
        case RangeStatement():
            _range(site, statement)
        case LikeStatement(names=names, of=of):
            axes = site.values.axes((of,))
            for name in names:
                axis = None if axes is None else build.like_axis(axes[0], name.text, name.span)
                site.noted(lambda name=name, axis=axis: site.scope.give_axis(name, axis))
        case AxisStatement(axes=axes):
            for each in axes:
                site.noted(lambda each=each: _signature_axis(site, each))
        case TensorStatement():
            _tensor(site, statement)
        case VariableStatement():
            _variable(site, statement)
        case RequireStatement(predicate=predicate):
            form = site.values.value(predicate)
            if form is not None:
                required(site.trace, form, statement.span)
        case UpdateStatement():
            _update(site, statement)
        case OutputStatement(name=name, value=value):
            _output_statement(site, name, site.values.value(value))
        case ModeStatement(name=name):
            if name.text not in MODES:
                raise InvalidArgument(
                    f"the mode is eval or train, and found `{name.text}`", at=name.span, label="here"
                )
            site.trace.mode = name.text
        case Assignment():
            _assignment(site, statement)
        case DocStatement():
            if statement is not site.ast.body[0]:
                raise InvalidSyntax(
                    "a text that says what the mixer does stands at the beginning of its body", at=statement.span,
                    label="here", helps=["further on, write a comment: `# ...`"],
                )  # fmt: skip


def _range(site: Site, statement: RangeStatement) -> None:
    first = site.values.value(statement.first)
    second = None if statement.second is None else site.values.value(statement.second)
    lost = first is None or (second is None and statement.second is not None)
    for name in statement.names:
        axis = None
        if not lost and first is not None:
            axis = _made(site, statement, name, first, second)
        site.noted(lambda name=name, axis=axis: site.scope.give_axis(name, axis))


def _made(site: Site, statement: RangeStatement, name: Name, first: Form, second: Form | None) -> Axis | None:
    span = statement.span
    try:
        if statement.how == "near":
            return build.near_axis(name.text, first, span)
        if statement.how == "span" and second is not None:
            return build.span_axis(name.text, first, second, span)
        return build.make_axis(name.text, second or Const(0), first, "axis", span)
    except PlaitError as error:
        site.trace.mistakes.append(error)
        return None


def _signature_axis(site: Site, each: HeaderAxis) -> None:
    """An axis as the header could have it, or a size for one that it has: tensors and static arguments
    may have the same name."""
    axis, name = Axis(each.name), Name(each.name, each.span, quoted=True)
    if each.fixed is None or site.scope.axes.get(each.name) != axis:
        site.scope.check_new(name, site.scope.axes, "an axis")
    site.scope.axes[each.name] = axis
    site.scope.places.setdefault(each.name, each.span)
    if each.fixed is not None and site.trace.fixed.setdefault(axis, each.fixed) != each.fixed:
        raise AxisSizeMismatch(
            f"axis `{each.name}` has two sizes, {each.fixed} and {site.trace.fixed[axis]}",
            at=each.span,
            label="here",
        )


def _items(site: Site, items: Sequence[HeaderItem]) -> tuple[Item, ...] | None:
    found: list[Item] = []
    for item in items:
        axes = site.values.axes([Name(axis.name, axis.span, quoted=True) for axis in item.axes])
        found.extend(() if axes is None else (axes,))
    return tuple(found) if len(found) == len(items) else None


def _tensor(site: Site, statement: TensorStatement) -> None:
    tensor, span = statement.tensor, statement.span
    name = Name(tensor.name, span, quoted=True)
    site.scope.check_new(name, {*site.scope.values, *site.scope.statics, *site.scope.axes}, "a tensor")
    items = _items(site, tensor.items)
    of = _items(site, (HeaderItem((tensor.index_of,), span),)) if tensor.index_of is not None else ()
    if items is None or of is None:
        site.scope.give(name, None, is_output=True)
        return
    init = None if statement.init is None else _initial(statement.init)
    over = tuple(axis for item in items for axis in item)
    kind = "int" if tensor.kind == "index" else tensor.kind
    leaf = Leaf(ROLES[statement.table], statement.key, over, kind, of[0][0] if of else None, span=span)
    trainable = statement.table == "parameters" and not statement.frozen
    declaration = Declaration(leaf, items, False, trainable, init, statement.also, span)
    site.scope.give(name, leaf, is_output=True)
    site.names.append((tensor.name, leaf))
    declared(site.trace, statement.table, declaration, span)


def _variable(site: Site, statement: VariableStatement) -> None:
    value = None if statement.value is None else site.values.value(statement.value)
    axes = site.values.axes([Name(a.name, a.span, quoted=True) for a in statement.axes or ()])
    lost = axes is None or (value is None and statement.value is not None)
    leaf = None
    if not lost and axes is not None:
        leaf = _leaf(site, statement, axes, value)
    site.scope.give(statement.name, leaf, is_output=False)
    if leaf is not None:
        site.names.append((statement.name.text, leaf))
    if leaf is not None and value is not None and statement.role == "previous":
        site.values.inits[leaf] = value


def _leaf(site: Site, statement: VariableStatement, axes: tuple[Axis, ...], value: Result) -> Leaf | None:
    name, span = site.trace.bound_name(statement.name.text), statement.span
    try:
        if value is not None and statement.kind is None:
            if statement.role == "previous" and len(axes) == 1:
                return build_special.previous(axes[0], value, name, span)
            if statement.role == "cotangent" and statement.axes is None:
                return build_special.cotangent(value, name, span)
        extra = [axis for axis in value.axes if axis not in axes] if value is not None else []
        if extra:
            raise UndeclaredAxis(
                f"`{statement.name.text}` begins as a value over `{extra[0].name}`, which its brackets lack",
                at=span, label="here",
            )  # fmt: skip
        kind = statement.kind or ("real" if value is None else value.kind)
        return Leaf("bound", name, axes, kind, span=span)
    except PlaitError as error:
        site.trace.mistakes.append(error)
        return None


def _update(site: Site, statement: UpdateStatement) -> None:
    buffer = site.scope.value(statement.buffer)
    value = site.values.value(statement.value)
    if buffer is not None and value is not None:
        updated(site.trace, buffer, value, statement.span)


def _output_statement(site: Site, name: Name, value: Result) -> None:
    if name.text not in site.outputs:
        raise UnknownArgument(
            f"the header has no output `{name.text}`", at=name.span, label="here",
            notes=[f"outputs: {', '.join(sorted(site.outputs)) or 'none'}"],
        )  # fmt: skip
    site.scope.check_new(Name(name.text, name.span, quoted=True), site.given, "an output")
    site.given[name.text] = value


def _assignment(site: Site, statement: Assignment) -> None:
    results = _results(site, statement)
    for name, form in zip(statement.targets, results, strict=True):
        if name.text == "_" and len(statement.targets) > 1:
            continue
        site.noted(lambda name=name, form=form: _give(site, name, form))


def _results(site: Site, statement: Assignment) -> Results:
    count = len(statement.targets)
    if count == 1:
        return (site.values.value(statement.value),)
    results = site.values.several(statement.value)
    if len(results) == count:
        return results
    if not any(form is None for form in results):
        site.trace.mistakes.append(
            InvalidArgument(
                f"this gives {counted(len(results), 'value')}, and {count} names are to be given",
                at=statement.span,
                label="here",
            )
        )
    return (None,) * count


def _give(site: Site, name: Name, form: Form | None) -> None:
    is_output = name.text in site.outputs
    site.scope.give(name, form, is_output)
    if is_output:
        site.given[name.text] = form
    if form is not None and not isinstance(form, Leaf | Const | Size | Coordinate):
        site.names.append((name.text, form))


def _initial(init: Expression) -> str:
    """An initial value as it is written. Without quotes it is one that every module knows."""
    if isinstance(init, Name) and init.quoted:
        return init.text
    text = " ".join(init.span.text.split())
    try:
        read_initialiser(text)
    except PlaitError as error:
        raise InvalidArgument(
            error.message, at=init.span, label="here", notes=error.notes, helps=error.helps
        ) from None
    return text
