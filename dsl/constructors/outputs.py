"""A result and its place in the header: layout, axes, kind. Both spellings end a program with this."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import Label
from ..mistakes import KindMismatch, UndeclaredAxis
from ..program import Axis, Form, Item, children
from ..text.signature import OutputPlace
from . import build


def fitting(place: OutputPlace, items: Sequence[Item], value: Form) -> Form:
    """The value as the output `place` has it, stored as `items`; whole numbers become real ones.

    Raises UndeclaredAxis for an axis too many or too few, KindMismatch for another kind.
    """
    declared = tuple(axis for item in items for axis in item)
    extra = next((axis for axis in value.axes if axis not in declared), None)
    if extra is not None:
        raise _undeclared(place, value, extra)
    lacking = tuple(axis for axis in declared if axis not in value.axes)
    if lacking:
        raise UndeclaredAxis(
            f"output `{place.name}` is declared over {_names(declared)}, and its value lacks {_names(lacking)}",
            at=value.span or place.span, label=f"has axes {_names(value.axes)}",
            labels=[Label(place.span, "declared here")] if value.span else [],
            helps=["add `zeros(...)` over the axes where the value is to be the same everywhere"],
        )  # fmt: skip
    if value.kind == "int" and place.kind == "real":
        return build.apply("to_real", value, span=value.span)
    if value.kind != place.kind:
        raise KindMismatch(
            f"output `{place.name}` is declared {place.kind}, and its value is {value.kind}",
            at=value.span or place.span, label=f"this is {value.kind}",
            labels=[Label(place.span, "declared here")] if value.span else [],
            helps=[f"declare it in the header: `{place.name}[...]: {value.kind}`"],
        )  # fmt: skip
    return value


def _names(axes: Sequence[Axis]) -> str:
    return ", ".join(axis.name for axis in axes) or "none"


def _undeclared(place: OutputPlace, value: Form, extra: Axis) -> UndeclaredAxis:
    """Points at the statement that brought the axis in."""
    entered = _entrance(value, extra)
    at = entered.span or value.span or place.span
    labels = [Label(place.span, f"declared over {_names(place.over)}")] if at != place.span else []
    return UndeclaredAxis(
        f"output `{place.name}` has axis `{extra.name}`, which its declaration lacks", at=at,
        label=f"`{extra.name}` comes in here", labels=labels,
        notes=[f"axes of the value: {_names(value.axes)}"],
        helps=[f"reduce over `{extra.name}`, read one index of it, or declare it in the header"],
    )  # fmt: skip


def _entrance(value: Form, axis: Axis) -> Form:
    """The form below `value` where some operands have the axis and others do not, or its leaf."""
    while True:
        operands = children(value)
        having = [each for each in operands if axis in each.axes]
        if not having or len(having) < sum(1 for each in operands if each.axes):
            return value
        value = having[0]
