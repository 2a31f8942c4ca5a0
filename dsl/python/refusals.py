"""What the Python spelling refuses, in words: each function makes the mistake for one of them.

The mistakes that text can make too come from `dsl.constructors.build`; these are Python's own: truth values,
slices, iteration, numbers where axes belong.
"""

from __future__ import annotations

from types import EllipsisType

from ..errors import Label, PlaitError
from ..mistakes import (
    AmbiguousSubscript,
    InvalidSize,
    KindMismatch,
    PredicateTruth,
    UndeclaredAxis,
    UnknownAxis,
)
from ..ops import OPS
from ..program import Axis, Const, Coordinate, Form, Leaf, Map, Size, walk
from ..source import Span

GIVE_SIZES = "give the size where the program is made: `.program(h=64)` makes `h.size` a number"


def names(axes: tuple[Axis, ...]) -> str:
    """`b, h, w`, or `none`."""
    return ", ".join(axis.name for axis in axes) or "none"


def sizes_decide(form: Form) -> bool:
    """Whether the form depends on sizes and on no data: one number, known at the call."""
    if form.axes:
        return False
    below = list(walk((form,)))
    return any(isinstance(each, Size) for each in below) and not any(isinstance(each, Leaf) for each in below)


def truth(form: Form, sized: bool, span: Span | None) -> PlaitError:
    """`if`, `and`, `or`, `not`, `max`, `in` asked a value for its truth."""
    if sized:
        return PredicateTruth(
            "a condition on sizes has no truth value here, since sizes are known at the call", at=span,
            label="Python needs to know this now",
            helps=[
                GIVE_SIZES,
                "or write `cases((condition, value), (True, other))`; `smin` and `smax` for `min` and `max`",
            ],
        )  # fmt: skip
    if form.kind != "bool":
        return PredicateTruth(
            f"a value over {names(form.axes)} has no truth value", at=span, label="used as true or false",
            helps=["compare it: `x != 0` is a predicate, for `select` and `when`"],
        )  # fmt: skip
    helps = [
        "use `select(p, x, y)` or `when(p, x)`",
        "write `0 <= i < n` as `(0 <= i) & (i < n)`, and `and`, `or`, `not` as `&`, `|`, `~`",
    ]
    if _compares_axes(form):
        helps.append("to ask whether two axes are one, write `a is b`")
    return PredicateTruth(
        f"a predicate over {names(form.axes)} has no single truth value", at=span,
        label="used as true or false", helps=helps,
    )  # fmt: skip


def _compares_axes(form: Form) -> bool:
    return (
        isinstance(form, Map)
        and form.op in ("eq", "ne")
        and all(isinstance(x, Coordinate) for x in form.args)
    )


def converted(wanted: str, form: Form, sized: bool, span: Span | None) -> PlaitError:
    """`range`, `int`, `float`, a list's index asked a value for its number."""
    if sized:
        return InvalidSize(
            f"{wanted} is needed here, and this size is known only at the call", at=span,
            label="Python needs the number now", helps=[GIVE_SIZES],
        )  # fmt: skip
    return KindMismatch(
        f"{wanted} is needed here, and found a value over {names(form.axes)}", at=span, label="here",
        helps=["use plait's functions on values: `plait.exp(x)`, `plait.round_(x)`, `x[{h: index}]`"],
    )  # fmt: skip


def iterated(form: Form, span: Span | None) -> PlaitError:
    """`for part in value`, `a, b = value`, `x in value`."""
    what = f"a value over {names(form.axes)}" if form.axes else "a single number"
    return KindMismatch(
        f"{what} has no parts to iterate over", at=span, label="unpacked or looped over",
        helps=[f"take one index with `x[{{{form.axes[0].name}: 0}}]`"] if form.axes else [],
    )  # fmt: skip


def matrix_product(span: Span | None) -> PlaitError:
    """`x @ y`."""
    return KindMismatch(
        "`@` does not say which axes meet", at=span, label="here",
        helps=["a product is a sum over the axis that both have: `(x * y).sum(c)`"],
    )  # fmt: skip


def foreign(function: str, span: Span | None) -> PlaitError:
    """`torch.exp(x)`."""
    own = f"use plait's own: `plait.{function}(x)`"
    return KindMismatch(
        f"torch's `{function}` takes tensors, and found a value of a program", at=span, label="here",
        helps=[own if function in OPS else "a program is made of plait's own functions and forms: docs/language.md"],
    )  # fmt: skip


def not_a_value(operand: object, span: Span | None) -> PlaitError:
    """A tensor, a string, None, where a value or a number belongs."""
    found = type(operand).__name__
    helps = ["compare with `is None` for an optional input"] if operand is None else []
    if found in ("Tensor", "Parameter", "ndarray"):
        helps = ["a tensor enters as an input of the header, a `param` or a `buffer`"]
    return KindMismatch(
        f"a value or a number is needed here, and found {found}", at=span, label="here", helps=helps
    )


def not_an_axis(item: object, span: Span | None) -> PlaitError:
    """A name, a number, an index where an axis belongs."""
    if isinstance(item, str):
        return KindMismatch(
            f'an axis is needed here, and found the string "{item}"', at=span, label="here",
            helps=[f'axes are objects: `{item} = axes("{item}")`'],
        )  # fmt: skip
    return KindMismatch(
        f"an axis is needed here, and found {_what(item)}", at=span, label="here",
        helps=['axes come from `axes("h w")`, `axis`, `near`, `span` and `h.like()`'],
    )  # fmt: skip


def _what(item: object) -> str:
    return "an index expression" if hasattr(item, "form") else f"{type(item).__name__} {item!r}"


def no_axes(op: str, form: Form, span: Span | None) -> PlaitError:
    """`x.sum()`, `softmax(x)`."""
    listed = names(form.axes)
    call = f"softmax(x, over=({listed}))" if op == "softmax" else f"x.{op}({listed})"
    return UnknownAxis(
        f"`{op}` names the axes that it reduces", at=span, label="no axis given",
        notes=[f"axes of the value: {listed}"],
        helps=[f"write `{call}` for all of them" if form.axes else "this value has no axis"],
    )  # fmt: skip


# --- subscripts


def not_a_subscript(item: object, value: Form, span: Span | None) -> PlaitError:
    """A slice, `...`, a number or anything else in `v[...]` that contains no axis."""
    axis = value.axes[0].name if value.axes else "h"
    match item:
        case slice():
            what, start = "a Python slice", item.start  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            read = f"i + {start}" if isinstance(start, int) and start > 0 else "i"
            help_ = f'write `x[{{{axis}: {read}}}]` with `i = axis("i", n)`'
        case EllipsisType():
            what, help_ = "`...`", "leave it out: an axis that is not named keeps its index"
        case int() if item < 0:
            what = f"`{item}`"
            help_ = f"indices do not count from the end: write `x[{{{axis}: {axis}.size - {-item}}}]`"
        case int():
            what, help_ = f"`{item}`", f"write `x[{{{axis}: {item}}}]`"
        case None:
            what, help_ = "`None`", "leave it out: a new axis comes from what the value is combined with"
        case _:
            what, help_ = type(item).__name__, f"write `x[{{{axis}: index}}]`"
    return AmbiguousSubscript(
        f"a subscript must say which axis it replaces, and {what} names none", at=span, label="here",
        notes=[f"axes of the value: {names(value.axes)}"], helps=[help_],
    )  # fmt: skip


def not_a_key(key: object, value: Form, span: Span | None) -> PlaitError:
    """`x[{"h": i}]`."""
    found = f'the string "{key}"' if isinstance(key, str) else _what(key)
    return AmbiguousSubscript(
        f"the keys of `x[{{axis: index}}]` are axes, and found {found}", at=span, label="here",
        notes=[f"axes of the value: {names(value.axes)}"],
        helps=['axes come from `axes("h w")`, `axis`, `near`, `span` and `h.like()`'],
    )  # fmt: skip


def check_literal(axis: Axis, index: Const, span: Span | None) -> None:
    """A number below an axis that begins at 0 is Python's count from the end, which has no meaning.

    Raises AmbiguousSubscript.
    """
    lowest = axis.lo.value if isinstance(axis.lo, Const) else 0 if axis.lo is None else None
    if lowest == 0 and isinstance(index.value, int) and index.value < 0:
        raise AmbiguousSubscript(
            f"index {index.value} lies before the first index of axis `{axis.name}`, 0", at=span, label="here",
            helps=[f"indices do not count from the end: write `x[{{{axis.name}: {axis.name}.size - {-index.value}}}]`"],
        )  # fmt: skip


def other_axes(value: Form, axes: tuple[Axis, ...], span: Span | None) -> PlaitError:
    """`x.over(...)` named other axes than the value has."""
    extra = tuple(axis for axis in value.axes if axis not in axes)
    lacking = tuple(axis for axis in axes if axis not in value.axes)
    said = [f"it also has {names(extra)}"] if extra else []
    said += [f"it lacks {names(lacking)}"] if lacking else []
    return UndeclaredAxis(
        f"the value is not over {names(axes)}: {' and '.join(said)}", at=span, label="asserted here",
        labels=[Label(value.span, f"has axes {names(value.axes)}")] if value.span and value.span != span else [],
    )  # fmt: skip
