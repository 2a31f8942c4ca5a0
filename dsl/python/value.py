"""Values and axes as Python objects: what a traced function computes with.

A `Value` wraps a form; an operator on it builds the next form at the user's own line. An axis IS
the value of its coordinate (`AxisValue`), so `h + dh` is an index and `h` a key. Comparisons build
predicates, `==` too; identity is `is`, and `bool()` of a value raises (language.md decisions 4-6).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import EllipsisType
from typing import Any, cast

from ..constructors import build
from ..constructors.static import constant, int_of
from ..errors import CompilerFault, PlaitError
from ..program import BATCH, Axis, Const, Coordinate, Form, Size
from ..source import Span
from .asked import Asked
from .refusals import (
    check_literal,
    no_axes,
    not_a_key,
    not_a_subscript,
    not_a_value,
    not_an_axis,
    other_axes,
)
from .trace import current, here, report


class Value(Asked):
    """A partial function from named indices to scalars, as in `dsl.program`.

    Operators (`& | ~` on predicates) act on the union of the axes; `v[h + dh, w + dw]` and
    `v[{t: s}]` read at other indices. Every mistake raises a `PlaitError`, or is collected where a
    mixer is being traced.
    """

    __slots__ = ("__weakref__", "_form")

    def __init__(self, form: Form | None) -> None:
        self._form = form

    @property
    def form(self) -> Form:
        """The form, which only a poisoned value lacks."""
        if self._form is None:
            raise CompilerFault("trace", "the form of a poisoned value was asked for")
        return self._form

    @property
    def poisoned(self) -> bool:
        """Whether a mistake, already reported, stands behind this value."""
        return self._form is None

    def __repr__(self) -> str:
        if self._form is None:
            return "<value after a mistake>"
        shown = ", ".join(axis.name for axis in self._form.axes)
        return f"<{self._form.kind} value over {shown}>" if shown else f"<{self._form.kind} value>"

    # --- scalar operations

    def __add__(self, other: object) -> Value:
        return applied("add", self, other)

    def __radd__(self, other: object) -> Value:
        return applied("add", other, self)

    def __sub__(self, other: object) -> Value:
        return applied("sub", self, other)

    def __rsub__(self, other: object) -> Value:
        return applied("sub", other, self)

    def __mul__(self, other: object) -> Value:
        return applied("mul", self, other)

    def __rmul__(self, other: object) -> Value:
        return applied("mul", other, self)

    def __truediv__(self, other: object) -> Value:
        return applied("div", self, other)

    def __rtruediv__(self, other: object) -> Value:
        return applied("div", other, self)

    def __floordiv__(self, other: object) -> Value:
        return applied("floordiv", self, other)

    def __rfloordiv__(self, other: object) -> Value:
        return applied("floordiv", other, self)

    def __mod__(self, other: object) -> Value:
        return applied("mod", self, other)

    def __rmod__(self, other: object) -> Value:
        return applied("mod", other, self)

    def __pow__(self, other: object) -> Value:
        return applied("pow", self, other)

    def __rpow__(self, other: object) -> Value:
        return applied("pow", other, self)

    def __neg__(self) -> Value:
        return applied("neg", self)

    def __pos__(self) -> Value:
        return self

    def __abs__(self) -> Value:
        return applied("abs", self)

    def __lt__(self, other: object) -> Value:
        return applied("lt", self, other)

    def __le__(self, other: object) -> Value:
        return applied("le", self, other)

    def __gt__(self, other: object) -> Value:
        return applied("gt", self, other)

    def __ge__(self, other: object) -> Value:
        return applied("ge", self, other)

    def __eq__(self, other: object) -> Value:  # pyright: ignore[reportIncompatibleMethodOverride]
        return applied("eq", self, other)

    def __ne__(self, other: object) -> Value:  # pyright: ignore[reportIncompatibleMethodOverride]
        return applied("ne", self, other)

    def __hash__(self) -> int:
        """By identity: `==` builds a predicate, so two keys are one only when they are one object."""
        return id(self)

    def __and__(self, other: object) -> Value:
        return applied("and", self, other)

    def __rand__(self, other: object) -> Value:
        return applied("and", other, self)

    def __or__(self, other: object) -> Value:
        return applied("or", self, other)

    def __ror__(self, other: object) -> Value:
        return applied("or", other, self)

    def __invert__(self) -> Value:
        return applied("not", self)

    # --- reads

    def __getitem__(self, index: object) -> Value:
        """`v[h + dh, w + dw]`: each subscript replaces the one axis of v that it contains.
        `v[{h: i, w: j}]`: the named axes are replaced, all at once; a number drops its axis.

        Raises AmbiguousSubscript for slices, `...`, bare axes and subscripts without an axis of v,
        UnknownAxis for a key that v lacks, KindMismatch for an index that is not whole.
        """
        if isinstance(index, Mapping):
            return _at(self, cast("Mapping[object, object]", index))
        items = cast("tuple[object, ...]", index) if isinstance(index, tuple) else (index,)
        return made(partial(_subscript, items=items), self, *(x for x in items if isinstance(x, Value)))

    # --- presence

    def otherwise(self, fallback: object) -> Value:
        """This value where it is present, `fallback` elsewhere."""
        return made(build.otherwise, self, fallback)

    def over(self, *over: Over) -> Value:
        """This value; raises UndeclaredAxis unless its axes are exactly these, in any order."""
        axes = axes_in(over)
        return POISON if axes is None else made(partial(_over, axes=axes), self)

    # --- reductions: over the axes given, skipping absent entries; absent where nothing is left

    def sum(self, *over: Over, where: object = None) -> Value:
        """The sum of the present entries."""
        return reduced("sum", self, over, where)

    def mean(self, *over: Over, where: object = None) -> Value:
        """The mean of the present entries."""
        return reduced("mean", self, over, where)

    def max(self, *over: Over, where: object = None) -> Value:
        """The largest present entry."""
        return reduced("max", self, over, where)

    def min(self, *over: Over, where: object = None) -> Value:
        """The smallest present entry."""
        return reduced("min", self, over, where)

    def prod(self, *over: Over, where: object = None) -> Value:
        """The product of the present entries."""
        return reduced("prod", self, over, where)

    def lse(self, *over: Over, where: object = None) -> Value:
        """`log(sum(exp(v)))` of the present entries, computed without overflow."""
        return reduced("lse", self, over, where)

    def any(self, *over: Over, where: object = None) -> Value:
        """Whether a present entry is true; false over nothing."""
        return reduced("any", self, over, where)

    def all(self, *over: Over, where: object = None) -> Value:
        """Whether every present entry is true; true over nothing."""
        return reduced("all", self, over, where)

    def count(self, *over: Over, where: object = None) -> Value:
        """How many entries are present; 0 over nothing."""
        return reduced("count", self, over, where)

    def argmax(self, *over: Over, where: object = None) -> Any:
        """The index of the largest entry, one value an axis listed (hence `Any`: a tuple of several);
        of equal entries the first in row-major order of the listed axes."""
        wide = len(axes_in(over) or (None,))
        each = tuple(reduced("argmax", self, over, where, component) for component in range(wide))
        return each[0] if wide == 1 else each


class AxisValue(Value):
    """An axis: the value over it that is i at i. A key of `v[{h: i}]`, and what reductions take."""

    __slots__ = ("axis",)

    def __init__(self, axis: Axis, *, poisoned: bool = False) -> None:
        super().__init__(None if poisoned else Coordinate(axis))
        self.axis = axis

    def __repr__(self) -> str:
        return f"<axis {self.axis.name}>"

    def __copy__(self) -> AxisValue:
        return self

    def __deepcopy__(self, memo: object) -> AxisValue:
        return self

    @property
    def size(self) -> int | Value:
        """The number of indices: an `int` where it is known, otherwise a value without axes."""
        if self.poisoned:
            return POISON
        return known_size(self.axis)

    def like(self, name: str | None = None) -> AxisValue:
        """A fresh axis of the same range."""
        return AxisValue(build.like_axis(self.axis, name, here()), poisoned=self.poisoned)


Over = AxisValue | EllipsisType | Sequence[AxisValue | EllipsisType]
"""Axes as reductions take them: one, `...` for the batch, or several in a tuple."""

POISON = Value(None)
"""The result of an operation whose mistake has been reported; what is made of it is poisoned too."""


def known_size(axis: Axis) -> int | Value:
    """The size of an axis, as a number where the program or the trace fixes it."""
    form = build.size(axis, here())
    trace = current()
    if isinstance(form, Size) and trace is not None and form.axis in trace.fixed:
        trace.asked.add(form.axis)
        return trace.fixed[form.axis]
    return int_of(form) if isinstance(form, Const) else Value(form)


def made(make: Callable[..., Form], *operands: object) -> Value:
    """`make(*forms, span=...)` of the operands' forms at the user's expression. A poisoned operand
    gives a poisoned value silently; a mistake is reported.
    """
    if any(isinstance(operand, Value) and operand.poisoned for operand in operands):
        return POISON
    span = here()
    try:
        return Value(make(*(form_of(operand, span) for operand in operands), span=span))
    except PlaitError as error:
        report(error)
        return POISON


def form_of(operand: object, span: Span | None = None) -> Form:
    """The form of a value or the constant of a Python number.

    Raises KindMismatch for anything else.
    """
    if isinstance(operand, Value):
        return operand.form
    number = constant(operand, span)
    if number is None:
        raise not_a_value(operand, span)
    return number


def applied(op: str, *operands: object) -> Value:
    """A scalar operation of `dsl.ops`."""
    return made(partial(build.apply, op), *operands)


def reduced(op: str, value: Value, over: Iterable[object], where: object = None, component: int = 0) -> Value:
    """A reduction of one value; `mean` is the sum divided by the count."""
    axes = axes_in(over)
    if axes is None:
        return POISON

    def make(form: Form, mask: Form | None = None, *, span: Span | None) -> Form:
        if not axes:
            raise no_axes(op, form, span)
        if op == "mean":
            return build.mean([(form, axes)], mask, span)
        return build.reduce(op, [(form, axes)], mask, component, span)

    return made(make, value, *(() if where is None else (where,)))


def axes_in(over: Iterable[object]) -> tuple[Axis, ...] | None:
    """The core axes of what the user listed, tuples opened; None where one is poisoned or no axis
    (which is reported)."""
    found: list[Axis] = []
    for item in over:
        if isinstance(item, AxisValue) and not item.poisoned:
            found.append(item.axis)
        elif item is ...:
            found.append(BATCH)
        elif isinstance(item, tuple | list):
            inner = axes_in(item)  # pyright: ignore[reportUnknownArgumentType]
            if inner is None:
                return None
            found.extend(inner)
        else:
            if not isinstance(item, Value) or not item.poisoned:
                report(not_an_axis(item, here()))
            return None
    return tuple(found)


def _subscript(value: Form, *_: Form, items: tuple[object, ...], span: Span | None) -> Form:
    for item in items:
        if not isinstance(item, Value):
            raise not_a_subscript(item, value, span)
    return build.subscript(value, [form_of(item) for item in items], span)


def _at(value: Value, indices: Mapping[object, object]) -> Value:
    def make(form: Form, *_: Form, span: Span | None) -> Form:
        found: dict[Axis, Form] = {}
        for key, index in indices.items():
            if not isinstance(key, AxisValue):
                raise not_a_key(key, form, span)
            number = form_of(index, span)
            if isinstance(number, Const) and not isinstance(index, Value):
                check_literal(key.axis, number, span)
            found[key.axis] = number
        return build.at(form, found, span)

    return made(make, value, *(x for pair in indices.items() for x in pair if isinstance(x, Value)))


def _over(value: Form, *, axes: tuple[Axis, ...], span: Span | None) -> Form:
    if set(value.axes) != set(axes):
        raise other_axes(value, axes, span)
    return value
