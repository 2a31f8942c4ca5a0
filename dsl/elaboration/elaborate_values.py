"""Expressions of a text to forms, through the checked constructors: names, operators, reads.

Evaluation is a stack of generators, so depth costs no recursion. Every mistake is noted and gives
no form (None); what is made of nothing is nothing, silently: one walk finds all mistakes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field

from ..constructors import build
from ..errors import PlaitError
from ..mistakes import AmbiguousSubscript, InvalidArgument, KindMismatch, TooDeep, UnknownArgument
from ..program import Axis, Const, Form
from ..python.trace import Trace
from ..source import Span
from ..text.precedence import joined
from ..text.scope import Scope
from ..text.syntax import (
    Argument,
    Call,
    Chain,
    Expression,
    Fold,
    Made,
    Name,
    Number,
    Placed,
    Read,
    Scanned,
    Unary,
)

MOST_DEEP = 2000
"""Expressions within expressions; brackets end before (`parse.MOST_NESTED`), signs and powers here."""

MOST_BITS = 4096
"""A whole constant with more bits is a mistake, or an attack."""

Result = Form | None
Results = Sequence[Result]
Steps = Generator[Expression, Result, Result]
ManySteps = Generator[Expression, Result, Results]
Special = Fold | Made | Placed | Scanned | Call
"""The expressions with brackets of their own; some have several values."""


@dataclass(slots=True)
class Values:
    """Evaluates the expressions of one mixer: names, numbers, operators and reads here, the rest as
    `special` says. `inits` are the first values of `previous` variables."""

    scope: Scope
    trace: Trace
    special: Callable[[Values, Special], ManySteps]
    inits: dict[Form, Form] = field(default_factory=dict[Form, Form])

    # --- the stack

    def value(self, root: Expression) -> Result:
        """The form of an expression, None after a mistake."""
        return self._run(self._steps(root), root)

    def several(self, root: Expression) -> Results:
        """The forms of an expression that may have several: an argmax, a scan, a softmax, a call."""
        found: list[Results] = []

        def gather() -> Steps:
            found.append((yield from self._many(root)))
            return None

        self._run(gather(), root)
        return found[0] if found else (None,)

    def _run(self, first: Steps, root: Expression) -> Result:
        stack: list[tuple[Steps, Expression]] = [(first, root)]
        sent: Result = None
        while stack:
            steps, node = stack[-1]
            try:
                below = steps.send(sent)
            except StopIteration as done:
                sent = done.value
                stack.pop()
                continue
            except PlaitError as error:
                self.report(error)
                sent = None
                stack.pop()
                continue
            if len(stack) >= MOST_DEEP:
                self.report(_too_deep(node))
                return None
            stack.append((self._steps(below), below))
            sent = None
        return sent

    def report(self, error: PlaitError) -> None:
        self.trace.mistakes.append(error)

    def attempt(self, make: Callable[[], Form]) -> Result:
        """The form that `make` gives; a mistake is noted."""
        try:
            return make()
        except PlaitError as error:
            self.report(error)
            return None

    def axes(self, names: Sequence[Name]) -> tuple[Axis, ...] | None:
        """The axes of these names, `...` among them; None where one is no axis, which is noted."""
        found: list[Axis] = []
        for name in names:
            try:
                axis = self.scope.axis(name)
            except PlaitError as error:
                self.report(error)
                axis = None
            if axis is not None:
                found.append(axis)
        return tuple(found) if len(found) == len(names) else None

    # --- one node

    def _steps(self, node: Expression) -> Steps:
        match node:
            case Number(value=value):
                return Const(value, span=node.span)
            case Name():
                return self.scope.value(node)
            case Unary(op=op, operand=operand):
                value = yield operand
                return None if value is None else build.apply(op, value, span=node.span)
            case Chain():
                return (yield from self._chain(node))
            case Read():
                return (yield from self._read(node))
            case Fold() | Made() | Placed() | Scanned() | Call():
                results = yield from self.special(self, node)
                return _only(results, node)

    def _many(self, node: Expression) -> ManySteps:
        if isinstance(node, Fold | Made | Placed | Scanned | Call):
            return (yield from self.special(self, node))
        return ((yield node),)

    def _chain(self, node: Chain) -> Steps:
        left = yield node.first
        for op, operand in node.rest:
            right = yield operand
            left = None if left is None or right is None else self._joined(op, left, right, node, operand)
        return left

    def _joined(self, op: str, left: Form, right: Form, node: Chain, operand: Expression) -> Result:
        span = joined(node.first.span, operand.span)
        if op == "otherwise":
            return self.attempt(lambda: build.otherwise(left, right, span))
        return self.attempt(lambda: self.applied(op, (left, right), span))

    def applied(self, op: str, args: Sequence[Form], span: Span) -> Form:
        """A scalar operation; constants must stay of a size that can be held."""
        if _bits(op, args) > MOST_BITS:
            raise InvalidArgument(
                f"this constant would have more than {MOST_BITS} bits", at=span, label="too large"
            )
        return build.apply(op, *args, span=span)

    # --- reads

    def _read(self, node: Read) -> Steps:
        value = yield node.value
        keyed = [item for item in node.items if item.key is not None]
        forms: list[Form] = []
        for item in node.items:
            form = yield item.value
            forms.extend(() if form is None else (form,))
        if keyed and len(keyed) < len(node.items):
            raise AmbiguousSubscript(
                "of these indices some name their axis and some do not", at=node.span, label="here",
                helps=["write all as `x[h: e, w: f]`, or all as `x[h+dh, w+dw]`"],
            )  # fmt: skip
        names = self.keys(keyed)
        axes = None if names is None else self.axes(names)
        if value is None or axes is None or len(forms) < len(node.items):
            return None
        if not keyed:
            return build.subscript(value, forms, node.span)
        return build.at(value, indices(keyed, axes, forms), node.span)

    def keys(self, arguments: Sequence[Argument]) -> list[Name] | None:
        """What stands before the colons, which must be names; None where one is not."""
        found: list[Name] = []
        for argument in arguments:
            if isinstance(argument.key, Name):
                found.append(argument.key)
            else:
                self.report(
                    KindMismatch(
                        "a name stands before `:`, and this is an expression", at=argument.span, label="here"
                    )
                )
        return found if len(found) == len(arguments) else None

    def plain(self, arguments: Sequence[Argument], who: str) -> Generator[Expression, Result, list[Result]]:
        """The forms of arguments without keys."""
        forms: list[Result] = []
        for argument in arguments:
            if argument.key is not None:
                self.report(
                    UnknownArgument(
                        f"`{who}` takes values without names", at=argument.span, label="named here"
                    )
                )
            value = yield argument.value
            forms.append(None if argument.key is not None else value)
        return forms


def indices(keyed: Sequence[Argument], axes: Sequence[Axis], forms: Sequence[Form]) -> Mapping[Axis, Form]:
    """The indices of a read or a place; raises AmbiguousSubscript for an axis that comes twice."""
    found: dict[Axis, Form] = {}
    for item, axis, form in zip(keyed, axes, forms, strict=True):
        if axis in found:
            raise AmbiguousSubscript(
                f"axis `{axis.name}` is replaced twice", at=item.span, label="the second time"
            )
        found[axis] = form
    return found


def _too_deep(node: Expression) -> TooDeep:
    return TooDeep(
        f"more than {MOST_DEEP} expressions within each other", at=node.span, label="one too many",
        helps=["give a part of the expression a name: `v = ...`"],
    )  # fmt: skip


def _only(results: Results, node: Special) -> Result:
    if len(results) == 1:
        return results[0]
    pick = isinstance(node, Fold) and node.op == "argmax"
    raise InvalidArgument(
        f"this gives {len(results)} values, and one is needed here", at=node.span, label="several values",
        helps=[
            "name them: `a, b = ...`; `_` drops one",
            *(["`argmax[h, w: w](x)` is that of `w`"] if pick else []),
        ],
    )  # fmt: skip


def _bits(op: str, args: Sequence[Form]) -> int:
    """How many bits a whole constant would have; 0 where there is none."""
    match op, args:
        case "pow", (Const(value=int(base)), Const(value=int(exponent))) if exponent > 0:
            return base.bit_length() * exponent if abs(base) > 1 else 1
        case "mul", (Const(value=int(a)), Const(value=int(b))):
            return a.bit_length() + b.bit_length()
        case _:
            return 0
