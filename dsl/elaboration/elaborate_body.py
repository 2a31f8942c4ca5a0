"""The body of one mixer, for one request: names from the header, statements in order, results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..constructors import build, build_special
from ..constructors.arguments import Request, Static
from ..constructors.outputs import fitting
from ..constructors.static import StaticFloat, StaticInt
from ..errors import PlaitError, raise_all
from ..mistakes import AxisSizeMismatch, InvalidHeader
from ..ops import Kind
from ..program import BATCH, Axis, Const, Declaration, Form, Item, Output, Program, When
from ..python.trace import Trace
from ..source import Span
from ..text.header import HeaderAxis
from ..text.mentions import unused_axes
from ..text.scope import Scope
from ..text.signature import OutputPlace
from ..text.syntax import (
    Assignment,
    Call,
    Fold,
    LikeStatement,
    Made,
    MixerAst,
    Name,
    Placed,
    RangeStatement,
    Scanned,
    Statement,
    TensorStatement,
    VariableStatement,
)
from .elaborate_calls import Callee, Calls
from .elaborate_forms import folded, made, placed, scanned
from .elaborate_statements import Site, perform
from .elaborate_values import ManySteps, Special, Values


def _fixed(callee: Callee, request: Request) -> dict[Axis, int]:
    """The sizes known here: the header's and those given, which must agree."""
    fixed = dict(callee.signature.fixed)
    for name, size in request.sizes:
        known = fixed.setdefault(Axis(name), size)
        if known != size:
            raise AxisSizeMismatch(
                f"axis `{name}` has two sizes, {known} and {size}", at=callee.signature.span,
                label=f"{known}, from the header", notes=[f"given: {size}"],
            )  # fmt: skip
    return fixed


class Body:
    """The statements of one mixer, for one request."""

    def __init__(self, callee: Callee, request: Request, calls: Calls) -> None:
        self.callee, self.request, self.calls = callee, request, calls
        self.ast, self.signature = callee.ast, callee.signature
        self.scope = Scope()
        self.trace = Trace(callee.ast.name, None, request.mode, _fixed(callee, request))
        outputs = frozenset(place.name for place in callee.signature.outputs)
        values = Values(self.scope, self.trace, self._special)
        self.site = Site(callee.ast, self.scope, self.trace, values, outputs)
        self.inputs: dict[str, Declaration] = {}

    def _special(self, values: Values, node: Special) -> ManySteps:
        match node:
            case Fold():
                return (yield from folded(values, node))
            case Made():
                return (yield from made(values, node))
            case Placed():
                return (yield from placed(values, node))
            case Scanned():
                return (yield from scanned(values, node))
            case Call():
                return (yield from self.calls(values, node))

    def program(self) -> Program:
        """The program; raises every mistake of the body together."""
        self._begin()
        for statement in self.ast.body:
            self.site.noted(lambda statement=statement: perform(self.site, statement))
            self._enter_inputs(all_of_them=False)
        self._enter_inputs(all_of_them=True)
        outputs = tuple(self._outputs())
        raise_all(self.trace.mistakes)
        raise_all(list(unused_axes(self.ast)))
        self._check_sizes()
        updates = tuple(self.trace.updates.values())
        roots = [*(output.value for output in outputs), *(update.value for update in updates)]
        raise_all([build_special.escaped(leaf) for leaf in build_special.unbound(roots)])
        return self._program(outputs)

    def _program(self, outputs: tuple[Output, ...]) -> Program:
        trace = self.trace
        names = [d.leaf.name for d in self.signature.inputs]
        return Program(
            self.ast.name,
            tuple(self.inputs[name] for name in names if name in self.inputs),
            outputs,
            statics=tuple((name, _plain(value)) for name, value in self.request.statics),
            fixed=tuple(trace.fixed.items()),
            names=tuple(self.site.names),
            parameters=tuple(trace.parameters.values()),
            buffers=tuple(trace.buffers.values()),
            draws=tuple(trace.draws.values()),
            updates=tuple(trace.updates.values()),
            requires=tuple(trace.requires),
            mode=trace.mode,
            doc=self.ast.doc,
            span=self.ast.span,
        )

    # --- the header

    def _begin(self) -> None:
        """Names that hold from the first line: statics, and axes that the body does not make itself."""
        scope = self.scope
        scope.later.update(_given_below(self.ast.body))
        scope.axes["..."] = BATCH
        made_below = {name.text for name in _made_axes(self.ast.body)}
        places = {axis.name: axis.span for axis in _header_axes(self.ast)}
        for axis in self.signature.axes:
            if axis.name not in made_below:
                scope.axes[axis.name] = axis
                scope.places[axis.name] = places[axis.name]
        for name, value in self.request.statics:
            scope.statics[name] = _spelled(name, value, self.request.spelled)
        for each in self.ast.statics:
            scope.places[each.name.text] = each.span
        for declaration in self.signature.inputs:
            if declaration.leaf.name in scope.statics:
                name = declaration.leaf.name
                self.trace.mistakes.append(
                    InvalidHeader(
                        f"`{name}` is an input and a static argument", at=declaration.span, label="here"
                    )
                )
        self._enter_inputs(all_of_them=False)

    def _enter_inputs(self, all_of_them: bool) -> None:
        """Inputs become values as soon as their axes are all made."""
        for declaration in self.signature.inputs:
            name = declaration.leaf.name
            if name in self.scope.values:
                continue
            unmade = [axis.name for axis in _axes_of(declaration) if axis.name not in self.scope.axes]
            if unmade and not all_of_them:
                self.scope.waiting[name] = unmade[0]
            else:
                self.scope.waiting.pop(name, None)
                self._enter(declaration)

    def _enter(self, declaration: Declaration) -> None:
        """An input whose axes are all made; one of them may be a mistake."""
        leaf, scope = declaration.leaf, self.scope
        scope.places[leaf.name] = declaration.span or self.ast.span
        items = self._resolved(declaration.items)
        ranges_over = leaf.ranges_over and scope.axes.get(leaf.ranges_over.name, leaf.ranges_over)
        if items is None:
            scope.values[leaf.name] = None
            return
        over = tuple(axis for item in items for axis in item)
        if leaf.name in self.request.without:
            scope.values[leaf.name] = _left_out(over, leaf.kind, declaration.span)
            return
        entered = replace(leaf, over=over, ranges_over=ranges_over)
        self.inputs[leaf.name] = replace(declaration, leaf=entered, items=items)
        scope.values[leaf.name] = entered

    def _resolved(self, items: Sequence[Item]) -> tuple[Item, ...] | None:
        """A layout of the header in the body's axes; None where one of them is a mistake."""
        found: list[Item] = []
        for item in items:
            axes = [self.scope.axes.get(axis.name, axis) for axis in item]
            made = tuple(axis for axis in axes if axis is not None)
            if len(made) < len(axes):
                return None
            found.append(made)
        return tuple(found)

    # --- results

    def _outputs(self) -> Iterator[Output]:
        for place in self.signature.outputs:
            items = self._resolved(place.items)
            if place.name not in self.site.given:
                self.trace.mistakes.append(_not_given(place))
                continue
            value = self.site.given[place.name]
            if value is None or items is None:
                continue
            try:
                form = fitting(place, items, value)
                yield Output(place.name, form, items, value.span or place.span)
            except PlaitError as error:
                self.trace.mistakes.append(error)

    def _check_sizes(self) -> None:
        """Every size that was given is the size of an axis."""
        for name, _ in self.request.sizes:
            if name not in self.scope.axes:
                raise self.callee.arguments.unknown(name, None)


def _axes_of(declaration: Declaration) -> tuple[Axis, ...]:
    leaf = declaration.leaf
    return leaf.over if leaf.ranges_over is None else (*leaf.over, leaf.ranges_over)


def _not_given(place: OutputPlace) -> InvalidHeader:
    return InvalidHeader(
        f"output `{place.name}` is never given a value", at=place.span, label="declared here",
        helps=[f"write `{place.name} = ...` in the body"],
    )  # fmt: skip


def _left_out(over: Sequence[Axis], kind: Kind, span: Span | None) -> Form:
    """An optional input that is not passed: absent everywhere."""
    zero = build_special.zeros(over, span)
    value = build.apply("lt", zero, Const(0), span=span) if kind == "bool" else zero
    if kind == "int":
        value = build.apply("to_int", zero, span=span)
    return When(Const(False), value, span=span)


def _given_below(body: Sequence[Statement]) -> dict[str, Span]:
    """The names that statements give, each with its first place."""
    found: dict[str, Span] = {}
    for statement in body:
        match statement:
            case Assignment(targets=names) | RangeStatement(names=names) | LikeStatement(names=names):
                for name in names:
                    found.setdefault(name.text, name.span)
            case VariableStatement(name=name):
                found.setdefault(name.text, name.span)
            case TensorStatement(tensor=tensor):
                found.setdefault(tensor.name, tensor.span)
            case _:
                pass
    return found


def _made_axes(body: Sequence[Statement]) -> list[Name]:
    """The axes that statements of the body make."""
    return [name for each in body if isinstance(each, RangeStatement | LikeStatement) for name in each.names]


def _header_axes(ast: MixerAst) -> Iterator[HeaderAxis]:
    for tensor in (*ast.header.inputs, *ast.header.outputs):
        for item in tensor.items:
            yield from item.axes
        if tensor.index_of is not None:
            yield tensor.index_of


def _spelled(name: str, value: Static, spelled: bool) -> Const | str:
    """A static argument as the constant that the body computes with, printed by its name where the
    request says so, else as its caller wrote it."""
    if isinstance(value, str):
        return value
    if isinstance(value, complex):
        return Const(value)
    written = value.written if isinstance(value, StaticInt | StaticFloat) else None
    return Const(_plain_number(value), written=name if spelled else written)


def _plain_number(value: bool | int | float) -> bool | int | float:
    if isinstance(value, bool):
        return value
    return int(value) if isinstance(value, int) else float(value)


def _plain(value: Static) -> Static:
    return value if isinstance(value, str | complex) else _plain_number(value)
